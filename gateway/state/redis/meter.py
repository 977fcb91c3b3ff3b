"""What is counted of the way to Redis and back; seconds are those of a clock that never goes back."""

from __future__ import annotations

from typing import Protocol


class Meter(Protocol):
    """Counts. A ``connection`` is ``commands`` or ``channels``, a ``command`` the name of a script, or ``read``."""

    def connection_made(self, connection: str) -> None: ...

    def connection_failed(self, connection: str) -> None:
        """One attempt to make it."""
        ...

    def command_finished(self, command: str, seconds: float) -> None: ...

    def command_failed(self, command: str, outcome: str) -> None:
        """``unsent``: it certainly did nothing; ``unanswered``: nobody knows."""
        ...

    def command_retried(self, command: str) -> None:
        """It is asked again, because an attempt failed and there is time."""
        ...

    def probe_received(self, seconds: float) -> None:
        """One came back after so long."""
        ...

    def resynced(self, entries: int) -> None:
        """The log was read after an interruption, and brought so many."""
        ...

    def lease_lost(self) -> None:
        """This replica was taken out, or Redis holds another log."""
        ...


class NullMetrics:
    """Counts nothing."""

    def connection_made(self, connection: str) -> None: ...

    def connection_failed(self, connection: str) -> None: ...

    def command_finished(self, command: str, seconds: float) -> None: ...

    def command_failed(self, command: str, outcome: str) -> None: ...

    def command_retried(self, command: str) -> None: ...

    def probe_received(self, seconds: float) -> None: ...

    def resynced(self, entries: int) -> None: ...

    def lease_lost(self) -> None: ...
