"""Deaf and away are told apart."""

from __future__ import annotations

from gateway.domain.condition import Condition
from gateway.state.redis.hearing import Hearing
from tests.harness.redis_server import RedisServer
from tests.state.redis.replicas import replicas, until


class Watched:
    """A Hearing with DEAF_SECONDS of 10, from second 0."""

    def __init__(self) -> None:
        self.changes: list[Condition] = []
        self.hearing = Hearing(deaf_seconds=10, now=0, changed=self.changes.append)

    def asks(self, *seconds: float, answered: bool = True) -> None:
        for now in seconds:
            self.hearing.asked(now, answered=answered)


def test_who_hears_itself_is_neither_deaf_nor_away() -> None:
    watched = Watched()
    for now in range(0, 100, 2):
        watched.asks(now)
        watched.hearing.heard(now)

    assert watched.changes == []


def test_who_hears_nothing_while_redis_answers_is_deaf_in_time() -> None:
    watched = Watched()

    watched.asks(2, 4, 6, 8)
    assert watched.changes == []
    watched.asks(10)
    assert watched.changes == [Condition.DEAF]
    watched.hearing.heard(11)
    assert watched.changes == [Condition.DEAF, Condition.HEARING]


def test_while_redis_is_away_nobody_is_deaf() -> None:
    watched = Watched()

    watched.asks(2, 20, 40, answered=False)
    assert watched.changes == [Condition.AWAY]
    watched.asks(41, 45, 50)
    assert watched.changes == [Condition.AWAY, Condition.HEARING]
    watched.asks(51)
    assert watched.changes == [Condition.AWAY, Condition.HEARING, Condition.DEAF]


def test_who_hears_nothing_is_deaf_although_every_second_question_is_not_answered() -> None:
    watched = Watched()
    reconnects = []

    for now in range(2, 60, 2):
        watched.asks(now, answered=now % 4 == 0)
        if watched.hearing.should_reconnect(now):
            reconnects.append(now)

    assert reconnects == [16, 28, 40, 52]
    assert watched.changes[-1] is Condition.DEAF
    assert watched.changes.index(Condition.DEAF) == len(watched.changes) - 1


def test_time_during_which_redis_was_away_makes_nobody_deaf() -> None:
    watched = Watched()
    watched.asks(2, 4)
    watched.hearing.heard(4.1)
    watched.asks(6, 30, 60, answered=False)

    watched.asks(62)
    assert watched.hearing.should_reconnect(62) is False
    watched.hearing.heard(62.1)

    assert watched.changes == [Condition.AWAY, Condition.HEARING]


def test_who_is_deaf_and_then_away_for_longer_than_a_question_is_away() -> None:
    watched = Watched()
    watched.asks(10)

    watched.asks(12, answered=False)
    assert watched.changes == [Condition.DEAF]
    watched.asks(14, answered=False)

    assert watched.changes == [Condition.DEAF, Condition.AWAY]


def test_who_was_deaf_and_heard_itself_while_a_question_was_not_answered_hears() -> None:
    watched = Watched()
    watched.asks(10)
    watched.asks(12, answered=False)
    watched.hearing.heard(13)

    watched.asks(14)

    assert watched.changes == [Condition.DEAF, Condition.HEARING]


def test_another_connection_is_tried_halfway_to_being_deaf_and_again() -> None:
    hearing = Watched().hearing

    assert [now for now in range(1, 30) if hearing.should_reconnect(now)] == [5, 10, 15, 20, 25]


async def test_a_replica_that_may_no_longer_listen_is_deaf_until_it_may(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        await a.subscribe("room")
        server.ask("ACL", "SETUSER", "default", "resetchannels", "+@all")
        server.ask("CLIENT", "KILL", "TYPE", "pubsub")
        # Commands still pass, but for those that publish: let scripts publish to nobody.
        await until(lambda: Condition.HEARING is not a.state.condition, "it notices")

        server.ask("ACL", "SETUSER", "default", "allchannels")

        await until(lambda: a.state.condition is Condition.HEARING, "it hears again")
        await a.hears(await a.push("room"))


async def test_a_replica_whose_redis_is_gone_is_away_and_comes_back(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        server.kill()
        await until(lambda: a.state.condition is Condition.AWAY, "it notices")
        server.start()

        await until(lambda: a.state.condition is Condition.HEARING, "it hears again")
        assert Condition.DEAF not in a.conditions
