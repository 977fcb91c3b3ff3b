"""A Redis that answers and rejects is unavailable: logged once with its reason, and once when it accepts again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.domain.errors import BrokerUnavailable
from gateway.domain.status import StateStatus
from tests.integration.redis_state.replicas import (
    Replica,
    append_until_accepted,
    make,
    received_probes,
    replicas,
)
from tests.support.metrics import counted
from tests.support.redis_server import RedisServer
from tests.support.waiter import await_until

REJECTING = "redis_rejecting"

Change = Callable[[RedisServer], Any]


def fill(server: RedisServer) -> None:
    server.execute("CONFIG", "SET", "maxmemory", "1kb")


def empty(server: RedisServer) -> None:
    server.execute("CONFIG", "SET", "maxmemory", "0")


def demote(server: RedisServer) -> None:
    server.execute("REPLICAOF", "127.0.0.1", "1")


def promote(server: RedisServer) -> None:
    server.execute("REPLICAOF", "NO", "ONE")


def require_replicas(server: RedisServer) -> None:
    server.execute("CONFIG", "SET", "min-replicas-to-write", "1")


def require_none(server: RedisServer) -> None:
    server.execute("CONFIG", "SET", "min-replicas-to-write", "0")


def forbid(server: RedisServer) -> None:
    server.execute("ACL", "SETUSER", "default", "-evalsha", "-eval")


def forbid_keys(server: RedisServer) -> None:
    server.execute("ACL", "SETUSER", "default", "resetkeys")


def allow(server: RedisServer) -> None:
    server.execute("ACL", "SETUSER", "default", "allkeys", "+@all")


def failed_probes(replica: Replica) -> float:
    failures = counted(replica.metrics, "redis_command_failures_total")
    return sum(number for labels, number in failures.items() if "_probe" in labels)


@pytest.mark.parametrize(
    ("begin", "end", "word", "reason"),
    [
        (fill, empty, "OOM", "Redis is at its memory limit"),
        (demote, promote, "READONLY", "this Redis is a replica"),
        (require_replicas, require_none, "NOREPLICAS", "Redis has too few replicas to accept writes"),
        (forbid, allow, "NOPERM", "the Redis user lacks rights"),
        (forbid_keys, allow, "NOPERM", "the Redis user lacks rights that scripts need"),
    ],
)
async def test_rejecting_redis_is_unavailable_and_its_reason_is_logged_once(
    server: RedisServer, begin: Change, end: Change, word: str, reason: str
) -> None:
    async with replicas(server, "a") as [a]:
        await a.subscribe("room")
        with capture_logs() as lines:
            begin(server)
            await await_until(
                lambda: a.statuses == [StateStatus.UNAVAILABLE], "the rejection is noticed without a push"
            )
            assert f"commands {word}" in counted(a.metrics, REJECTING)
            assert a.state.rejection.startswith(reason)
            assert a.state.rejection.endswith(f"({word})")
            failures = failed_probes(a)
            await await_until(lambda: failed_probes(a) >= failures + 2, "further probes are rejected")

            end(server)
            await await_until(lambda: a.state.status is StateStatus.HEALTHY, "Redis accepts writes again")
            await await_until(lambda: not a.state.rejection, "no rejection is recorded")

        assert a.statuses == [StateStatus.UNAVAILABLE, StateStatus.HEALTHY]
        logged = [
            (line["event"], line["connection"], line["code"])
            for line in lines
            if line["event"] in {"redis.rejecting", "redis.accepting"}
        ]
        assert logged == [("redis.rejecting", "commands", word), ("redis.accepting", "commands", word)]
        assert (counted(a.metrics, REJECTING), a.state.rejection) == ({}, "")
        news = make("room")
        await append_until_accepted(a, news)
        await a.receives(news)


async def test_redis_that_dies_while_rejecting_is_not_logged_as_accepting(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        fill(server)
        await await_until(lambda: counted(a.metrics, REJECTING) != {}, "the rejection is noticed")
        with capture_logs() as lines:
            server.kill()
            await await_until(lambda: counted(a.metrics, REJECTING) == {}, "the loss is noticed")

        assert a.state.status is StateStatus.UNAVAILABLE
        assert "redis.accepting" not in {line["event"] for line in lines}


async def test_user_that_may_not_publish_is_reported(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        server.execute("ACL", "SETUSER", "default", "-publish")

        await await_until(lambda: a.state.status is StateStatus.SUBSCRIPTION_STALLED, "a stall is reported")

        assert a.state.rejection == "the Redis user may not publish (NOPERM)"


async def test_redis_at_its_memory_limit_rejects_messages_and_still_carries_probes(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", subscription_timeout_seconds=1.0) as [a]:
        fill(server)
        await await_until(lambda: a.state.status is StateStatus.UNAVAILABLE, "the rejection is noticed")
        with pytest.raises(BrokerUnavailable, match="memory limit"):
            await a.state.broker.append(make("room"))

        # A probe is sent each fifth of the timeout, so these take longer than the timeout.
        probes = received_probes(a)
        await await_until(lambda: received_probes(a) >= probes + 7, "further probes arrive")

        assert a.statuses == [StateStatus.UNAVAILABLE]
        age = counted(a.metrics, "pubsub_probe_age_seconds")[""]
        assert age < a.state.subscription_timeout_seconds
