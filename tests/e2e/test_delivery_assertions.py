"""The judge of the fault tests sees every kind of lie: else their passing would mean nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest

from tests.support.assertions import judge
from tests.support.listeners import Heard, Member
from tests.support.traffic import ACCEPTED, NO_ANSWER, Push


@dataclass
class _Client:
    id: str


@dataclass
class _Replica:
    replica_id: str


ANN = Member(cast("Any", _Client("ann")), cast("Any", _Replica("r0")), "ann", frozenset())
BOB = Member(cast("Any", _Client("bob")), cast("Any", _Replica("r1")), "bob", frozenset())


def push(number: int, *answers: str, started: float | None = None, answered: float | None = None) -> Push:
    """One for ann alone; by default they follow each other."""
    began = float(number) if started is None else started
    ended = began + 0.5 if answered is None else answered
    return Push(number, "/emit/user/ann", {}, frozenset({"ann"}), began, ended, list(answers or (ACCEPTED,)))


def verdict(pushes: list[Push], ann: Heard, bob: Heard | None = None, **options: Any) -> list[str]:
    return judge(pushes, {"ann": ann, "bob": bob or Heard()}, [ANN, BOB], **options)


def test_what_was_accepted_and_came_once_and_in_order_is_right() -> None:
    assert verdict([push(0), push(1), push(2, "broker_unavailable")], Heard([0, 1])) == []


def test_two_that_were_under_way_together_may_come_either_way_round() -> None:
    assert verdict([push(0, answered=5.0), push(1, started=4.0)], Heard([1, 0])) == []


def test_what_was_unknown_may_have_come_and_must_have_come_once_after_its_repeat() -> None:
    unknown = [push(0, "broker_timeout", ACCEPTED), push(1, NO_ANSWER, ACCEPTED)]

    assert verdict(unknown, Heard([0, 1])) == []
    assert verdict(unknown, Heard([0]))[0].startswith("ann at r0: 1 (/emit/user/ann) came 0 times and not 1")
    assert "0 (/emit/user/ann) came 2 times and not 1" in verdict(unknown, Heard([0, 0, 1]))[0]


@pytest.mark.parametrize(
    ("pushes", "ann", "bob", "wrong"),
    [
        ([push(0)], Heard(), Heard(), "came 0 times and not 1"),
        ([push(0)], Heard([0, 0]), Heard(), "came 2 times and not 1"),
        ([push(0)], Heard([0]), Heard([0]), "bob at r1: 0 (/emit/user/ann) came 1 times and not 0"),
        ([push(0, "broker_unavailable")], Heard([0]), Heard(), "came 1 times and not 0"),
        ([push(0), push(1)], Heard([1, 0]), Heard(), "0 came after 1, which was pushed later"),
        ([push(0)], Heard([0], ["data_lost"]), Heard(), "was told of a gap: data_lost"),
        ([push(0, "internal_error")], Heard(), Heard(), "which nothing here explains"),
    ],
    ids=["missing", "doubled", "not for bob", "refused", "order", "gap", "unexplained"],
)
def test_a_lie_is_named(pushes: list[Push], ann: Heard, bob: Heard, wrong: str) -> None:
    (sentence,) = verdict(pushes, ann, bob)

    assert wrong in sentence


def test_what_redis_lost_may_be_missing_only_where_the_client_was_told_and_only_from_that_time() -> None:
    pushes = [push(0), push(1), push(9)]

    assert verdict(pushes, Heard([0, 9], ["data_lost"]), lost=(1.0, 2.0)) == []
    assert len(verdict(pushes, Heard([0, 9]), lost=(1.0, 2.0))) == 1
    assert len(verdict(pushes, Heard([0, 1], ["data_lost"]), lost=(1.0, 2.0))) == 1
