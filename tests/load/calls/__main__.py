"""``python -m tests.load.calls``: 10 000 clients, and what the calls change about the latencies.

It prints the figures. Exit status 1 if the webhook that hangs delays anything; the machine must do nothing else.
"""

from __future__ import annotations

import sys
from typing import Final

from tests.load.calls.hanging import Figures, measure
from tests.load.calls.storm import percentile

CLIENTS: Final = 10_000
PASSES: Final = 3
BUSY_SECONDS: Final = 0.010
NOISE_SECONDS: Final = 0.010
"""By how much the 99th percentiles of two equal runs may differ, in addition to the factor of two."""


def delays(found: Figures) -> list[str]:
    """Return a sentence for each latency that is too long.

    A program that runs beside it disturbs one pass or another; what the calls do is in each of them.
    """
    wrong = []
    busy = min(each.calls.percentile("busy", 0.5) for each in found.passes)
    if busy >= BUSY_SECONDS:
        wrong.append(f"half of the rejected calls wait for at least {busy * 1e3:.1f} ms")
    before = percentile(found.before.pushes, 0.99)
    calls = min(percentile(each.calls.pushes, 0.99) for each in found.passes)
    if calls >= 2 * before + NOISE_SECONDS:
        wrong.append(f"p99 of pushes: {before * 1e3:.1f} ms before any call, {calls * 1e3:.1f} ms with calls")
    for name in ("p99_of_answers", "p99_of_pushes", "p99_of_others"):
        p99s = [getattr(each, name) for each in found.passes]
        if all(calls >= 2 * plain + NOISE_SECONDS for plain, calls in p99s):
            wrong.append(f"{name}, in seconds without calls and with them: {p99s}")
    return wrong


def main() -> None:
    found = measure(clients=CLIENTS, passes=PASSES)
    print(found)
    if wrong := delays(found):
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
