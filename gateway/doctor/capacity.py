"""Checks of the memory, connections and output buffers of Redis."""

from __future__ import annotations

from typing import Final

from gateway.doctor.facts import RedisFacts, Requirements
from gateway.doctor.findings import Finding, ok, problem, size, unknown, warning
from gateway.domain.notifications import MAX_DEAD_LETTER_BYTES, MAX_QUEUED_BYTES
from gateway.state.redis.codec import INLINE_BYTES

ENTRY_BYTES: Final = 450
"""The most bytes that Redis needs for a message of the history besides its record: measured, docs/how-to/scale.md."""
QUEUE_BYTES: Final = MAX_QUEUED_BYTES + MAX_DEAD_LETTER_BYTES
"""What a webhook that answers nothing may take: its queue and its dead letters."""
CONNECTIONS_PER_REPLICA: Final = 3
"""One for scripts, one for channels, and one that replaces either."""
_SHORT_SECONDS: Final = 5
_MIN_PUSHES: Final = 16
_GOOD_PUSHES: Final = 128
_PROBLEM_FRACTION, _WARNING_FRACTION = 0.9, 0.75


def check_memory(redis: RedisFacts, requirements: Requirements) -> Finding:
    """Check that memory has a limit and is not nearly full."""
    name, used, limit = "redis.memory", redis.number("used_memory"), redis.number("maxmemory")
    if used is None or limit is None:
        return unknown(name, "The memory of Redis could not be read.", "Grant +info.")
    history, queues = _history_bytes(requirements), len(requirements.notified) * QUEUE_BYTES
    if limit == 0:
        return warning(
            name,
            f"Redis uses {size(used)} and has no limit: when the memory of its host is full, the system kills Redis.",
            f"Set maxmemory below the memory of the host; the history alone may need {size(history)}"
            + (f", and the queues of webhooks {size(queues)}" if queues else "")
            + " (docs/how-to/scale.md).",
        )
    return _limited_memory(redis, used, limit, history, queues)


def _limited_memory(redis: RedisFacts, used: int, limit: int, history: int, queues: int) -> Finding:
    name = "redis.memory"
    usage = f"Redis uses {size(used)} of {size(limit)} ({used / limit:.0%})"
    remedy = (
        "Raise maxmemory, or lower GATEWAY_HISTORY_BYTES and GATEWAY_RECOVERY_SECONDS (docs/how-to/scale.md)."
    )
    if used >= _PROBLEM_FRACTION * limit:
        return problem(name, f"{usage}: when it is full, pushes and clients get 503.", remedy)
    if used >= _WARNING_FRACTION * limit:
        return warning(name, f"{usage}.", remedy)
    if limit < history:
        return warning(
            name, f"{usage}, and the history alone may need {size(history)} (GATEWAY_HISTORY_BYTES).", remedy
        )
    held = sum(each.bytes for each in redis.queues.values())
    if limit - used < queues - held:
        return warning(
            name,
            f"{usage}, and the queues of webhooks that do not answer may need {size(queues)}.",
            f"Raise maxmemory: {size(QUEUE_BYTES)} for each webhook that the event catalogue notifies.",
        )
    host = redis.number("total_system_memory")
    if host is not None and limit > host:
        return warning(
            name,
            f"maxmemory is {size(limit)} on a host with {size(host)}.",
            "Set maxmemory below the memory of the host.",
        )
    return ok(name, f"{usage}.")


def _history_bytes(requirements: Requirements) -> int:
    # The log is trimmed in eighths, so it contains up to an eighth more.
    return (requirements.history_bytes + requirements.history_length * ENTRY_BYTES) * 9 // 8


def check_clients(redis: RedisFacts) -> Finding:
    """Check that another replica can connect."""
    name, now, limit = "redis.clients", redis.number("connected_clients"), redis.number("maxclients")
    if now is None or limit is None:
        return unknown(name, "The connections of Redis could not be read.", "Grant +info.")
    usage, remedy = (
        f"{now} of {limit} connections are open",
        "Raise maxclients, and the limit of open files of Redis with it.",
    )
    if limit - now < CONNECTIONS_PER_REPLICA:
        return problem(name, f"{usage}: another replica needs {CONNECTIONS_PER_REPLICA}.", remedy)
    if now >= _WARNING_FRACTION * limit:
        return warning(name, f"{usage}.", remedy)
    return ok(name, f"{usage}; a replica needs {CONNECTIONS_PER_REPLICA}.")


def check_output_buffer(redis: RedisFacts) -> Finding:
    """Check how many of the largest pushes a replica may be behind before Redis disconnects it."""
    name, setting = "redis.output_buffer", redis.config.get("client-output-buffer-limit")
    limit = _pubsub_limit(setting or "")
    if limit is None:
        return unknown(
            name,
            "Redis does not return client-output-buffer-limit (CONFIG is denied, as on many hosted servers).",
            f"Grant +config|get, or check in the console of the provider that the limit for pubsub is at least "
            f"{size(_GOOD_PUSHES * INLINE_BYTES)}.",
        )
    if limit == 0:
        return warning(
            name,
            "The output buffer of subscribers has no limit: a subscriber that does not read fills the memory of Redis.",
            "CONFIG SET client-output-buffer-limit 'pubsub 32mb 8mb 60'.",
        )
    pushes = limit // INLINE_BYTES
    effect = (
        f"Redis disconnects a replica that is {size(limit)} behind, which is {pushes} of the largest pushes"
    )
    remedy = "CONFIG SET client-output-buffer-limit 'pubsub 32mb 8mb 60', and in redis.conf."
    if pushes < _MIN_PUSHES:
        return problem(name, f"{effect} ({size(INLINE_BYTES)} each).", remedy)
    if pushes < _GOOD_PUSHES:
        return warning(name, f"{effect} ({size(INLINE_BYTES)} each).", remedy)
    return ok(name, f"{effect}.")


def _pubsub_limit(setting: str) -> int | None:
    """Return the bytes at which a subscriber is disconnected within 5 seconds; 0 for never, None if unknown."""
    words = setting.split()
    classes = {words[i]: words[i + 1 : i + 4] for i in range(0, len(words) - 3, 4)}
    if not (limits := classes.get("pubsub")) or not all(each.isdecimal() for each in limits):
        return None
    hard, soft, soft_seconds = map(int, limits)
    if soft and soft_seconds < _SHORT_SECONDS:
        return min(soft, hard or soft)
    return hard
