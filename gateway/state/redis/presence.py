"""Who is connected, over all replicas, and the records of connections.

    conns:<r>     sid → {"user", "at": [address names], "r"?,   read by the scripts (registry.lua); r: it has a session,
                         "p"?, "e"?, "j"?, "l"?, "m"?}          whose first position and {room: position at which it was
                                                                joined} these are; j: the rooms that no token granted;
                                                                l: the namespace in whose list it is;
                                                                m: the addresses whose members are listed
    user:<u>      sid → replica, a blank, {"v", "n", "t", "c"}  format, namespace, transport, connected at

A release reads its own format and the previous one. A record that it cannot read counts as absent.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final, TypeVar

import orjson

from gateway.domain import positions
from gateway.domain.errors import MalformedPosition, TokenRejected, TooManyConnections
from gateway.domain.listings import MemberRules
from gateway.domain.messages import Address
from gateway.domain.names import SID_PREFIX
from gateway.domain.presence import ChangedRooms, PresentConnection, UserPresence
from gateway.domain.sessions import RecoverySession, VisibleRooms, earliest
from gateway.interfaces import DataSource
from gateway.state.redis.commands import Argument, Commands
from gateway.state.redis.presence_events import PresenceRecording
from gateway.state.redis.redis_keys import RedisKeys, address_name

_FORMAT: Final = 1
_ENCODE: Final = json.JSONEncoder(separators=(",", ":")).encode
BATCH: Final = 50
X = TypeVar("X")


@dataclass(frozen=True, eq=False, slots=True)
class Registration:
    """A connection of this replica and its rooms, to register again when Redis has lost it.

    Each change makes a new object, so identity shows whether it changed.
    """

    connection: PresentConnection
    rooms: frozenset[str]
    session: RecoverySession | None = None
    listed: str | None = None
    data: DataSource | None = None

    def arguments(self, pid: str, rules: MemberRules) -> tuple[str, ...]:
        """Return what register.lua takes: sid, user, public record, addresses, pid of the session, list entry,
        socket data.
        """
        connection = self.connection
        counted = self.encode_addresses(rules, has_session=bool(pid))
        stored = None if self.data is None else self.data.stored_data
        data = f"{stored.version} {stored.text}" if stored is not None and stored.version else ""
        return (connection.sid, connection.user, self.encode_public(), counted, pid, self.listed or "", data)

    def encode_addresses(self, rules: MemberRules, *, has_session: bool) -> str:
        """Encode the user and every address where the connection counts: namespace, room of the sid, rooms.

        ``rules``: in which rooms it is listed as a member.
        """
        connection = self.connection
        # The namespace is the first: of a user with very many addresses some are kept (lua/user_states.lua).
        rooms = (None, *(self.rooms | {connection.sid}))
        names = [address_name(Address(connection.namespace, room)) for room in rooms]
        record: dict[str, object] = {"user": connection.user, "at": names}
        if has_session:
            record["r"] = 1
        if self.listed:
            record["l"] = connection.namespace
        if connection.namespace in rules.rules and (
            listed := [room for room in self.rooms if rules.lists(connection.namespace, room)]
        ):
            record["m"] = [address_name(Address(connection.namespace, room)) for room in listed]
        if self.session is not None:
            record["p"] = self.session.first_position
            if self.session.joined_at:
                record["e"] = dict(self.session.joined_at)
            if self.session.joined_rooms:
                record["j"] = sorted(self.session.joined_rooms)
        return _ENCODE(record)

    def encode_public(self) -> str:
        """Encode what all replicas read of the connection."""
        connection = self.connection
        fields = {
            "v": _FORMAT,
            "n": connection.namespace,
            "t": connection.transport,
            "c": connection.connected_at,
        }
        return f"{connection.replica} {_ENCODE(fields)}"


def decode_visible_rooms(namespace: str, value: bytes) -> VisibleRooms:
    """Decode the rooms of a connection in a namespace with their positions; none of a record without positions."""
    prefix = namespace + ","
    try:
        record = orjson.loads(value)
        first, joined_at = positions.parse(record["p"]), record.get("e", {})
        rooms = [name.removeprefix(prefix) for name in record["at"] if name.startswith(prefix)]
        return {room: positions.parse(joined_at.get(room, first)) for room in rooms}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, MalformedPosition):
        return {}


def decode_public(user: str, sid: bytes, value: bytes) -> PresentConnection | None:
    """Decode what all replicas read of a connection; None for data that this release does not read."""
    try:
        replica, _, text = value.partition(b" ")
        fields = orjson.loads(text)
        if fields["v"] != _FORMAT:
            return None
        connected_at = float(fields["c"])
        if not math.isfinite(connected_at):
            return None
        return PresentConnection(
            sid.decode(), user, str(fields["n"]), replica.decode(), str(fields["t"]), connected_at
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


class RedisPresence:
    """``gateway.interfaces.Presence``. Registrations of this replica are kept here, too, to write them again.

    ``dirty`` are sids whose data in Redis may differ from the data here, because a write failed, was overtaken by a
    newer one, or found the connection at another replica. They are written again after the next heartbeat.
    """

    def __init__(
        self,
        commands: Commands,
        keys: RedisKeys,
        *,
        replica: str,
        pid_of: Callable[[str], str | None],
        recording: PresenceRecording,
    ) -> None:
        """``pid_of`` returns the pid of the session in use here for a sid, if there is one."""
        self._recording = recording
        self._commands = commands
        self._pid_of = pid_of
        self._connections_key = keys.named("conns", replica)
        self._replica = replica
        self._here: dict[str, Registration] = {}
        self._former_sids: set[str] = set()
        self._parked: set[str] = set()
        """Closed connections whose sessions are parked, while it is not certain that they are unregistered."""
        self.dirty: set[str] = set()
        self.member_rules = MemberRules()
        """In which rooms connections are listed as members, from their next registration on."""

    def __len__(self) -> int:
        return len(self._here)

    @property
    def has_former_sids(self) -> bool:
        """Whether a connection here has a sid that the previous release made."""
        return bool(self._former_sids)

    async def register(
        self,
        connection: PresentConnection,
        rooms: Collection[str],
        *,
        session: RecoverySession | None = None,
        max_of_user: int | None = None,
        listed: str | None = None,
        data: DataSource | None = None,
    ) -> None:
        arguments = self.keep(Registration(connection, frozenset(rooms), session, listed, data))
        try:
            limit = max_of_user or 0
            elsewhere = await self.write([connection.sid], "register", limit, *arguments, has_rules=True)
        except TooManyConnections:
            self.drop(connection.sid)
            raise
        self.dirty.update(elsewhere)

    # called by RedisConnects

    def keep(self, registration: Registration) -> tuple[str, ...]:
        """Keep the registration of a connection here; return what register.lua takes.

        Raises: ValueError for a connection of another replica.
        """
        connection = registration.connection
        if connection.replica != self._replica:
            raise ValueError(f"{connection.replica!r} is another replica than this one, {self._replica!r}")
        if not connection.sid.startswith(SID_PREFIX):
            self._former_sids.add(connection.sid)
        self._here[connection.sid] = registration
        return self._arguments(registration)

    def drop(self, sid: str) -> None:
        """Forget a connection that was certainly not registered, so that nothing is to be removed."""
        self._here.pop(sid, None)
        self._former_sids.discard(sid)
        self.dirty.discard(sid)

    def begin_session(self, registration: Registration, session: RecoverySession) -> None:
        """Set the session of a connection, as it was registered, unless it was changed meanwhile."""
        sid = registration.connection.sid
        if self._here.get(sid) is registration:
            self._here[sid] = replace(registration, session=session)

    # Presence again

    async def register_again(self, listed: Mapping[str, str | None]) -> None:
        for sid, entry in listed.items():
            known = self._here.get(sid)
            if known is not None:
                self._here[sid] = replace(known, listed=entry)
        for batch in batches(listed):
            await self._flush(batch)

    async def change_rooms(
        self, sid: str, rooms: Collection[str], *, session: RecoverySession | None = None
    ) -> None:
        counted = self.moved(ChangedRooms(sid, frozenset(rooms), session))
        if counted is not None:
            await self.write([sid], "change_rooms", sid, counted, has_rules=True)

    async def change_transport(self, sid: str, transport: str) -> None:
        known = self._here.get(sid)
        if known is not None:
            connection = replace(known.connection, transport=transport)
            now = self._here[sid] = replace(known, connection=connection)
            await self.write([sid], "update_transport", sid, connection.user, now.encode_public())

    async def unregister(self, sid: str, *, is_parked: bool = False) -> None:
        if self.leave(sid, is_parked=is_parked):
            await self._unregister([sid])

    async def _unregister(self, sids: Collection[str]) -> None:
        arguments = [argument for sid in sids for argument in (sid, int(sid in self._parked), "", "", "")]
        await self.write(sids, "disconnect", *arguments, has_rules=True)
        self.left(sids)

    async def has_sid(self, sid: str) -> bool:
        return bool(await self._commands.call("has_sid", sid))

    async def visible_rooms(self, user: str, namespace: str) -> VisibleRooms:
        records = await self._commands.call("visible_rooms", user)
        return earliest([decode_visible_rooms(namespace, record) for record in records])

    async def of_user(self, user: str) -> UserPresence:
        return (await self.of_users([user]))[user]

    async def of_users(self, users: Collection[str]) -> dict[str, UserPresence]:
        each_once = tuple(dict.fromkeys(users))
        answers: list[Any] = []
        while len(answers) < len(each_once):
            answers += await self._commands.call("presence", *each_once[len(answers) :])
        return {user: _decode(user, *answer) for user, answer in zip(each_once, answers, strict=True)}

    def _arguments(self, registered: Registration) -> tuple[str, ...]:
        return registered.arguments(self._pid_of(registered.connection.sid) or "", self.member_rules)

    # called by RedisConnectionRooms and RedisDisconnects

    def moved(self, changed: ChangedRooms) -> str | None:
        """Replace the rooms of a connection here; return what Redis counts of it, None if it is not registered here."""
        known = self._here.get(changed.sid)
        if known is None:
            return None
        now = self._here[changed.sid] = replace(known, rooms=changed.rooms, session=changed.session)
        return now.encode_addresses(self.member_rules, has_session=self._pid_of(changed.sid) is not None)

    def leave(self, sid: str, *, is_parked: bool) -> bool:
        """Forget a connection that is gone. Return whether that is to be written."""
        self._former_sids.discard(sid)
        was_here = self._here.pop(sid, None)
        if was_here is not None:
            self._recording.user_left(
                was_here.connection.user,
                was_here.connection.namespace,
                was_here.rooms,
                self._commands.redis_ms(),
            )
            if is_parked:
                self._parked.add(sid)
        return was_here is not None or not is_parked

    def left(self, sids: Collection[str]) -> None:
        """Record that connections are certainly unregistered."""
        self._parked.difference_update(sids)

    async def write(
        self, sids: Collection[str], script: str, *arguments: Argument, has_rules: bool = False
    ) -> list[str]:
        """Run a script and return the sids that count at another replica, if the script returns any.

        With ``has_rules`` the script also gets the rules by which changes of presence are recorded.
        """
        answer = await self.run(sids, script, *arguments, has_rules=has_rules)
        return [sid.decode() for sid in answer] if isinstance(answer, list) else []

    async def run(
        self, sids: Collection[str], script: str, *arguments: Argument, has_rules: bool = False
    ) -> Any:
        """Run a script that writes connections, and return its answer."""
        if has_rules:
            arguments = (self._recording.rules, *arguments)
        written = [(sid, self._here.get(sid)) for sid in sids]
        try:
            answer = await self._commands.call(
                script, self._replica, *arguments, raise_rejection=_raise_rejection
            )
        except BaseException:
            self.dirty.update(sids)
            raise
        # If this write had to be repeated, a newer one may have been executed before it.
        self.dirty.update(sid for sid, registered in written if self._here.get(sid) is not registered)
        return answer

    # called by Membership

    def mark_all_dirty(self) -> None:
        """Mark every connection here dirty: Redis has lost its data of them, and perhaps that of users who left."""
        self.dirty.update(self._here)
        self._recording.mark_lost()

    async def reconcile(self) -> None:
        """Mark every connection dirty that is here or that Redis has for this replica.

        Raises:
            BrokerUnavailable: Redis does not answer.
            BrokerTimeout: the answer was lost.
        """
        known: list[bytes] = await self._commands.read("HKEYS", self._connections_key)
        self.dirty.update(sid.decode() for sid in known)
        self.mark_all_dirty()

    async def remove_disconnected(self) -> None:
        """Unregister again the dirty connections that are closed. Redis executes this at its memory limit, too."""
        for batch in batches(sid for sid in tuple(self.dirty) if sid not in self._here):
            self.dirty.difference_update(batch)
            await self._unregister(batch)

    async def flush(self, within_seconds: float) -> None:
        """Register again the dirty connections that are open, spread over a time."""
        due = list(batches(sid for sid in tuple(self.dirty) if sid in self._here))
        for batch in due:
            await self._flush(batch)
            await asyncio.sleep(within_seconds / len(due))

    async def refresh_ttl(self, within_seconds: float) -> None:
        """Renew the TTL of the keys of users and rooms with connections here, spread over a time."""
        due = list(batches(tuple(self._here)))
        for batch in due:
            await self._commands.call("refresh_ttl", self._replica, *batch)
            await asyncio.sleep(within_seconds / len(due))

    async def _flush(self, sids: Collection[str]) -> None:
        here = {sid: self._here[sid] for sid in sids if sid in self._here}  # others are closed by now
        self.dirty.difference_update(here)
        arguments = [argument for each in here.values() for argument in self._arguments(each)]
        self.dirty.update(await self.write(here, "register", 0, *arguments, has_rules=True))


def _raise_rejection(answer: object) -> None:
    """Raises: TooManyConnections for a connection beyond the limit of its user; TokenRejected."""
    if answer == b"REVOKED":
        raise TokenRejected.revoked()
    if answer == b"FULL":
        raise TooManyConnections("this user has as many connections already as one may have")


def _decode(
    user: str, public: list[bytes], last_seen: bytes, recoverable: int, version: bytes
) -> UserPresence:
    decoded = (decode_public(user, *pair) for pair in zip(public[::2], public[1::2], strict=True))
    connections = [connection for connection in decoded if connection is not None]
    connections.sort(key=lambda connection: (connection.connected_at, connection.sid))
    return UserPresence(
        user,
        tuple(connections),
        float(last_seen) if last_seen else None,
        recoverable,
        int(version) if version else None,
    )


def batches(items: Iterable[X]) -> Iterator[list[X]]:
    """Return the items in parts for one script each, so that no other script waits for long."""
    rest = iter(items)
    while batch := list(islice(rest, BATCH)):
        yield batch
