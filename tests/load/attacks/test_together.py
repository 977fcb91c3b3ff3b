"""All attacks at once, the short form: memory, good tokens and deliveries. The long form also compares latencies."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from tests.load.attacks.measures import PushLatency
from tests.load.attacks.target import kinds
from tests.load.attacks.together import MAX_RSS_BYTES, Observation, run

QUIET = PushLatency(median=0.002, p99=0.010, longest=0.020, statuses=Counter({200: 300}))
GOOD = Observation(["a"], QUIET, rss_before=100, rss_peak=200, connected=10, statuses={"a": 0})


@pytest.mark.timeout(300)
def test_replica_under_all_attacks_serves_its_clients_and_accepts_good_tokens() -> None:
    siege = run(kinds(), clients=60, alone_seconds=0.0, together_seconds=12.0)

    (observed,) = siege.observations
    assert siege.comparison.wrong[:12] == []
    assert siege.comparison.due == siege.comparison.delivered > 500
    assert siege.comparison.disconnects == {}
    assert observed.connected > 0
    assert (observed.rejected, observed.shut_out) == ({}, 0)
    assert observed.rss_peak < MAX_RSS_BYTES
    assert observed.statuses == dict.fromkeys(kinds(), 0)


def test_attack_within_the_bounds_is_no_error() -> None:
    assert GOOD.wrong(QUIET) == []


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (replace(GOOD, rss_peak=MAX_RSS_BYTES + 1), "a: the replica had 450 MB"),
        (replace(GOOD, latency=replace(QUIET, p99=0.031)), "a: push p99 31.0 ms, quiet 10.0 ms"),
        (
            replace(GOOD, latency=replace(QUIET, statuses=Counter({503: 1}))),
            "a: pushes were answered {503: 1}",
        ),
        (replace(GOOD, shut_out=1), "a: of clients with good tokens 10 connected, 1 did not"),
        (replace(GOOD, rejected=Counter({"44": 1})), "{'44': 1} were rejected"),
        (replace(GOOD, connected=0), "a: of clients with good tokens 0 connected"),
        (replace(GOOD, statuses={"a": -1}), "a ended with -1"),
    ],
)
def test_broken_bound_is_named_with_its_attack(broken: Observation, sentence: str) -> None:
    (found,) = broken.wrong(QUIET)

    assert sentence in found
