"""How a connection may end, what its client is told, and whether its session is kept (DESIGN §8, Endings)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Ending:
    """One way for the gateway to end a connection.

    ``code`` and ``message`` go to the client in an ``error`` event, where the ending has one. ``goodbye`` sends a
    Socket.IO DISCONNECT, after which the stock client stays away. ``close_code`` closes a WebSocket (RFC 6455 §7.4);
    None aborts without a frame.
    """

    reason: str
    code: str | None = None
    message: str | None = None
    goodbye: bool = False
    close_code: int | None = 1000
    keeps_session: bool = True


KICKED: Final = Ending(
    "kicked", "kicked", "a backend ended this connection", goodbye=True, keeps_session=False
)
REVOKED: Final = Ending(
    "revoked", "token_revoked", "the token was revoked", goodbye=True, keeps_session=False
)
FLOODING: Final = Ending(
    "flooding", "rate_limited", "too many messages from this client", goodbye=True, keeps_session=False
)
TOKEN_EXPIRED: Final = Ending("token_expired", close_code=4401)
DRAINING: Final = Ending("draining", close_code=1012)
DEAF: Final = Ending("deaf", close_code=1013)
RESUMED_ELSEWHERE: Final = Ending("resumed_elsewhere", close_code=None)
SLOW_CONSUMER: Final = Ending("slow_consumer", close_code=None)
NOTHING_JOINED: Final = Ending("nothing_joined")
PROTOCOL_ERROR: Final = Ending("protocol_error", close_code=1002)
MESSAGE_TOO_LARGE: Final = Ending("message_too_large", close_code=1009)

ALL: Final = (
    KICKED,
    REVOKED,
    FLOODING,
    TOKEN_EXPIRED,
    DRAINING,
    DEAF,
    RESUMED_ELSEWHERE,
    SLOW_CONSUMER,
    NOTHING_JOINED,
    PROTOCOL_ERROR,
    MESSAGE_TOO_LARGE,
)
