"""A connection that was resumed at another replica counts there, and at no other."""

from __future__ import annotations

from gateway.domain.positions import START
from gateway.domain.presence import PresentConnection, UserPresence
from gateway.domain.sessions import RecoverySession
from tests.contract.values import at, connections_at
from tests.integration.redis_state.replicas import Replica, await_answer, replicas
from tests.support.redis_server import RedisServer

LATER, EARLIER = 2_000_000_000.0, 1_000_000_000.0


async def connect(replica: Replica, connected_at: float) -> None:
    session = RecoverySession("p", "s1", "ann", "/", f"{replica.name}/1", frozenset({"room"}), START)
    await replica.state.sessions.save(session)
    await register(replica, connected_at)


async def resume(replica: Replica, connected_at: float) -> None:
    await replica.state.sessions.resume("p", user="ann", namespace="/", owner=f"{replica.name}/1")
    await register(replica, connected_at)


async def register(replica: Replica, connected_at: float) -> None:
    connection = PresentConnection("s1", "ann", "/", replica.name, "websocket", connected_at)
    await replica.state.presence.register(connection, {"room"})


async def location(replica: Replica) -> tuple[list[str], int]:
    ann: UserPresence = await replica.state.presence.of_user("ann")
    return [each.replica for each in ann.connections], await connections_at(replica.state.broker, at("room"))


async def test_connection_resumed_at_a_replica_whose_clock_is_behind_counts_there(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await connect(a, LATER)

        await resume(b, EARLIER)

        assert await location(a) == (["b"], 1)


async def test_former_replica_that_registers_again_does_not_take_the_connection_back(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await connect(a, LATER)
        await resume(b, EARLIER)

        a.state.presence.mark_all_dirty()
        await a.state.presence.flush(0)
        assert await location(a) == (["b"], 1)

        await a.state.presence.unregister("s1")
        assert await location(a) == (["b"], 1)
        await b.state.presence.unregister("s1")
        assert await location(a) == ([], 0)


async def test_registration_repeated_after_the_next_resume_does_not_take_the_connection_back(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await connect(a, EARLIER)
        await resume(b, EARLIER)
        await resume(a, EARLIER)

        await register(b, LATER)

        assert await location(a) == (["a"], 1)
        await b.state.presence.unregister("s1")
        assert await location(a) == (["a"], 1)


async def test_connection_unknown_to_a_new_primary_counts_once_the_former_replica_unregisters(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await connect(a, EARLIER)
        await resume(b, LATER)
        # For a primary that did not receive the resume, it is as if the client had been resumed at a again.
        await resume(a, EARLIER)
        b.state.presence.mark_all_dirty()
        await b.state.presence.flush(0)
        assert await location(b) == (["a"], 1)

        await a.state.presence.unregister("s1")

        await await_answer(lambda: location(b), (["b"], 1))


async def test_connection_of_a_dead_replica_counts_where_it_was_resumed(server: RedisServer) -> None:
    async with replicas(server, "b", lease_seconds=60.0, subscription_timeout_seconds=300.0) as [b]:
        dead = Replica(server, "a", lease_seconds=60.0)
        await dead.start()
        await connect(dead, LATER)
        await dead.stop()
        server.execute("ZADD", "t:leases", server.execute("TIME")[0] * 1000 - 1000, "a")

        await resume(b, EARLIER)

        assert await location(b) == (["b"], 1)
        await b.state.membership.heartbeat()
        await b.state.membership.maintain(0)
        assert (b.reaped, await location(b)) == (["a"], (["b"], 1))
