"""How much one message of a client may be: a WebSocket frame or all its fragments, the body of a post."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.transport.session import Session

TOO_LARGE: Final = "message_too_large"
"""Why a session ended whose client sent more."""


@dataclass(frozen=True, slots=True)
class MessageLimits:
    """Bytes of one message, once a namespace was joined and before."""

    joined_bytes: int
    newcomer_bytes: int

    def of(self, session: Session) -> int:
        """What that client may send now."""
        return self.joined_bytes if session.joined else self.newcomer_bytes
