"""Random sequences of actions: each due message is received once and in order.

The client is simulated: it drops when it has read a part of what was sent to it, and reconnects with the last position
of that part, as the stock one does.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.errors import NonceReplayed
from gateway.domain.positions import Position, is_after
from tests.unit.services.harness import ConnectedClient, Services

ROOMS = USER, ORG = "user:alice", "org:7"
SMALL, LARGE = 0, 6_000


@dataclass
class Client:
    """What a client received, and what it must receive. Its methods except ``read`` are the actions of a script."""

    services: Services
    connected: ConnectedClient
    rooms: frozenset[str] = frozenset()
    offset: Position | None = None
    received: list[str] = field(default_factory=list)
    due: list[tuple[str, str]] = field(default_factory=list)
    """Room and name of each message that it must get, in order."""
    optional: set[str] = field(default_factory=set)
    """Messages to a room that it left since. It has those that it read before its next drop."""
    pushed: int = 0
    published: list[int] = field(default_factory=list)
    """The numbers of all messages that are kept."""
    nonces: list[str] = field(default_factory=list)
    """Some that were used."""

    def read(self, limit: int | None) -> None:
        for event in self.connected.transport.events[:limit]:
            name, _, position = event.partition("@")
            if position:
                at = Position(position)
                assert self.offset is None or not is_after(self.offset, at), "a position went back"
                self.offset = at
            if name.startswith("m"):
                self.received.append(name)

    async def push(self, room: str, volatile: bool, size_bytes: int) -> None:
        self.pushed += 1
        name = f"{'v' if volatile else 'm'}{self.pushed}"
        if not volatile:
            self.published.append(self.pushed)
        if not volatile and room in {USER, *self.rooms}:
            self.due.append((room, name))
        await self.services.push(room, name, volatile=volatile, size_bytes=size_bytes)

    async def push_now(self, room: str, size_bytes: int) -> None:
        self.pushed += 1
        name = f"m{self.pushed}"
        if room in {USER, *self.rooms}:
            self.due.append((room, name))
        self.published.append(self.pushed)
        await self.services.push_now(room, name, f"nonce {name}", size_bytes=size_bytes)
        self.nonces = [*self.nonces[-1:], f"nonce {name}"]

    async def replay(self, room: str) -> None:
        for nonce in self.nonces:
            with pytest.raises(NonceReplayed):
                await self.services.push_now(room, "m replayed", nonce)

    async def drop(self, read: int, missed: int, keeps_room: bool) -> None:
        self.read(read)
        self.services.disconnector.disconnect(self.connected.connection)
        await self.services.disconnector.flush()
        for _ in range(missed):
            for room in ROOMS:
                await self.push(room, False, SMALL)
        if not keeps_room:
            self.rooms ^= {ORG}
            self.optional.update(name for room, name in self.due if room == ORG)
        self.due = [each for each in self.due if each[1] in self.received or each[1] not in self.optional]
        self.connected = await self.services.connect_client(
            self.services.identity("alice", *self.rooms), pid=self.connected.pid, offset=self.offset
        )
        assert self.connected.result.failure is None

    async def stall(self, stalled: bool) -> None:
        (self.services.delivery_gate.clear if stalled else self.services.delivery_gate.set)()

    async def turns(self, count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    async def refresh(self, inside: bool) -> None:
        self.services.delivery_gate.set()
        await self.services.wait_delivered()
        await self.connected.wait_live()
        if not inside:
            self.optional.update(name for room, name in self.due if room == ORG)
        self.rooms = frozenset({ORG} if inside else ())
        await self.services.connector.refresh(
            self.connected.connection, self.services.identity("alice", *self.rooms)
        )


actions = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.sampled_from(ROOMS), st.booleans(), st.sampled_from([SMALL, LARGE])),
        st.tuples(st.just("push_now"), st.sampled_from(ROOMS), st.sampled_from([SMALL, SMALL, LARGE])),
        st.tuples(st.just("replay"), st.sampled_from(ROOMS)),
        st.tuples(st.just("drop"), st.integers(0, 6), st.integers(0, 4), st.booleans()),
        st.tuples(st.just("stall"), st.booleans()),
        st.tuples(st.just("turns"), st.integers(1, 20)),
        st.tuples(st.just("refresh"), st.booleans()),
    ),
    max_size=60,
)


@given(actions, st.booleans())
def test_each_due_message_is_received_once_and_in_order(
    script: list[tuple[Any, ...]], has_sockets: bool
) -> None:
    asyncio.run(play(script, has_sockets=has_sockets, delivers_now=True))


@given(actions, st.booleans())
def test_delivery_in_the_step_that_appends_changes_no_sequence(
    script: list[tuple[Any, ...]], has_sockets: bool
) -> None:
    at_once = asyncio.run(play(script, has_sockets=has_sockets, delivers_now=True))
    queued = asyncio.run(play(script, has_sockets=has_sockets, delivers_now=False))
    assert at_once == queued


async def play(
    script: list[tuple[Any, ...]], *, has_sockets: bool, delivers_now: bool
) -> tuple[list[str], list[str]]:
    """Play a script; return what the client had to receive and did, and what a connection received that stayed."""
    services = Services(delivers_now=delivers_now)
    services.has_sockets = has_sockets
    services.schedule.advance(1)
    # So that the listener delivers everything.
    watcher = Client(services, await services.connect_client(services.identity("alice", "org:7")))
    client = Client(services, await services.connect_client(services.identity("alice")))
    for action, *arguments in script:
        await getattr(client, action)(*arguments)
    services.delivery_gate.set()
    await services.wait_delivered()
    await client.connected.wait_live()
    await services.wait_delivered()
    client.read(None)
    watcher.read(None)

    assert client.received == [name for _, name in client.due]
    assert watcher.received == [f"m{number}" for number in client.published]
    await services.close()
    return [name for name in client.received if name not in client.optional], watcher.received
