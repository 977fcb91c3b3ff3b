"""A Redis that answers and refuses is away: said once with its reason, and once that it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.domain.condition import Condition
from gateway.domain.errors import BrokerUnavailable
from tests.integration.redis_state.replicas import append, make, replicas, until
from tests.support.redis_server import RedisServer

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
            await until(lambda: a.conditions == [Condition.AWAY], "it notices, though nobody pushes")
            assert a.state.refusals["commands"] == word
            assert a.state.refusal.startswith(reason)
            assert a.state.refusal.endswith(f"({word})")
            await asyncio.sleep(3)  # nobody announces that nothing more is said

            end(server)
            await until(lambda: a.state.condition is Condition.HEARING, "it takes what is written again")

        assert a.conditions == [Condition.AWAY, Condition.HEARING]
        said = [
            (line["event"], line["connection"], line["code"])
            for line in lines
            if line["event"] in {"redis.refuses", "redis.takes_again"}
        ]
        assert said == [("redis.refuses", "commands", word), ("redis.takes_again", "commands", word)]
        assert (dict(a.state.refusals), a.state.refusal) == ({}, "")
        news = make("room")
        await append(a, news)
        await a.hears(news)


async def test_a_redis_that_dies_while_it_refuses_does_not_take_anything_again(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        fill(server)
        await until(lambda: a.state.refusals != {}, "it refuses")
        with capture_logs() as lines:
            server.kill()
            await until(lambda: a.state.refusals == {}, "it does not even refuse")

        assert a.state.condition is Condition.AWAY
        assert "redis.takes_again" not in {line["event"] for line in lines}


async def test_who_may_not_publish_is_told_so(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        server.ask("ACL", "SETUSER", "default", "-publish")

        await until(lambda: a.state.condition is Condition.DEAF, "it hears nothing")

        assert a.state.refusal == "the Redis user may not publish (NOPERM)"


async def test_at_its_memory_limit_a_push_is_refused_and_the_replica_goes_on_hearing(
    server: RedisServer,
) -> None:
    async with replicas(server, "a") as [a]:
        fill(server)
        await until(lambda: a.state.condition is Condition.AWAY, "it notices")
        with pytest.raises(BrokerUnavailable, match="memory limit"):
            await a.state.broker.append(make("room"))

        await asyncio.sleep(a.state.deaf_seconds + 1)

        assert a.conditions == [Condition.AWAY]
        assert a.state.canary_age_seconds < a.state.deaf_seconds
