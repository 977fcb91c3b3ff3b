"""Rejections of requests to the Engine.IO path: a status, and a body ``{"code","message"}`` that the client reads.

The codes 0 to 5 are those of the reference server (engine.io, ``Server.errors``).

All reasons of rejections and of ended sessions are listed: their metrics start with 0 for each.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from gateway.domain import disconnects

HANDSHAKES: Final = (
    "address_rate",
    "draining",
    "connection_limit",
    "unauthenticated_limit",
    "jwks_unavailable",
    "rate",
    "starting",
    "state_unavailable",
    "state_stalled",
)
"""Reasons for which a handshake is answered with 503."""
CLOSE_REASONS: Final = (
    "client_close",
    "frame_rate",
    "internal_error",
    "malformed_frame",
    "malformed_packet",
    "message_too_large",
    "overlapping_polls",
    "overlapping_posts",
    "payload_rejected",
    "ping_timeout",
    "protocol_error",
    "slow_consumer",
    "transport_close",
    "transport_error",
)
"""Reasons for which the transport ends a session; the layers above have their own (``gateway.domain.disconnects``)."""
ALL_CLOSE_REASONS: Final = tuple(sorted({*CLOSE_REASONS, *(each.reason for each in disconnects.ALL)}))
"""All reasons for which a session ends, of the transport and of the layers above."""


@dataclass(frozen=True, slots=True)
class HandshakeError:
    """A rejection. ``reason`` labels it in metrics and logs; ``retry_after_seconds`` is set if a retry may succeed."""

    status: int
    code: int
    message: str
    reason: str
    retry_after_seconds: int | None = None

    @property
    def body(self) -> str:
        """The body of the answer, as on the reference server."""
        return json.dumps({"code": self.code, "message": self.message}, separators=(",", ":"))


UNKNOWN_TRANSPORT: Final = HandshakeError(400, 0, "Transport unknown", "unknown_transport")
UNKNOWN_SID: Final = HandshakeError(400, 1, "Session ID unknown", "unknown_sid")
BAD_HANDSHAKE_METHOD: Final = HandshakeError(400, 2, "Bad handshake method", "bad_method")
BAD_REQUEST: Final = HandshakeError(400, 3, "Bad request", "bad_request")
FORBIDDEN: Final = HandshakeError(403, 4, "Forbidden", "forbidden_origin")
UNSUPPORTED_PROTOCOL: Final = HandshakeError(400, 5, "Unsupported protocol version", "unsupported_protocol")
PAYLOAD_TOO_LARGE: Final = HandshakeError(413, 3, "Payload too large", "payload_too_large")
TOO_MANY_PACKETS: Final = HandshakeError(429, 3, "Too many packets", "frame_rate")
BODY_TIMEOUT: Final = HandshakeError(408, 3, "The body did not arrive in time", "body_timeout")
OVERLOADED: Final = HandshakeError(
    503, 3, "More bodies arrive at once than this replica can hold", "overloaded", retry_after_seconds=1
)
REJECTIONS: Final = (
    *HANDSHAKES,
    *(
        error.reason
        for error in (
            UNKNOWN_TRANSPORT,
            UNKNOWN_SID,
            BAD_HANDSHAKE_METHOD,
            BAD_REQUEST,
            FORBIDDEN,
            UNSUPPORTED_PROTOCOL,
            PAYLOAD_TOO_LARGE,
            TOO_MANY_PACKETS,
            BODY_TIMEOUT,
            OVERLOADED,
        )
    ),
)
"""Reasons for which a request to the Socket.IO path is rejected."""


def unavailable(reason: str, message: str, retry_after_seconds: int) -> HandshakeError:
    """Return a rejection with 503: this replica admits no client now. The stock client backs off and retries."""
    return HandshakeError(503, 4, message, reason, retry_after_seconds)
