"""A verified client comes in."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from gateway.domain.errors import TokenRefused, TooManyConnections
from gateway.domain.identity import Identity
from gateway.domain.messages import Address
from gateway.domain.presence import PresentConnection
from gateway.hub import Connection, Hub, Link, State
from gateway.ports import Broker, Clock, Presence, Revocations


class Arriving:
    """Registers connections: first here, then for everyone, so that nothing sent after the welcome is missed.

    The limits count connections and rooms; None means off.
    """

    def __init__(
        self,
        *,
        hub: Hub,
        broker: Broker,
        presence: Presence,
        revocations: Revocations,
        clock: Clock,
        replica: str,
        max_connections_per_user: int | None,
        max_rooms_per_connection: int | None,
        depart: Callable[[Connection], None],
    ) -> None:
        self._hub = hub
        self._broker = broker
        self._presence = presence
        self._revocations = revocations
        self._clock = clock
        self._replica = replica
        self._max_connections_per_user = max_connections_per_user
        self._max_rooms_per_connection = max_rooms_per_connection
        self._depart = depart

    async def admit(self, identity: Identity, namespace: str, link: Link) -> Connection:
        """The connection, registered everywhere and still ARRIVING: it is LIVE once its client was welcomed.

        Raises TooManyConnections, TokenRefused, BrokerUnavailable; nothing is left behind then.
        """
        limit = self._max_connections_per_user
        if limit is not None and self._hub.connections_of(identity.user) >= limit:
            raise TooManyConnections(f"this user has {limit} connections here already")
        connection = Connection(secrets.token_urlsafe(15), namespace, identity, link, self._clock.now())
        try:
            await self._register(connection)
        except BaseException:
            self._depart(connection)
            raise
        return connection

    async def refresh(self, connection: Connection, identity: Identity) -> None:
        """The client showed a newer token: its rooms are those of that token from now on.

        Raises TokenRefused, BrokerUnavailable.
        """
        if identity.user != connection.user:
            raise TokenRefused("token_invalid", "the token is another user's")
        rooms = self._rooms(connection.sid, identity)
        await self._refuse_revoked(identity)
        if connection.state is State.GONE:
            # It left while its token was looked at: who is not in the hub any more must not get into rooms again.
            return
        before = connection.rooms
        _, unneeded = self._hub.change_rooms(connection, rooms)
        entered = [Address(connection.namespace, room) for room in rooms - before]
        if entered:
            await self._broker.subscribe(entered)
        # Somebody may have come in since, or this one gone: what counts is who is there now.
        unneeded = [address for address in (*entered, *unneeded) if not self._hub.has(address)]
        if unneeded:
            await self._broker.unsubscribe(unneeded)
        if rooms != before:
            await self._presence.change_rooms(connection.sid, rooms)
        connection.identity = identity

    async def _register(self, connection: Connection) -> None:
        identity = connection.identity
        rooms = self._rooms(connection.sid, identity)
        self._hub.add(connection, rooms)
        # Also where others here are already: they may be waiting for the same subscription.
        await self._broker.subscribe([Address(connection.namespace, room) for room in (None, *rooms)])
        # After the subscription: a kick is either seen here or delivered to this connection, never missed by both.
        await self._refuse_revoked(identity)
        present = PresentConnection(
            sid=connection.sid,
            user=identity.user,
            namespace=connection.namespace,
            replica=self._replica,
            transport=connection.link.transport,
            connected_at=connection.connected_at,
        )
        await self._presence.register(present, rooms)
        if connection.state is State.KICKED:
            raise TokenRefused("token_revoked", "a backend ended this connection")

    def _rooms(self, sid: str, identity: Identity) -> frozenset[str]:
        """Those that the token grants, and the one of the sid, where every connection is alone."""
        limit = self._max_rooms_per_connection
        if limit is not None and len(identity.rooms) > limit:
            raise TokenRefused("token_invalid", f"the token grants more than {limit} rooms")
        return identity.rooms | {sid}

    async def _refuse_revoked(self, identity: Identity) -> None:
        revoked_at = await self._revocations.revoked_at(identity.user)
        if revoked_at is not None and (identity.issued_at is None or identity.issued_at < revoked_at):
            raise TokenRefused("token_revoked", "the token was revoked")
