"""What a session needs of those that carry its packets."""

from __future__ import annotations

from typing import Protocol

from gateway.ports import Socket


class Wire(Protocol):
    """A WebSocket that is open. Once its connection is gone it takes everything and does nothing."""

    @property
    def deflates_from_bytes(self) -> int | None:
        """Frames of that size go out compressed, as was negotiated; None: none do."""
        ...

    @property
    def socket(self) -> Socket:
        """Where frames go; to be written to past this wire while its connection is there."""
        ...

    def write(self, frame: bytes, /) -> object: ...

    def bytes_waiting(self) -> int:
        """What was written and is still in this process."""
        ...

    @property
    def is_congested(self) -> bool:
        """Whether much waits; once that is over, ``Session.look_whether_drained`` is called."""
        ...

    def close(self, code: int) -> None:
        """Send a close frame behind all that was written; only the first call counts."""
        ...

    def abort(self) -> None:
        """Cut the connection; what waits is not sent."""
        ...


class Poll(Protocol):
    """A GET that waits for something to answer with."""

    def wake(self) -> None:
        """Call ``Session.collect`` soon; called once."""
        ...
