"""Random sequences of actions: each due message is received once and in order.

The client is simulated: it drops when it has read a part of what was sent to it, and reconnects with the last position
of that part, as the stock one does.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

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
        if not volatile and room in {USER, *self.rooms}:
            self.due.append((room, name))
        await self.services.push(room, name, volatile=volatile, size_bytes=size_bytes)

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
        st.tuples(st.just("drop"), st.integers(0, 6), st.integers(0, 4), st.booleans()),
        st.tuples(st.just("stall"), st.booleans()),
        st.tuples(st.just("turns"), st.integers(1, 20)),
        st.tuples(st.just("refresh"), st.booleans()),
    ),
    max_size=60,
)


@given(actions)
def test_each_due_message_is_received_once_and_in_order(script: list[tuple[Any, ...]]) -> None:
    asyncio.run(play(script))


async def play(script: list[tuple[Any, ...]]) -> None:
    services = Services()
    services.schedule.advance(1)
    await services.connect_client(
        services.identity("alice", "org:7")
    )  # so that the listener delivers everything
    client = Client(services, await services.connect_client(services.identity("alice")))
    for action, *arguments in script:
        await getattr(client, action)(*arguments)
    services.delivery_gate.set()
    await services.wait_delivered()
    await client.connected.wait_live()
    await services.wait_delivered()
    client.read(None)

    assert client.received == [name for _, name in client.due]
    await services.close()
