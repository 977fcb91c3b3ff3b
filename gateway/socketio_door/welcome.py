"""Who may connect to a namespace, and what a newcomer is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gateway.domain.endings import Ending
from gateway.domain.identity import Identity
from gateway.hub import Connection, Link
from gateway.ports import TokenVerifier
from gateway.socketio_door import encoding
from gateway.socketio_door.clients import Client, SocketLink
from gateway.socketio_door.tokens import find_token


class Arriving(Protocol):
    """Registers a connection; see ``gateway.application.arriving``."""

    async def admit(self, identity: Identity, namespace: str, link: Link) -> Connection: ...


class Expiring(Protocol):
    """Watches a token; see ``gateway.application.expiring``."""

    def watch(self, connection: Connection) -> None: ...


class Welcome:
    """Takes a client through the connect handshake of one namespace."""

    def __init__(
        self,
        *,
        verifier: TokenVerifier,
        arriving: Arriving,
        expiring: Expiring,
        depart: Callable[[Connection], None],
        put_out: Callable[[Client, str, Ending], None],
    ) -> None:
        self._verifier = verifier
        self._arriving = arriving
        self._expiring = expiring
        self._depart = depart
        self._put_out = put_out

    async def connect(self, client: Client, namespace: str, auth: object) -> Connection | None:
        """Verify, register, welcome; None when the client left meanwhile. Raises Refused, BrokerUnavailable."""
        identity = await self._verifier.verify(find_token(auth, client.session.handshake))
        link = SocketLink(client, namespace, self._put_out)
        connection = await self._arriving.admit(identity, namespace, link)
        # From here to LIVE nothing waits: what is delivered next comes after CONNECT and `authenticated`.
        client.session.send_together(
            encoding.connect(namespace, connection.sid),
            encoding.event(namespace, "authenticated", _greeting(connection)),
        )
        if client.session.closed:
            # It left meanwhile, or reads too slowly even for the greeting.
            self._depart(connection)
            return None
        client.connections[namespace] = connection
        client.first_join.cancel()
        client.leaving_soon = False
        connection.go_live()
        self._expiring.watch(connection)
        return connection


def _greeting(connection: Connection) -> dict[str, object]:
    identity = connection.identity
    return {"success": True, "userId": identity.user, "email": identity.email, "socketId": connection.sid}
