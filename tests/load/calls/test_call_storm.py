"""The short form: 3 000 clients. ``python -m tests.load.calls`` compares latencies with 10 000."""

from __future__ import annotations

import pytest

from tests.load.calls.__main__ import delays
from tests.load.calls.hanging import TIMEOUT_SECONDS, Comparison, Figures, measure
from tests.load.calls.storm import OK, Round

pytestmark = pytest.mark.timeout(600)

SOON_SECONDS = TIMEOUT_SECONDS / 2
"""What waits for the webhook that hangs takes longer, and nothing else does on a busy machine."""


def test_webhook_that_hangs_under_all_clients_delays_nothing_else_and_is_called_again_when_it_is_back() -> (
    None
):
    found = measure(clients=3_000, passes=1)

    print(found)  # pytest -rP shows it
    assert [each.slowest_seconds < SOON_SECONDS for each in found.passes] == [True]


def round_of(code: str, seconds: float) -> Round:
    return Round(answered={code: [seconds] * 10}, others=[seconds] * 10, pushes=[seconds] * 10)


def figures(*, plain: float, calls: float) -> Figures:
    passes = [Comparison(round_of(OK, plain), round_of("busy", calls)) for _ in range(3)]
    return Figures(10, round_of(OK, plain), Round(), 1.0, passes, 1.0, 0, 0)


def test_program_finds_latencies_that_the_calls_make_longer() -> None:
    assert delays(figures(plain=0.004, calls=0.005)) == []
    found = delays(figures(plain=0.004, calls=0.02))

    assert [each.split()[0].strip(",") for each in found] == [
        "half",
        "p99",
        "p99_of_answers",
        "p99_of_pushes",
        "p99_of_others",
    ]
