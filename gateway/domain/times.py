"""The text form of a time for clients and backends."""

from __future__ import annotations

from datetime import UTC, datetime


def iso_timestamp(seconds: float) -> str:
    """Format seconds since 1970 as ISO 8601 in UTC with whole milliseconds: ``2026-11-21T09:58:00.123Z``."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
