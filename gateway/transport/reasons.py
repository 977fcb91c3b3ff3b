"""The words by which the transport says why it refuses and ends: whoever counts them shows each from the start."""

from __future__ import annotations

from typing import Final

from gateway.transport import errors

HANDSHAKES: Final = (
    "address_rate",
    "draining",
    "full",
    "newcomers",
    "no_keys",
    "rate",
    "starting",
    "state_away",
    "state_deaf",
)
"""Why a handshake is answered with 503."""
REFUSALS: Final = (
    *HANDSHAKES,
    *(
        error.reason
        for error in (
            errors.UNKNOWN_TRANSPORT,
            errors.UNKNOWN_SID,
            errors.BAD_HANDSHAKE_METHOD,
            errors.BAD_REQUEST,
            errors.FORBIDDEN,
            errors.UNSUPPORTED_PROTOCOL,
            errors.PAYLOAD_TOO_LARGE,
            errors.BODY_TIMEOUT,
        )
    ),
)
"""Why a request to the Socket.IO path is refused."""
ENDINGS: Final = (
    "client_close",
    "internal_error",
    "malformed_frame",
    "malformed_packet",
    "message_too_large",
    "overlapping_polls",
    "overlapping_posts",
    "payload_refused",
    "ping_timeout",
    "protocol_error",
    "slow_consumer",
    "transport_close",
    "transport_error",
)
"""Why a session ends, where the layers above did not end it (``domain.endings``)."""
