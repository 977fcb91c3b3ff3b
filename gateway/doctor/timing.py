"""Checks of clock and round trip."""

from __future__ import annotations

from typing import Final

from gateway.doctor.facts import Demands, RedisFacts
from gateway.doctor.findings import Finding, ok, problem, unknown, warning

NOTICEABLE_SECONDS: Final = 2.0
BREAKING_SECONDS: Final = 60.0
"""A nonce may be kept for so long that a clock 120 s ahead has every push refused; half of that is no accident."""
SLOW_SECONDS: Final = 0.005
SLOWEST_SECONDS: Final = 0.05
_NTP: Final = "Let both hosts keep time with NTP (chrony, systemd-timesyncd)."


def clock(redis: RedisFacts) -> Finding:
    """Do both hosts have the same time?"""
    name, ahead = "redis.clock", redis.ahead_seconds
    if ahead is None:
        return unknown(name, "What time it is at Redis could not be found out.", "Grant +time.")
    away = abs(ahead)
    said = f"The clock of Redis is {away:.3f} s {'ahead of' if ahead > 0 else 'behind'} ours"
    if away <= redis.unsure_seconds + 0.001:
        return ok(name, f"The clocks agree within {(redis.unsure_seconds + 0.001) * 1000:.0f} ms.")
    if away >= BREAKING_SECONDS:
        return problem(name, f"{said}: pushes are refused as too old, used before or from the future.", _NTP)
    if away >= NOTICEABLE_SECONDS:
        return warning(name, f"{said}: times of signatures, tokens and presence do not fit together.", _NTP)
    return ok(name, f"{said}.")


def round_trip(redis: RedisFacts, demands: Demands) -> Finding:
    """How long does an answer take? Every push and every connect waits for one."""
    name, took = "redis.round_trip", sorted(redis.round_trips)
    if not took:
        return unknown(name, "How long Redis takes to answer could not be measured.", "Grant +time.")
    median, late = took[(len(took) - 1) // 2], took[round(0.99 * (len(took) - 1))]
    said = f"An answer takes {median * 1000:.2f} ms (99 %: {late * 1000:.2f} ms, of {len(took)})"
    if late >= demands.patience_seconds / 2:
        return problem(
            name,
            f"{said}, and the gateway gives up after {demands.patience_seconds:.0f} s.",
            "See what keeps Redis busy (SLOWLOG GET, LATENCY DOCTOR) and where it runs.",
        )
    if median >= SLOW_SECONDS or late >= SLOWEST_SECONDS:
        return warning(
            name,
            f"{said}, and every push and every connect waits for one.",
            "Put Redis near the gateway, on a core of its own; SLOWLOG GET shows what keeps it busy.",
        )
    return ok(name, f"{said}.")
