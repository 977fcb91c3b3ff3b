"""A Redis that answers and refuses is away: said once with its reason, and once that it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.domain.errors import BrokerUnavailable
from gateway.domain.status import StateStatus
from tests.integration.redis_state.replicas import append, make, replicas, until
from tests.support.metrics import counted
from tests.support.redis_server import RedisServer

REJECTING = "redis_rejecting"

Meddle = Callable[[RedisServer], Any]


def fill(server: RedisServer) -> None:
    server.ask("CONFIG", "SET", "maxmemory", "1kb")


def empty(server: RedisServer) -> None:
    server.ask("CONFIG", "SET", "maxmemory", "0")


def demote(server: RedisServer) -> None:
    server.ask("REPLICAOF", "127.0.0.1", "1")


def promote(server: RedisServer) -> None:
    server.ask("REPLICAOF", "NO", "ONE")


def ask_for_replicas(server: RedisServer) -> None:
    server.ask("CONFIG", "SET", "min-replicas-to-write", "1")


def ask_for_none(server: RedisServer) -> None:
    server.ask("CONFIG", "SET", "min-replicas-to-write", "0")


def forbid(server: RedisServer) -> None:
    server.ask("ACL", "SETUSER", "default", "-evalsha", "-eval")


def forbid_keys(server: RedisServer) -> None:
    server.ask("ACL", "SETUSER", "default", "resetkeys")


def allow(server: RedisServer) -> None:
    server.ask("ACL", "SETUSER", "default", "allkeys", "+@all")


@pytest.mark.parametrize(
    ("begin", "end", "word", "reason"),
    [
        (fill, empty, "OOM", "Redis is at its memory limit"),
        (demote, promote, "READONLY", "this Redis is a replica"),
        (ask_for_replicas, ask_for_none, "NOREPLICAS", "Redis has too few replicas to accept writes"),
        (forbid, allow, "NOPERM", "the Redis user lacks rights"),
        (forbid_keys, allow, "NOPERM", "the Redis user lacks rights that scripts need"),
    ],
)
async def test_a_redis_that_refuses_is_away_for_a_reason_that_is_said_once(
    server: RedisServer, begin: Meddle, end: Meddle, word: str, reason: str
) -> None:
    async with replicas(server, "a") as [a]:
        await a.subscribe("room")
        with capture_logs() as lines:
            begin(server)
            await until(lambda: a.conditions == [StateStatus.UNAVAILABLE], "it notices, though nobody pushes")
            assert f"commands {word}" in counted(a.metrics, REJECTING)
            assert a.state.rejection.startswith(reason)
            assert a.state.rejection.endswith(f"({word})")
            await asyncio.sleep(3)  # nobody announces that nothing more is said

            end(server)
            await until(lambda: a.state.status is StateStatus.HEALTHY, "it takes what is written again")

        assert a.conditions == [StateStatus.UNAVAILABLE, StateStatus.HEALTHY]
        said = [
            (line["event"], line["connection"], line["code"])
            for line in lines
            if line["event"] in {"redis.rejecting", "redis.accepting"}
        ]
        assert said == [("redis.rejecting", "commands", word), ("redis.accepting", "commands", word)]
        assert (counted(a.metrics, REJECTING), a.state.rejection) == ({}, "")
        news = make("room")
        await append(a, news)
        await a.hears(news)


async def test_a_redis_that_dies_while_it_refuses_does_not_take_anything_again(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        fill(server)
        await until(lambda: counted(a.metrics, REJECTING) != {}, "it refuses")
        with capture_logs() as lines:
            server.kill()
            await until(lambda: counted(a.metrics, REJECTING) == {}, "it does not even refuse")

        assert a.state.status is StateStatus.UNAVAILABLE
        assert "redis.accepting" not in {line["event"] for line in lines}


async def test_who_may_not_publish_is_told_so(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        server.ask("ACL", "SETUSER", "default", "-publish")

        await until(lambda: a.state.status is StateStatus.SUBSCRIPTION_STALLED, "it hears nothing")

        assert a.state.rejection == "the Redis user may not publish (NOPERM)"


async def test_at_its_memory_limit_a_push_is_refused_and_the_replica_goes_on_hearing(
    server: RedisServer,
) -> None:
    async with replicas(server, "a") as [a]:
        fill(server)
        await until(lambda: a.state.status is StateStatus.UNAVAILABLE, "it notices")
        with pytest.raises(BrokerUnavailable, match="memory limit"):
            await a.state.broker.append(make("room"))

        await asyncio.sleep(a.state.subscription_timeout_seconds + 1)

        assert a.conditions == [StateStatus.UNAVAILABLE]
        age = counted(a.metrics, "pubsub_probe_age_seconds")[""]
        assert age < a.state.subscription_timeout_seconds
