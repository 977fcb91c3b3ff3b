"""The checks of the fault tests detect each kind of wrong delivery: without that a pass would prove nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest

from tests.support.assertions import delivery_errors
from tests.support.listeners import Member, Received
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
    """A push to ann only. By default each push starts after the answer to the one before."""
    began = float(number) if started is None else started
    ended = began + 0.5 if answered is None else answered
    return Push(number, "/emit/user/ann", {}, frozenset({"ann"}), began, ended, list(answers or (ACCEPTED,)))


def errors(pushes: list[Push], ann: Received, bob: Received | None = None, **options: Any) -> list[str]:
    return delivery_errors(pushes, {"ann": ann, "bob": bob or Received()}, [ANN, BOB], **options)


def test_accepted_pushes_that_arrive_once_and_in_order_are_correct() -> None:
    assert errors([push(0), push(1), push(2, "broker_unavailable")], Received([0, 1])) == []


def test_concurrent_pushes_may_arrive_in_either_order() -> None:
    assert errors([push(0, answered=5.0), push(1, started=4.0)], Received([1, 0])) == []


def test_push_with_an_unknown_outcome_must_arrive_exactly_once_after_its_repetition() -> None:
    unknown = [push(0, "broker_timeout", ACCEPTED), push(1, NO_ANSWER, ACCEPTED)]

    assert errors(unknown, Received([0, 1])) == []
    assert errors(unknown, Received([0]))[0].startswith(
        "ann at r0: 1 (/emit/user/ann) arrived 0 times, expected 1"
    )
    assert "0 (/emit/user/ann) arrived 2 times, expected 1" in errors(unknown, Received([0, 0, 1]))[0]


@pytest.mark.parametrize(
    ("pushes", "ann", "bob", "wrong"),
    [
        ([push(0)], Received(), Received(), "arrived 0 times, expected 1"),
        ([push(0)], Received([0, 0]), Received(), "arrived 2 times, expected 1"),
        (
            [push(0)],
            Received([0]),
            Received([0]),
            "bob at r1: 0 (/emit/user/ann) arrived 1 times, expected 0",
        ),
        ([push(0, "broker_unavailable")], Received([0]), Received(), "arrived 1 times, expected 0"),
        ([push(0), push(1)], Received([1, 0]), Received(), "0 arrived after 1, which was pushed later"),
        ([push(0)], Received([0], ["data_lost"]), Received(), "received recovery:failed: data_lost"),
        ([push(0, "internal_error")], Received(), Received(), "an answer that no fault explains"),
    ],
    ids=["missing", "doubled", "not for bob", "rejected", "order", "gap", "unexplained"],
)
def test_wrong_delivery_is_named(pushes: list[Push], ann: Received, bob: Received, wrong: str) -> None:
    (sentence,) = errors(pushes, ann, bob)

    assert wrong in sentence


def test_push_lost_by_redis_may_be_missing_only_after_data_lost_and_in_that_interval() -> None:
    pushes = [push(0), push(1), push(9)]

    assert errors(pushes, Received([0, 9], ["data_lost"]), lost=(1.0, 2.0)) == []
    assert len(errors(pushes, Received([0, 9]), lost=(1.0, 2.0))) == 1
    assert len(errors(pushes, Received([0, 1], ["data_lost"]), lost=(1.0, 2.0))) == 1
