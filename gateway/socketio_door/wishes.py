"""What a client says of recovery when it connects."""

from __future__ import annotations

from itertools import count
from typing import Final

from gateway.domain.sessions import Wish
from gateway.transport.session import Session

_ATTEMPTS: Final = count()


def read_wish(auth: object, session: Session) -> Wish:
    """``auth.pid`` and ``auth.offset`` as the stock client sends them, ``auth.resume`` as an application may; declined
    by ``auth.recovery: false`` or by ``recovery=0`` in the query."""
    said = auth if isinstance(auth, dict) else {}
    return Wish(
        # A transport may join, leave and join again, and what is told late of the one is nothing to the other.
        owner=f"{session.sid}/{next(_ATTEMPTS)}",
        pid=said.get("pid"),
        offset=said.get("offset"),
        resume=said.get("resume"),
        declined=said.get("recovery") is False or session.handshake.declines_recovery,
    )
