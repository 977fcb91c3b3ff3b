"""Binary packets of clients whose attachments have not all arrived.

The text of such a packet is kept, not its value: the value of a short text may take many times its memory.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from gateway.domain.attachments import MAX_ATTACHMENTS
from gateway.domain.bounded_body import ArrivingBodies, ArrivingBody, BodyDropped
from gateway.interfaces import Schedule, Timer

_ATTACHMENT_BYTES: Final = sys.getsizeof(b"")


class AttachmentsTooLarge(Exception):
    """The attachments of one packet have more bytes than allowed."""


class AttachmentsOverdue(Exception):
    """The next attachment of a packet did not arrive in time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AttachmentLimits:
    """What a client may send in binary packets: bytes of the attachments of one, and seconds until the next of them."""

    max_bytes: int
    timeout_seconds: float


class UnfinishedPacket:
    """A binary packet, and those of its attachments that have arrived."""

    __slots__ = ("attachments", "body", "bytes_left", "deadline", "due", "is_asked", "text")

    def __init__(self, text: str, due: int, *, max_bytes: int, is_asked: bool) -> None:
        self.text = text
        self.due = due
        """How many attachments are missing."""
        self.bytes_left = max_bytes
        """How many bytes they may have."""
        self.is_asked = is_asked
        """Whether it is an acknowledgement that a backend asked for."""
        self.attachments: list[bytes] = []
        self.deadline: Timer | None = None
        self.body: ArrivingBody | None = None


class UnfinishedPackets:
    """The unfinished packets of all clients, one for each at most, by the sid of the Engine.IO session.

    Each attachment is due within a time after the one before. Together they are bounded with bodies that have not
    arrived whole (``ArrivingBodies``).
    """

    def __init__(
        self,
        limits: AttachmentLimits,
        *,
        schedule: Schedule,
        arriving: ArrivingBodies,
        fail: Callable[[str, Exception], None],
    ) -> None:
        """``fail`` ends a session for AttachmentsOverdue, or for BodyDropped if others need the memory."""
        self._limits = limits
        self._schedule = schedule
        self._arriving = arriving
        self._fail = fail
        self._packets: dict[str, UnfinishedPacket] = {}

    def get(self, engine_sid: str) -> UnfinishedPacket | None:
        """Return the packet of a client, whose next message has to be an attachment."""
        return self._packets.get(engine_sid)

    def __len__(self) -> int:
        return len(self._packets)

    def begin(self, engine_sid: str, text: str, attachments: int, *, is_asked: bool) -> None:
        """Expect the attachments of a packet. ``is_asked``: its text counts as an attachment.

        Raises: ValueError for too many attachments; AttachmentsTooLarge; BodyDropped.
        """
        if attachments > MAX_ATTACHMENTS:
            raise ValueError("a packet with too many attachments")
        max_bytes = self._limits.max_bytes - (len(text.encode()) if is_asked else 0)
        packet = UnfinishedPacket(text, attachments, max_bytes=max_bytes, is_asked=is_asked)
        if max_bytes < 0:
            raise AttachmentsTooLarge
        self._packets[engine_sid] = packet
        packet.body = self._arriving.begin(partial(self._end, engine_sid, BodyDropped()))
        self._hold(engine_sid, packet, sys.getsizeof(text))

    def add(self, engine_sid: str, data: str | bytes) -> UnfinishedPacket | None:
        """Add the next message of a client; return the packet if that was its last attachment.

        Raises: ValueError if it is not binary; AttachmentsTooLarge; BodyDropped.
        """
        packet = self._packets[engine_sid]
        if isinstance(data, str):
            raise ValueError("text where an attachment was due")
        if len(data) > packet.bytes_left:
            raise AttachmentsTooLarge
        packet.bytes_left -= len(data)
        packet.due -= 1
        packet.attachments.append(data)
        if not packet.due:
            self.forget(engine_sid)
            return packet
        self._hold(engine_sid, packet, len(data) + _ATTACHMENT_BYTES)
        return None

    def forget(self, engine_sid: str) -> None:
        """Drop the packet of a client, if there is one. Idempotent."""
        packet = self._packets.pop(engine_sid, None)
        if packet is None:
            return
        if packet.deadline is not None:
            packet.deadline.cancel()
        if packet.body is not None:
            self._arriving.release(packet.body)

    def _hold(self, engine_sid: str, packet: UnfinishedPacket, more_bytes: int) -> None:
        """Count what a packet holds more, and start the time in which the next attachment is due."""
        if packet.deadline is not None:
            packet.deadline.cancel()
        packet.deadline = self._schedule.after(
            self._limits.timeout_seconds, partial(self._end, engine_sid, AttachmentsOverdue())
        )
        if packet.body is not None:
            self._arriving.hold(packet.body, packet.body.bytes + more_bytes)

    def _end(self, engine_sid: str, error: Exception) -> None:
        self.forget(engine_sid)
        self._fail(engine_sid, error)
