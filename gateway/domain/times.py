"""The text form of a time for clients and backends, and that of a duration for operators."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

_DURATION: Final = re.compile(r"([0-9]{1,16}(?:\.[0-9]{1,16})?)(ms|s|m|h|d|)", re.ASCII)
_UNITS: Final = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(text: str) -> float | None:
    """Return the seconds of a duration such as ``25``, ``0.5``, ``25s``, ``2m`` or ``500ms``; None for another text."""
    match = _DURATION.fullmatch(text)
    return float(match[1]) * _UNITS[match[2]] if match else None


def iso_timestamp(seconds: float) -> str:
    """Format seconds since 1970 as ISO 8601 in UTC with whole milliseconds: ``2026-11-21T09:58:00.123Z``."""
    # datetime rounds to microseconds and then cuts: the same here, so that only the milliseconds are formatted anew.
    microseconds = round(seconds % 1 * 1e6)
    whole = int(seconds // 1) + microseconds // 1_000_000
    return f"{_whole_second(whole)}.{microseconds % 1_000_000 // 1000:03d}Z"


@lru_cache(maxsize=8)
def _whole_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]
