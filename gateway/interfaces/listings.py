"""The interfaces of what backends read and change of connections: lists, and socket data."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from gateway.domain.listings import (
    ConnectionDetails,
    ConnectionPage,
    MemberRules,
    NamePage,
    RoomSummary,
    Slice,
    StateSummary,
)
from gateway.domain.socket_data import StoredData


class DataSource(Protocol):
    """Has the socket data of a connection of this replica."""

    @property
    def stored_data(self) -> StoredData:
        """The data that the connection has now."""
        ...


class Listings(Protocol):
    """Lists of the users, rooms and connections of all replicas.

    Contract:

    - A walk over the pages of a list has everything that was there throughout, once, whatever came and went meanwhile.
      A page may have less than its limit, or nothing, and not be the last one.
    - What ends with a connection is in no list once the connection is unregistered. The connections of a replica whose
      lease has expired are in no list; ``stats`` and ``users`` of a room may count its users and rooms until it is
      reaped.
    - The rooms of sids are in no list.
    """

    @property
    def rules(self) -> MemberRules:
        """Which rooms have a list of their members."""
        ...

    def configure(self, rules: MemberRules) -> bool:
        """List the members of rooms by these rules, of connections that are registered from now on.

        Return whether the rules changed: those that are registered already have to be registered again then.
        """
        ...

    async def stats(self, namespaces: Collection[str]) -> StateSummary:
        """Return how much there is in these namespaces, and the replicas."""
        ...

    async def users(self, namespaces: Collection[str], prefix: str, part: Slice) -> NamePage:
        """Return users whose id begins with a prefix, with their connections in these namespaces.

        A user is in the list if the room of the user (``domain.names.user_room``) has a connection there.
        """
        ...

    async def rooms(self, namespace: str, prefix: str, part: Slice) -> NamePage:
        """Return rooms whose name begins with a prefix, with their connections."""
        ...

    async def room(self, namespace: str, room: str) -> RoomSummary:
        """Return what is in a room."""
        ...

    async def connections_of(self, user: str, namespace: str | None, part: Slice) -> ConnectionPage:
        """Return connections of a user in a namespace, or in all (None)."""
        ...

    async def members(self, namespace: str, room: str, part: Slice) -> ConnectionPage:
        """Return the connections in a room whose members are listed; of another room none."""
        ...

    async def connection(self, sid: str) -> ConnectionDetails | None:
        """Return a connection, None if it is not open."""
        ...


class SocketDataStore(Protocol):
    """The socket data of connections. It is kept while a session may be resumed, and ends with the connection."""

    async def read(self, sid: str) -> StoredData:
        """Return the data of an open connection; that of another sid was never set."""
        ...

    async def replace(
        self, sid: str, text: str, *, expected: int, is_here: bool = False
    ) -> tuple[bool, StoredData] | None:
        """Replace the data if its version is ``expected``; return whether it was, and what it is now.

        None: the connection is not open. ``is_here``: this replica has the connection, and it already has this data
        with the version above ``expected``; a shared state that is away gets it later.

        Raises: BrokerUnavailable also while a replica of a former release lives, which would not learn of the change;
            not with ``is_here``.
        """
        ...
