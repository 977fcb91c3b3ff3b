"""A stalled subscription differs from an unavailable Redis; retries back off and are logged once."""

from __future__ import annotations

import time

import pytest
from structlog.testing import capture_logs

from gateway.domain.errors import BrokerTimeout
from gateway.domain.status import StateStatus
from tests.integration.redis_state.replicas import append_until_accepted, make, replicas
from tests.support.metrics import counted
from tests.support.redis_server import RedisServer
from tests.support.waiter import await_until

ATTEMPTS = 6
MIN_SECONDS = 2.5
"""The pauses before so many attempts: 50 ms, twice as long each time, and at most a second."""


@pytest.mark.parametrize("forbidden", ["resetchannels", "-subscribe", "-publish"])
async def test_replica_that_may_not_subscribe_is_stalled_until_it_may(
    server: RedisServer, forbidden: str
) -> None:
    async with replicas(server, "a", subscription_timeout_seconds=1.0) as [a]:
        await a.subscribe("room")
        server.execute("ACL", "SETUSER", "default", forbidden)
        server.execute("CLIENT", "KILL", "TYPE", "pubsub")

        await await_until(lambda: a.statuses == [StateStatus.SUBSCRIPTION_STALLED], "a stall is reported")
        accepted = await a.push("room")

        server.execute("ACL", "SETUSER", "default", "allchannels", "+@all")
        await await_until(lambda: a.state.status is StateStatus.HEALTHY, "probes arrive again")
        assert a.statuses == [StateStatus.SUBSCRIPTION_STALLED, StateStatus.HEALTHY]
        await a.receives(accepted, await a.push("room"))


async def test_forbidden_channels_are_retried_with_backoff_and_logged_once(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", subscription_timeout_seconds=60.0) as [a]:
        await a.subscribe("room")
        with capture_logs() as lines:
            began = time.monotonic()
            server.execute("ACL", "SETUSER", "default", "resetchannels")
            server.execute("CLIENT", "KILL", "TYPE", "pubsub")
            await await_until(
                lambda: counted(a.metrics, "redis_reconnects_total").get("channels", 0) >= ATTEMPTS,
                "several attempts to subscribe",
            )
            seconds = time.monotonic() - began
            await a.push("room")

        assert seconds >= MIN_SECONDS
        assert counted(a.metrics, "resyncs_total").get("", 0) <= ATTEMPTS + 2
        assert [line["reason"] for line in lines if line["event"] == "redis.channels_lost"] == [
            "Connection closed by server.",
            "the Redis user lacks rights",
        ]
        assert [line["event"] for line in lines].count("redis.resynced") <= 1  # for the push
        assert [
            (line["connection"], line["code"]) for line in lines if line["event"] == "redis.rejecting"
        ] in (
            [("channels", "NOPERM"), ("commands", "NOPERM")],
            [("commands", "NOPERM"), ("channels", "NOPERM")],
        )
        assert len(lines) <= 5, lines


async def test_forbidden_commands_are_retried_with_backoff_and_logged_once(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", subscription_timeout_seconds=60.0) as [a]:
        with capture_logs() as lines, server.client() as observer:
            server.execute("ACL", "SETUSER", "default", "-eval")
            server.execute("CLIENT", "KILL", "TYPE", "normal")
            began = time.monotonic()
            connections = observer.info("stats")["total_connections_received"]
            await await_until(
                lambda: observer.info("stats")["total_connections_received"] >= connections + ATTEMPTS,
                "several attempts to connect",
            )
            seconds = time.monotonic() - began

        assert seconds >= MIN_SECONDS
        lost = [line["reason"] for line in lines if line["event"] == "redis.connection_lost"]
        assert len(lost) == 2, lines
        server.execute("ACL", "SETUSER", "default", "+@all")
        await append_until_accepted(a, make("room"))


async def test_script_failing_repeatedly_in_one_way_is_logged_once(server: RedisServer) -> None:
    async with replicas(server, "a", subscription_timeout_seconds=60.0) as [a]:
        with capture_logs() as lines:
            server.execute("ACL", "SETUSER", "default", "resetkeys")
            with pytest.raises(BrokerTimeout):
                await a.state.broker.append(make("room"))

        failed = [line["reason"] for line in lines if line["event"] == "redis.script_failed"]
        assert failed != []
        assert len(failed) == len(set(failed))


async def test_replica_without_redis_is_unavailable_until_redis_returns(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        server.kill()
        await await_until(lambda: a.state.status is StateStatus.UNAVAILABLE, "the loss is reported")
        server.start()

        await await_until(lambda: a.state.status is StateStatus.HEALTHY, "probes arrive again")
        assert StateStatus.SUBSCRIPTION_STALLED not in a.statuses
