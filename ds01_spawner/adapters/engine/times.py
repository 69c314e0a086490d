"""Docker's times: ISO 8601 with nanoseconds, which Python does not read."""

from __future__ import annotations

import re
from datetime import datetime, timezone

_FRACTION = re.compile(r"(\.\d{1,6})\d*")


def read_time(text: str) -> datetime:
    """Return a time of Docker's, in UTC; what is less than a microsecond is cut off."""
    # Python 3.10 wants three or six digits.
    fraction = _FRACTION.sub(lambda match: match[1].ljust(7, "0"), text)
    return datetime.fromisoformat(fraction.replace("Z", "+00:00")).astimezone(timezone.utc)
