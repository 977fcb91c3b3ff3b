"""The clocks and the scheduled calls of the process, as everything else uses them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """The clocks of the machine."""

    def now(self) -> float:
        """Return seconds since 1970; may be set back."""
        ...

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start; never goes back."""
        ...


class Timer(Protocol):
    """One scheduled call."""

    def cancel(self) -> None:
        """Cancel the call. Idempotent."""
        ...


class Schedule(Protocol):
    """The scheduled calls of the whole process."""

    def after(self, delay_seconds: float, action: Callable[[], None]) -> Timer:
        """Call ``action`` on the event loop after the delay; it must not wait."""
        ...
