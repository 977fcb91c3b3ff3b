"""Checks of what Redis is.

Checks of clock and round trip.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.doctor.facts import RedisFacts, Requirements, Unreached
from gateway.doctor.findings import Finding, ok, problem, unknown, warning
from gateway.state.redis.connection import NO_EVICTION

OLDEST: Final = {"Redis": (7, 0), "Valkey": (7, 2)}
_INFO_HELPS: Final = "Grant +info; the gateway itself cannot do without it."


def not_reached(found: Unreached, where: str) -> Finding:
    """Nobody to be asked."""
    if found.rejection:
        return problem(
            "redis.reachable",
            f"Redis at {where} answers and lets nobody in: {found.reason}.",
            "Give the user and password that it knows in GATEWAY_REDIS_URL (redis://user:password@host), special "
            "characters percent-encoded, or let them in with ACL SETUSER.",
        )
    return problem(
        "redis.reachable",
        f"Redis at {where} cannot be used: {found.reason}.",
        "See that it runs, that host, port and scheme (rediss:// for TLS) in GATEWAY_REDIS_URL are right, and that "
        "no firewall is between.",
    )


def reached(where: str) -> Finding:
    """It answers."""
    return ok("redis.reachable", f"Redis at {where} answers and lets this user in.")


def version(redis: RedisFacts) -> Finding:
    """Is it one that the scripts run on?"""
    name = "redis.version"
    valkey, number = redis.text("valkey_version"), redis.text("redis_version")
    kind, said = ("Valkey", valkey) if valkey else ("Redis", number)
    found = re.match(r"(\d+)\.(\d+)", said or "")
    if found is None:
        return unknown(name, "Which server this is could not be found out.", _INFO_HELPS)
    oldest = OLDEST[kind]
    if (int(found[1]), int(found[2])) < oldest:
        least = ", ".join(f"{each} {major}.{minor}" for each, (major, minor) in OLDEST.items())
        return problem(
            name, f"This is {kind} {said}, which the gateway's scripts do not run on.", f"Upgrade: {least}."
        )
    return ok(name, f"This is {kind} {said}.")


def mode(redis: RedisFacts) -> Finding:
    """Is it one server with all the keys?"""
    name, said = "redis.mode", redis.text("redis_mode") or redis.text("server_mode")
    if said is None:
        return unknown(name, "Whether this is a server of its own could not be found out.", _INFO_HELPS)
    if said == "sentinel":
        return problem(
            name,
            "This is a Sentinel, which keeps no data.",
            "Write the address as redis+sentinel://host,host/name.",
        )
    if said == "cluster" or redis.text("cluster_enabled") == "1":
        return problem(
            name,
            "This Redis belongs to a Cluster, over which the gateway's scripts cannot reach.",
            "Use one primary, with Sentinel if it must fail over; docs/how-to/scale.md says what one carries.",
        )
    return ok(name, "It is a server of its own, no Cluster.")


def role(redis: RedisFacts) -> Finding:
    """Does it take writes?"""
    name, said = "redis.role", redis.text("role")
    if said is None:
        return unknown(name, "Whether this is a primary could not be found out.", _INFO_HELPS)
    if redis.text("loading") == "1":
        return problem(
            name, "Redis is loading its data and answers nothing until then.", "Wait, then look again."
        )
    if said != "master":
        return problem(
            name,
            f"This Redis is a replica of {redis.text('master_host')}:{redis.text('master_port')} and takes no writes.",
            "Name the primary in GATEWAY_REDIS_URL, or the Sentinels that know it (redis+sentinel://host,host/name).",
        )
    return ok(name, "It is a primary.")


def eviction(redis: RedisFacts) -> Finding:
    """Does it keep what it was told?"""
    name, said = "redis.eviction", redis.text("maxmemory_policy")
    if said is None:
        return unknown(
            name,
            "What Redis does when its memory is full could not be found out.",
            f"See that maxmemory-policy is {NO_EVICTION}.",
        )
    if said != NO_EVICTION:
        return problem(
            name,
            f"maxmemory-policy is {said}: a full Redis would throw away sessions and the memory of which requests "
            "were used, so the gateway does not start.",
            f"Set maxmemory-policy to {NO_EVICTION}, and give other users of eviction a Redis of their own.",
        )
    return ok(name, f"maxmemory-policy is {NO_EVICTION}.")


def records(redis: RedisFacts, prefix: str, newest_format: int) -> Finding:
    """Can this release read what is there?"""
    name, data = "redis.records", redis.data
    if data is None:
        return unknown(
            name,
            f"What is kept under {prefix}: could not be looked at.",
            "Grant the rights of examples/redis/users.acl.",
        )
    if data.head is False or data.newest is False:
        return problem(
            name,
            f"What is kept under {prefix}: is not of a format that this release reads.",
            "Run the release that wrote it or a newer one, or choose another GATEWAY_REDIS_PREFIX.",
        )
    newer = sorted(replica for replica, number in data.formats.items() if number > newest_format)
    if newer:
        return warning(
            name,
            f"Replicas of a newer release live here ({', '.join(newer)}) and write what this one reads as long as it "
            "lives.",
            "Finish the upgrade.",
        )
    if data.head is None:
        return ok(name, f"Nothing is kept under {prefix}: yet.")
    return ok(name, f"What is kept under {prefix}: can be read; {_count(len(data.formats))} living.")


def _count(replicas: int) -> str:
    return "one replica is" if replicas == 1 else f"{replicas} replicas are"


NOTICEABLE_SECONDS: Final = 2.0
BREAKING_SECONDS: Final = 60.0
"""A nonce may be kept for so long that a clock 120 s ahead has every push refused; half of that is no accident."""
SLOW_SECONDS: Final = 0.005
SLOWEST_SECONDS: Final = 0.05
_NTP: Final = "Let both hosts keep time with NTP (chrony, systemd-timesyncd)."


def clock(redis: RedisFacts) -> Finding:
    """Do both hosts have the same time?"""
    name, ahead = "redis.clock", redis.skew_seconds
    if ahead is None:
        return unknown(name, "What time it is at Redis could not be found out.", "Grant +time.")
    away = abs(ahead)
    said = f"The clock of Redis is {away:.3f} s {'ahead of' if ahead > 0 else 'behind'} ours"
    if away <= redis.skew_error + 0.001:
        return ok(name, f"The clocks agree within {(redis.skew_error + 0.001) * 1000:.0f} ms.")
    if away >= BREAKING_SECONDS:
        return problem(name, f"{said}: pushes are refused as too old, used before or from the future.", _NTP)
    if away >= NOTICEABLE_SECONDS:
        return warning(name, f"{said}: times of signatures, tokens and presence do not fit together.", _NTP)
    return ok(name, f"{said}.")


def round_trip(redis: RedisFacts, requirements: Requirements) -> Finding:
    """How long does an answer take? Every push and every connect waits for one."""
    name, took = "redis.round_trip", sorted(redis.round_trips)
    if not took:
        return unknown(name, "How long Redis takes to answer could not be measured.", "Grant +time.")
    median, late = took[(len(took) - 1) // 2], took[round(0.99 * (len(took) - 1))]
    said = f"An answer takes {median * 1000:.2f} ms (99 %: {late * 1000:.2f} ms, of {len(took)})"
    if late >= requirements.timeout_seconds / 2:
        return problem(
            name,
            f"{said}, and the gateway gives up after {requirements.timeout_seconds:.0f} s.",
            "See what keeps Redis busy (SLOWLOG GET, LATENCY DOCTOR) and where it runs.",
        )
    if median >= SLOW_SECONDS or late >= SLOWEST_SECONDS:
        return warning(
            name,
            f"{said}, and every push and every connect waits for one.",
            "Put Redis near the gateway, on a core of its own; SLOWLOG GET shows what keeps it busy.",
        )
    return ok(name, f"{said}.")
