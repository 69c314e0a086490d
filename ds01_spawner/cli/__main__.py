"""`python -m ds01_spawner.cli` is `ds01`."""

import sys

from . import main

sys.exit(main())
