"""Each answer is true whatever fails in Redis: the message is accepted, it is not, or the outcome is unknown."""

from __future__ import annotations

import asyncio
import time

import pytest
import structlog

from gateway.domain.errors import BrokerTimeout, BrokerUnavailable, StateMisconfigured
from gateway.domain.messages import Message
from gateway.domain.positions import START
from gateway.timers import SystemClock
from tests.contract.values import at, connections_at, dedup_key
from tests.integration.redis_state.replicas import (
    Replica,
    append_until_accepted,
    await_answer,
    ids,
    make,
    replicas,
)
from tests.support.redis_clock import shift_clock
from tests.support.redis_server import RedisServer
from tests.support.waiter import TIMEOUT_SECONDS, await_until


async def test_message_not_sent_to_a_killed_redis_in_time_is_never_delivered(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        await a.subscribe("room")
        server.kill()
        await await_until(lambda: not a.state.commands.is_connected, "the loss is noticed")
        rejected = make("room")

        with pytest.raises(BrokerUnavailable):
            await a.state.broker.append(rejected)

        server.start()
        accepted = make("room")
        await append_until_accepted(a, accepted)
        await a.receives(accepted)
        assert rejected.id not in ids(a.received)


async def test_append_fails_at_once_after_redis_was_unavailable_for_the_timeout(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        server.kill()
        await await_until(lambda: not a.state.commands.is_connected, "the loss is noticed")
        with pytest.raises(BrokerUnavailable):
            await a.state.broker.append(make("room"))

        began = time.monotonic()
        for _ in range(20):
            with pytest.raises(BrokerUnavailable):
                await a.state.broker.append(make("room"))
        assert time.monotonic() - began < 10 * a.state.timeout_seconds  # waiting would take 20 timeouts


async def test_append_to_a_frozen_redis_is_unknown_and_not_delivered_after_the_thaw(
    server: RedisServer,
) -> None:
    async with replicas(server, "a") as [a]:
        await a.subscribe("room")
        await a.receives(await a.push("room"))
        late = make("room")
        server.freeze()

        with pytest.raises(BrokerTimeout):
            await a.state.broker.append(late)

        server.thaw()
        accepted = make("room")
        await append_until_accepted(a, accepted)
        await a.receives(accepted)
        assert late.id not in ids(a.received)


async def test_message_with_unknown_outcome_is_delivered_once_when_repeated(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        await a.subscribe("room")
        news, key = make("room"), dedup_key(SystemClock(), idempotency_key="key")
        server.freeze()
        with pytest.raises(BrokerTimeout):
            await a.state.broker.append(news, key)
        server.thaw()

        repeat = make("room")
        result = await append_until_accepted(
            a, repeat, lambda: dedup_key(SystemClock(), idempotency_key="key")
        )

        await a.receives(await a.push("room"))
        assert [id_ for id_ in ids(a.received) if id_ in {news.id, repeat.id}] == [result.id]


async def test_short_pause_of_redis_is_waited_for(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        await a.subscribe("room")
        server.freeze()
        thaw = asyncio.get_running_loop().call_later(0.5, server.thaw)

        news = await a.push("room")

        await a.receives(news)
        assert ids(a.received).count(news.id) == 1
        thaw.cancel()


async def test_redis_at_its_memory_limit_rejects_messages_and_renews_leases(server: RedisServer) -> None:
    async with replicas(server, "a", "b", lease_seconds=6.0) as [a, b]:
        await a.subscribe("room")
        await b.register("s1", "ann")
        server.execute("CONFIG", "SET", "maxmemory", "1mb")
        rejected = make("room")

        with pytest.raises(BrokerUnavailable, match="memory limit"):
            await a.state.broker.append(rejected)

        lease_ends = max(float(server.execute("ZSCORE", "t:leases", name)) for name in ("a", "b")) / 1000
        await await_until(lambda: time.time() > lease_ends, "the leases of that time have ended")
        assert (await a.state.presence.of_user("ann")).is_online
        server.execute("CONFIG", "SET", "maxmemory", "0")
        await a.receives(await a.push("room"))
        assert rejected.id not in ids(a.received)
        assert (a.reaped, b.reaped) == ([], [])


async def test_redis_that_became_a_replica_rejects_messages_until_it_is_a_primary(
    server: RedisServer,
) -> None:
    async with replicas(server, "a") as [a]:
        await a.subscribe("room")
        server.execute("REPLICAOF", "127.0.0.1", "1")
        rejected = make("room")

        with pytest.raises(BrokerUnavailable):
            await a.state.broker.append(rejected)

        server.execute("REPLICAOF", "NO", "ONE")
        accepted = make("room")
        await append_until_accepted(a, accepted)
        await a.receives(accepted)
        assert rejected.id not in ids(a.received)


async def test_redis_that_lost_its_primary_rejects_messages(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        server.execute("CONFIG", "SET", "replica-serve-stale-data", "no")
        server.execute("REPLICAOF", "127.0.0.1", "1")

        with pytest.raises(BrokerUnavailable):
            await a.state.broker.append(make("room"))


async def test_redis_that_loads_its_data_rejects_messages_until_it_is_loaded(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        await a.subscribe("room")
        kept = await a.push("room")
        with server.client() as client:
            client.mset({f"ballast:{number}": "x" for number in range(3_000)})
            client.save()
        server.options["key-load-delay"] = "1000"
        server.restart()
        await await_until(lambda: not a.state.commands.is_connected, "the loss is noticed")

        with pytest.raises(BrokerUnavailable):
            await a.state.broker.append(make("room"))

        accepted = make("room")
        await append_until_accepted(a, accepted)
        await a.receives(accepted)
        page = await a.state.broker.history(START, kept.addresses, max_entries=10, max_bytes=1000)
        assert ids(entry for _, entry in page.entries) == [kept.id, accepted.id]
        assert a.gaps == []


async def test_scripts_are_sent_again_to_a_redis_that_lost_them(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        await a.subscribe("room")
        server.execute("SCRIPT", "FLUSH", "SYNC")

        news = await asyncio.gather(*(a.push("room") for _ in range(20)))

        await a.receives(*news)
        assert sorted(ids(a.received)) == sorted(ids(news))


async def test_append_by_a_user_without_rights_is_rejected(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        server.execute("ACL", "SETUSER", "default", "-evalsha", "-eval")

        with pytest.raises(BrokerUnavailable, match="lacks rights"):
            await a.state.broker.append(make("room"))


async def test_each_message_is_accepted_and_delivered_once_whatever_answers_are_lost(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", "b", timeout_seconds=3.0) as [a, b]:
        await b.subscribe("room")
        news = [make("room") for _ in range(400)]
        killer = asyncio.create_task(kill_again_and_again(server, "normal"))

        results = [await a.state.broker.append(each) for each in news]

        killer.cancel()
        await b.receives(*news)
        assert [result.id for result in results] == ids(news)
        assert ids(b.received) == ids(news)


async def kill_again_and_again(server: RedisServer, kind: str) -> None:
    while True:
        await asyncio.sleep(0.03)
        await asyncio.to_thread(server.execute, "CLIENT", "KILL", "TYPE", kind)


async def test_wrong_password_is_rejected_at_the_start(server: RedisServer) -> None:
    server.execute("CONFIG", "SET", "requirepass", "right")

    with pytest.raises(StateMisconfigured, match="password"):
        await Replica(server, "a", url=f"redis://:wrong@127.0.0.1:{server.port}").start()


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
async def test_redis_that_evicts_is_rejected_at_the_start(server: RedisServer, policy: str) -> None:
    server.execute("CONFIG", "SET", "maxmemory-policy", policy)

    with pytest.raises(StateMisconfigured, match="set maxmemory-policy to noeviction"):
        await Replica(server, "a").start()


async def test_replica_that_starts_before_redis_waits_for_it(server: RedisServer) -> None:
    server.kill()
    replica = Replica(server, "a")
    with structlog.testing.capture_logs() as lines:
        starting = asyncio.create_task(replica.start())
        await await_until(
            lambda: "redis.unavailable" in [line["event"] for line in lines], "it tries to connect"
        )
    assert not starting.done()

    server.start()

    async with asyncio.timeout(TIMEOUT_SECONDS):
        await starting
    await replica.stop()


async def test_delivery_and_presence_recover_after_an_outage(server: RedisServer) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await b.subscribe("room")
        await b.register("s1", "ann", "room")
        server.kill()
        with pytest.raises(
            (BrokerTimeout, BrokerUnavailable)
        ):  # the outage is longer than the timeout of a command
            await a.state.broker.append(make("room"))
        server.start()

        news = make("room")
        await append_until_accepted(a, news)
        await b.receives(news)
        await await_answer(
            lambda: connections_at(a.state.broker, *news.addresses), 1, seconds=b.state.lease_seconds
        )


async def test_unregister_that_failed_is_repeated(server: RedisServer) -> None:
    async with replicas(server, "a", "b", lease_seconds=1.0) as [a, b]:
        await a.register("s1", "ann", "room")
        server.freeze()
        with pytest.raises((BrokerTimeout, BrokerUnavailable)):
            await a.state.presence.unregister("s1")
        server.thaw()

        await await_answer(lambda: connections_at(b.state.broker, at("room")), 0)
        assert not a.state.presence.dirty
        await await_until(lambda: a.state.membership.sizes.replicas == 2, "both live")


async def test_connection_unregistered_before_its_registration_was_executed_is_absent(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", "b", lease_seconds=1.0, timeout_seconds=2.0) as [a, b]:
        server.freeze()
        registering = asyncio.create_task(a.register("s1", "ann", "room"))
        await await_until(lambda: a.state.commands.waiting > 0, "the registration is sent")
        unregistering = asyncio.create_task(a.state.presence.unregister("s1"))
        server.thaw()
        await asyncio.to_thread(server.execute, "CLIENT", "KILL", "TYPE", "normal")
        await asyncio.wait([registering, unregistering])

        await await_answer(lambda: connections_at(b.state.broker, at("room")), 0)
        await await_until(lambda: not a.state.presence.dirty, "nothing is dirty")
        assert await connections_at(b.state.broker, at("room")) == 0


async def test_large_volatile_messages_are_bounded_and_small_ones_are_not(server: RedisServer) -> None:
    async with replicas(server, "a", history_bytes=1_000_000) as [a]:
        await a.subscribe("room")
        outcomes = [
            await asyncio.gather(a.push("room", size=100_000, volatile=True), return_exceptions=True)
            for _ in range(20)
        ]

        assert {type(outcome) for [outcome] in outcomes} == {Message, BrokerUnavailable}
        kept = server.execute("KEYS", "t:large:*")
        assert len(kept) <= 6  # a quarter of the bound in each of the windows that 20 pushes may fall into
        await a.receives(await a.push("room", volatile=True), await a.push("room", size=100_000))
        shift_clock(a.state, 10)
        await a.receives(await a.push("room", size=900_000, volatile=True))  # one is accepted in any case
