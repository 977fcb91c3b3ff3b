"""Numbers are there from the start, and say what was counted."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

from gateway.metrics.tallies import CountReading, Level, Reading, Spread, Tally


def read(collector: Collector, name: str, **labels: str) -> float | None:
    registry = CollectorRegistry()
    registry.register(collector)
    return registry.get_sample_value(name, labels)


def test_a_value_of_a_label_that_is_known_is_zero_until_something_is_counted() -> None:
    tally = Tally("refused", "Refused.", ("code",), [("full",), ("rate",)])

    tally.count(("rate",), 2)

    assert read(tally, "refused_total", code="full") == 0
    assert read(tally, "refused_total", code="rate") == 2


def test_what_nobody_expected_is_counted_too() -> None:
    tally = Tally("refused", "Refused.", ("code",))

    tally.count(("new",))

    assert read(tally, "refused_total", code="new") == 1


def test_expecting_a_value_again_changes_nothing() -> None:
    tally, spread = Tally("t", "T.", ("a",)), Spread("s", "S.", ("a",), bounds=(1.0,))
    tally.count(("x",))
    spread.observe(0.5, ("x",))

    tally.expect([("x",)])
    spread.expect([("x",)])

    assert read(tally, "t_total", a="x") == 1
    assert read(spread, "s_count", a="x") == 1


def test_a_level_goes_up_and_down() -> None:
    level = Level("open", "Open.")

    level.count((), 3)
    level.count((), -1)

    assert read(level, "open") == 2


@pytest.mark.parametrize(("kind", "name"), [(Reading, "held"), (CountReading, "held_total")])
def test_a_reading_looks_each_time_and_shows_nothing_before_it_has_a_place_to_look_at(
    kind: type[Reading], name: str
) -> None:
    reading, now = kind("held", "Held."), [1]
    assert read(reading, name) is None

    reading.read = lambda: {(): now[0]}
    now[0] = 7

    assert read(reading, name) == 7


@pytest.mark.parametrize(
    ("amount", "within"), [(0.5, [1, 1, 1]), (1.0, [1, 1, 1]), (1.5, [0, 1, 1]), (3.0, [0, 0, 1])]
)
def test_an_amount_is_in_its_bucket_and_in_all_above(amount: float, within: list[int]) -> None:
    spread = Spread("s", "S.", bounds=(1.0, 2.0))

    spread.observe(amount)

    assert [read(spread, "s_bucket", le=end) for end in ("1.0", "2.0", "+Inf")] == within
    assert (read(spread, "s_count"), read(spread, "s_sum")) == (1, amount)


def test_a_histogram_without_labels_is_there_before_anything_was_observed() -> None:
    assert read(Spread("s", "S.", bounds=(1.0,)), "s_count") == 0
