"""The comparison of the soak test finds every kind of error; otherwise a run without errors would prove nothing."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.load.soak.clients import ClientResult
from tests.load.soak.comparison import Comparison, compare, per_second
from tests.support.traffic import ACCEPTED, NO_ANSWER, Push

FRESH = (0.0, False, 0.0)
RECOVERED = (2.0, True, 2.0)
NOT_RECOVERED = (2.0, False, 2.0)


def push(number: int, *answers: str, to: str = "ann", began: float | None = None, **body: Any) -> Push:
    """Make a push; by default pushes do not overlap."""
    started_at = float(number) if began is None else began
    answered = list(answers or (ACCEPTED,))
    return Push(number, "/emit/user/ann", body, frozenset({to}), started_at, float(number) + 0.5, answered)


def received(
    *got: tuple[int, str | None],
    connects: Any = (FRESH,),
    failed: tuple[str, ...] = (),
    failed_at: tuple[float, ...] = (),
) -> ClientResult:
    counts = (Counter[str](), Counter[str](), Counter[str]())
    return ClientResult(list(got), list(connects), list(failed), *counts, failed_at=list(failed_at))


def comparison(pushes: list[Push], ann: ClientResult) -> Comparison:
    return compare(pushes, {"ann": ann, "bob": received()})


def test_accepted_pushes_delivered_once_and_in_order_are_no_error() -> None:
    pushes = [push(0), push(1, NO_ANSWER, ACCEPTED), push(2, volatile=True)]

    found = comparison(
        pushes, received((-1, "1-0"), (0, "2-0"), (1, "2-1"), (-1, "2-1"), connects=(FRESH, RECOVERED))
    )

    assert found.wrong == []
    assert (found.due, found.delivered, found.missing, found.percent) == (2, 2, 0, 100.0)
    assert (found.pushes, found.accepted, found.repeated, found.volatile) == (3, 3, 1, 1)
    assert (found.reconnects, found.recovered) == (1, 1)


def test_concurrent_pushes_may_be_delivered_in_either_order() -> None:
    assert comparison([push(0), push(1, began=0.2)], received((1, "1-0"), (0, "2-0"))).wrong == []


@pytest.mark.parametrize(
    ("pushes", "ann", "counts", "sentence"),
    [
        ([push(0)], received(), {"due": 1, "delivered": 0, "missing": 1}, "ann misses 0"),
        ([push(0)], received((0, "1-0"), (0, "2-0")), {"delivered": 1, "doubled": 1}, "ann got 2 times 0"),
        (
            [push(0, volatile=True)],
            received((0, None), (0, None)),
            {"due": 0, "doubled": 1},
            "ann got 2 times 0",
        ),
        ([push(0, to="bob")], received((0, "1-0")), {"misdelivered": 1}, "ann got what was not for it: 0"),
        (
            [push(0, "invalid_body")],
            received(),
            {"due": 0},
            "0 was answered ['invalid_body'], and never accepted",
        ),
        ([push(0), push(1)], received((1, None), (0, None)), {"out_of_order": 1}, "ann got too late"),
        (
            [push(0), push(1, began=0.2)],
            received((1, "2-0"), (0, "1-9")),
            {"out_of_order": 1},
            "too late, at position 1-9",
        ),
        (
            [push(0), push(1, began=0.2)],
            received((0, "1-9"), (1, "1-9")),
            {"out_of_order": 1},
            "too late, at position 1-9",
        ),
        ([push(0)], received((0, "2-0"), (-1, "1-0")), {"out_of_order": 1}, "an event of the gateway"),
        (
            [],
            received(connects=(FRESH, NOT_RECOVERED)),
            {"reconnects": 1, "recovered": 0, "unexplained": 1},
            "ann reconnected 1 times without being recovered",
        ),
        (
            [],
            received(connects=(FRESH, NOT_RECOVERED), failed=("session_expired",)),
            {"unexplained": 0, "failed": Counter({"session_expired": 1})},
            "ann got recovery:failed session_expired",
        ),
    ],
)
def test_error_is_counted_and_described(
    pushes: list[Push], ann: ClientResult, counts: dict[str, Any], sentence: str
) -> None:
    found = comparison(pushes, ann)

    assert {name: getattr(found, name) for name in counts} == counts
    assert any(sentence in wrong for wrong in found.wrong), found.wrong


def test_reconnects_are_counted_by_second() -> None:
    reconnected = received(connects=((0.5, False, 0.0), (10.9, True, 2.0), (12.0, True, 2.0)))

    assert per_second([reconnected, reconnected], since=10.0, seconds=4) == [2, 0, 2, 0]


def test_message_missing_at_a_client_that_got_recovery_failed_after_it_is_no_error_where_data_is_lost() -> (
    None
):
    missing = received(failed=("data_lost",), failed_at=(0.2,))

    found = compare([push(0)], {"ann": missing}, lossy=True)

    assert found.wrong == []
    assert (found.due, found.missing, found.unreported) == (1, 1, 0)


@pytest.mark.parametrize("at", [(), (0.2,)])
def test_message_missing_at_a_client_that_got_no_recovery_failed_after_it_is_an_error(
    at: tuple[float, ...],
) -> None:
    missing = received(failed=("data_lost",) * len(at), failed_at=at)

    found = compare([push(1)], {"ann": missing}, lossy=True)

    assert ["ann misses 1" in wrong for wrong in found.wrong] == [True]
    assert found.unreported == 1


def test_positions_begin_anew_where_a_client_was_not_recovered() -> None:
    anew = received((0, "9-0"), (-2, None), (-1, "1-0"), (1, "1-1"))

    assert compare([push(0), push(1)], {"ann": anew}).out_of_order == 0


def test_wrong_order_before_recovery_failed_is_no_error_where_data_is_lost() -> None:
    got = received((1, "2-0"), (0, "1-0"), (-3, None), failed=("data_lost",), failed_at=(9.0,))
    pushes = [push(0), push(1)]

    assert compare(pushes, {"ann": got}, lossy=True).out_of_order == 0
    assert compare(pushes, {"ann": got}).out_of_order == 1


def test_push_that_was_rejected_is_an_error_only_where_it_was_delivered() -> None:
    rejected = [push(0, "broker_unavailable")]
    unknown = [push(0, NO_ANSWER, "broker_unavailable")]
    allowed = {"broker_unavailable"}

    assert compare(rejected, {"ann": received()}, rejected=allowed).wrong == []
    assert compare(rejected, {"ann": received((0, "1-0"))}, rejected=allowed).misdelivered == 1
    assert compare(unknown, {"ann": received((0, "1-0"))}, rejected=allowed).wrong == []
    assert compare(unknown, {"ann": received((0, "1-0"), (0, "1-1"))}, rejected=allowed).doubled == 1
