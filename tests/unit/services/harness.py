"""The services over the memory state, with a clock that a test advances."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from gateway.domain.dedup import DedupKey
from gateway.domain.event_catalogue import RESERVED_PREFIXES, EventCatalogue
from gateway.domain.identity import Identity, Revocation
from gateway.domain.messages import (
    Address,
    DisconnectCommand,
    LogEntry,
    Message,
    PublishResult,
    new_id,
)
from gateway.domain.positions import Position
from gateway.domain.presence import ChangedRooms, ClosedConnection, PresentConnection, UserPresence
from gateway.domain.sessions import RecoveryRequest, RecoverySession, VisibleRooms
from gateway.hub import Connection, ConnectionState, Hub
from gateway.interfaces import Broker, ConnectionRooms, DataSource, Presence, Webhooks, never_now
from gateway.metrics import MetricFactory
from gateway.services.client_events import ClientEvents, Effects
from gateway.services.connect import Connector
from gateway.services.disconnect import Disconnector
from gateway.services.memberships import Memberships
from gateway.services.publish import MessagePublisher
from gateway.services.recovery import ConnectResult, Recovery
from gateway.services.replay import Replayer
from gateway.services.replay_budget import ReplayBudget
from gateway.services.room_changes import RoomChangeListener, RoomChangePublisher
from gateway.services.socket_data import SocketDataChanges
from gateway.services.token_expiry import TokenExpiry
from gateway.state.memory import MemoryState
from gateway.state.memory.sessions import MemoryConnects
from gateway.transport import packets
from tests.support.clock import FakeSchedule
from tests.support.waiter import TIMEOUT_SECONDS, await_until
from tests.unit.hub.transports import RecordingTransport, connection, encode, identity
from tests.unit.services.catalogue import RecordingWebhooks

REPLICA = "replica-1"
RECOVERY_SECONDS = 100.0
SEND_BUFFER_BYTES = 40_960


class GatedPresence:
    """The memory presence; ``register`` waits for ``gate``, and writes raise ``error`` if it is set."""

    def __init__(self, inner: Presence) -> None:
        self._inner = inner
        self.entered = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

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
        self.entered.set()
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        await self._inner.register(
            connection, rooms, session=session, max_of_user=max_of_user, listed=listed, data=data
        )

    async def change_rooms(
        self, sid: str, rooms: Collection[str], *, session: RecoverySession | None = None
    ) -> None:
        if self.error is not None:
            raise self.error
        await self._inner.change_rooms(sid, rooms, session=session)

    async def has_sid(self, sid: str) -> bool:
        return await self._inner.has_sid(sid)

    async def visible_rooms(self, user: str, namespace: str) -> VisibleRooms:
        return await self._inner.visible_rooms(user, namespace)

    async def register_again(self, listed: Mapping[str, str | None]) -> None:
        await self._inner.register_again(listed)

    async def change_transport(self, sid: str, transport: str) -> None:
        await self._inner.change_transport(sid, transport)

    async def unregister(self, sid: str, *, is_parked: bool = False) -> None:
        await self._inner.unregister(sid, is_parked=is_parked)

    async def of_user(self, user: str) -> UserPresence:
        return await self._inner.of_user(user)

    async def of_users(self, users: Collection[str]) -> dict[str, UserPresence]:
        return await self._inner.of_users(users)


class GatedDisconnects:
    """The memory disconnects; ``record`` waits for ``gate``, and raises ``error`` if it is set."""

    def __init__(self, state: MemoryState) -> None:
        self._inner = state.disconnects
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.recorded: list[int] = []
        """How many disconnects each call recorded."""

    async def record(self, disconnects: Sequence[ClosedConnection]) -> None:
        await self.gate.wait()
        self.recorded.append(len(disconnects))
        if self.error is not None:
            raise self.error
        await self._inner.record(disconnects)


class GatedRevocations:
    """The memory revocations; ``read`` waits for ``gate``, with ``answers_late`` after it has read."""

    def __init__(self, state: MemoryState) -> None:
        self._inner = state.revocations
        self.entered = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.answers_late = False

    async def read(self, user: str, token_id: str = "") -> Revocation:
        before = await self._inner.read(user, token_id)
        self.entered.set()
        await self.gate.wait()
        return before if self.answers_late else await self._inner.read(user, token_id)


class GatedBroker:
    """The memory broker; ``subscribe`` waits for ``gate`` and raises ``error`` if it is set."""

    def __init__(self, inner: Broker) -> None:
        self._inner = inner
        self.append = inner.append
        self.append_now = inner.append_now
        self.append_all = inner.append_all
        self.listen = inner.listen
        self.history = inner.history
        self.subscribed: set[Address] = set()
        self.error: Exception | None = None
        self.on_subscribe: Callable[[Collection[Address]], None] = lambda _: None
        self.entered = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def subscribe(self, addresses: Collection[Address]) -> Position:
        self.on_subscribe(addresses)
        self.entered.set()
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.subscribed.update(addresses)
        return await self._inner.subscribe(addresses)

    async def unsubscribe(self, addresses: Collection[Address]) -> None:
        self.subscribed.difference_update(addresses)
        await self._inner.unsubscribe(addresses)


class GatedRooms:
    """The memory rooms of connections; ``record`` waits for ``gate``."""

    def __init__(self, inner: ConnectionRooms) -> None:
        self._inner = inner
        self.subscribe = inner.subscribe
        self.wait_delivered = inner.wait_delivered
        self.change_recoverable = inner.change_recoverable
        self.entered = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.recorded: list[str] = []
        """The sids whose rooms were written."""

    async def record(self, changed: Sequence[ChangedRooms]) -> None:
        self.entered.set()
        await self.gate.wait()
        self.recorded += [each.sid for each in changed]
        await self._inner.record(changed)


@dataclass(frozen=True, slots=True)
class ConnectedClient:
    """An accepted connection and its transport."""

    result: ConnectResult
    transport: RecordingTransport

    @property
    def connection(self) -> Connection:
        return self.result.connection

    @property
    def pid(self) -> str:
        assert self.connection.session is not None
        return self.connection.session.pid

    @property
    def event_names(self) -> list[str]:
        """The names of the events that were sent."""
        return [event.partition("@")[0] for event in self.transport.events]

    @property
    def offsets(self) -> list[Position]:
        """The positions that were sent, in order."""
        return [Position(event.partition("@")[2]) for event in self.transport.events if "@" in event]

    async def wait_live(self) -> None:
        """Wait until the connection is LIVE."""
        await await_until(
            lambda: self.connection.state is ConnectionState.LIVE, "it is live", pause_seconds=0
        )


class Services:
    """The hub and the services over a memory state. The listener, the disconnector and the replayer run as tasks."""

    def __init__(
        self,
        *,
        max_connections: int | None = None,
        max_rooms: int | None = None,
        reserved_prefixes: tuple[str, ...] = RESERVED_PREFIXES,
        webhooks: Webhooks | None = None,
        delivers_now: bool = True,
    ) -> None:
        """``delivers_now``: whether messages may be delivered in the step that appends them."""
        self.schedule = FakeSchedule()
        self.clock = self.schedule.clock
        self.state = MemoryState(
            clock=self.clock,
            replica=REPLICA,
            history_length=100,
            history_bytes=1_000_000,
            recovery_seconds=RECOVERY_SECONDS,
        )
        self.broker = GatedBroker(self.state.broker)
        self.presence = GatedPresence(self.state.presence)
        self.connection_rooms = GatedRooms(self.state.connection_rooms)
        self.disconnects = GatedDisconnects(self.state)
        self.revocations = GatedRevocations(self.state)
        self._transports = count()
        self.join_wait_seconds: dict[str, float] = {}
        self.delivery_gate = asyncio.Event()
        """While it is cleared, the listener delivers nothing."""
        self.delivery_gate.set()
        self._is_delivering = False
        """Whether the listener has an entry: nothing may be delivered before it."""
        self.delivered: Callable[[LogEntry], None] = lambda _: None
        """Called with each entry, before it is delivered."""
        self.has_sockets = False
        """Whether frames are written to the sockets of new connections directly."""
        self.replayed: list[int] = []
        self.metrics = MetricFactory()
        self.disconnector_metrics = MetricFactory()
        self.on_disconnected: Callable[[DisconnectCommand, int], None] = lambda _command, _ended: None
        """Called with each disconnect command that wants a reply, and how many connections it ended."""
        self.hub = Hub(
            encode,
            metrics=self.metrics,
            on_disconnected=self._on_disconnected,
        )
        self.disconnector = Disconnector(
            hub=self.hub,
            broker=self.broker,
            presence=self.presence,
            disconnects=self.disconnects,
            clock=self.clock,
            max_connections_per_user=max_connections,
            metrics=self.disconnector_metrics,
        )
        self.recovery = Recovery(
            broker=self.broker,
            presence=self.presence,
            sessions=self.state.sessions,
            clock=self.clock,
            recovery_seconds=RECOVERY_SECONDS,
            send_buffer_bytes=SEND_BUFFER_BYTES,
            budget=ReplayBudget(clock=self.clock, schedule=self.schedule, metrics=self.metrics),
        )
        self.publisher = MessagePublisher(
            broker=self.broker,
            clock=self.clock,
            namespaces=("/", "/events"),
            delivery_timer=self.hub.delivery_timer,
            metrics=self.metrics,
        )
        self.token_expiry = TokenExpiry(schedule=self.schedule, clock=self.clock, leeway_seconds=5)
        self.memberships = Memberships(
            hub=self.hub,
            broker=self.broker,
            presence=self.presence,
            sessions=self.state.sessions,
            max_rooms_per_connection=max_rooms,
            join_wait_seconds=lambda room: self.join_wait_seconds.get(room, 0.0),
        )
        self.socket_data = SocketDataChanges(
            store=self.state.socket_data, listings=self.state.listings, broker=self.broker
        )
        self.replayer = Replayer(
            recovery=self.recovery,
            memberships=self.memberships,
            encode=encode,
            on_replayed=self.replayed.append,
        )
        self.room_changes = RoomChangeListener(
            hub=self.hub,
            broker=self.broker,
            rooms=self.connection_rooms,
            replies=self.state.replies,
            memberships=self.memberships,
            disconnector=self.disconnector,
            fall_behind=self.replayer.fall_behind,
            continue_after=self.replayer.continue_after,
            metrics=self.metrics,
        )
        self.room_change_publisher = RoomChangePublisher(
            broker=self.broker,
            rooms=self.connection_rooms,
            replies=self.state.replies,
            max_rooms_per_connection=max_rooms,
            join_wait_seconds=lambda room: self.join_wait_seconds.get(room, 0.0),
            metrics=self.metrics,
        )
        self.connector = Connector(
            hub=self.hub,
            broker=self.broker,
            presence=self.presence,
            connects=MemoryConnects(
                broker=self.broker,
                presence=self.presence,
                sessions=self.state.sessions,
                revocations=self.revocations,
                kept=self.state._kept,
            ),
            offline_queue=self.state.offline_queue,
            sessions=self.state.sessions,
            revocations=self.revocations,
            socket_data=self.state.socket_data,
            memberships=self.memberships,
            recovery=self.recovery,
            disconnector=self.disconnector,
            clock=self.clock,
            replica=REPLICA,
            max_connections_per_user=max_connections,
            max_rooms_per_connection=max_rooms,
        )
        self.client_events = ClientEvents(
            EventCatalogue(),
            effects=Effects(
                broker=self.broker,
                hub=self.hub,
                memberships=self.memberships,
                socket_data=self.socket_data,
                webhooks=webhooks or RecordingWebhooks(),
                replica=REPLICA,
            ),
            rates=self.state.rates,
            acks=self.state.acks,
            clock=self.clock,
            schedule=self.schedule,
            namespaces=("/", "/events"),
            metrics=self.metrics,
            reserved_prefixes=reserved_prefixes,
        )
        self._tasks = [
            asyncio.create_task(
                self.broker.listen(
                    self._deliver, self.hub.flush, self._deliver_now if delivers_now else never_now
                )
            ),
            asyncio.create_task(self.disconnector.run()),
            asyncio.create_task(self.replayer.run()),
            asyncio.create_task(self.room_changes.run()),
        ]

    async def _deliver(self, entry: LogEntry, position: Position, *, more: bool) -> None:
        self._is_delivering = True
        await self.delivery_gate.wait()
        self.delivered(entry)
        await self.room_changes.deliver(entry, position, more=more)
        self._is_delivering = False

    def _deliver_now(
        self, message: Message, position: Position, address: Address, /, *, more: bool = False
    ) -> bool:
        if not self.delivery_gate.is_set() and not self._is_delivering:
            return False
        self.delivered(message)
        return self.room_changes.deliver_now(message, position, address, more=more)

    def _on_disconnected(self, command: DisconnectCommand, ended: int) -> None:
        self.on_disconnected(command, ended)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        for task in self._tasks:
            assert task.cancelled(), "a task of the services ended by itself"

    def identity(
        self, user: str, *rooms: str, issued: float | None = 0.0, expires_in: float | None = None
    ) -> Identity:
        """Return an identity; ``issued`` is in seconds from the start of the test."""
        base = identity(user, *rooms)
        return Identity(
            user,
            base.rooms,
            expires_at=None if expires_in is None else self.clock.now() + expires_in,
            issued_at=None if issued is None else 1_700_000_000.0 + issued,
        )

    async def connect(
        self, client_identity: Identity, namespace: str = "/", **recovery_request: Any
    ) -> tuple[ConnectResult, RecordingTransport]:
        """Connect with a recovery request; its ``owner`` is a new name by default."""
        transport = RecordingTransport(has_socket=self.has_sockets)
        recovery_request = {"owner": f"{REPLICA}.{next(self._transports)}"} | recovery_request
        return await self.connector.connect(
            client_identity, namespace, transport, RecoveryRequest(**recovery_request)
        ), transport

    async def connect_declined(
        self, client_identity: Identity, namespace: str = "/"
    ) -> tuple[Connection, RecordingTransport]:
        """Connect with recovery declined; the connection stays CONNECTING."""
        result, transport = await self.connect(client_identity, namespace, is_declined=True)
        return result.connection, transport

    async def connect_live(
        self, client_identity: Identity, namespace: str = "/"
    ) -> tuple[Connection, RecordingTransport]:
        """Connect with recovery declined, and make the connection LIVE."""
        received, transport = await self.connect_declined(client_identity, namespace)
        received.go_live()
        return received, transport

    async def connect_client(self, client_identity: Identity, **recovery_request: Any) -> ConnectedClient:
        """Connect and start the replay, as the Socket.IO server does."""
        result, transport = await self.connect(client_identity, **recovery_request)
        first = [packets.message("connect")]
        self.replayer.start(
            result,
            first,
            None if result.first_page is None else lambda at, _: packets.message(f"authenticated@{at}"),
        )
        return ConnectedClient(result, transport)

    def message(self, room: str) -> Message:
        """Return a message that the history does not keep."""
        return Message(new_id(), "/", (room,), "count", (), volatile=True)

    async def push(
        self, room: str, event: str, *, volatile: bool = False, exclude: str = "", size_bytes: int = 0
    ) -> Position:
        """Append a message to a room; return its position."""
        excluded = frozenset(exclude.split())
        arguments = (f'"{"x" * size_bytes}"',) if size_bytes else ()
        message = Message(new_id(), "/", (room,), event, arguments, exclude=excluded, volatile=volatile)
        result = await self.broker.append(message)
        return result.position

    async def push_now(self, room: str, event: str, nonce: str, *, size_bytes: int = 0) -> PublishResult:
        """Publish a plain message as the REST API does: without waiting if that is possible."""
        arguments = (f'"{"x" * size_bytes}"',) if size_bytes else ()
        message = Message(new_id(), "/", (room,), event, arguments)
        dedup_key = DedupKey("backend", nonce, self.clock.now() + 300)
        result = self.publisher.publish_now(message, dedup_key)
        if isinstance(result, PublishResult):
            return result
        assert result is None, "nothing has to be waited for in memory"
        return await self.publisher.publish(message, dedup_key)

    async def wait_delivered(self) -> None:
        """Wait until everything appended so far was delivered: a last message reaches a connection of its own."""
        witness, transport = connection("witness", "witness", namespace="/witness")
        received = asyncio.Event()
        transport.on_send = received.set
        self.hub.add(witness, {"witness"})
        # Around the gate of the broker, which a test may have closed.
        await self.state.broker.subscribe([Address("/witness", "witness")])
        await self.state.broker.append(Message(new_id(), "/witness", ("witness",), "last message", ()))
        await asyncio.wait_for(received.wait(), TIMEOUT_SECONDS)
        self.hub.remove(witness)

    async def online(self, user: str) -> list[PresentConnection]:
        return list((await self.presence.of_user(user)).connections)

    async def is_empty(self) -> bool:
        """Wait for the disconnector; return whether hub, subscriptions and presence are empty."""
        await asyncio.wait_for(self.disconnector.flush(), TIMEOUT_SECONDS)
        is_hub_empty = not self.hub.connections and not len(self.hub.tokens)
        return is_hub_empty and not self.broker.subscribed and not len(self.state.presence)
