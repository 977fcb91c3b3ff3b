"""Redis fails under a gateway with clients: what clients, backends and probes see until it recovers by itself."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.support.clients import NodeClients, StockClient
from tests.support.gateway_process import JWT_SECRET, KEY_ID, KEY_SECRET, GatewayProcess
from tests.support.health import readiness, readiness_status
from tests.support.ports import free_port
from tests.support.raw_clients import RawPolling, RawSocket, http_session
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiter import TIMEOUT_SECONDS, wait_until
from tests.unit.metrics.scraping import Scrape

SUBSCRIPTION_TIMEOUT_SECONDS = 2
PING_TIMEOUT_SECONDS = 6


def connect(node: NodeClients, gateway: GatewayProcess, user: str) -> StockClient:
    return node.open(gateway.url, token=gateway.token(user), transports=["websocket"]).connected()


def logged(gateway: GatewayProcess, event: str) -> list[dict[str, Any]]:
    """The log lines of an event so far."""
    return [line for line in gateway.log.entries if line.get("event") == event]


def test_frozen_redis_keeps_clients_but_rejects_pushes_and_new_clients(
    own_redis: RedisServer, node: NodeClients, user: str
) -> None:
    gateway = GatewayProcess(
        redis_url=own_redis.url, subscription_timeout_seconds=SUBSCRIPTION_TIMEOUT_SECONDS
    )
    client = connect(node, gateway, user)
    own_redis.freeze()

    rejected = gateway.backend.post(
        f"/emit/user/{user}", {"event": "frozen", "data": 1}, idempotency_key="k-1"
    )
    assert (rejected.status, rejected.body["code"]) == (503, "broker_timeout")
    assert int(rejected.headers["retry-after"]) >= 1
    wait_until(lambda: readiness_status(gateway) == (200, "degraded"), "readiness is degraded")
    new_client = node.open(gateway.url, token=gateway.token("new-user"), transports=["websocket"])
    new_client.wait("connect_error")
    assert not [entry for entry in client.entries if entry["type"] == "disconnect"]

    own_redis.thaw()
    wait_until(lambda: readiness_status(gateway) == (200, "ready"), "readiness is restored")
    new_client.connected()
    again = gateway.backend.post(f"/emit/user/{user}", {"event": "frozen", "data": 1}, idempotency_key="k-1")
    assert again.status == 200
    gateway.push_user(user, "after", 1)
    assert client.event("after")[0] == 1
    assert [arguments[0] for arguments in client.events("frozen")] == [1]
    assert not [entry for entry in client.entries if entry["type"] == "disconnect"]
    assert gateway.stop() == 0
    lines = [line for line in gateway.log.entries if line.get("event") == "redis.status"]
    # On a busy machine the probe may be late before, and again after the commands recover; it has a status of its own.
    by_commands = [
        (line["status"], line["level"])
        for before, line in pairwise([{"status": ""}, *lines])
        if "subscription_stalled" not in (line["status"], before["status"])
    ]
    assert by_commands[0] == ("unavailable", "warning")
    assert [status for status, _ in by_commands].count("unavailable") == 1
    assert (lines[-1]["status"], lines[-1]["level"]) == ("healthy", "info")
    assert gateway.failures() == []


def test_replica_with_a_stalled_subscription_has_no_clients_until_it_recovers(
    own_redis: RedisServer, node: NodeClients, user: str
) -> None:
    with TcpProxy(own_redis.port) as proxy:
        gateway = GatewayProcess(
            redis_url=proxy.redis_url, subscription_timeout_seconds=SUBSCRIPTION_TIMEOUT_SECONDS
        )
        client = connect(node, gateway, user)
        proxy.pause_subscriptions()

        wait_until(
            lambda: readiness_status(gateway) == (503, "subscription_stalled"),
            "the stalled subscription is noticed",
        )
        assert gateway.backend.presence(user)["online"] is True
        client.wait("disconnect", reason="transport close")
        client.wait("connect_error")

        proxy.resume_subscriptions()
        wait_until(lambda: readiness_status(gateway) == (200, "ready"), "the subscription recovered")
        client.wait("connect", count=2)
        client.wait("event", event="authenticated", count=2)
        gateway.push_user(user, "after", 1)
        assert client.event("after")[0] == 1
        assert gateway.stop() == 0
        assert [line["event"] for line in gateway.failures()] == ["gateway.subscription_stalled"]


def test_redis_at_its_memory_limit_is_reported_by_readiness_metrics_and_log(
    own_redis: RedisServer, node: NodeClients, user: str
) -> None:
    gateway = GatewayProcess(
        redis_url=own_redis.url, subscription_timeout_seconds=SUBSCRIPTION_TIMEOUT_SECONDS
    )
    client = connect(node, gateway, user)
    own_redis.execute("CONFIG", "SET", "maxmemory", "1kb")

    wait_until(lambda: readiness_status(gateway) == (200, "degraded"), "readiness is degraded")
    report = readiness(gateway)[1]
    assert report["degraded"].endswith(": Redis is at its memory limit (OOM)")
    assert report["parts"]["state"]["reason"] == "Redis is at its memory limit (OOM)"
    assert Scrape(gateway).value("redis_rejecting", connection="commands", reason="OOM") == 1
    assert Scrape(gateway).value("replica_status", status="unavailable") == 1
    rejected = gateway.backend.push_user(user, "full", 1)
    assert (rejected.status, rejected.body["code"]) == (503, "broker_unavailable")
    new_client = node.open(gateway.url, token=gateway.token("new-user"), transports=["websocket"])
    new_client.wait("connect_error")
    assert Scrape(gateway).value("engineio_requests_rejected_total", reason="state_unavailable") > 0

    own_redis.execute("CONFIG", "SET", "maxmemory", "0")
    wait_until(lambda: readiness_status(gateway) == (200, "ready"), "Redis accepts writes again")
    assert Scrape(gateway).value("redis_rejecting", connection="commands", reason="OOM") == 0
    new_client.connected()
    gateway.push_user(user, "after", 1)
    assert client.event("after")[0] == 1
    assert not [entry for entry in client.entries if entry["type"] == "disconnect"]
    assert [line["code"] for line in logged(gateway, "redis.rejecting")] == ["OOM"]
    assert [line["code"] for line in logged(gateway, "redis.accepting")] == ["OOM"]
    assert gateway.stop() == 0
    assert gateway.failures() == []


def test_primary_that_became_a_replica_is_reported_by_readiness_metrics_and_log(
    own_redis: RedisServer,
) -> None:
    gateway = GatewayProcess(
        redis_url=own_redis.url, subscription_timeout_seconds=SUBSCRIPTION_TIMEOUT_SECONDS
    )
    own_redis.execute("REPLICAOF", "127.0.0.1", "1")

    wait_until(lambda: readiness_status(gateway) == (200, "degraded"), "readiness is degraded")
    assert readiness(gateway)[1]["degraded"].endswith("(READONLY)")
    assert Scrape(gateway).value("redis_rejecting", connection="commands", reason="READONLY") == 1

    own_redis.execute("REPLICAOF", "NO", "ONE")
    wait_until(lambda: readiness_status(gateway) == (200, "ready"), "it is a primary again")
    for event in ("redis.rejecting", "redis.accepting"):
        # The connection for channels may have reconnected in the meantime, and logs a line of its own.
        def is_of_commands(line: dict[str, Any], event: str = event) -> bool:
            return line.get("event") == event and line["connection"] == "commands"

        gateway.log.wait(is_of_commands)
        of_commands = [line for line in gateway.log.entries if is_of_commands(line)]
        assert [line["code"] for line in of_commands] == ["READONLY"]
    assert gateway.stop() == 0


def test_replica_without_rights_to_channels_is_unready_logs_why_once_and_accepts_pushes(
    own_redis: RedisServer, user: str
) -> None:
    gateway = GatewayProcess(
        redis_url=own_redis.url, subscription_timeout_seconds=SUBSCRIPTION_TIMEOUT_SECONDS
    )
    own_redis.execute("ACL", "SETUSER", "default", "resetchannels")
    own_redis.execute("CLIENT", "KILL", "TYPE", "pubsub")

    wait_until(
        lambda: readiness_status(gateway) == (503, "subscription_stalled"),
        "the stalled subscription is noticed",
    )
    assert "(NOPERM)" in readiness(gateway)[1]["reason"]
    assert Scrape(gateway).value("redis_rejecting", connection="channels", reason="NOPERM") == 1
    gateway.log.wait(lambda line: line["event"] == "gateway.subscription_stalled")
    assert gateway.push_user(user, "meanwhile", 1)["connections"] == 0
    reasons = [line["reason"] for line in logged(gateway, "redis.channels_lost")]
    assert reasons.count("the Redis user lacks rights") == 1
    assert logged(gateway, "redis.status")[-1]["status"] == "subscription_stalled"

    own_redis.execute("ACL", "SETUSER", "default", "allchannels")
    wait_until(lambda: readiness_status(gateway) == (200, "ready"), "the subscription recovered")
    assert gateway.stop() == 0
    assert {line["event"] for line in gateway.failures()} == {"gateway.subscription_stalled"}


def test_client_gets_recovery_failed_when_redis_lost_what_it_may_have_missed(
    own_redis: RedisServer, node: NodeClients, user: str
) -> None:
    gateway = GatewayProcess(
        redis_url=own_redis.url, subscription_timeout_seconds=SUBSCRIPTION_TIMEOUT_SECONDS, lease_seconds=5
    )
    client = connect(node, gateway, user)
    gateway.push_user(user, "before", 1)
    client.event("before")

    own_redis.kill()
    own_redis.start()

    assert client.event("recovery:failed")[0] == {"code": "data_lost"}
    wait_until(lambda: gateway.backend.push_user(user, "after", 1).status == 200, "pushes are accepted again")
    assert client.event("after")[0] == 1
    assert gateway.stop() == 0
    assert gateway.failures() == []


def test_gateway_that_waits_for_redis_at_its_start_logs_it_and_can_be_stopped() -> None:
    settings = {
        "GATEWAY_JWT_SECRET": JWT_SECRET,
        "GATEWAY_INGEST_KEYS": f"{KEY_ID}:{KEY_SECRET}",
        "GATEWAY_REDIS_URL": f"redis://127.0.0.1:{free_port()}",
        "GATEWAY_PORT": "0",
    }
    command = [sys.executable, "-m", "gateway", "serve"]
    with subprocess.Popen(command, env=os.environ | settings, stderr=subprocess.PIPE, text=True) as gateway:
        assert gateway.stderr is not None
        line = next(each for each in gateway.stderr if "redis" in each)
        assert gateway.poll() is None, line
        gateway.send_signal(signal.SIGTERM)

        assert gateway.wait(TIMEOUT_SECONDS) == 0


async def test_burst_of_joins_to_a_frozen_redis_holds_up_no_pong(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    events = tmp_path / "events.yaml"
    events.write_text(
        "version: 1\n"
        "namespaces: {/: {rooms: [{match: '*', join: anyone}], client_events: {join: {join: $0, ack: $0}}}}\n"
    )
    gateway = GatewayProcess(
        redis_url=own_redis.url,
        events_file=events,
        ping_interval_seconds=1,
        ping_timeout_seconds=PING_TIMEOUT_SECONDS,
    )
    async with http_session() as http:
        raw = await RawSocket.open(http, gateway.url)
        await raw.join(gateway.token("ann"))
        polling = await RawPolling(http, gateway.url).open()
        await polling.join(gateway.token("ann"))
        own_redis.freeze()

        joins = [f'42{number}["join","room {number}"]' for number in range(20)]
        await raw.send(*joins)
        # Each join takes 2 s. The client sends its pong once its request is answered.
        async with asyncio.timeout(PING_TIMEOUT_SECONDS):
            assert (await polling.post(*joins))[0] == 200

        errors = [await raw.frame() for _ in range(5)]
        assert all('"broker_unavailable"' in error for error in errors)
    own_redis.thaw()
    gateway.kill()
