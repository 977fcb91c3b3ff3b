"""Checks of how much Redis holds, and how much more it can."""

from __future__ import annotations

from typing import Final

from gateway.doctor.facts import RedisFacts, Requirements
from gateway.doctor.findings import Finding, ok, problem, size, unknown, warning
from gateway.state.redis.codec import INLINE_BYTES

ENTRY_BYTES: Final = 450
"""The most that Redis spends on a message of the history besides its record: measured, docs/how-to/scale.md."""
CONNECTIONS_PER_REPLICA: Final = 3
"""One for scripts, one for channels, and one that takes the place of either."""
_SOON_SECONDS: Final = 5
_LEAST_PUSHES: Final = 16
_EASY_PUSHES: Final = 128
_NEARLY_FULL, _FILLING = 0.9, 0.75


def memory(redis: RedisFacts, requirements: Requirements) -> Finding:
    """Is there a limit, and room below it?"""
    name, used, limit = "redis.memory", redis.number("used_memory"), redis.number("maxmemory")
    if used is None or limit is None:
        return unknown(name, "How much memory Redis has could not be found out.", "Grant +info.")
    history = _history(requirements)
    if limit == 0:
        return warning(
            name,
            f"Redis uses {size(used)} and has no limit: when the memory of its host ends, the system kills it.",
            f"Set maxmemory below what the host has; the history alone may take {size(history)} (docs/how-to/scale.md).",
        )
    return _below(redis, used, limit, history)


def _below(redis: RedisFacts, used: int, limit: int, history: int) -> Finding:
    name = "redis.memory"
    said = f"Redis uses {size(used)} of {size(limit)} ({used / limit:.0%})"
    more = (
        "Raise maxmemory, or lower GATEWAY_HISTORY_BYTES and GATEWAY_RECOVERY_SECONDS (docs/how-to/scale.md)."
    )
    if used >= _NEARLY_FULL * limit:
        return problem(name, f"{said}: when it is full, pushes and clients get 503.", more)
    if used >= _FILLING * limit:
        return warning(name, f"{said}.", more)
    if limit < history:
        return warning(
            name, f"{said}, and the history alone may take {size(history)} (GATEWAY_HISTORY_BYTES).", more
        )
    host = redis.number("total_system_memory")
    if host is not None and limit > host:
        return warning(
            name,
            f"maxmemory is {size(limit)} on a host with {size(host)}.",
            "Set maxmemory below what the host has.",
        )
    return ok(name, f"{said}.")


def _history(requirements: Requirements) -> int:
    # The log is cut in eighths, so it holds up to an eighth more.
    return (requirements.history_bytes + requirements.history_length * ENTRY_BYTES) * 9 // 8


def clients(redis: RedisFacts) -> Finding:
    """Do more replicas find a place?"""
    name, now, limit = "redis.clients", redis.number("connected_clients"), redis.number("maxclients")
    if now is None or limit is None:
        return unknown(name, "How many connections Redis takes could not be found out.", "Grant +info.")
    said, more = (
        f"{now} of {limit} connections are open",
        "Raise maxclients, and the file limit of Redis with it.",
    )
    if limit - now < CONNECTIONS_PER_REPLICA:
        return problem(name, f"{said}: another replica ({CONNECTIONS_PER_REPLICA}) finds no place.", more)
    if now >= _FILLING * limit:
        return warning(name, f"{said}.", more)
    return ok(name, f"{said}; a replica needs {CONNECTIONS_PER_REPLICA}.")


def output_buffer(redis: RedisFacts) -> Finding:
    """How many of the largest pushes may a replica be behind before Redis drops it?"""
    name, setting = "redis.output_buffer", redis.config.get("client-output-buffer-limit")
    found = _pubsub_limit(setting or "")
    if found is None:
        return unknown(
            name,
            "Redis does not tell client-output-buffer-limit (CONFIG is forbidden, as with many hosted ones).",
            f"Grant +config|get, or see in its console that the limit for pubsub is at least "
            f"{size(_EASY_PUSHES * INLINE_BYTES)}.",
        )
    if found == 0:
        return warning(
            name,
            "The output buffer of subscribers has no limit: one that stands still takes all memory of Redis.",
            "CONFIG SET client-output-buffer-limit 'pubsub 32mb 8mb 60'.",
        )
    pushes = found // INLINE_BYTES
    said = f"Redis drops a replica that is {size(found)} behind, which is {pushes} of the largest pushes"
    more = "CONFIG SET client-output-buffer-limit 'pubsub 32mb 8mb 60', and in redis.conf."
    if pushes < _LEAST_PUSHES:
        return problem(name, f"{said} ({size(INLINE_BYTES)} each).", more)
    if pushes < _EASY_PUSHES:
        return warning(name, f"{said} ({size(INLINE_BYTES)} each).", more)
    return ok(name, f"{said}.")


def _pubsub_limit(setting: str) -> int | None:
    """Bytes at which a subscriber is dropped, at once or within seconds; 0 for never, None where it is not said."""
    words = setting.split()
    classes = {words[i]: words[i + 1 : i + 4] for i in range(0, len(words) - 3, 4)}
    if not (limits := classes.get("pubsub")) or not all(each.isdecimal() for each in limits):
        return None
    hard, soft, soft_seconds = map(int, limits)
    if soft and soft_seconds < _SOON_SECONDS:
        return min(soft, hard or soft)
    return hard
