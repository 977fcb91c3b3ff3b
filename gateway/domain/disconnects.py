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
    reconnect. Otherwise the transport is closed: a WebSocket with ``close_code`` (RFC 6455 §7.4), or without a close
    frame where that is None. ``aborts``: at once, and bytes that wait are not sent. ``reconnects``: every client
    library is to reconnect; on polling some take a close packet for final, so the poll gets an error instead.
    ``keeps_session``: the connection can be resumed.
    """

    reason: str
    code: str | None = None
    message: str | None = None
    sends_packet: bool = False
    close_code: int | None = 1000
    aborts: bool = False
    reconnects: bool = False
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
TOKEN_EXPIRED: Final = DisconnectReason("token_expired", close_code=4401, reconnects=True)
# OkHttp stops to read after a close frame with a code that it knows, and the Java client does not notice it.
DRAINING: Final = DisconnectReason("draining", close_code=None, reconnects=True)
SUBSCRIPTION_STALLED: Final = DisconnectReason("subscription_stalled", close_code=None, reconnects=True)
RESUMED_ELSEWHERE: Final = DisconnectReason("resumed_elsewhere", close_code=None, aborts=True)
SLOW_CONSUMER: Final = DisconnectReason("slow_consumer", close_code=None, aborts=True)
NO_NAMESPACE: Final = DisconnectReason("no_namespace")
UNAUTHENTICATED_LIMIT: Final = DisconnectReason("unauthenticated_limit", close_code=None, aborts=True)
TOKEN_RATE: Final = DisconnectReason("token_rate", close_code=1008)
PROTOCOL_ERROR: Final = DisconnectReason("protocol_error", close_code=1002)
PARSER_MISMATCH: Final = DisconnectReason("parser_mismatch", close_code=1003)
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
    UNAUTHENTICATED_LIMIT,
    TOKEN_RATE,
    PROTOCOL_ERROR,
    PARSER_MISMATCH,
    MESSAGE_TOO_LARGE,
)
