"""Checks of what is lost when a Redis goes down."""

from __future__ import annotations

from typing import Final

from gateway.doctor.facts import RedisFacts, SentinelFacts
from gateway.doctor.findings import Finding, ok, problem, unknown, warning

_ENOUGH: Final = 3
_LOSS: Final = "history, sessions, presence and the memory of which requests were used"
_AOF: Final = "Turn on appendonly with appendfsync everysec."


def persistence(redis: RedisFacts) -> Finding:
    """What does a crash of Redis lose?"""
    name, aof = "redis.persistence", redis.text("aof_enabled")
    if (failing := _cannot_save(redis)) is not None:
        return problem(name, failing, "Look into the log of Redis; its disk may be full or not writable.")
    if aof == "1":
        return ok(name, _written_down(redis.config.get("appendfsync")))
    if aof is None or "save" not in redis.config:
        return unknown(
            name,
            "Whether Redis saves its data could not be found out.",
            "Grant +config|get, or see in its console what a restart of it loses.",
        )
    if not redis.config["save"]:
        return warning(
            name,
            f"Redis saves nothing: a restart of it loses {_LOSS}; replicas register again by themselves, clients are "
            "told that messages are missing.",
            _AOF,
        )
    return warning(
        name,
        f"Redis saves only now and then (save {redis.config['save']}): a crash loses {_LOSS} since the last time.",
        _AOF,
    )


def _written_down(fsync: str | None) -> str:
    if fsync is None:
        return "Redis writes down what it does (appendonly)."
    loses = {"always": "nothing", "everysec": "about a second"}.get(
        fsync, "what the system had not written yet"
    )
    return f"Redis writes down what it does (appendonly, {fsync}): a crash loses {loses}."


def _cannot_save(redis: RedisFacts) -> str | None:
    """Redis stops writes when it cannot save them (MISCONF)."""
    if redis.text("aof_enabled") == "1" and redis.text("aof_last_write_status") == "err":
        return "Redis could not write down what it does, and takes no writes."
    stops = redis.config.get("stop-writes-on-bgsave-error", "yes") == "yes"
    saves = redis.config.get("save", "?") != ""
    if redis.text("rdb_last_bgsave_status") == "err" and stops and saves:
        return "Redis could not save its data the last time, and takes no writes."
    return None


def replication(redis: RedisFacts) -> Finding:
    """What does the loss of the primary lose?"""
    name, replicas = "redis.replication", redis.number("connected_slaves")
    if replicas is None:
        return unknown(name, "Whether Redis has replicas could not be found out.", "Grant +info.")
    wanted = redis.config.get("min-replicas-to-write")
    good = redis.number("min_slaves_good_slaves")
    if wanted and wanted.isdecimal() and good is not None and good < int(wanted):
        return problem(
            name,
            f"Redis takes no writes: it wants {wanted} replicas (min-replicas-to-write) and has {good}.",
            "Bring the replicas back, or lower min-replicas-to-write.",
        )
    if replicas == 0:
        return warning(
            name,
            "No replica of Redis stands by: while this one is away, pushes and new clients get 503.",
            "Add a replica and three Sentinels (redis+sentinel://), or take a hosted Redis that fails over.",
        )
    return _with_replicas(name, replicas, wanted)


def _with_replicas(name: str, replicas: int, wanted: str | None) -> Finding:
    count = "One replica of Redis follows" if replicas == 1 else f"{replicas} replicas of Redis follow"
    if wanted is None:
        return unknown(
            name,
            f"{count}; whether it takes writes without them could not be found out.",
            "Grant +config|get, or see in its console that min-replicas-to-write is 1.",
        )
    if wanted == "0":
        return warning(
            name,
            f"{count}, but a primary that is cut off from them goes on taking pushes, which are lost when another one "
            "takes its place.",
            "Set min-replicas-to-write to 1 and min-replicas-max-lag to 10, with at least two replicas.",
        )
    return ok(name, f"{count}, and it takes no writes without {wanted} of them.")


def sentinels(found: SentinelFacts) -> Finding:
    """Do the Sentinels answer, with one voice?"""
    name, answers = "redis.sentinels", found.primaries
    silent = sorted(where for where, primary in answers.items() if primary is None)
    named = sorted({primary for primary in answers.values() if primary is not None})
    if not named:
        return problem(
            name,
            "No Sentinel answers and knows the primary by this name.",
            "See that they run, and that the name in GATEWAY_REDIS_URL is the one of `sentinel monitor`.",
        )
    if len(named) > 1:
        return warning(
            name,
            f"The Sentinels do not agree on the primary: {', '.join(named)}.",
            "Wait for a failover to end; if it stays, see that they reach each other.",
        )
    if silent:
        return warning(
            name, f"Not all Sentinels answer: {', '.join(silent)}.", "Bring them back; two must agree."
        )
    if len(answers) < _ENOUGH:
        return warning(
            name,
            f"GATEWAY_REDIS_URL names {len(answers)} of the Sentinels.",
            "Name three or more, so that one may be away.",
        )
    return ok(name, f"{len(answers)} Sentinels answer and agree on the primary, {named[0]}.")
