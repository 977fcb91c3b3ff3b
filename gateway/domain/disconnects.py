"""How the gateway ends a connection: what the client receives, and whether its recovery session is kept.

docs/explanation/architecture.md, "How connections end", has the reasons.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class DisconnectReason:
    """One way for the gateway to end a connection.

    ``reason`` is its name in logs and metrics. ``code`` and ``message``, where there is a code, are sent to the client
    in an ``error`` event. ``sends_packet``: send a Socket.IO DISCONNECT, after which the stock client does not
    reconnect. Otherwise the transport is closed: a WebSocket with ``close_code`` (RFC 6455 §7.4), or without a frame
    where that is None. ``keeps_session``: the connection can be resumed.
    """

    reason: str
    code: str | None = None
    message: str | None = None
    sends_packet: bool = False
    close_code: int | None = 1000
    keeps_session: bool = True


DISCONNECTED_BY_BACKEND: Final = DisconnectReason(
    "disconnected_by_backend",
    "kicked",
    "a backend ended this connection",
    sends_packet=True,
    keeps_session=False,
)
REVOKED: Final = DisconnectReason(
    "revoked", "token_revoked", "the token was revoked", sends_packet=True, keeps_session=False
)
RATE_LIMITED: Final = DisconnectReason(
    "rate_limited",
    "rate_limited",
    "too many messages from this client",
    sends_packet=True,
    keeps_session=False,
)
TOKEN_EXPIRED: Final = DisconnectReason("token_expired", close_code=4401)
DRAINING: Final = DisconnectReason("draining", close_code=1012)
SUBSCRIPTION_STALLED: Final = DisconnectReason("subscription_stalled", close_code=1013)
RESUMED_ELSEWHERE: Final = DisconnectReason("resumed_elsewhere", close_code=None)
SLOW_CONSUMER: Final = DisconnectReason("slow_consumer", close_code=None)
NO_NAMESPACE: Final = DisconnectReason("no_namespace")
PROTOCOL_ERROR: Final = DisconnectReason("protocol_error", close_code=1002)
MESSAGE_TOO_LARGE: Final = DisconnectReason("message_too_large", close_code=1009)

ALL: Final = (
    DISCONNECTED_BY_BACKEND,
    REVOKED,
    RATE_LIMITED,
    TOKEN_EXPIRED,
    DRAINING,
    SUBSCRIPTION_STALLED,
    RESUMED_ELSEWHERE,
    SLOW_CONSUMER,
    NO_NAMESPACE,
    PROTOCOL_ERROR,
    MESSAGE_TOO_LARGE,
)
