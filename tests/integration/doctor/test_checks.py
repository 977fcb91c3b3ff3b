"""Checks turn facts into findings, without a server."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from gateway.doctor import capacity, durability, host, queues, server
from gateway.doctor.facts import DataFacts, HostFacts, QueueFacts, RedisFacts, SentinelFacts, Unreached
from gateway.doctor.findings import Finding, Level, ok, problem, size, unknown, warning, worst
from gateway.doctor.runner import check_host, check_redis, without_redis
from gateway.state.redis.codec import INLINE_BYTES
from tests.integration.doctor.cases import (
    CONFIG,
    HEALTHY,
    MIB,
    REQUIREMENTS,
    UNREADABLE,
    with_config,
    with_facts,
    with_info,
)
from tests.support.paths import ROOT

OK, WARNING, PROBLEM, UNKNOWN = Level.OK, Level.WARNING, Level.PROBLEM, Level.UNKNOWN


def redis_findings(redis: RedisFacts) -> list[Finding]:
    return check_redis(redis, None, "redis:6379", "sio-gateway", REQUIREMENTS)


def test_healthy_redis_has_only_ok_findings_without_a_remedy() -> None:
    found = redis_findings(HEALTHY)

    assert [finding for finding in found if finding.level != OK] == []
    assert [finding.remedy for finding in found if finding.remedy] == []


def test_denied_facts_are_unknown_and_not_a_problem() -> None:
    found = redis_findings(UNREADABLE)

    assert {finding.level for finding in found if finding.name != "redis.reachable"} == {UNKNOWN}
    assert [finding for finding in found if finding.level == UNKNOWN and not finding.remedy] == []


def test_names_of_findings_are_stable_and_unique() -> None:
    assert [finding.name for finding in redis_findings(HEALTHY)] == [
        "redis.reachable",
        "redis.rights",
        "redis.version",
        "redis.mode",
        "redis.role",
        "redis.eviction",
        "redis.records",
        "redis.memory",
        "redis.clients",
        "redis.output_buffer",
        "redis.persistence",
        "redis.replication",
        "redis.wait_replicas",
        "redis.clock",
        "redis.round_trip",
    ]


def test_every_finding_is_documented() -> None:
    page = (ROOT / "docs/how-to/scale.md").read_text("utf-8")
    documented = re.findall(r"^\| `((?:state|redis|host)\.[a-z_]+)` \|", page, re.MULTILINE)
    sentinels = SentinelFacts({"a": "r:1", "b": "r:1", "c": "r:1"})
    found = check_redis(HEALTHY, sentinels, "redis:6379", "p", REQUIREMENTS)
    found += [without_redis(), *check_host(HostFacts(2**20, 4096), REQUIREMENTS)]

    assert sorted(documented) == sorted(finding.name for finding in found)


def test_gateway_without_redis_gets_one_ok_finding_with_a_remedy() -> None:
    finding = without_redis()

    assert (finding.name, finding.level) == ("state.memory", OK)
    assert "one replica keeps everything" in finding.description
    assert "GATEWAY_REDIS_URL" in finding.remedy


@pytest.mark.parametrize(
    ("rejected", "phrase"), [(True, "rejects the credentials"), (False, "cannot be used")]
)
def test_unreachable_redis_is_the_only_problem(rejected: bool, phrase: str) -> None:
    (finding,) = check_redis(Unreached("because", rejected), None, "redis:6379", "p", REQUIREMENTS)

    assert (finding.name, finding.level) == ("redis.reachable", PROBLEM)
    assert phrase in finding.description
    assert "because" in finding.description


@pytest.mark.parametrize(
    ("versions", "level"),
    [
        ({"redis_version": "7.0.0"}, OK),
        ({"redis_version": "8.2.1"}, OK),
        ({"redis_version": "6.2.14"}, PROBLEM),
        ({"redis_version": "7.2.4", "valkey_version": "7.2.5"}, OK),
        ({"redis_version": "7.2.4", "valkey_version": "10.0.0"}, OK),
        ({"redis_version": "7.2.4", "valkey_version": "7.1.0"}, PROBLEM),
        ({"redis_version": "unstable"}, UNKNOWN),
        ({"redis_version": None}, UNKNOWN),
    ],
)
def test_version_must_run_the_scripts(versions: dict[str, str | None], level: Level) -> None:
    assert server.check_version(with_info(**versions)).level == level


@pytest.mark.parametrize(
    ("lines", "level"),
    [
        ({"redis_mode": "standalone"}, OK),
        ({"redis_mode": None, "server_mode": "standalone"}, OK),
        ({"redis_mode": "sentinel"}, PROBLEM),
        ({"redis_mode": "cluster"}, PROBLEM),
        ({"cluster_enabled": "1"}, PROBLEM),
    ],
)
def test_server_must_be_standalone(lines: dict[str, str | None], level: Level) -> None:
    assert server.check_mode(with_info(**lines)).level == level


def test_replica_is_a_problem_that_names_its_primary() -> None:
    finding = server.check_role(with_info(role="slave", master_host="10.0.0.1", master_port="6379"))

    assert finding.level == PROBLEM
    assert "replica of 10.0.0.1:6379" in finding.description


def test_redis_that_is_loading_is_a_problem() -> None:
    assert server.check_role(with_info(loading="1")).level == PROBLEM


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_redis_that_evicts_is_a_problem(policy: str) -> None:
    finding = server.check_eviction(with_info(maxmemory_policy=policy))

    assert finding.level == PROBLEM
    assert policy in finding.description
    assert "noeviction" in finding.remedy


@pytest.mark.parametrize(
    ("data", "level"),
    [
        (DataFacts(), OK),
        (DataFacts(head_readable=True, newest_readable=True, formats={"a": 1, "b": 1}), OK),
        (DataFacts(head_readable=False), PROBLEM),
        (DataFacts(head_readable=True, newest_readable=False), PROBLEM),
        (DataFacts(head_readable=True, newest_readable=True, formats={"a": 1, "b": 2}), WARNING),
    ],
)
def test_records_must_be_readable(data: DataFacts, level: Level) -> None:
    assert server.check_records(with_facts(data=data), "p", 1).level == level


@pytest.mark.parametrize(
    ("used", "limit", "level"),
    [
        (100, 1024, OK),
        (100, 0, WARNING),
        (700, 1024, OK),
        (800, 1024, WARNING),
        (950, 1024, PROBLEM),
        (1100, 1024, PROBLEM),
        (10, 90, WARNING),  # the history alone may need more
        (100, 8192, WARNING),  # more than the host has
    ],
)
def test_memory_must_have_a_limit_and_be_below_it(used: int, limit: int, level: Level) -> None:
    assert (
        capacity.check_memory(
            with_info(used_memory=str(used * MIB), maxmemory=str(limit * MIB)), REQUIREMENTS
        ).level
        == level
    )


@pytest.mark.parametrize(
    ("used", "limit", "queued", "level"),
    [(100, 260, 0, OK), (100, 259, 0, WARNING), (100, 220, 40, OK), (100, 219, 40, WARNING)],
)
def test_memory_must_be_free_for_the_queues_of_notified_webhooks(
    used: int, limit: int, queued: int, level: Level
) -> None:
    """Two webhooks may take 80 MiB each, of which some may be taken already."""
    requirements = replace(
        REQUIREMENTS, history_bytes=MIB, history_length=1, notified=frozenset({"app", "crm"})
    )
    redis = replace(
        with_info(used_memory=str(used * MIB), maxmemory=str(limit * MIB)),
        queues={"app": QueueFacts(bytes=queued * MIB)},
    )

    assert capacity.check_memory(redis, requirements).level == level


@pytest.mark.parametrize(
    ("facts", "level", "words"),
    [
        (QueueFacts(), OK, "Waiting notifications: 0 (0 bytes)."),
        (QueueFacts(entries=5, bytes=1024, age_seconds=299), OK, "Waiting notifications: 5 (1 KiB)."),
        (QueueFacts(entries=5, bytes=1024, age_seconds=301), WARNING, "the oldest for 301 s"),
        (QueueFacts(entries=80_001, bytes=1024), WARNING, "at 100000 or 64 MiB further ones are rejected"),
        (QueueFacts(entries=5, bytes=52 * MIB), WARNING, "at 100000 or 64 MiB further ones are rejected"),
        (QueueFacts(entries=100_000, bytes=1024, age_seconds=9e9), PROBLEM, "further ones are rejected"),
        (QueueFacts(entries=9, bytes=64 * MIB), PROBLEM, "further ones are rejected"),
        (QueueFacts(dead_letters=3), WARNING, "Dead letters: 3."),
    ],
)
def test_queue_must_be_young_and_not_full_and_without_dead_letters(
    facts: QueueFacts, level: Level, words: str
) -> None:
    requirements = replace(REQUIREMENTS, webhooks=("app",), notified=frozenset({"app"}))

    [finding] = queues.check_queues(replace(HEALTHY, queues={"app": facts}), requirements)

    assert (finding.name, finding.level) == ("queue.app", level)
    assert words in finding.description
    assert bool(finding.remedy) is (level is not OK)


def test_empty_queue_of_a_webhook_that_is_not_notified_has_no_finding() -> None:
    requirements = replace(REQUIREMENTS, webhooks=("app", "crm"))
    redis = replace(HEALTHY, queues={"app": QueueFacts(), "crm": QueueFacts(dead_letters=1)})

    assert [each.name for each in queues.check_queues(redis, requirements)] == ["queue.crm"]


def test_queue_that_cannot_be_read_is_unknown() -> None:
    requirements = replace(REQUIREMENTS, webhooks=("app",))

    [finding] = queues.check_queues(UNREADABLE, requirements)

    assert finding.level is UNKNOWN


@pytest.mark.parametrize(
    ("now", "limit", "level"), [(12, 10_000, OK), (7600, 10_000, WARNING), (9998, 10_000, PROBLEM)]
)
def test_connections_must_suffice_for_another_replica(now: int, limit: int, level: Level) -> None:
    assert capacity.check_clients(with_info(connected_clients=str(now), maxclients=str(limit))).level == level


@pytest.mark.parametrize(
    ("limit", "level"),
    [
        ("33554432 8388608 60", OK),
        ("0 0 0", WARNING),
        (f"{100 * INLINE_BYTES} 0 0", WARNING),
        (f"{15 * INLINE_BYTES} 0 0", PROBLEM),
        (f"33554432 {15 * INLINE_BYTES} 60", OK),  # a live replica reads that much within a minute
        (f"33554432 {15 * INLINE_BYTES} 1", PROBLEM),
        (f"0 {15 * INLINE_BYTES} 1", PROBLEM),
    ],
)
def test_output_buffer_must_hold_many_of_the_largest_pushes(limit: str, level: Level) -> None:
    redis = with_config(client_output_buffer_limit=f"normal 0 0 0 slave 268435456 67108864 60 pubsub {limit}")

    assert capacity.check_output_buffer(redis).level == level


@pytest.mark.parametrize("setting", ["", "normal 0 0 0", "pubsub 32mb 8mb 60"])
def test_output_buffer_limit_that_cannot_be_parsed_is_unknown(setting: str) -> None:
    assert capacity.check_output_buffer(with_config(client_output_buffer_limit=setting)).level == UNKNOWN


def test_persistence_describes_what_a_crash_loses() -> None:
    rdb = with_info(aof_enabled="0")

    assert "about a second" in durability.check_persistence(HEALTHY).description
    assert "loses nothing" in durability.check_persistence(with_config(appendfsync="always")).description
    assert "save 3600 1" in durability.check_persistence(rdb).description
    assert durability.check_persistence(rdb).level == WARNING
    assert "saves nothing" in durability.check_persistence(with_config(rdb, save="")).description
    assert durability.check_persistence(with_config(rdb, save="")).level == WARNING


def test_redis_that_cannot_save_is_a_problem() -> None:
    failing = with_info(rdb_last_bgsave_status="err")

    assert durability.check_persistence(failing).level == PROBLEM
    assert durability.check_persistence(with_config(failing, stop_writes_on_bgsave_error="no")).level == OK
    assert durability.check_persistence(with_info(aof_last_write_status="err")).level == PROBLEM


@pytest.mark.parametrize(
    ("replicas", "good", "wanted", "level"),
    [
        (2, "2", "1", OK),
        (2, None, "0", WARNING),  # a primary that is cut off accepts writes
        (0, None, "0", WARNING),
        (1, "0", "1", PROBLEM),
        (0, "0", "1", PROBLEM),
    ],
)
def test_replication_must_survive_a_failover(
    replicas: int, good: str | None, wanted: str, level: Level
) -> None:
    redis = with_config(
        with_info(connected_slaves=str(replicas), min_slaves_good_slaves=good), min_replicas_to_write=wanted
    )

    assert durability.check_replication(redis).level == level


@pytest.mark.parametrize(("lag", "level"), [("10", OK), ("1", OK), ("0", WARNING), ("30", WARNING)])
def test_lag_of_replicas_bounds_what_a_primary_that_is_cut_off_accepts(lag: str, level: Level) -> None:
    assert durability.check_replication(with_config(min_replicas_max_lag=lag)).level == level


def test_sentinels_without_a_replica_are_found() -> None:
    alone = with_info(connected_slaves="0", min_slaves_good_slaves=None)

    finding = durability.check_replication(with_config(alone, min_replicas_to_write="0"), has_sentinels=True)

    assert finding.level == WARNING
    assert "min-replicas-to-write" in finding.remedy


@pytest.mark.parametrize(
    ("waits_for", "replicas", "level"),
    [(1, "2", OK), (2, "2", WARNING), (3, "2", PROBLEM), (1, "0", PROBLEM), (1, None, UNKNOWN)],
)
def test_pushes_wait_for_no_more_replicas_than_there_are(
    waits_for: int, replicas: str | None, level: Level
) -> None:
    finding = durability.check_wait_replicas(with_info(connected_slaves=replicas), waits_for)

    assert finding is not None
    assert finding.level == level
    assert durability.check_wait_replicas(with_info(connected_slaves=replicas), 0) is None


def test_denied_config_makes_replication_and_output_buffer_unknown() -> None:
    assert durability.check_replication(with_facts(config={})).level == UNKNOWN
    assert capacity.check_output_buffer(with_facts(config={})).level == UNKNOWN
    assert durability.check_persistence(with_facts(config={})).level == OK
    assert CONFIG != {}


@pytest.mark.parametrize(
    ("primaries", "level"),
    [
        ({"a": "r:1", "b": "r:1", "c": "r:1"}, OK),
        ({"a": "r:1", "b": "r:1"}, WARNING),
        ({"a": "r:1", "b": None, "c": "r:1"}, WARNING),
        ({"a": "r:1", "b": "r:2", "c": "r:1"}, WARNING),
        ({"a": None, "b": None, "c": None}, PROBLEM),
    ],
)
def test_sentinels_must_agree(primaries: dict[str, str | None], level: Level) -> None:
    assert durability.check_sentinels(SentinelFacts(primaries)).level == level


@pytest.mark.parametrize(
    ("skew", "level"),
    [(0.0, OK), (-0.5, OK), (2.5, WARNING), (-30.0, WARNING), (61.0, PROBLEM), (-90.0, PROBLEM)],
)
def test_clocks_must_agree(skew: float, level: Level) -> None:
    finding = server.check_clock(with_facts(skew_seconds=skew))

    assert finding.level == level
    if abs(skew) > 0.1:
        assert ("ahead of" if skew > 0 else "behind") in finding.description


def test_clock_difference_within_the_error_is_ok() -> None:
    assert "agree within 5" in server.check_clock(with_facts(skew_seconds=3.0, skew_error=5.0)).description


@pytest.mark.parametrize(
    ("usual", "tail", "level"),
    [(0.0002, 0.001, OK), (0.006, 0.007, WARNING), (0.0002, 0.06, WARNING), (0.0002, 1.2, PROBLEM)],
)
def test_round_trip_must_be_short(usual: float, tail: float, level: Level) -> None:
    round_trips = (usual,) * 97 + (tail,) * 3

    assert server.check_round_trip(with_facts(round_trips=round_trips), REQUIREMENTS).level == level


@pytest.mark.parametrize(
    ("allowed", "level"), [(1024, PROBLEM), (20_499, PROBLEM), (20_500, OK), (1_000_000, OK)]
)
def test_open_files_must_suffice_for_every_client(allowed: int, level: Level) -> None:
    assert host.check_open_files(HostFacts(allowed, None), REQUIREMENTS).level == level


def test_short_backlog_is_a_warning_and_an_unknown_one_no_finding() -> None:
    assert [each.level for each in check_host(HostFacts(2**20, 128), REQUIREMENTS)] == [OK, WARNING]
    assert [each.level for each in check_host(HostFacts(2**20, 4096), REQUIREMENTS)] == [OK, OK]
    assert len(check_host(HostFacts(2**20, None), REQUIREMENTS)) == 1


def test_worst_level_is_that_of_the_report() -> None:
    findings = [ok("a", "."), unknown("b", ".", "."), warning("c", ".", "."), problem("d", ".", ".")]

    assert [worst(findings[:count]) for count in range(5)] == [OK, OK, UNKNOWN, WARNING, PROBLEM]


@pytest.mark.parametrize(
    ("number", "text"),
    [(512, "512 bytes"), (65_536, "64 KiB"), (1_153_434, "1.1 MiB"), (3 * 1024**3, "3 GiB")],
)
def test_size_has_a_unit(number: int, text: str) -> None:
    assert size(number) == text
