"""Failures between a replica and Redis are counted; the present status is exposed as gauges."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp

from gateway.state.redis.redis_keys import RedisKeys
from tests.support.clients import NodeClients
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_clients import RawSocket
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy
from tests.unit.metrics.scraping import Scrape, scrape_until

SUBSCRIPTION_TIMEOUT_SECONDS = 2
LEASE_SECONDS = 5


def status(now: Scrape) -> str:
    """The one status that a replica exposes."""
    shown = [
        name
        for name in ("healthy", "subscription_stalled", "unavailable")
        if now.value("replica_status", status=name)
    ]
    (only,) = shown
    return only


def test_lost_connection_is_counted_once_with_the_entries_of_its_resync(
    own_redis: RedisServer, node: NodeClients, user: str
) -> None:
    with TcpProxy(own_redis.port) as proxy:
        disconnected = GatewayProcess(redis_url=proxy.redis_url, replica_id="disconnected")
        other = GatewayProcess(redis_url=own_redis.url, replica_id="other")
        client = node.open(
            disconnected.url, token=disconnected.token(user), transports=["websocket"]
        ).connected()
        before = Scrape(disconnected)
        assert before.value("redis_connected", connection="commands") == 1
        assert before.value("redis_connected", connection="channels") == 1

        proxy.break_connections()
        unavailable = scrape_until(
            disconnected, lambda now: status(now) == "unavailable", "Redis is unavailable"
        )
        for connection in ("commands", "channels"):
            assert unavailable.value("redis_connected", connection=connection) == 0
        assert unavailable.value("replica_ready") == 1, (
            "the replica must stay ready, so that backends get its own 503"
        )
        for number in range(3):
            other.push_user(user, "missed", number)
        proxy.accept_connections()
        client.wait("event", event="missed", count=3)
        disconnected.push_user(user, "after", 1)
        client.event("after")

        after = scrape_until(
            disconnected, lambda now: status(now) == "healthy", "the subscription is healthy again"
        )
        grown = after.grown(before)
        assert grown['redis_reconnects_total{connection="commands"}'] == 1
        assert grown['redis_reconnects_total{connection="channels"}'] == 1
        assert grown['redis_connect_failures_total{connection="channels"}'] >= 1
        assert grown["resyncs_total"] == 1
        assert grown["resynced_entries_total"] == 3
        assert grown['deliveries_total{kind="message"}'] == 4
        assert grown['replica_status_changes_total{status="unavailable"}'] == 1
        assert grown['replica_status_changes_total{status="healthy"}'] == 1
        assert "history_gaps_total" not in " ".join(grown)
        assert after.value("redis_connected", connection="channels") == 1
        for gateway in (disconnected, other):
            assert gateway.stop() == 0
            assert gateway.failures() == []


def test_requests_and_commands_that_time_out_are_counted_by_name(own_redis: RedisServer, user: str) -> None:
    gateway = GatewayProcess(redis_url=own_redis.url)
    before = Scrape(gateway)

    own_redis.freeze()
    answer = gateway.backend.push_user(user, "frozen", 1)
    assert answer.body["code"] == "broker_timeout"
    own_redis.thaw()

    after = scrape_until(
        gateway,
        lambda now: (
            now.value("redis_reconnects_total", connection="commands") > 0 and status(now) == "healthy"
        ),
        "Redis is back",
    )
    grown = after.grown(before)
    assert grown['redis_command_failures_total{command="append",outcome="unknown"}'] == 1
    assert grown['requests_total{code="broker_timeout",route="/emit/user/{id}",status="503"}'] == 1
    assert grown['ingest_key_requests_total{code="broker_timeout",key="tests"}'] == 1
    assert "messages_published_total" not in " ".join(grown)
    assert gateway.stop() == 0


def test_commands_are_timed_by_script(own_redis: RedisServer, user: str) -> None:
    gateway = GatewayProcess(redis_url=own_redis.url)
    before = Scrape(gateway)

    for number in range(5):
        gateway.push_user(user, "news", number)

    after = Scrape(gateway)
    for name, command, count in (("append", "append", 5), ("presence", "presence", 0)):
        grown = [
            now.value("redis_command_duration_seconds_count", command=command) for now in (before, after)
        ]
        assert grown[1] - grown[0] == count, name
    assert 0 < after.value("redis_command_duration_seconds_sum", command="append") < 5
    assert gateway.stop() == 0


def test_replica_with_a_stalled_subscription_exposes_the_age_of_its_last_probe_and_its_lag(
    own_redis: RedisServer,
) -> None:
    with TcpProxy(own_redis.port) as proxy:
        gateway = GatewayProcess(
            redis_url=proxy.redis_url, subscription_timeout_seconds=SUBSCRIPTION_TIMEOUT_SECONDS
        )
        scrape_until(
            gateway,
            lambda now: (
                now.value("pubsub_probe_round_trip_seconds_count") > 0
                and now.value("broker_lag_seconds") < 1
                and now.value("pubsub_probe_age_seconds") < 1.5
            ),
            "pub/sub probes return in time",
        )

        proxy.pause_subscriptions()
        stalled = scrape_until(
            gateway, lambda now: status(now) == "subscription_stalled", "the subscription is stalled"
        )
        assert stalled.value("pubsub_probe_age_seconds") >= SUBSCRIPTION_TIMEOUT_SECONDS
        assert stalled.value("broker_lag_seconds") > 1
        assert stalled.value("replica_ready") == 0

        proxy.resume_subscriptions()
        scrape_until(
            gateway,
            lambda now: status(now) == "healthy" and now.value("broker_lag_seconds") < 1,
            "the subscription is healthy again",
        )
        assert gateway.stop() == 0


def test_lag_grows_while_redis_rejects_writes(own_redis: RedisServer) -> None:
    gateway = GatewayProcess(
        redis_url=own_redis.url, subscription_timeout_seconds=SUBSCRIPTION_TIMEOUT_SECONDS
    )
    own_redis.execute("REPLICAOF", "127.0.0.1", "1")

    scrape_until(gateway, lambda now: now.value("broker_lag_seconds") > 4, "the lag grows")

    own_redis.execute("REPLICAOF", "NO", "ONE")
    scrape_until(gateway, lambda now: now.value("broker_lag_seconds") < 1, "the lag is below 1 s")
    assert gateway.stop() == 0


def test_data_lost_by_redis_is_counted_as_a_gap(own_redis: RedisServer, user: str) -> None:
    gateway = GatewayProcess(redis_url=own_redis.url)
    gateway.push_user(user, "before", 1)
    before = Scrape(gateway)

    own_redis.kill()
    own_redis.start()

    after = scrape_until(
        gateway,
        lambda now: (
            now.value("history_gaps_total", code="data_lost") > 0 and now.value("leases_lost_total") > 0
        ),
        "the loss is counted",
    )
    grown = after.grown(before)
    assert grown['history_gaps_total{code="data_lost"}'] == 1
    assert grown["leases_lost_total"] == 1
    assert gateway.stop() == 0


def test_killed_replica_is_counted_by_the_one_that_reaps_it_and_a_stopped_one_is_not(
    own_redis: RedisServer,
) -> None:
    settings: dict[str, Any] = {"redis_url": own_redis.url, "lease_seconds": LEASE_SECONDS}
    running = GatewayProcess(replica_id="a-running", **settings)
    stopped = GatewayProcess(replica_id="b-stopped", **settings)
    killed = GatewayProcess(replica_id="c-killed", **settings)
    scrape_until(
        running, lambda now: now.value("state_items", part="replicas") == 3, "every replica is registered"
    )

    assert stopped.stop() == 0
    killed.kill()

    now = scrape_until(
        running, lambda now: now.value("state_items", part="replicas") == 1, "one replica is registered"
    )
    scrape_until(running, lambda now: now.value("replicas_reaped_total") > 0, "the killed replica is reaped")
    assert now.value("leases_lost_total") == 0
    assert Scrape(running).value("replicas_reaped_total") == 1
    assert running.stop() == 0


def test_entry_that_cannot_be_decoded_is_counted(own_redis: RedisServer) -> None:
    gateway = GatewayProcess(redis_url=own_redis.url, redis_prefix="rubbish", replica_id="r0")

    own_redis.execute("PUBLISH", RedisKeys("rubbish").probe("r0"), b"rubbish")

    scrape_until(gateway, lambda now: now.value("decode_errors_total") == 1, "the decode error is counted")
    assert gateway.stop() == 0


async def test_delivery_time_is_measured_for_own_pushes_only(
    own_redis: RedisServer, http: aiohttp.ClientSession, user: str
) -> None:
    here = GatewayProcess(redis_url=own_redis.url, replica_id="here")
    there = GatewayProcess(redis_url=own_redis.url, replica_id="there")
    raw = await RawSocket.open(http, here.url)
    await raw.join(here.token(user))

    await asyncio.to_thread(there.push_user, user, "from there", 1)
    await raw.frame()
    assert (await asyncio.to_thread(Scrape, here)).value("delivery_duration_seconds_count") == 0
    await asyncio.to_thread(here.push_user, user, "from here", 1)
    await raw.frame()

    now = await asyncio.to_thread(Scrape, here)
    assert now.value("delivery_duration_seconds_count") == 1
    assert 0 < now.value("delivery_duration_seconds_sum") < 5
    assert now.value("deliveries_total", kind="message") == 2
    assert now.value("redis_messages_received_total") == 2
    assert (await asyncio.to_thread(Scrape, there)).value("delivery_duration_seconds_count") == 0
    raw.abort()
    for gateway in (here, there):
        assert await asyncio.to_thread(gateway.stop) == 0
