"""Replies between replicas that share a Redis."""

from __future__ import annotations

from gateway.domain.messages import Reply
from tests.integration.redis_state.replicas import make, replicas
from tests.support.redis_server import RedisServer
from tests.support.waiter import await_until


async def test_result_names_each_living_replica_with_a_connection_once(server: RedisServer) -> None:
    async with replicas(server, "a", "b", "c", lease_seconds=1.0) as [a, b, c]:
        await b.register("s1", "ann", "room", "other")
        await c.register("s2", "bob", "room")
        wanting = make("room", "other")._replace(reply_to="a")

        assert sorted((await a.state.broker.append(wanting)).replicas) == ["b", "c"]

        await c.stop()
        await await_until(lambda: "c" in a.reaped or "c" in b.reaped, "the replica is reaped")
        again = make("room", "other")._replace(reply_to="a")
        assert (await a.state.broker.append(again)).replicas == ("b",)


async def test_reply_reaches_the_replica_that_the_entry_names_and_no_other(server: RedisServer) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        received: list[Reply] = []
        received_by_others: list[Reply] = []
        a.state.replies.expect("entry", received.append)
        b.state.replies.expect("entry", received_by_others.append)

        for number in range(20):
            await b.state.replies.send("a", "entry", str(number))

        await await_until(lambda: len(received) == 20, "all replies are received")
        assert received == [Reply("entry", "b", str(number)) for number in range(20)]
        await a.state.replies.send("b", "entry", "last")
        await await_until(lambda: bool(received_by_others), "the other one receives its own")
        assert received_by_others == [Reply("entry", "a", "last")]


async def test_large_message_that_wants_replies_is_delivered(server: RedisServer) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await b.subscribe("room")
        wanting = make("room", size=200_000)._replace(reply_to="a")

        await a.state.broker.append(wanting)

        await b.receives(wanting)
        assert b.received == [wanting]
