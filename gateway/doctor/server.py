"""Checks of the server: address, version, mode, role, eviction, records, clock and round trip."""

from __future__ import annotations

import re
from typing import Final

from gateway.doctor.facts import RedisFacts, Requirements, Unreached
from gateway.doctor.findings import Finding, ok, problem, unknown, warning
from gateway.state.redis.connection import NO_EVICTION

OLDEST: Final = {"Redis": (7, 0), "Valkey": (7, 2)}
_GRANT_INFO: Final = "Grant +info, which the gateway itself needs too."
WARNING_SKEW_SECONDS: Final = 2.0
PROBLEM_SKEW_SECONDS: Final = 60.0
"""A nonce may be kept for so long that a clock that is 120 s ahead rejects every push. This limit is half of that."""
SLOW_MEDIAN_SECONDS: Final = 0.005
SLOW_TAIL_SECONDS: Final = 0.05
_NTP: Final = "Synchronise the clocks of both hosts with NTP (chrony, systemd-timesyncd)."


def not_reached(facts: Unreached, address: str) -> Finding:
    """Return the finding for a Redis that cannot be queried."""
    if facts.rejection:
        return problem(
            "redis.reachable",
            f"Redis at {address} answers and rejects the credentials: {facts.reason}.",
            "Set its user and password in GATEWAY_REDIS_URL (redis://user:password@host), special characters "
            "percent-encoded, or create the user with ACL SETUSER.",
        )
    return problem(
        "redis.reachable",
        f"Redis at {address} cannot be used: {facts.reason}.",
        "Check that it runs, that host, port and scheme (rediss:// for TLS) in GATEWAY_REDIS_URL are right, and that "
        "no firewall blocks the connection.",
    )


def reached(address: str) -> Finding:
    """Return the finding for a Redis that answers."""
    return ok("redis.reachable", f"Redis at {address} answers and accepts the credentials.")


def check_version(redis: RedisFacts) -> Finding:
    """Check that the scripts run on this version."""
    name = "redis.version"
    valkey, number = redis.text("valkey_version"), redis.text("redis_version")
    kind, text = ("Valkey", valkey) if valkey else ("Redis", number)
    match = re.match(r"(\d+)\.(\d+)", text or "")
    if match is None:
        return unknown(name, "The version of the server could not be read.", _GRANT_INFO)
    oldest = OLDEST[kind]
    if (int(match[1]), int(match[2])) < oldest:
        supported = " or ".join(f"{each} {major}.{minor}" for each, (major, minor) in OLDEST.items())
        return problem(
            name,
            f"The server is {kind} {text}, on which the scripts of the gateway do not run.",
            f"Upgrade to {supported} or newer.",
        )
    return ok(name, f"The server is {kind} {text}.")


def check_mode(redis: RedisFacts) -> Finding:
    """Check that this server has all the keys."""
    name, value = "redis.mode", redis.text("redis_mode") or redis.text("server_mode")
    if value is None:
        return unknown(name, "The mode of the server could not be read.", _GRANT_INFO)
    if value == "sentinel":
        return problem(
            name,
            "The server is a Sentinel, which has no data.",
            "Write the address as redis+sentinel://host,host/name.",
        )
    if value == "cluster" or redis.text("cluster_enabled") == "1":
        return problem(
            name,
            "The server belongs to a Cluster, across which the scripts of the gateway do not work.",
            "Use one primary, with Sentinel for failover; docs/how-to/scale.md has the load that one server handles.",
        )
    return ok(name, "The server is standalone, not part of a Cluster.")


def check_role(redis: RedisFacts) -> Finding:
    """Check that the server accepts writes."""
    name, value = "redis.role", redis.text("role")
    if value is None:
        return unknown(name, "The role of the server could not be read.", _GRANT_INFO)
    if redis.text("loading") == "1":
        return problem(
            name,
            "Redis is loading its data and answers no command until it has finished.",
            "Wait, then run doctor again.",
        )
    if value != "master":
        return problem(
            name,
            f"The server is a replica of {redis.text('master_host')}:{redis.text('master_port')} and rejects writes.",
            "Name the primary in GATEWAY_REDIS_URL, or the Sentinels that know it (redis+sentinel://host,host/name).",
        )
    return ok(name, "The server is a primary.")


def check_eviction(redis: RedisFacts) -> Finding:
    """Check that Redis does not evict keys."""
    name, policy = "redis.eviction", redis.text("maxmemory_policy")
    if policy is None:
        return unknown(
            name,
            "The maxmemory-policy of Redis could not be read.",
            f"Check that maxmemory-policy is {NO_EVICTION}.",
        )
    if policy != NO_EVICTION:
        return problem(
            name,
            f"maxmemory-policy is {policy}: a full Redis would evict sessions and the record of used requests, so the "
            "gateway does not start.",
            f"Set maxmemory-policy to {NO_EVICTION}, and use a separate Redis for applications that need eviction.",
        )
    return ok(name, f"maxmemory-policy is {NO_EVICTION}.")


def check_records(redis: RedisFacts, prefix: str, newest_format: int) -> Finding:
    """Check that this release can read the existing records."""
    name, data = "redis.records", redis.data
    if data is None:
        return unknown(
            name,
            f"The records under {prefix}: could not be read.",
            "Grant the rights of examples/redis/users.acl.",
        )
    if data.head_readable is False or data.newest_readable is False:
        return problem(
            name,
            f"The records under {prefix}: do not have a format that this release can read.",
            "Run the release that wrote them or a newer one, or choose another GATEWAY_REDIS_PREFIX.",
        )
    newer = sorted(replica for replica, number in data.formats.items() if number > newest_format)
    if newer:
        return warning(
            name,
            f"Replicas of a newer release are live ({', '.join(newer)}). They write a format that this release can "
            "read while a replica of this release is live.",
            "Finish the upgrade.",
        )
    if data.head_readable is None:
        return ok(name, f"There are no records under {prefix}: yet.")
    return ok(name, f"The records under {prefix}: are readable; {_count(len(data.formats))} live.")


def _count(replicas: int) -> str:
    return "one replica is" if replicas == 1 else f"{replicas} replicas are"


def check_clock(redis: RedisFacts) -> Finding:
    """Check that both hosts have the same time."""
    name, skew = "redis.clock", redis.skew_seconds
    if skew is None:
        return unknown(name, "The clock of Redis could not be read.", "Grant +time.")
    difference = abs(skew)
    state = f"The clock of Redis is {difference:.3f} s {'ahead of' if skew > 0 else 'behind'} ours"
    if difference <= redis.skew_error + 0.001:
        return ok(name, f"The clocks agree within {(redis.skew_error + 0.001) * 1000:.0f} ms.")
    if difference >= PROBLEM_SKEW_SECONDS:
        return problem(name, f"{state}: pushes are rejected as too old, used before or in the future.", _NTP)
    if difference >= WARNING_SKEW_SECONDS:
        return warning(name, f"{state}: times of signatures, tokens and presence do not match.", _NTP)
    return ok(name, f"{state}.")


def check_round_trip(redis: RedisFacts, requirements: Requirements) -> Finding:
    """Check the duration of a round trip. Every push and every connect waits for one."""
    name, durations = "redis.round_trip", sorted(redis.round_trips)
    if not durations:
        return unknown(name, "The round trip to Redis could not be measured.", "Grant +time.")
    median, tail = durations[(len(durations) - 1) // 2], durations[round(0.99 * (len(durations) - 1))]
    state = f"A round trip takes {median * 1000:.2f} ms (99 %: {tail * 1000:.2f} ms, of {len(durations)})"
    if tail >= requirements.timeout_seconds / 2:
        return problem(
            name,
            f"{state}, and the gateway waits at most {requirements.timeout_seconds:.0f} s.",
            "Find out what keeps Redis busy (SLOWLOG GET, LATENCY DOCTOR) and where it runs.",
        )
    if median >= SLOW_MEDIAN_SECONDS or tail >= SLOW_TAIL_SECONDS:
        return warning(
            name,
            f"{state}, and every push and every connect waits for one.",
            "Run Redis near the gateway, on a core of its own; SLOWLOG GET shows what keeps it busy.",
        )
    return ok(name, f"{state}.")
