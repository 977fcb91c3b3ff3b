"""How much a client may send: the size of a message, and the rate of all its frames, before and after it has joined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.transport.session import EngineSession
from gateway.transport.transports import FrameRate

TOO_LARGE: Final = "message_too_large"
FRAME_RATE: Final = "frame_rate"
"""The reasons for closing a session whose client sends more than it may."""
POLICY_VIOLATION: Final = 1008
"""RFC 6455 §7.4.1."""
FRAMES_OF_A_MESSAGE: Final = 6
"""What the largest message counts in a POST of its own: 2 for the POST, 1 for the packet, 3 for its bytes."""
MIN_FRAMES_PER_SECOND: Final = 20.0
"""Frames that a client may send each second where MESSAGE_RATE is low: pongs, and the steps of an upgrade."""
UNAUTHENTICATED_FRAMES_PER_SECOND: Final = 10.0
UNAUTHENTICATED_BURST: Final = 100.0
"""The same before joining: enough for a CONNECT of each of a hundred namespaces, in one POST or in frames."""


@dataclass(frozen=True, slots=True)
class ReceiveLimits:
    """Limits of what a client sends, before and after it has joined a namespace.

    Bytes are those of one message: a WebSocket message with all its fragments, or the body of a POST.
    """

    joined_bytes: int
    unauthenticated_bytes: int
    joined_rate: FrameRate
    unauthenticated_rate: FrameRate

    def bytes_of(self, *, joined: bool) -> int:
        """Return the largest message of a session."""
        return self.joined_bytes if joined else self.unauthenticated_bytes


def receive_limits(
    *, joined_bytes: int, unauthenticated_bytes: int, messages_per_second: float
) -> ReceiveLimits:
    """Return limits that contain all that MESSAGE_RATE allows: a POST for each event, and the largest messages."""
    per_second = max(MIN_FRAMES_PER_SECOND, FRAMES_OF_A_MESSAGE * messages_per_second)
    # That of MESSAGE_RATE is two seconds' worth.
    burst = max(UNAUTHENTICATED_BURST, 3 * per_second)
    return ReceiveLimits(
        joined_bytes,
        unauthenticated_bytes,
        FrameRate(per_second, burst, joined_bytes / 3),
        FrameRate(UNAUTHENTICATED_FRAMES_PER_SECOND, UNAUTHENTICATED_BURST, unauthenticated_bytes / 3),
    )


def exceeds_rate(session: EngineSession, limits: ReceiveLimits, now: float, frames: int, size: int) -> bool:
    """Count what a client has sent; close its session and return True if that is more than it may send."""
    rate = limits.joined_rate if session.joined else limits.unauthenticated_rate
    exceeds = session.received.exceeds(rate, now, frames, size)
    if exceeds:
        session.fail(FRAME_RATE, POLICY_VIOLATION)
    return exceeds
