"""Which of many lines of log like one another are written."""

from __future__ import annotations

from typing import Final
from zlib import crc32

_ALL: Final = 2**32


class Sampling:
    """Keeps a part of what is routine; ``rate`` is that part, from 0 (nothing) to 1 (everything).

    Who has the same rate decides alike of the same key, so that the lines of one trace are there on every replica or on
    none.
    """

    __slots__ = ("_below", "fields", "rate")

    def __init__(self, rate: float = 1.0) -> None:
        self.rate = rate
        self._below = rate * _ALL
        self.fields: dict[str, float] = {} if rate == 1.0 else {"sample_rate": rate}
        """What a line says that was kept by chance: it stands for 1 / rate of its kind."""

    def should_log(self, key: str) -> bool:
        """Whether the lines of this request, trace or connection are written."""
        return self.rate == 1.0 or crc32(key.encode("utf-8", "surrogatepass")) < self._below
