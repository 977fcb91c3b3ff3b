"""Sampling of routine log lines."""

from __future__ import annotations

from typing import Final
from zlib import crc32

_ALL: Final = 2**32


class Sampling:
    """Decides which routine log lines are written; ``rate`` is their share, from 0 (none) to 1 (all).

    Replicas with the same rate decide alike for the same key, so that every replica writes the lines of a trace, or
    none does.
    """

    __slots__ = ("_below", "fields", "rate")

    def __init__(self, rate: float = 1.0) -> None:
        self.rate = rate
        self._below = rate * _ALL
        self.fields: dict[str, float] = {} if rate == 1.0 else {"sample_rate": rate}
        """The fields of a sampled line: it stands for 1 / ``sample_rate`` lines of its kind."""

    def should_log(self, key: str) -> bool:
        """Whether to write the lines of the request, trace or connection with this key."""
        return self.rate == 1.0 or crc32(key.encode("utf-8", "surrogatepass")) < self._below
