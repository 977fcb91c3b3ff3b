"""Changes of rooms that backends request: publish them, and apply them to the connections of this replica.

A change is an entry of the log. Each replica applies it where it is in the order of entries: to its live connections
when the listener reaches it (``RoomChangeListener``), to others when they replay the history (``Replayer``).
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Final, NamedTuple

import structlog

from gateway.domain import positions
from gateway.domain.dedup import DedupKey
from gateway.domain.disconnects import DRAINING
from gateway.domain.errors import BrokerTimeout, BrokerUnavailable
from gateway.domain.messages import Address, LogEntry, Message, PublishResult, Reply, RoomChange
from gateway.domain.positions import Position
from gateway.domain.presence import ChangedRooms
from gateway.hub import Connection, ConnectionState, Hub
from gateway.interfaces import Broker, ConnectionRooms, Replies
from gateway.metrics import MetricFactory, one_label
from gateway.services.disconnect import Disconnector
from gateway.services.memberships import Memberships

REPLY_SECONDS: Final = 2.0
"""How long a request waits for the replicas. One that is suspended or was killed applies the change later."""
LOCK_SECONDS: Final = 0.1
"""How long the listener waits for other changes of the rooms of its connections; then they replay this one."""
APPLY_SECONDS: Final = 5.0
"""How long the listener repeats what the state does not do; then it disconnects the clients, which resume."""
LARGE: Final = 200
"""Connections whose rooms are written before the next entry is delivered; of a larger change it is done meanwhile."""
MAX_UNSENT: Final = 1_000
"""Replies that wait to be sent at most. The next one is dropped: its request waits for REPLY_SECONDS."""
_RETRY_SECONDS: Final = 0.1
_BATCH: Final = 50
JOIN, LEAVE = "join", "leave"

log = structlog.get_logger(__name__)


class RoomChangeResult(NamedTuple):
    """The result of the broker, and how many connections did not join because they would be in too many rooms."""

    published: PublishResult
    rejected: int = 0


class RoomChangePublisher:
    """Appends changes of rooms, and waits until the replicas have applied them."""

    def __init__(
        self,
        *,
        broker: Broker,
        rooms: ConnectionRooms,
        replies: Replies,
        max_rooms_per_connection: int | None,
        join_wait_seconds: Callable[[str], float],
        metrics: MetricFactory,
    ) -> None:
        """``join_wait_seconds`` is that of the state."""
        self._broker = broker
        self._rooms = rooms
        self._replies = replies
        self._max_rooms = max_rooms_per_connection
        self._join_wait_seconds = join_wait_seconds
        self._published = metrics.counter(
            "room_changes",
            "Changes of rooms of backends of this replica that the broker accepted, by kind.",
            ("kind",),
            one_label((JOIN, LEAVE)),
        )
        self._unanswered = metrics.counter(
            "room_change_replies_missing", "Replicas that did not apply a change of rooms within two seconds."
        )

    async def change_rooms(self, change: RoomChange, dedup_key: DedupKey | None = None) -> RoomChangeResult:
        """Have connections join or leave rooms; return once the replicas with these connections have applied it.

        A replica that does not reply within REPLY_SECONDS applies the change before every entry that is accepted after
        this returned. Messages that are not kept in the history may be lost for its connections until then.

        Raises: BrokerUnavailable, also while rooms cannot be joined beside a former release; what ``Broker.append``
            raises.
        """
        wait_seconds = max(map(self._join_wait_seconds, change.changed)) if change.is_join else 0.0
        if wait_seconds > 0:
            raise BrokerUnavailable(
                "replicas or sids of the previous release still live, so rooms cannot be joined yet",
                retry_after_seconds=math.ceil(wait_seconds),
            )
        replies = _Replies()
        self._replies.expect(change.id, replies.receive)
        try:
            published = await self._broker.append(change._replace(reply_to=self._replies.replica), dedup_key)
            if published.replayed:
                # The first request has waited for the replicas, or for its limited time.
                return RoomChangeResult(published)
            self._published.count((JOIN if change.is_join else LEAVE,))
            deadline = asyncio.get_running_loop().time() + REPLY_SECONDS
            await self._change_recoverable(change, published, deadline)
            if missing := await replies.wait(published, deadline):
                log.warning("rooms.replies_missing", id=change.id, replicas=missing)
                self._unanswered.count((), len(missing))
        finally:
            self._replies.forget(change.id)
        return RoomChangeResult(published, replies.rejected)

    async def _change_recoverable(
        self, change: RoomChange, published: PublishResult, deadline: float
    ) -> None:
        if not published.recoverable:
            return
        try:
            async with asyncio.timeout_at(deadline):
                await self._rooms.change_recoverable(change, published.position, max_rooms=self._max_rooms)
        except (BrokerUnavailable, BrokerTimeout, TimeoutError) as error:
            # Only numbers are wrong: the sessions find the change in the history.
            log.warning("rooms.recoverable_not_counted", id=change.id, code=getattr(error, "code", "timeout"))


class _Replies:
    """The replies to one change: which replicas have applied it."""

    def __init__(self) -> None:
        self._replicas: set[str] = set()
        self._arrived = asyncio.Event()
        self.rejected = 0

    def receive(self, reply: Reply) -> None:
        if reply.replica not in self._replicas:
            self._replicas.add(reply.replica)
            self.rejected += int(json.loads(reply.content)["rejected"])
            self._arrived.set()

    async def wait(self, published: PublishResult, deadline: float) -> list[str]:
        """Wait for a reply of each replica, until the deadline of the loop; return those without one, if known."""
        try:
            async with asyncio.timeout_at(deadline):
                while not (published.knows_replicas and self._replicas.issuperset(published.replicas)):
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            return sorted(set(published.replicas) - self._replicas)
        return []


class _Applied(NamedTuple):
    """A change that connections have in the hub, and not in the state yet; their rooms are locked."""

    change: RoomChange
    position: Position
    connections: Sequence[Connection]
    rejected: int
    """How many connections would be in too many rooms."""
    failure: str
    """Why the change cannot be applied, or nothing."""


class RoomChangeListener:
    """Delivers entries to the hub, and applies changes of rooms to the connections of this replica.

    A connection receives nothing newer than a change until the state has its rooms: one that is lost before finds the
    change in the history when it is resumed, and so does one that does not get its rooms in time and is disconnected.
    Nothing at all is delivered while a change of at most LARGE connections is written. With a larger one they are
    REPLAYING meanwhile, the others get their messages, and the next large change waits.
    """

    def __init__(
        self,
        *,
        hub: Hub,
        broker: Broker,
        rooms: ConnectionRooms,
        replies: Replies,
        memberships: Memberships,
        disconnector: Disconnector,
        fall_behind: Callable[[Connection, Position, Position], None],
        continue_after: Callable[[Connection, Position], None],
        metrics: MetricFactory,
    ) -> None:
        """``fall_behind`` and ``continue_after`` are those of Replayer."""
        self._hub = hub
        self._broker = broker
        self._rooms = rooms
        self._replies = replies
        self._memberships = memberships
        self._disconnector = disconnector
        self._fall_behind = fall_behind
        self._continue_after = continue_after
        self._delivered = positions.START
        """The position of the entry that was delivered last."""
        self._unsent: asyncio.Queue[tuple[str, str, str]] = asyncio.Queue(MAX_UNSENT)
        """Replies: to which replica, to which change, and the content."""
        self._dropped = metrics.counter(
            "room_change_replies_dropped",
            "Replies to changes of rooms that this replica did not send, because too many waited.",
        )
        self._large: asyncio.Queue[_Applied] = asyncio.Queue(1)
        """The large change that is to be written, until ``task_done`` is called for it."""

    def deliver(self, entry: LogEntry, position: Position, *, more: bool = False) -> Awaitable[None]:
        """Deliver an entry; see ``interfaces.Deliver``."""
        if isinstance(entry, RoomChange):
            return self._deliver_change(entry, position)
        self._delivered = position
        return self._hub.deliver(entry, position, more=more)

    def deliver_now(
        self, message: Message, position: Position, address: Address, *, more: bool = False
    ) -> bool:
        """Deliver a message in this step; see ``interfaces.DeliverNow``."""
        if is_delivered := self._hub.deliver_now(message, position, address, more=more):
            self._delivered = position
        return is_delivered

    async def run(self) -> None:
        """Send replies and write large changes, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._send_replies(), name="replies to room changes")
            tasks.create_task(self._write_large(), name="large room changes")

    async def _send_replies(self) -> None:
        while True:
            replica, change_id, content = await self._unsent.get()
            # Else a volatile message after the answer could come behind a later change of the same rooms.
            await self._rooms.wait_delivered()
            try:
                await self._replies.send(replica, change_id, content)
            except (BrokerUnavailable, BrokerTimeout) as error:
                log.warning("rooms.reply_failed", id=change_id, code=error.code)

    async def _write_large(self) -> None:
        while True:
            applied = await self._large.get()
            try:
                await self._write(applied)
            finally:
                self._large.task_done()

    async def _deliver_change(self, change: RoomChange, position: Position) -> None:
        await self._hub.deliver(change, position)  # everything before it is written
        recipients = await self._hub.recipients(change, change.addresses)
        if len(recipients) > LARGE:
            # Else each connection of the large change before it would replay this one by itself.
            await self._large.join()
            recipients = await self._hub.recipients(change, change.addresses)
        members = [each for each in recipients if _is_to_be_changed(each, position)]
        locked: dict[Connection, None] = {}
        try:
            await self._lock(members, locked, position)
            applied = await self._apply(change, position, list(locked))
            for each in applied.connections:
                del locked[each]  # unlocked once its rooms are written
        finally:
            _unlock(locked)
        if len(applied.connections) > LARGE:
            _hold(applied.connections, position)
            self._large.put_nowait(applied)
        else:
            await self._write(applied)
        self._delivered = position

    async def _lock(
        self, connections: Sequence[Connection], locked: dict[Connection, None], position: Position
    ) -> None:
        """Lock the rooms of connections, and add these to ``locked``.

        A connection for which it takes too long replays the change; without a session it is disconnected.
        """
        deadline = asyncio.get_running_loop().time() + LOCK_SECONDS
        for number, connection in enumerate(connections, 1):
            lock = connection.rooms_lock = connection.rooms_lock or asyncio.Lock()
            try:
                async with asyncio.timeout_at(deadline) if lock.locked() else nullcontext():
                    await lock.acquire()
            except TimeoutError:
                if connection.session is None:
                    self._disconnect([connection], "rooms_locked")
                elif connection.state is ConnectionState.LIVE:
                    self._fall_behind(connection, position, self._delivered)
            else:
                locked[connection] = None
            if number % _BATCH == 0:
                await asyncio.sleep(0)

    async def _apply(
        self, change: RoomChange, position: Position, connections: Sequence[Connection]
    ) -> _Applied:
        """Apply a change to locked connections on this replica."""
        addresses = [Address(change.namespace, room) for room in change.changed]
        changed, rejected, failure = [], 0, ""
        # The hub first: a room without connections may be unsubscribed by the connection that left it last.
        for number, each in enumerate(connections, 1):
            session = None if each.session is None else each.session.changed_by(change, position)
            rooms = each.rooms_after(change, position) if session is None else session.rooms
            if rooms != each.rooms and self._memberships.is_within_limit(each, rooms):
                self._hub.change_rooms(each, rooms)
                each.session = session
                changed.append(each)
            else:
                rejected += rooms != each.rooms
                each.note_changes(position)
            if number % _BATCH == 0:
                await asyncio.sleep(0)
        try:
            async with asyncio.timeout(APPLY_SECONDS):
                if change.is_join and changed:
                    await _insist(lambda: self._rooms.subscribe(addresses))
        except TimeoutError:
            failure = "state_unavailable"
        finally:
            await self._broker.unsubscribe([each for each in addresses if not self._hub.has(each)])
        if rejected:
            log.info("rooms.too_many", id=change.id, connections=rejected)
        return _Applied(change, position, changed, rejected, failure)

    async def _write(self, applied: _Applied) -> None:
        """Write the rooms of connections to the state, unlock them and reply."""
        failure = applied.failure
        for start in range(0, len(applied.connections), _BATCH):
            batch = applied.connections[start : start + _BATCH]
            try:
                failure = failure or await self._record(batch)
                if failure:
                    self._disconnect(batch, failure)
            finally:
                _unlock(batch)
            for each in batch:
                self._continue_after(each, applied.position)
        if applied.change.reply_to:
            content = json.dumps({"rejected": applied.rejected})
            try:
                self._unsent.put_nowait((applied.change.reply_to, applied.change.id, content))
            except asyncio.QueueFull:
                self._dropped.count()

    async def _record(self, connections: Sequence[Connection]) -> str:
        """Write the rooms of some connections; return why that failed, or nothing."""
        changed = [
            ChangedRooms(each.sid, each.rooms, each.session)
            for each in connections
            if each.state is not ConnectionState.CLOSED
        ]
        try:
            async with asyncio.timeout(APPLY_SECONDS):
                await _insist(lambda: self._rooms.record(changed))
        except TimeoutError:
            return "state_unavailable"
        return ""

    def _disconnect(self, connections: Sequence[Connection], reason: str) -> None:
        log.warning("rooms.change_failed", connections=len(connections), reason=reason)
        for connection in connections:
            connection.transport.disconnect(DRAINING)
            self._disconnector.disconnect(connection)


def _hold(connections: Iterable[Connection], position: Position) -> None:
    """Let connections replay what is newer than a change, until the state has their rooms.

    One without a session cannot be resumed, so it gets its messages.
    """
    for each in connections:
        if each.state is ConnectionState.LIVE and each.session is not None:
            each.fall_behind(position)


def _unlock(connections: Iterable[Connection]) -> None:
    for each in connections:
        if each.rooms_lock is not None:
            each.rooms_lock.release()


def _is_to_be_changed(connection: Connection, position: Position) -> bool:
    """Whether the listener applies a change to a connection, and not the replay of the history."""
    if connection.state is ConnectionState.CLOSED or not connection.is_newer(position):
        return False
    if connection.state is not ConnectionState.LIVE and connection.wants_offsets:
        connection.last_skipped = position  # so that it replays the change before it is live
        return False
    # A connection that went live after a replay has everything up to its watermark.
    watermark = connection.replay_watermark
    return watermark is None or positions.is_after(position, watermark)


async def _insist(work: Callable[[], Awaitable[None]]) -> None:
    """Repeat work until the state does it; the caller has a timeout."""
    while True:
        try:
            return await work()
        except (BrokerUnavailable, BrokerTimeout):
            await asyncio.sleep(_RETRY_SECONDS)
