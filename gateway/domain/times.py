"""The text form of a time for clients and backends."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache


def iso_timestamp(seconds: float) -> str:
    """Format seconds since 1970 as ISO 8601 in UTC with whole milliseconds: ``2026-11-21T09:58:00.123Z``."""
    # datetime rounds to microseconds and then cuts: the same here, so that only the milliseconds are formatted anew.
    microseconds = round(seconds % 1 * 1e6)
    whole = int(seconds // 1) + microseconds // 1_000_000
    return f"{_whole_second(whole)}.{microseconds % 1_000_000 // 1000:03d}Z"


@lru_cache(maxsize=8)
def _whole_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]
