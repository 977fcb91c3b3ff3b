"""Checks of the data loss when a Redis fails."""

from __future__ import annotations

from typing import Final

from gateway.doctor.facts import RedisFacts, SentinelFacts
from gateway.doctor.findings import Finding, ok, problem, unknown, warning

_MIN_SENTINELS: Final = 3
_LOSS: Final = "history, sessions, presence and the record of used requests"
_MAX_LAG_SECONDS: Final = 10
_REQUIRE_REPLICAS: Final = (
    "Set min-replicas-to-write to 1 and min-replicas-max-lag to at most 10, with at least two replicas "
    "(docs/how-to/operate.md)."
)
_AOF: Final = "Turn on appendonly with appendfsync everysec."


def check_persistence(redis: RedisFacts) -> Finding:
    """Check what a crash of Redis loses."""
    name, aof = "redis.persistence", redis.text("aof_enabled")
    if (failure := _save_failure(redis)) is not None:
        return problem(name, failure, "Read the log of Redis; its disk may be full or not writable.")
    if aof == "1":
        return ok(name, _describe_aof(redis.config.get("appendfsync")))
    if aof is None or "save" not in redis.config:
        return unknown(
            name,
            "The persistence of Redis could not be read.",
            "Grant +config|get, or check in the console of the provider what a restart loses.",
        )
    if not redis.config["save"]:
        return warning(
            name,
            f"Redis saves nothing: a restart loses {_LOSS}. Replicas then register again, and clients learn that "
            "messages are missing.",
            _AOF,
        )
    return warning(
        name,
        f"Redis saves at intervals (save {redis.config['save']}): a crash loses {_LOSS} since the last save.",
        _AOF,
    )


def _describe_aof(fsync: str | None) -> str:
    if fsync is None:
        return "Redis logs every write (appendonly)."
    loss = {"always": "nothing", "everysec": "about a second"}.get(
        fsync, "the writes that the system had not flushed"
    )
    return f"Redis logs every write (appendonly, {fsync}): a crash loses {loss}."


def _save_failure(redis: RedisFacts) -> str | None:
    """Return the description if Redis rejects writes because it cannot save them (MISCONF)."""
    if redis.text("aof_enabled") == "1" and redis.text("aof_last_write_status") == "err":
        return "Redis could not write its append-only file, and rejects writes."
    stops = redis.config.get("stop-writes-on-bgsave-error", "yes") == "yes"
    saves = redis.config.get("save", "?") != ""
    if redis.text("rdb_last_bgsave_status") == "err" and stops and saves:
        return "Redis could not save its data the last time, and rejects writes."
    return None


def check_replication(redis: RedisFacts, *, has_sentinels: bool = False) -> Finding:
    """Check what the loss of the primary loses."""
    name, replicas = "redis.replication", redis.number("connected_slaves")
    if replicas is None:
        return unknown(name, "The replicas of Redis could not be read.", "Grant +info.")
    required = redis.config.get("min-replicas-to-write")
    good = redis.number("min_slaves_good_slaves")
    if required and required.isdecimal() and good is not None and good < int(required):
        return problem(
            name,
            f"Redis rejects writes: it requires {required} replicas (min-replicas-to-write) and has {good}.",
            "Start the replicas again, or lower min-replicas-to-write.",
        )
    if replicas == 0 and has_sentinels:
        return warning(
            name,
            "The Sentinels have no replica to fail over to: while this server is unavailable, pushes and new clients "
            "get 503.",
            f"Start the replicas again. {_REQUIRE_REPLICAS}",
        )
    if replicas == 0:
        return warning(
            name,
            "Redis has no replica: while this server is unavailable, pushes and new clients get 503.",
            "Add a replica and three Sentinels (redis+sentinel://), or use a hosted Redis with failover.",
        )
    return _replica_writes(redis, replicas, required)


def _replica_writes(redis: RedisFacts, replicas: int, required: str | None) -> Finding:
    name, lag = "redis.replication", redis.config.get("min-replicas-max-lag")
    count = "Redis has one replica" if replicas == 1 else f"Redis has {replicas} replicas"
    if required is None:
        return unknown(
            name,
            f"{count}; whether it accepts writes without them could not be read.",
            "Grant +config|get, or check in the console of the provider that min-replicas-to-write is 1.",
        )
    if "0" in {required, lag}:
        return warning(
            name,
            f"{count}, but a primary that is cut off from its replicas continues to accept pushes, which a failover to "
            "another primary loses.",
            _REQUIRE_REPLICAS,
        )
    if lag is not None and lag.isdecimal() and int(lag) > _MAX_LAG_SECONDS:
        return warning(
            name,
            f"{count}; a primary that is cut off from them accepts pushes for {lag} s more (min-replicas-max-lag), "
            "which a failover to another primary loses.",
            _REQUIRE_REPLICAS,
        )
    return ok(name, f"{count}, and rejects writes without {required} of them.")


def check_wait_replicas(redis: RedisFacts, wait_replicas: int) -> Finding | None:
    """Check that as many replicas exist as have to confirm a push; None if none has to."""
    name, replicas = "redis.wait_replicas", redis.number("connected_slaves")
    if wait_replicas == 0:
        return None
    setting = f"GATEWAY_REDIS_WAIT_REPLICAS is {wait_replicas}"
    if replicas is None:
        return unknown(name, f"{setting}; the replicas of Redis could not be read.", "Grant +info.")
    if replicas < wait_replicas:
        return problem(
            name,
            f"{setting}, and Redis has {replicas}: every push gets 503 broker_timeout.",
            "Start further replicas of Redis, or lower GATEWAY_REDIS_WAIT_REPLICAS.",
        )
    if replicas == wait_replicas:
        return warning(
            name,
            f"{setting}, and Redis has no more than that: while one of them is away, every push gets 503 "
            "broker_timeout.",
            "Add a replica of Redis.",
        )
    return ok(name, f"{setting}, of {replicas}.")


def check_sentinels(facts: SentinelFacts) -> Finding:
    """Check that the Sentinels answer and agree on the primary."""
    name, answers = "redis.sentinels", facts.primaries
    silent = sorted(address for address, primary in answers.items() if primary is None)
    primaries = sorted({primary for primary in answers.values() if primary is not None})
    if not primaries:
        return problem(
            name,
            "No Sentinel answers and knows the primary by this name.",
            "Check that they run, and that the name in GATEWAY_REDIS_URL is the one of `sentinel monitor`.",
        )
    if len(primaries) > 1:
        return warning(
            name,
            f"The Sentinels do not agree on the primary: {', '.join(primaries)}.",
            "Wait for a failover to end; if this persists, check that they reach each other.",
        )
    if silent:
        return warning(
            name, f"Not all Sentinels answer: {', '.join(silent)}.", "Start them again; two must agree."
        )
    if len(answers) < _MIN_SENTINELS:
        return warning(
            name,
            f"GATEWAY_REDIS_URL names only {len(answers)} of the Sentinels.",
            "Name three or more, so that one may fail.",
        )
    return ok(name, f"{len(answers)} Sentinels answer and agree on the primary, {primaries[0]}.")
