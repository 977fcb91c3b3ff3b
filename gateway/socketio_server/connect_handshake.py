"""Who may connect to a namespace, and what a newcomer is told.

Where a token is looked for: the first place that has one decides, good or bad.

What a client says of recovery when it connects.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Final

from gateway.domain.errors import RecoveryFailed, TokenRejected
from gateway.domain.positions import Position
from gateway.domain.sessions import RecoveryRequest
from gateway.hub import Connection
from gateway.interfaces import TokenVerifier
from gateway.metrics import MetricFactory, one_label
from gateway.services.connect import Connector
from gateway.services.degraded_mode import GAP_EVENT
from gateway.services.recovery import ConnectResult, Replayer
from gateway.services.token_expiry import TokenExpiry
from gateway.socketio_server import packets
from gateway.socketio_server.client import Client, SocketIOTransport
from gateway.transport.packets import Frames
from gateway.transport.session import EngineSession, Handshake


def find_token(auth: object, handshake: Handshake) -> str:
    """``auth.token`` of the CONNECT packet, else ``Authorization: Bearer``, else the query's ``token``.

    Raises TokenRefused: token_missing, or token_malformed where the place holds something that is no token.
    """
    if isinstance(auth, dict) and auth.get("token") is not None:
        return _text(auth["token"])
    if handshake.authorization is not None:
        scheme, _, token = handshake.authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise TokenRejected(
                "token_malformed", "the Authorization header is not of the form Bearer <token>"
            )
        return _text(token.strip())
    if handshake.query_token is not None:
        return _text(handshake.query_token)
    raise TokenRejected(
        "token_missing", "send a token as auth.token, Authorization: Bearer or the query's token"
    )


def _text(token: object) -> str:
    if not isinstance(token, str) or not token:
        raise TokenRejected("token_malformed", "a token is a non-empty string")
    return token


_ATTEMPTS: Final = count()


def read_recovery_request(auth: object, session: EngineSession) -> RecoveryRequest:
    """``auth.pid`` and ``auth.offset`` as the stock client sends them, ``auth.resume`` as an application may; declined
    by ``auth.recovery: false`` or by ``recovery=0`` in the query."""
    said = auth if isinstance(auth, dict) else {}
    return RecoveryRequest(
        # A transport may join, leave and join again, and what is told late of the one is nothing to the other.
        owner=f"{session.sid}/{next(_ATTEMPTS)}",
        pid=said.get("pid"),
        offset=said.get("offset"),
        resume=said.get("resume"),
        is_declined=said.get("recovery") is False or session.handshake.declines_recovery,
    )


AUTHENTICATED: Final = "authenticated"
RECOVERIES: Final = ("recovered", *sorted(RecoveryFailed.CODES))
"""How a recovery request ended."""


class ConnectHandshake:
    """Takes a client through the connect handshake of one namespace."""

    def __init__(
        self,
        *,
        verifier: TokenVerifier,
        connector: Connector,
        replayer: Replayer,
        token_expiry: TokenExpiry,
        disconnect: Callable[[Connection], None],
        metrics: MetricFactory,
    ) -> None:
        """``recovery_told`` is told ``recovered``, or why somebody who wanted to be was not."""
        self._verifier = verifier
        self._connector = connector
        self._replayer = replayer
        self._token_expiry = token_expiry
        self._disconnect = disconnect
        self._recoveries = metrics.counter(
            "recoveries",
            "Clients that asked to go on where they were: recovered, or why not.",
            ("outcome",),
            one_label(RECOVERIES),
        )

    async def connect(self, client: Client, namespace: str, auth: object) -> Connection | None:
        """Verify, register, welcome; None when the client left meanwhile. Raises Refused, BrokerUnavailable."""
        session = client.session
        identity = await self._verifier.verify(find_token(auth, session.handshake))
        transport = SocketIOTransport(client, namespace)
        result = await self._connector.connect(
            identity, namespace, transport, read_recovery_request(auth, session)
        )
        connection = result.connection
        # From here on nothing waits: what is delivered next comes after CONNECT.
        if not session.closed:
            self._accept(result)
        if session.closed:
            # It left meanwhile, or reads too slowly even for the greeting.
            self._disconnect(connection)
            return None
        client.connections[namespace] = connection
        client.join_deadline.cancel()
        client.idle_closing = False
        self._token_expiry.watch(connection)
        return connection

    def _accept(self, result: ConnectResult) -> None:
        """Fresh: CONNECT, the greeting, live. Resumed: CONNECT, what was missed, the greeting, live."""
        connection = result.connection
        pid = None if connection.session is None else connection.session.pid
        first = [packets.connect(connection.namespace, connection.sid, pid)]
        if result.first_page is not None:
            connection.recovery = "recovered"
            self._recoveries.count(("recovered",))
            self._replayer.start(result, first, partial(_authenticated_payload, connection))
            return
        first.append(_authenticated_payload(connection, result.position, False))
        if result.failure is not None:
            connection.recovery = result.failure
            self._recoveries.count((result.failure,))
            first.append(packets.event(connection.namespace, GAP_EVENT, {"code": result.failure}))
        self._replayer.start(result, first, None)


def _authenticated_payload(connection: Connection, position: Position, recovered: bool) -> Frames:
    identity = connection.identity
    payload: dict[str, object] = {
        "success": True,
        "userId": identity.user,
        "email": identity.email,
        "socketId": connection.sid,
    }
    if recovered:
        payload["recovered"] = True
    takes_it = connection.wants_offsets
    return packets.event(connection.namespace, AUTHENTICATED, payload, position if takes_it else None)
