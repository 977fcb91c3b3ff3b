"""A connection of a user with kept messages, while what ends or concerns it comes before their copies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from gateway.domain.errors import TokenRejected
from gateway.domain.messages import Address, Message, new_id
from gateway.domain.positions import Position
from gateway.interfaces import OfflineQueue
from tests.unit.services.harness import ConnectedClient, Services


class InterposedQueue:
    """The offline queue; ``before`` is awaited before copies are appended."""

    def __init__(self, inner: OfflineQueue, before: Callable[[], Awaitable[object]]) -> None:
        self._inner = inner
        self._before = before
        self.remove = inner.remove

    async def append_copies(
        self, address: Address, sid: str, *, upto: Position | None = None
    ) -> Position | None:
        await self._before()
        return await self._inner.append_copies(address, sid, upto=upto)


async def connect_behind(services: Services, event: Callable[[], Awaitable[object]]) -> ConnectedClient:
    """Connect a user with a kept message; ``event`` happens just before the copy is appended."""
    kept = Message(new_id(), "/", ("user:alice",), "kept", (), ttl_seconds=60)
    await services.broker.append(kept)
    services.connector._offline_queue = InterposedQueue(services.state.offline_queue, event)
    client = await services.connect_client(services.identity("alice", issued=-100.0))
    await client.wait_live()
    return client


@pytest.mark.parametrize("revoke", [True, False])
async def test_disconnect_before_the_copies_counts_no_connection_that_stays(
    services: Services, revoke: bool
) -> None:
    counted = []

    async def disconnect() -> None:
        result = await services.publisher.disconnect_user(
            "alice", namespace="/", exclude=frozenset(), revoke=revoke
        )
        counted.append(result.connections)
        await services.wait_delivered()

    if revoke:
        with pytest.raises(TokenRejected):
            await connect_behind(services, disconnect)
    else:
        await connect_behind(services, disconnect)
    # It came before the connection, which so is not counted.
    assert counted == [0]


async def test_message_before_the_copies_arrives_if_its_answer_counts_the_connection(
    services: Services,
) -> None:
    counted = []

    async def push() -> None:
        message = Message(new_id(), "/", ("user:alice",), "news", ())
        counted.append((await services.broker.append(message)).connections)

    client = await connect_behind(services, push)
    await services.wait_delivered()

    assert client.event_names.count("news") == counted[0], (client.event_names, counted)
