"""Deaf and away are told apart."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from gateway.domain.errors import BrokerTimeout
from gateway.domain.status import StateStatus
from gateway.state.redis.liveness import StatusTracker
from tests.integration.redis_state.replicas import append, make, replicas, until
from tests.support.metrics import counted
from tests.support.redis_server import RedisServer


class Watched:
    """A Hearing with SUBSCRIPTION_TIMEOUT_SECONDS of 10, from second 0."""

    def __init__(self) -> None:
        self.changes: list[StateStatus] = []
        self.hearing = StatusTracker(stall_seconds=10, now=0, on_changed=self.changes.append)

    def asks(self, *seconds: float, answered: bool = True) -> None:
        for now in seconds:
            self.hearing.command_finished(now, answered=answered)


def test_who_hears_itself_is_neither_deaf_nor_away() -> None:
    watched = Watched()
    for now in range(0, 100, 2):
        watched.asks(now)
        watched.hearing.probe_received(now)

    assert watched.changes == []


def test_who_hears_nothing_while_redis_answers_is_deaf_in_time() -> None:
    watched = Watched()

    watched.asks(2, 4, 6, 8)
    assert watched.changes == []
    watched.asks(10)
    assert watched.changes == [StateStatus.SUBSCRIPTION_STALLED]
    watched.hearing.probe_received(11)
    assert watched.changes == [StateStatus.SUBSCRIPTION_STALLED, StateStatus.HEALTHY]


def test_while_redis_is_away_nobody_is_deaf() -> None:
    watched = Watched()

    watched.asks(2, 20, 40, answered=False)
    assert watched.changes == [StateStatus.UNAVAILABLE]
    watched.asks(41, 45, 50)
    assert watched.changes == [StateStatus.UNAVAILABLE, StateStatus.HEALTHY]
    watched.asks(51)
    assert watched.changes == [StateStatus.UNAVAILABLE, StateStatus.HEALTHY, StateStatus.SUBSCRIPTION_STALLED]


def test_who_hears_nothing_is_deaf_although_every_second_question_is_not_answered() -> None:
    watched = Watched()
    reconnects = []

    for now in range(2, 60, 2):
        watched.asks(now, answered=now % 4 == 0)
        if watched.hearing.should_reconnect(now):
            reconnects.append(now)

    assert reconnects == [16, 28, 40, 52]
    assert watched.changes[-1] is StateStatus.SUBSCRIPTION_STALLED
    assert watched.changes.index(StateStatus.SUBSCRIPTION_STALLED) == len(watched.changes) - 1


def test_time_during_which_redis_was_away_makes_nobody_deaf() -> None:
    watched = Watched()
    watched.asks(2, 4)
    watched.hearing.probe_received(4.1)
    watched.asks(6, 30, 60, answered=False)

    watched.asks(62)
    assert watched.hearing.should_reconnect(62) is False
    watched.hearing.probe_received(62.1)

    assert watched.changes == [StateStatus.UNAVAILABLE, StateStatus.HEALTHY]


def test_who_is_deaf_and_then_away_for_longer_than_a_question_is_away() -> None:
    watched = Watched()
    watched.asks(10)

    watched.asks(12, answered=False)
    assert watched.changes == [StateStatus.SUBSCRIPTION_STALLED]
    watched.asks(14, answered=False)

    assert watched.changes == [StateStatus.SUBSCRIPTION_STALLED, StateStatus.UNAVAILABLE]


def test_who_was_deaf_and_heard_itself_while_a_question_was_not_answered_hears() -> None:
    watched = Watched()
    watched.asks(10)
    watched.asks(12, answered=False)
    watched.hearing.probe_received(13)

    watched.asks(14)

    assert watched.changes == [StateStatus.SUBSCRIPTION_STALLED, StateStatus.HEALTHY]


def test_who_hears_itself_and_can_write_nothing_else_is_away_until_it_can() -> None:
    watched = Watched()
    watched.asks(2)
    watched.hearing.write_finished(2, accepted=False)
    watched.hearing.probe_received(2.1)
    assert watched.changes == [StateStatus.UNAVAILABLE]

    watched.asks(4)
    assert watched.changes == [StateStatus.UNAVAILABLE]
    watched.hearing.write_finished(4, accepted=True)

    assert watched.changes == [StateStatus.UNAVAILABLE, StateStatus.HEALTHY]


def test_who_hears_nothing_and_can_write_nothing_is_away_and_tries_another_connection() -> None:
    watched = Watched()

    for now in range(2, 30, 2):
        watched.asks(now)
        watched.hearing.write_finished(now, accepted=False)

    assert watched.changes == [StateStatus.UNAVAILABLE]
    assert watched.hearing.should_reconnect(30)


def test_another_connection_is_tried_halfway_to_being_deaf_and_again() -> None:
    hearing = Watched().hearing

    assert [now for now in range(1, 30) if hearing.should_reconnect(now)] == [5, 10, 15, 20, 25]


@pytest.mark.parametrize("forbidden", ["resetchannels", "-subscribe", "-publish"])
async def test_a_replica_that_may_no_longer_listen_is_deaf_and_not_away_until_it_may(
    server: RedisServer, forbidden: str
) -> None:
    async with replicas(server, "a") as [a]:
        await a.subscribe("room")
        server.ask("ACL", "SETUSER", "default", forbidden)
        server.ask("CLIENT", "KILL", "TYPE", "pubsub")

        await until(lambda: a.conditions == [StateStatus.SUBSCRIPTION_STALLED], "it notices")
        taken = await a.push("room")

        server.ask("ACL", "SETUSER", "default", "allchannels", "+@all")
        await until(lambda: a.state.status is StateStatus.HEALTHY, "it hears again")
        assert a.conditions == [StateStatus.SUBSCRIPTION_STALLED, StateStatus.HEALTHY]
        await a.hears(taken, await a.push("room"))


async def test_channels_that_are_forbidden_are_tried_ever_more_slowly_and_said_once(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", subscription_timeout_seconds=60.0) as [a]:
        await a.subscribe("room")
        with capture_logs() as lines:
            server.ask("ACL", "SETUSER", "default", "resetchannels")
            server.ask("CLIENT", "KILL", "TYPE", "pubsub")
            await asyncio.sleep(5)  # nobody announces that something is not tried
            await a.push("room")

        assert 4 <= counted(a.metrics, "redis_reconnects_total")["channels"] <= 10
        assert counted(a.metrics, "resyncs_total").get("", 0) <= 10
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


async def test_commands_that_are_forbidden_are_tried_ever_more_slowly_and_said_once(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", subscription_timeout_seconds=60.0) as [a]:
        with capture_logs() as lines:
            server.ask("ACL", "SETUSER", "default", "-eval")
            server.ask("CLIENT", "KILL", "TYPE", "normal")
            await asyncio.sleep(5)

        lost = [line["reason"] for line in lines if line["event"] == "redis.connection_lost"]
        assert len(lost) == 2, lines
        server.ask("ACL", "SETUSER", "default", "+@all")
        await append(a, make("room"))


async def test_scripts_that_fail_in_one_way_are_said_once_in_a_while(server: RedisServer) -> None:
    async with replicas(server, "a", subscription_timeout_seconds=60.0) as [a]:
        with capture_logs() as lines:
            server.ask("ACL", "SETUSER", "default", "resetkeys")
            with pytest.raises(BrokerTimeout):
                await a.state.broker.append(make("room"))

        failed = [line["reason"] for line in lines if line["event"] == "redis.script_failed"]
        assert failed != []
        assert len(failed) == len(set(failed))


async def test_a_replica_whose_redis_is_gone_is_away_and_comes_back(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        server.kill()
        await until(lambda: a.state.status is StateStatus.UNAVAILABLE, "it notices")
        server.start()

        await until(lambda: a.state.status is StateStatus.HEALTHY, "it hears again")
        assert StateStatus.SUBSCRIPTION_STALLED not in a.conditions
