"""The interfaces of new connections, and of the rooms of connections as changes of rooms write them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from gateway.domain.identity import Identity
from gateway.domain.messages import Address, RoomChange
from gateway.domain.positions import Position
from gateway.domain.presence import ChangedRooms, PresentConnection
from gateway.domain.sessions import RecoverySession
from gateway.interfaces.listings import DataSource


class Connects(Protocol):
    """New connections, in the subscriptions, presence and the recovery sessions together."""

    async def connect(
        self,
        connection: PresentConnection,
        rooms: Collection[str],
        identity: Identity,
        *,
        session: RecoverySession | None = None,
        max_of_user: int | None = None,
        listed: str | None = None,
        data: DataSource | None = None,
    ) -> Position | None:
        """Subscribe the namespace and ``rooms``; then register a new connection and save its session, in one request.

        Return the position of ``Broker.subscribe``. ``session`` is new and begins there: until then at
        ``positions.END``. The other arguments are those of ``Presence.register``.

        Return None, and register and save nothing, if there is a session and messages are kept for the user in the
        namespace (OfflineQueue): these are appended before the connection is registered.

        Raises: TokenRejected if the token of ``identity`` is revoked then; what ``register`` raises. Then nothing is
            registered or saved.
        """
        ...


class ConnectionRooms(Protocol):
    """The rooms of connections, of presence and of the recovery sessions together.

    Its methods may raise BrokerUnavailable and BrokerTimeout, as those of the stores. Each may be repeated.
    """

    async def subscribe(self, addresses: Collection[Address]) -> None:
        """Subscribe while the listener delivers an entry: it gets every later entry for the addresses after it.

        Called by ``deliver`` alone (``Broker.listen``). ``Broker.unsubscribe`` ends the subscription.
        """
        ...

    async def wait_delivered(self) -> None:
        """Wait until the entries were delivered that were accepted before the last subscription was confirmed.

        From then on nothing of the addresses is read from the log later than what is published after it.
        """
        ...

    async def record(self, changed: Sequence[ChangedRooms]) -> None:
        """Replace the rooms of connections of this replica and their sessions, one request for many.

        A connection that is not registered, and a session that was parked, deleted or resumed elsewhere, stays as it
        is. What a failed call did not write is written once the state is available again, if the connection is open.
        """
        ...

    async def change_recoverable(self, change: RoomChange, at: Position, *, max_rooms: int | None) -> None:
        """Count recoverable connections in the rooms that they join, or no more in those that they leave.

        ``at`` is the position of the change, ``max_rooms`` the most rooms of a connection without that of its sid.
        Rooms that a token granted are not left. A shared state does a bounded part of it in each request.
        """
        ...
