"""Who may connect to a namespace, and what a newcomer is told.

Where a token is looked for: the first place that has one decides, good or bad.

What a client says of recovery when it connects.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Final

from gateway.application.arriving import Arriving
from gateway.application.coping import GAP_EVENT
from gateway.application.expiring import Expiring
from gateway.application.recovering import Arrival, CatchingUp
from gateway.domain.endings import Ending
from gateway.domain.errors import TokenRefused
from gateway.domain.positions import Position
from gateway.domain.sessions import Wish
from gateway.hub import Connection
from gateway.ports import TokenVerifier
from gateway.socketio_door import encoding
from gateway.socketio_door.clients import Client, SocketLink
from gateway.transport.handshake import Handshake
from gateway.transport.packets import Frames
from gateway.transport.session import Session


def find_token(auth: object, handshake: Handshake) -> str:
    """``auth.token`` of the CONNECT packet, else ``Authorization: Bearer``, else the query's ``token``.

    Raises TokenRefused: token_missing, or token_malformed where the place holds something that is no token.
    """
    if isinstance(auth, dict) and auth.get("token") is not None:
        return _text(auth["token"])
    if handshake.authorization is not None:
        scheme, _, token = handshake.authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise TokenRefused(
                "token_malformed", "the Authorization header is not of the form Bearer <token>"
            )
        return _text(token.strip())
    if handshake.query_token is not None:
        return _text(handshake.query_token)
    raise TokenRefused(
        "token_missing", "send a token as auth.token, Authorization: Bearer or the query's token"
    )


def _text(token: object) -> str:
    if not isinstance(token, str) or not token:
        raise TokenRefused("token_malformed", "a token is a non-empty string")
    return token


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


GREETING: Final = "authenticated"


class Welcome:
    """Takes a client through the connect handshake of one namespace."""

    def __init__(
        self,
        *,
        verifier: TokenVerifier,
        arriving: Arriving,
        catching_up: CatchingUp,
        expiring: Expiring,
        depart: Callable[[Connection], None],
        recovery_told: Callable[[str], None],
        put_out: Callable[[Client, str, Ending], None],
    ) -> None:
        """``recovery_told`` is told ``recovered``, or why somebody who wanted to be was not."""
        self._verifier = verifier
        self._arriving = arriving
        self._catching_up = catching_up
        self._expiring = expiring
        self._depart = depart
        self._recovery_told = recovery_told
        self._put_out = put_out

    async def connect(self, client: Client, namespace: str, auth: object) -> Connection | None:
        """Verify, register, welcome; None when the client left meanwhile. Raises Refused, BrokerUnavailable."""
        session = client.session
        identity = await self._verifier.verify(find_token(auth, session.handshake))
        link = SocketLink(client, namespace, self._put_out)
        arrival = await self._arriving.admit(identity, namespace, link, read_wish(auth, session))
        connection = arrival.connection
        # From here on nothing waits: what is delivered next comes after CONNECT.
        if not session.closed:
            self._greet(arrival)
        if session.closed:
            # It left meanwhile, or reads too slowly even for the greeting.
            self._depart(connection)
            return None
        client.connections[namespace] = connection
        client.first_join.cancel()
        client.leaving_soon = False
        self._expiring.watch(connection)
        return connection

    def _greet(self, arrival: Arrival) -> None:
        """Fresh: CONNECT, the greeting, live. Resumed: CONNECT, what was missed, the greeting, live."""
        connection = arrival.connection
        pid = None if connection.session is None else connection.session.pid
        first = [encoding.connect(connection.namespace, connection.sid, pid)]
        if arrival.missed is not None:
            connection.recovery = "recovered"
            self._recovery_told("recovered")
            self._catching_up.begin(arrival, first, partial(_greeting, connection))
            return
        first.append(_greeting(connection, arrival.position, False))
        if arrival.failed is not None:
            connection.recovery = arrival.failed
            self._recovery_told(arrival.failed)
            first.append(encoding.event(connection.namespace, GAP_EVENT, {"code": arrival.failed}))
        self._catching_up.begin(arrival, first, None)


def _greeting(connection: Connection, position: Position, recovered: bool) -> Frames:
    identity = connection.identity
    payload: dict[str, object] = {
        "success": True,
        "userId": identity.user,
        "email": identity.email,
        "socketId": connection.sid,
    }
    if recovered:
        payload["recovered"] = True
    takes_it = connection.takes_positions
    return encoding.event(connection.namespace, GREETING, payload, position if takes_it else None)
