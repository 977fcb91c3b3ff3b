"""The verbs of the gateway over the memory state, with a time that a test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from gateway.application.arriving import Arriving
from gateway.application.expiring import Expiring
from gateway.application.publishing import Publishing
from gateway.application.reporting import Reporting
from gateway.domain.identity import Identity
from gateway.domain.messages import Address, Message, new_id
from gateway.domain.positions import Position
from gateway.domain.presence import PresentConnection, UserPresence
from gateway.hub import Connection, Hub
from gateway.ports import Broker, Presence
from gateway.state.memory import MemoryState
from tests.hub.links import RecordingLink, connection, encode, identity
from tests.transport.recording import ManualSchedule

REPLICA = "replica-1"
PATIENCE_SECONDS = 5.0


class ScheduleClock:
    """Tells the time of a schedule that a test moves; satisfies ``ports.Clock``."""

    def __init__(self, schedule: ManualSchedule) -> None:
        self._schedule = schedule

    def now(self) -> float:
        return 1_700_000_000.0 + self._schedule.now

    def monotonic(self) -> float:
        return self._schedule.now


class GatedPresence:
    """The memory presence behind a gate: registering waits until the test opens it. It lies about nothing else."""

    def __init__(self, inner: Presence) -> None:
        self._inner = inner
        self.entered = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails: Exception | None = None

    async def register(self, connection: PresentConnection, rooms: Collection[str]) -> None:
        self.entered.set()
        await self.gate.wait()
        if self.fails is not None:
            raise self.fails
        await self._inner.register(connection, rooms)

    async def change_rooms(self, sid: str, rooms: Collection[str]) -> None:
        await self._inner.change_rooms(sid, rooms)

    async def change_transport(self, sid: str, transport: str) -> None:
        await self._inner.change_transport(sid, transport)

    async def unregister(self, sid: str) -> None:
        if self.fails is not None:
            raise self.fails
        await self._inner.unregister(sid)

    async def of_user(self, user: str) -> UserPresence:
        return await self._inner.of_user(user)

    async def of_users(self, users: Collection[str]) -> dict[str, UserPresence]:
        return await self._inner.of_users(users)

    async def count(self, addresses: Collection[Address]) -> int:
        return await self._inner.count(addresses)


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
        self.newest = inner.newest
        self.subscribed: set[Address] = set()
        self.fails: Exception | None = None
        self.asked: Callable[[Collection[Address]], None] = lambda _: None
        self.entered = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def subscribe(self, addresses: Collection[Address]) -> Position:
        self.asked(addresses)
        self.entered.set()
        await self.gate.wait()
        if self.fails is not None:
            raise self.fails
        self.subscribed.update(addresses)
        return await self._inner.subscribe(addresses)

    async def unsubscribe(self, addresses: Collection[Address]) -> None:
        self.subscribed.difference_update(addresses)
        await self._inner.unsubscribe(addresses)


class House:
    """Everything between the doors and the state. Its broker's listener and its reports run as tasks."""

    def __init__(self, *, max_connections: int | None = None, max_rooms: int | None = None) -> None:
        self.schedule = ManualSchedule()
        self.clock = ScheduleClock(self.schedule)
        self.state = MemoryState(
            clock=self.clock,
            replica=REPLICA,
            history_length=100,
            history_bytes=10_000,
            recovery_seconds=100.0,
        )
        self.broker = GatedBroker(self.state.broker)
        self.presence = GatedPresence(self.state.presence)
        self.revocations = GatedRevocations(self.state)
        self.accepted: list[str] = []
        self.hub = Hub(encode, lambda _count: None)
        self.reporting = Reporting(hub=self.hub, broker=self.broker, presence=self.presence)
        self.publishing = Publishing(
            broker=self.broker, clock=self.clock, namespaces=("/", "/events"), accepted=self.accepted.append
        )
        self.expiring = Expiring(schedule=self.schedule, clock=self.clock, leeway_seconds=5)
        self.arriving = Arriving(
            hub=self.hub,
            broker=self.broker,
            presence=self.presence,
            revocations=self.revocations,
            clock=self.clock,
            replica=REPLICA,
            max_connections_per_user=max_connections,
            max_rooms_per_connection=max_rooms,
            depart=self.reporting.depart,
        )
        self._tasks = [
            asyncio.create_task(self.broker.listen(self.hub.deliver)),
            asyncio.create_task(self.reporting.run()),
        ]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        for task in self._tasks:
            assert task.cancelled(), "a task of the house ended by itself"

    def who(
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

    async def admit(self, who: Identity, namespace: str = "/") -> tuple[Connection, RecordingLink]:
        link = RecordingLink()
        return await self.arriving.admit(who, namespace, link), link

    async def welcome(self, who: Identity, namespace: str = "/") -> tuple[Connection, RecordingLink]:
        """Admit and make live, as the door does."""
        arrived, link = await self.admit(who, namespace)
        arrived.go_live()
        return arrived, link

    async def heard(self) -> None:
        """Wait until the listener has handed over everything so far: a last word reaches a witness."""
        witness, link = connection("witness", "witness", namespace="/witness")
        arrived = asyncio.Event()
        link.when_sent = arrived.set
        self.hub.add(witness, {"witness"})
        # Past the gate: waiting for the listener is no part of any test.
        await self.state.broker.subscribe([Address("/witness", "witness")])
        await self.state.broker.append(Message(new_id(), "/witness", ("witness",), "last word", ()))
        await asyncio.wait_for(arrived.wait(), PATIENCE_SECONDS)
        self.hub.remove(witness)

    async def online(self, user: str) -> list[PresentConnection]:
        return list((await self.presence.of_user(user)).connections)

    async def is_empty(self) -> bool:
        """Nothing of anybody is left here, and nobody else's world knows of anybody."""
        await asyncio.wait_for(self.reporting.settled(), PATIENCE_SECONDS)
        return not self.hub.connections and not self.broker.subscribed and not len(self.state.presence)
