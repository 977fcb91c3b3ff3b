"""The verbs of the gateway over the memory state, with a time that a test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import count
from typing import Any

from gateway.domain.identity import Identity
from gateway.domain.messages import Address, LogEntry, Message, new_id
from gateway.domain.positions import Position
from gateway.domain.presence import PresentConnection, UserPresence
from gateway.domain.sessions import RecoveryRequest
from gateway.hub import Connection, ConnectionState, Hub
from gateway.interfaces import Broker, Presence
from gateway.metrics import MetricFactory
from gateway.services.connect import Connector
from gateway.services.disconnect import Disconnector
from gateway.services.publish import MessagePublisher
from gateway.services.recovery import ConnectResult, Recovery, Replayer
from gateway.services.token_expiry import TokenExpiry
from gateway.state.memory import MemoryState
from gateway.transport import packets
from tests.support.clock import FakeSchedule
from tests.unit.hub.transports import RecordingTransport, connection, encode, identity

REPLICA = "replica-1"
RECOVERY_SECONDS = 100.0
SEND_BUFFER_BYTES = 40_960
TIMEOUT_SECONDS = 5.0


class GatedPresence:
    """The memory presence behind a gate: registering waits until the test opens it. It lies about nothing else."""

    def __init__(self, inner: Presence) -> None:
        self._inner = inner
        self.entered = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def register(self, connection: PresentConnection, rooms: Collection[str]) -> None:
        self.entered.set()
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        await self._inner.register(connection, rooms)

    async def change_rooms(self, sid: str, rooms: Collection[str]) -> None:
        if self.error is not None:
            raise self.error
        await self._inner.change_rooms(sid, rooms)

    async def change_transport(self, sid: str, transport: str) -> None:
        await self._inner.change_transport(sid, transport)

    async def unregister(self, sid: str) -> None:
        if self.error is not None:
            raise self.error
        await self._inner.unregister(sid)

    async def of_user(self, user: str) -> UserPresence:
        return await self._inner.of_user(user)

    async def of_users(self, users: Collection[str]) -> dict[str, UserPresence]:
        return await self._inner.of_users(users)


class GatedRevocations:
    """The memory revocations behind a gate."""

    def __init__(self, state: MemoryState) -> None:
        self._inner = state.revocations
        self.entered = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def revoked_at(self, user: str) -> float | None:
        self.entered.set()
        await self.gate.wait()
        return await self._inner.revoked_at(user)


class GatedBroker:
    """The memory broker; subscribing may fail or wait. It lies about nothing else."""

    def __init__(self, inner: Broker) -> None:
        self._inner = inner
        self.append = inner.append
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


@dataclass(frozen=True, slots=True)
class ConnectedClient:
    """Somebody who was welcomed, and all that was sent."""

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
        """The names of the events that came."""
        return [event.partition("@")[0] for event in self.transport.events]

    @property
    def offsets(self) -> list[Position]:
        """The positions that came, in the order in which they came."""
        return [Position(event.partition("@")[2]) for event in self.transport.events if "@" in event]

    async def wait_live(self) -> None:
        """Wait until it has everything."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while self.connection.state is not ConnectionState.LIVE:  # noqa: ASYNC110  # nothing tells of it
                await asyncio.sleep(0)


class Services:
    """Everything between the doors and the state. Its broker's listener and its reports run as tasks."""

    def __init__(self, *, max_connections: int | None = None, max_rooms: int | None = None) -> None:
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
        self.revocations = GatedRevocations(self.state)
        self._transports = count()
        self.delivery_gate = asyncio.Event()
        """Cleared, the listener is behind."""
        self.delivery_gate.set()
        self.replayed: list[int] = []
        self.metrics = MetricFactory()
        self.hub = Hub(encode, metrics=self.metrics)
        self.disconnector = Disconnector(
            hub=self.hub, broker=self.broker, presence=self.presence, sessions=self.state.sessions
        )
        self.recovery = Recovery(
            broker=self.broker,
            sessions=self.state.sessions,
            clock=self.clock,
            recovery_seconds=RECOVERY_SECONDS,
            send_buffer_bytes=SEND_BUFFER_BYTES,
        )
        self.replayer = Replayer(recovery=self.recovery, encode=encode, on_replayed=self.replayed.append)
        self.publisher = MessagePublisher(
            broker=self.broker,
            clock=self.clock,
            namespaces=("/", "/events"),
            delivery_timer=self.hub.delivery_timer,
            metrics=self.metrics,
        )
        self.token_expiry = TokenExpiry(schedule=self.schedule, clock=self.clock, leeway_seconds=5)
        self.connector = Connector(
            hub=self.hub,
            broker=self.broker,
            presence=self.presence,
            sessions=self.state.sessions,
            revocations=self.revocations,
            recovery=self.recovery,
            disconnector=self.disconnector,
            clock=self.clock,
            replica=REPLICA,
            max_connections_per_user=max_connections,
            max_rooms_per_connection=max_rooms,
        )
        self._tasks = [
            asyncio.create_task(self.broker.listen(self._deliver)),
            asyncio.create_task(self.disconnector.run()),
            asyncio.create_task(self.replayer.run()),
        ]

    async def _deliver(self, entry: LogEntry, position: Position) -> None:
        await self.delivery_gate.wait()
        await self.hub.deliver(entry, position)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        for task in self._tasks:
            assert task.cancelled(), "a task of the services ended by itself"

    def identity(
        self, user: str, *rooms: str, issued: float | None = 0.0, expires_in: float | None = None
    ) -> Identity:
        """An identity; ``issued`` seconds from the start of the test."""
        base = identity(user, *rooms)
        return Identity(
            user,
            base.rooms,
            expires_at=None if expires_in is None else self.clock.now() + expires_in,
            issued_at=None if issued is None else 1_700_000_000.0 + issued,
        )

    async def connect(
        self, who: Identity, namespace: str = "/", **recovery_request: Any
    ) -> tuple[ConnectResult, RecordingTransport]:
        """Somebody comes in who wishes that; ``owner`` is a new transport unless it is named."""
        link = RecordingTransport()
        recovery_request = {"owner": f"{REPLICA}.{next(self._transports)}"} | recovery_request
        return await self.connector.connect(who, namespace, link, RecoveryRequest(**recovery_request)), link

    async def connect_declined(
        self, who: Identity, namespace: str = "/"
    ) -> tuple[Connection, RecordingTransport]:
        """Somebody comes in who cannot be resumed."""
        result, link = await self.connect(who, namespace, is_declined=True)
        return result.connection, link

    async def connect_live(
        self, who: Identity, namespace: str = "/"
    ) -> tuple[Connection, RecordingTransport]:
        """Admit and make live, as the door does."""
        arrived, link = await self.connect_declined(who, namespace)
        arrived.go_live()
        return arrived, link

    async def connect_client(self, who: Identity, **recovery_request: Any) -> ConnectedClient:
        """Arrive and be welcomed as the door does it."""
        result, link = await self.connect(who, **recovery_request)
        first = [packets.message("connect")]
        self.replayer.start(
            result,
            first,
            None if result.first_page is None else lambda at, _: packets.message(f"greeting@{at}"),
        )
        return ConnectedClient(result, link)

    async def push(
        self, room: str, event: str, *, volatile: bool = False, exclude: str = "", size_bytes: int = 0
    ) -> Position:
        """A message to a room; where it stands."""
        excluded = frozenset(exclude.split())
        arguments = (f'"{"x" * size_bytes}"',) if size_bytes else ()
        message = Message(new_id(), "/", (room,), event, arguments, exclude=excluded, volatile=volatile)
        result = await self.broker.append(message)
        return result.position

    async def wait_delivered(self) -> None:
        """Wait until the listener has handed over everything so far: a last word reaches a witness."""
        witness, link = connection("witness", "witness", namespace="/witness")
        arrived = asyncio.Event()
        link.on_send = arrived.set
        self.hub.add(witness, {"witness"})
        # Past the gate: waiting for the listener is no part of any test.
        await self.state.broker.subscribe([Address("/witness", "witness")])
        await self.state.broker.append(Message(new_id(), "/witness", ("witness",), "last word", ()))
        await asyncio.wait_for(arrived.wait(), TIMEOUT_SECONDS)
        self.hub.remove(witness)

    async def online(self, user: str) -> list[PresentConnection]:
        return list((await self.presence.of_user(user)).connections)

    async def is_empty(self) -> bool:
        """Nothing of anybody is left here, and nobody else's world knows of anybody."""
        await asyncio.wait_for(self.disconnector.flush(), TIMEOUT_SECONDS)
        return not self.hub.connections and not self.broker.subscribed and not len(self.state.presence)
