"""Whatever is wrong with Redis, an answer is true: it has the message, it has not, or nobody knows."""

from __future__ import annotations

import asyncio
import time

import pytest

from gateway.domain.errors import BrokerTimeout, BrokerUnavailable, StateMisconfigured
from gateway.domain.messages import Message
from gateway.domain.positions import START
from gateway.timers import SystemClock
from tests.contract.values import at, connections_at, dedup_key
from tests.integration.redis_state.replicas import (
    Replica,
    append,
    ids,
    make,
    replicas,
    until,
    until_redis_says,
)
from tests.support.redis_clock import shift_clock
from tests.support.redis_server import RedisServer


async def test_what_a_killed_redis_was_not_asked_in_time_is_never_delivered(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        await a.subscribe("room")
        server.kill()
        await until(lambda: not a.state.commands.is_connected, "the loss is noticed")
        refused = make("room")

        with pytest.raises(BrokerUnavailable):
            await a.state.broker.append(refused)

        server.start()
        taken = make("room")
        await append(a, taken)
        await a.hears(taken)
        assert refused.id not in ids(a.heard)


async def test_once_redis_is_away_for_a_while_nobody_waits_for_it(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        server.kill()
        await until(lambda: not a.state.commands.is_connected, "the loss is noticed")
        with pytest.raises(BrokerUnavailable):
            await a.state.broker.append(make("room"))

        began = time.monotonic()
        for _ in range(20):
            with pytest.raises(BrokerUnavailable):
                await a.state.broker.append(make("room"))
        assert time.monotonic() - began < 0.5


async def test_what_a_frozen_redis_was_asked_is_unknown_and_not_delivered_after_the_thaw(
    server: RedisServer,
) -> None:
    async with replicas(server, "a") as [a]:
        await a.subscribe("room")
        await a.hears(await a.push("room"))
        late = make("room")
        server.freeze()

        with pytest.raises(BrokerTimeout):
            await a.state.broker.append(late)

        server.thaw()
        taken = make("room")
        await append(a, taken)
        await a.hears(taken)
        assert late.id not in ids(a.heard)


async def test_an_unknown_message_is_delivered_once_when_it_is_repeated(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        await a.subscribe("room")
        news, its_claim = make("room"), dedup_key(SystemClock(), idempotency_key="key")
        server.freeze()
        with pytest.raises(BrokerTimeout):
            await a.state.broker.append(news, its_claim)
        server.thaw()

        repeat = make("room")
        result = await append(a, repeat, dedup_key(SystemClock(), idempotency_key="key"))

        await a.hears(await a.push("room"))
        assert [id_ for id_ in ids(a.heard) if id_ in {news.id, repeat.id}] == [result.id]


async def test_a_short_pause_of_redis_is_waited_for(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        await a.subscribe("room")
        server.freeze()
        thaw = asyncio.get_running_loop().call_later(0.5, server.thaw)

        news = await a.push("room")

        await a.hears(news)
        assert ids(a.heard).count(news.id) == 1
        thaw.cancel()


async def test_a_redis_at_its_memory_limit_takes_nothing_and_leases_go_on(server: RedisServer) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await a.subscribe("room")
        await b.register("s1", "ann")
        server.ask("CONFIG", "SET", "maxmemory", "1mb")
        refused = make("room")

        with pytest.raises(BrokerUnavailable, match="memory limit"):
            await a.state.broker.append(refused)

        await asyncio.sleep(2 * a.state.lease_seconds)
        assert (await a.state.presence.of_user("ann")).online
        server.ask("CONFIG", "SET", "maxmemory", "0")
        await a.hears(await a.push("room"))
        assert refused.id not in ids(a.heard)
        assert (a.cleaned, b.cleaned) == ([], [])


async def test_a_redis_that_became_a_replica_takes_nothing_until_it_is_a_primary_again(
    server: RedisServer,
) -> None:
    async with replicas(server, "a") as [a]:
        await a.subscribe("room")
        server.ask("REPLICAOF", "127.0.0.1", "1")
        refused = make("room")

        with pytest.raises(BrokerUnavailable):
            await a.state.broker.append(refused)

        server.ask("REPLICAOF", "NO", "ONE")
        taken = make("room")
        await append(a, taken)
        await a.hears(taken)
        assert refused.id not in ids(a.heard)


async def test_a_redis_that_lost_its_primary_takes_nothing(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        server.ask("CONFIG", "SET", "replica-serve-stale-data", "no")
        server.ask("REPLICAOF", "127.0.0.1", "1")

        with pytest.raises(BrokerUnavailable):
            await a.state.broker.append(make("room"))


async def test_a_redis_that_loads_its_data_takes_nothing_and_then_has_it(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        await a.subscribe("room")
        kept = await a.push("room")
        with server.client() as client:
            client.mset({f"ballast:{number}": "x" for number in range(3_000)})
            client.save()
        server.options["key-load-delay"] = "1000"
        server.restart()
        await until(lambda: not a.state.commands.is_connected, "the loss is noticed")

        with pytest.raises(BrokerUnavailable):
            await a.state.broker.append(make("room"))

        taken = make("room")
        await append(a, taken)
        await a.hears(taken)
        page = await a.state.broker.history(START, kept.addresses, max_entries=10, max_bytes=1000)
        assert ids(entry for _, entry in page.entries) == [kept.id, taken.id]
        assert a.gaps == []


async def test_a_redis_that_forgot_the_scripts_is_told_them_again(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        await a.subscribe("room")
        server.ask("SCRIPT", "FLUSH", "SYNC")

        news = await asyncio.gather(*(a.push("room") for _ in range(20)))

        await a.hears(*news)
        assert sorted(ids(a.heard)) == sorted(ids(news))


async def test_a_user_without_rights_is_told_and_nothing_happens(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        server.ask("ACL", "SETUSER", "default", "-evalsha", "-eval")

        with pytest.raises(BrokerUnavailable, match="lacks rights"):
            await a.state.broker.append(make("room"))


async def test_whatever_answers_are_lost_each_message_is_taken_and_heard_once(server: RedisServer) -> None:
    async with replicas(server, "a", "b", timeout_seconds=3.0) as [a, b]:
        await b.subscribe("room")
        news = [make("room") for _ in range(400)]
        killer = asyncio.create_task(kill_again_and_again(server, "normal"))

        results = [await a.state.broker.append(each) for each in news]

        killer.cancel()
        await b.hears(*news)
        assert [result.id for result in results] == ids(news)
        assert ids(b.heard) == ids(news)


async def kill_again_and_again(server: RedisServer, kind: str) -> None:
    while True:
        await asyncio.sleep(0.03)
        await asyncio.to_thread(server.ask, "CLIENT", "KILL", "TYPE", kind)


async def test_a_bad_password_is_refused_at_start(server: RedisServer) -> None:
    server.ask("CONFIG", "SET", "requirepass", "right")

    with pytest.raises(StateMisconfigured, match="password"):
        await Replica(server, "a", url=f"redis://:wrong@127.0.0.1:{server.port}").start()


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
async def test_a_redis_that_evicts_is_refused_at_start(server: RedisServer, policy: str) -> None:
    server.ask("CONFIG", "SET", "maxmemory-policy", policy)

    with pytest.raises(StateMisconfigured, match="set maxmemory-policy to noeviction"):
        await Replica(server, "a").start()


async def test_a_replica_that_starts_before_redis_waits_for_it(server: RedisServer) -> None:
    server.kill()
    replica = Replica(server, "a")
    starting = asyncio.create_task(replica.start())
    await asyncio.sleep(0.3)
    assert not starting.done()

    server.start()

    async with asyncio.timeout(10):
        await starting
    await replica.stop()


async def test_all_goes_on_by_itself_after_an_outage(server: RedisServer) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await b.subscribe("room")
        await b.register("s1", "ann", "room")
        server.kill()
        await asyncio.sleep(1.5)
        server.start()

        news = make("room")
        await append(a, news)
        await b.hears(news)
        await until_redis_says(
            lambda: connections_at(a.state.broker, *news.addresses), 1, seconds=b.state.lease_seconds
        )


async def test_what_could_not_be_told_of_a_connection_is_told_later(server: RedisServer) -> None:
    async with replicas(server, "a", "b", lease_seconds=1.0) as [a, b]:
        await a.register("s1", "ann", "room")
        server.freeze()
        with pytest.raises((BrokerTimeout, BrokerUnavailable)):
            await a.state.presence.unregister("s1")
        server.thaw()

        await until_redis_says(lambda: connections_at(b.state.broker, at("room")), 0)
        assert not a.state.presence.dirty
        await until(lambda: a.state.membership.sizes.replicas == 2, "both live")


async def test_who_left_before_redis_was_told_that_they_came_is_not_there(server: RedisServer) -> None:
    async with replicas(server, "a", "b", lease_seconds=1.0, timeout_seconds=2.0) as [a, b]:
        server.freeze()
        coming = asyncio.create_task(a.register("s1", "ann", "room"))
        await asyncio.sleep(0.1)
        leaving = asyncio.create_task(a.state.presence.unregister("s1"))
        server.thaw()
        await asyncio.to_thread(server.ask, "CLIENT", "KILL", "TYPE", "normal")
        await asyncio.wait([coming, leaving])

        await until_redis_says(lambda: connections_at(b.state.broker, at("room")), 0)
        await until(lambda: not a.state.presence.dirty, "nothing is owed")
        assert await connections_at(b.state.broker, at("room")) == 0


async def test_large_volatile_messages_are_bounded_and_small_ones_are_not(server: RedisServer) -> None:
    async with replicas(server, "a", history_bytes=1_000_000) as [a]:
        await a.subscribe("room")
        outcomes = [
            await asyncio.gather(a.push("room", size=100_000, volatile=True), return_exceptions=True)
            for _ in range(20)
        ]

        assert {type(outcome) for [outcome] in outcomes} == {Message, BrokerUnavailable}
        kept = server.ask("KEYS", "t:large:*")
        assert len(kept) <= 6  # a quarter of the bound in each of the windows that 20 pushes may fall into
        await a.hears(await a.push("room", volatile=True), await a.push("room", size=100_000))
        shift_clock(a.state, 10)
        await a.hears(await a.push("room", size=900_000, volatile=True))  # one is taken in any case
