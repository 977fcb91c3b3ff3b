"""Sampling of log lines."""

from __future__ import annotations

import pytest

from gateway.domain.sampling import Sampling

KEYS = [f"{number:032x}" for number in range(10_000)]


@pytest.mark.parametrize("rate", [0.01, 0.25, 0.9])
def test_sampling_keeps_about_the_share_of_its_rate(rate: float) -> None:
    sampling = Sampling(rate)

    kept = sum(sampling.should_log(key) for key in KEYS)

    assert kept == pytest.approx(rate * len(KEYS), rel=0.25)
    assert sampling.fields == {"sample_rate": rate}


def test_rates_0_and_1_are_exact() -> None:
    assert all(map(Sampling(1.0).should_log, KEYS))
    assert not any(map(Sampling(0.0).should_log, KEYS))
    assert Sampling(1.0).fields == {}


def test_key_is_decided_alike_everywhere_and_a_higher_rate_keeps_what_a_lower_one_keeps() -> None:
    low, high = Sampling(0.1), Sampling(0.3)

    assert [low.should_log(key) for key in KEYS] == [Sampling(0.1).should_log(key) for key in KEYS]
    assert {key for key in KEYS if low.should_log(key)} < {key for key in KEYS if high.should_log(key)}


def test_key_may_be_any_text() -> None:
    assert isinstance(Sampling(0.5).should_log("ü\udc80"), bool)
