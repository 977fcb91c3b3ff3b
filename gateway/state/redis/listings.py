"""Lists of users, rooms and connections, and the socket data of connections.

    rooms:<n>        each room of a namespace whose hash room:<a> exists, all with one score: pages are ranges by name
    users            each user with a connection
    members:<a>      sids in a room, only where a rule lists members; room_users:<a>: how many of them each user has
    data:<s>         the version of the socket data, a blank, and the text

The scripts that register and remove connections write them (lua/registry.lua), so they are right whenever
registrations are, and written again with these. A replica of a former release does not: lists are marked as incomplete
while one lives. Names and sids that it left behind are removed by the pages that find them.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, Final

import orjson

from gateway.domain.errors import BrokerUnavailable
from gateway.domain.listings import (
    MAX_PAGE_BYTES,
    ConnectionDetails,
    ConnectionPage,
    ListedName,
    MemberRules,
    NamePage,
    NamespaceSummary,
    ReplicaSummary,
    RoomSummary,
    Slice,
    StateSummary,
)
from gateway.domain.messages import Address
from gateway.domain.names import USER_PREFIX
from gateway.domain.socket_data import StoredData
from gateway.state.redis.codec import Codec
from gateway.state.redis.commands import Commands
from gateway.state.redis.presence import RedisPresence, decode_public
from gateway.state.redis.redis_keys import address_name

_BEHIND: Final = b"\xff"
"""No UTF-8 holds this byte: a prefix followed by it is behind all names with the prefix."""


class RedisListings:
    """``gateway.interfaces.Listings``."""

    def __init__(self, commands: Commands, presence: RedisPresence) -> None:
        self._commands = commands
        self._presence = presence

    @property
    def rules(self) -> MemberRules:
        return self._presence.member_rules

    def configure(self, rules: MemberRules) -> bool:
        is_changed = rules != self._presence.member_rules
        self._presence.member_rules = rules
        return is_changed

    async def stats(self, namespaces: Collection[str]) -> StateSummary:
        names = tuple(namespaces)
        is_complete, users, counted, living = await self._commands.call("stats", *names)
        return StateSummary(
            users,
            {name: NamespaceSummary(*each) for name, each in zip(names, counted, strict=True)},
            tuple(sorted(_decode_replica(*each) for each in living)),
            bool(is_complete),
        )

    async def users(self, namespaces: Collection[str], prefix: str, part: Slice) -> NamePage:
        if len(namespaces) == 1:
            (namespace,) = namespaces
            return await self._rooms(namespace, prefix, part, hidden=USER_PREFIX)
        counted_at = [f"{namespace},{USER_PREFIX}" for namespace in namespaces]
        return await self._names(("users", ""), prefix, part, counted_at=counted_at)

    async def rooms(self, namespace: str, prefix: str, part: Slice) -> NamePage:
        return await self._rooms(namespace, prefix, part)

    async def _rooms(self, namespace: str, prefix: str, part: Slice, *, hidden: str = "") -> NamePage:
        return await self._names(
            ("rooms", namespace), prefix, part, counted_at=(f"{namespace},",), hidden=hidden
        )

    async def _names(
        self,
        index: tuple[str, str],
        prefix: str,
        part: Slice,
        *,
        counted_at: Collection[str],
        hidden: str = "",
    ) -> NamePage:
        """Read a page of names whose part ``hidden`` in front is no part of the answer."""
        first = (hidden + prefix).encode()
        low = b"(" + (hidden + part.after).encode() if part.after else b"[" + first
        high = b"(" + first + _BEHIND if first else b"+"
        is_complete, last, page = await self._commands.call(
            "list_names", *index, low, high, part.limit, *counted_at
        )
        found = [
            ListedName(name.decode().removeprefix(hidden), connections)
            for name, connections in zip(page[::2], page[1::2], strict=True)
        ]
        return NamePage(tuple(found), last.decode().removeprefix(hidden), bool(is_complete))

    async def room(self, namespace: str, room: str) -> RoomSummary:
        is_complete, connections, recoverable, users = await self._commands.call(
            "room_summary", address_name(Address(namespace, room))
        )
        if not self.rules.lists(namespace, room):
            return RoomSummary(connections, recoverable)
        return RoomSummary(connections, recoverable, min(users, connections), bool(is_complete))

    async def connections_of(self, user: str, namespace: str | None, part: Slice) -> ConnectionPage:
        holds = "" if namespace is None else _encode_namespace(namespace)
        return await self._connections("user", user, holds, part)

    async def members(self, namespace: str, room: str, part: Slice) -> ConnectionPage:
        return await self._connections("room", address_name(Address(namespace, room)), "", part)

    async def _connections(self, kind: str, name: str, holds: str, part: Slice) -> ConnectionPage:
        is_complete, last, page = await self._commands.call(
            "list_connections", kind, name, holds, part.after, part.limit, MAX_PAGE_BYTES
        )
        found = [_decode_connection(*record) for record in page]
        return ConnectionPage(
            tuple([each for each in found if each is not None]), last.decode(), bool(is_complete)
        )

    async def connection(self, sid: str) -> ConnectionDetails | None:
        record = await self._commands.call("read_connection", sid)
        return None if not record else _decode_connection(*record)


class RedisSocketData:
    """``gateway.interfaces.SocketDataStore``."""

    def __init__(self, commands: Commands, listings: RedisListings, *, codec: Codec, dirty: set[str]) -> None:
        """``dirty`` are the sids that are registered again (RedisPresence)."""
        self._commands = commands
        self._listings = listings
        self._codec = codec
        self._dirty = dirty

    async def read(self, sid: str) -> StoredData:
        found = await self._listings.connection(sid)
        return StoredData() if found is None else found.stored

    async def replace(
        self, sid: str, text: str, *, expected: int, is_here: bool = False
    ) -> tuple[bool, StoredData] | None:
        if not is_here and not self._codec.may_change_data:
            raise BrokerUnavailable(
                "a replica of a former release lives, which does not read changes of data"
            )
        try:
            found = await self._commands.call("replace_data", sid, expected, text)
        except BaseException:
            if is_here:
                self._dirty.add(sid)
            raise
        if not found:
            if is_here:
                self._dirty.add(sid)
            return None
        return bool(found[0]), _decode_data(found[1])


def _decode_replica(name: bytes, connections: int, release: bytes, taken: bytes) -> ReplicaSummary:
    version, _, since = release.decode().partition(" ")
    return ReplicaSummary(name.decode(), connections, version or None, float(since or taken or 0))


def _decode_connection(
    sid: bytes, user: bytes, public: bytes, known: bytes, data: bytes
) -> ConnectionDetails | None:
    """Decode the record of a connection; None for data that this release does not read."""
    connection = decode_public(user.decode(), sid, public)
    if connection is None:
        return None
    rooms = _decode_rooms(connection.namespace, known)
    return ConnectionDetails(
        connection, tuple(sorted(room for room in rooms if room != connection.sid)), _decode_data(data)
    )


def _decode_data(value: Any) -> StoredData:
    version, _, text = value.decode().partition(" ")
    return StoredData(int(version), text) if version else StoredData()


def _encode_namespace(namespace: str) -> str:
    """Return what the public record of each connection in a namespace holds, and no other."""
    return f'"n":{json.dumps(namespace)}'


def _decode_rooms(namespace: str, value: bytes) -> list[str]:
    """Decode the rooms of a connection in a namespace."""
    prefix = namespace + ","
    try:
        return [name.removeprefix(prefix) for name in orjson.loads(value)["at"] if name.startswith(prefix)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []
