"""The comparison of the soak test finds every kind of error; otherwise a run without errors would prove nothing."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.load.soak.clients import Told
from tests.load.soak.verdict import Verdict, judge, per_second
from tests.support.traffic import ACCEPTED, NO_ANSWER, Push

FRESH = (0.0, False, 0.0)
BACK = (2.0, True, 2.0)
ANEW = (2.0, False, 2.0)


def push(number: int, *answers: str, to: str = "ann", began: float | None = None, **body: Any) -> Push:
    """Make a push; by default pushes do not overlap."""
    started_at = float(number) if began is None else began
    said = list(answers or (ACCEPTED,))
    return Push(number, "/emit/user/ann", body, frozenset({to}), started_at, float(number) + 0.5, said)


def told(*got: tuple[int, str | None], connects: Any = (FRESH,), failed: tuple[str, ...] = ()) -> Told:
    return Told(list(got), list(connects), list(failed), Counter(), Counter(), Counter())


def verdict(pushes: list[Push], ann: Told) -> Verdict:
    return judge(pushes, {"ann": ann, "bob": told()})


def test_what_was_accepted_and_came_once_and_in_order_is_right() -> None:
    pushes = [push(0), push(1, NO_ANSWER, ACCEPTED), push(2, volatile=True)]

    found = verdict(pushes, told((-1, "1-0"), (0, "2-0"), (1, "2-1"), (-1, "2-1"), connects=(FRESH, BACK)))

    assert found.wrong == []
    assert (found.due, found.came, found.missing, found.percent) == (2, 2, 0, 100.0)
    assert (found.pushes, found.accepted, found.repeated, found.volatile) == (3, 3, 1, 1)
    assert (found.reconnects, found.recovered) == (1, 1)


def test_two_that_were_under_way_together_may_come_either_way_round() -> None:
    assert verdict([push(0), push(1, began=0.2)], told((1, "1-0"), (0, "2-0"))).wrong == []


@pytest.mark.parametrize(
    ("pushes", "ann", "counts", "sentence"),
    [
        ([push(0)], told(), {"due": 1, "came": 0, "missing": 1}, "ann misses 0"),
        ([push(0)], told((0, "1-0"), (0, "2-0")), {"came": 1, "doubled": 1}, "ann got 2 times 0"),
        (
            [push(0, volatile=True)],
            told((0, None), (0, None)),
            {"due": 0, "doubled": 1},
            "ann got 2 times 0",
        ),
        ([push(0, to="bob")], told((0, "1-0")), {"misled": 1}, "ann got what was not for it: 0"),
        (
            [push(0, "invalid_body")],
            told(),
            {"due": 0},
            "0 was answered ['invalid_body'], and never accepted",
        ),
        ([push(0), push(1)], told((1, None), (0, None)), {"out_of_order": 1}, "ann got too late"),
        (
            [push(0), push(1, began=0.2)],
            told((1, "2-0"), (0, "1-9")),
            {"out_of_order": 1},
            "too late, at position 1-9",
        ),
        (
            [push(0), push(1, began=0.2)],
            told((0, "1-9"), (1, "1-9")),
            {"out_of_order": 1},
            "too late, at position 1-9",
        ),
        ([push(0)], told((0, "2-0"), (-1, "1-0")), {"out_of_order": 1}, "an event of the gateway"),
        (
            [],
            told(connects=(FRESH, ANEW)),
            {"reconnects": 1, "recovered": 0, "silently_anew": 1},
            "ann reconnected 1 times without being recovered",
        ),
        (
            [],
            told(connects=(FRESH, ANEW), failed=("session_expired",)),
            {"silently_anew": 0, "failed": Counter({"session_expired": 1})},
            "ann got recovery:failed session_expired",
        ),
    ],
)
def test_what_is_wrong_is_counted_and_said(
    pushes: list[Push], ann: Told, counts: dict[str, Any], sentence: str
) -> None:
    found = verdict(pushes, ann)

    assert {name: getattr(found, name) for name in counts} == counts
    assert any(sentence in wrong for wrong in found.wrong), found.wrong


def test_reconnects_are_counted_in_the_second_in_which_they_were() -> None:
    come_back = told(connects=((0.5, False, 0.0), (10.9, True, 2.0), (12.0, True, 2.0)))

    assert per_second([come_back, come_back], since=10.0, seconds=4) == [2, 0, 2, 0]
