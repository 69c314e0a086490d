"""What a check before the build found: nothing, or which package is at fault, why, and what to try.

Reads what `templates/resolve.j2` prints when it fails. Only what the build itself could not do, or would
break, is a problem. Where the network, the index or the check failed, there is none, and the build
decides. Nothing out of a log stands in a sentence but names and versions, matched in full.
"""

from .reading import is_needed, read

__all__ = ["is_needed", "read"]
