"""From facts to findings, without any server."""

from __future__ import annotations

import re

import pytest

from gateway.doctor import capacity, durability, host, server
from gateway.doctor.facts import DataFacts, HostFacts, RedisFacts, SentinelFacts, Unreached
from gateway.doctor.findings import Finding, Level, ok, problem, size, unknown, warning, worst
from gateway.doctor.runner import check_host, check_redis, without_redis
from gateway.state.redis.codec import INLINE_BYTES
from tests.integration.doctor.cases import BLIND, CONFIG, DEMANDS, MIB, WELL, having, set_to, told
from tests.support.paths import ROOT

OK, WARNING, PROBLEM, UNKNOWN = Level.OK, Level.WARNING, Level.PROBLEM, Level.UNKNOWN


def all_of(redis: RedisFacts) -> list[Finding]:
    return check_redis(redis, None, "redis:6379", "sio-gateway", DEMANDS)


def test_with_a_good_redis_all_is_well_and_nothing_is_to_be_done() -> None:
    found = all_of(WELL)

    assert [finding for finding in found if finding.level != OK] == []
    assert [finding.remedy for finding in found if finding.remedy] == []


def test_what_may_not_be_looked_at_is_unknown_and_no_problem() -> None:
    found = all_of(BLIND)

    assert {finding.level for finding in found if finding.name != "redis.reachable"} == {UNKNOWN}
    assert [finding for finding in found if finding.level == UNKNOWN and not finding.remedy] == []


def test_names_are_stable_and_each_is_there_once() -> None:
    assert [finding.name for finding in all_of(WELL)] == [
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
        "redis.clock",
        "redis.round_trip",
    ]


def test_every_finding_is_explained_in_the_documentation() -> None:
    page = (ROOT / "docs/how-to/scale.md").read_text("utf-8")
    explained = re.findall(r"^\| `((?:state|redis|host)\.[a-z_]+)` \|", page, re.MULTILINE)
    watched = SentinelFacts({"a": "r:1", "b": "r:1", "c": "r:1"})
    found = check_redis(WELL, watched, "redis:6379", "p", DEMANDS)
    found += [without_redis(), *check_host(HostFacts(2**20, 4096), DEMANDS)]

    assert sorted(explained) == sorted(finding.name for finding in found)


def test_without_redis_one_replica_is_what_it_is() -> None:
    finding = without_redis()

    assert (finding.name, finding.level) == ("state.memory", OK)
    assert "one replica keeps everything" in finding.what
    assert "GATEWAY_REDIS_URL" in finding.remedy


@pytest.mark.parametrize(("refused", "word"), [(True, "lets nobody in"), (False, "cannot be used")])
def test_a_redis_that_is_not_reached_is_the_one_problem(refused: bool, word: str) -> None:
    (finding,) = check_redis(Unreached("because", refused), None, "redis:6379", "p", DEMANDS)

    assert (finding.name, finding.level) == ("redis.reachable", PROBLEM)
    assert word in finding.what
    assert "because" in finding.what


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
def test_the_version_is_one_that_scripts_run_on(versions: dict[str, str | None], level: Level) -> None:
    assert server.version(told(**versions)).level == level


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
def test_it_is_one_server_with_all_the_keys(lines: dict[str, str | None], level: Level) -> None:
    assert server.mode(told(**lines)).level == level


def test_a_replica_takes_no_writes_and_its_primary_is_named() -> None:
    finding = server.role(told(role="slave", master_host="10.0.0.1", master_port="6379"))

    assert finding.level == PROBLEM
    assert "replica of 10.0.0.1:6379" in finding.what


def test_a_redis_that_is_loading_answers_nothing_yet() -> None:
    assert server.role(told(loading="1")).level == PROBLEM


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_redis_that_evicts_is_a_problem(policy: str) -> None:
    finding = server.eviction(told(maxmemory_policy=policy))

    assert finding.level == PROBLEM
    assert policy in finding.what
    assert "noeviction" in finding.remedy


@pytest.mark.parametrize(
    ("kept", "level"),
    [
        (DataFacts(), OK),
        (DataFacts(head=True, newest=True, formats={"a": 1, "b": 1}), OK),
        (DataFacts(head=False), PROBLEM),
        (DataFacts(head=True, newest=False), PROBLEM),
        (DataFacts(head=True, newest=True, formats={"a": 1, "b": 2}), WARNING),
    ],
)
def test_what_is_kept_can_be_read(kept: DataFacts, level: Level) -> None:
    assert server.records(having(data=kept), "p", 1).level == level


@pytest.mark.parametrize(
    ("used", "limit", "level"),
    [
        (100, 1024, OK),
        (100, 0, WARNING),
        (700, 1024, OK),
        (800, 1024, WARNING),
        (950, 1024, PROBLEM),
        (1100, 1024, PROBLEM),
        (10, 90, WARNING),  # the history alone may take more
        (100, 8192, WARNING),  # more than the host has
    ],
)
def test_memory_has_a_limit_and_room_below_it(used: int, limit: int, level: Level) -> None:
    assert (
        capacity.memory(told(used_memory=str(used * MIB), maxmemory=str(limit * MIB)), DEMANDS).level == level
    )


@pytest.mark.parametrize(
    ("now", "limit", "level"), [(12, 10_000, OK), (7600, 10_000, WARNING), (9998, 10_000, PROBLEM)]
)
def test_another_replica_finds_a_place(now: int, limit: int, level: Level) -> None:
    assert capacity.clients(told(connected_clients=str(now), maxclients=str(limit))).level == level


@pytest.mark.parametrize(
    ("limit", "level"),
    [
        ("33554432 8388608 60", OK),
        ("0 0 0", WARNING),
        (f"{100 * INLINE_BYTES} 0 0", WARNING),
        (f"{15 * INLINE_BYTES} 0 0", PROBLEM),
        (f"33554432 {15 * INLINE_BYTES} 60", OK),  # a replica that is there catches up in a minute
        (f"33554432 {15 * INLINE_BYTES} 1", PROBLEM),
        (f"0 {15 * INLINE_BYTES} 1", PROBLEM),
    ],
)
def test_a_subscriber_may_be_many_of_our_largest_pushes_behind(limit: str, level: Level) -> None:
    redis = set_to(client_output_buffer_limit=f"normal 0 0 0 slave 268435456 67108864 60 pubsub {limit}")

    assert capacity.output_buffer(redis).level == level


@pytest.mark.parametrize("setting", ["", "normal 0 0 0", "pubsub 32mb 8mb 60"])
def test_a_limit_that_is_not_understood_is_unknown(setting: str) -> None:
    assert capacity.output_buffer(set_to(client_output_buffer_limit=setting)).level == UNKNOWN


def test_what_a_crash_loses_is_said() -> None:
    rdb = told(aof_enabled="0")

    assert "about a second" in durability.persistence(WELL).what
    assert "loses nothing" in durability.persistence(set_to(appendfsync="always")).what
    assert "save 3600 1" in durability.persistence(rdb).what
    assert durability.persistence(rdb).level == WARNING
    assert "saves nothing" in durability.persistence(set_to(rdb, save="")).what
    assert durability.persistence(set_to(rdb, save="")).level == WARNING


def test_a_redis_that_cannot_save_takes_no_writes() -> None:
    failing = told(rdb_last_bgsave_status="err")

    assert durability.persistence(failing).level == PROBLEM
    assert durability.persistence(set_to(failing, stop_writes_on_bgsave_error="no")).level == OK
    assert durability.persistence(told(aof_last_write_status="err")).level == PROBLEM


@pytest.mark.parametrize(
    ("replicas", "good", "wanted", "level"),
    [
        (2, "2", "1", OK),
        (2, None, "0", WARNING),  # a primary that is cut off goes on
        (0, None, "0", WARNING),
        (1, "0", "1", PROBLEM),
        (0, "0", "1", PROBLEM),
    ],
)
def test_replication_loses_nothing_in_a_failover(
    replicas: int, good: str | None, wanted: str, level: Level
) -> None:
    redis = set_to(
        told(connected_slaves=str(replicas), min_slaves_good_slaves=good), min_replicas_to_write=wanted
    )

    assert durability.replication(redis).level == level


def test_where_config_is_forbidden_replicas_are_counted_and_the_rest_is_unknown() -> None:
    assert durability.replication(having(config={})).level == UNKNOWN
    assert capacity.output_buffer(having(config={})).level == UNKNOWN
    assert durability.persistence(having(config={})).level == OK
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
def test_sentinels_answer_with_one_voice(primaries: dict[str, str | None], level: Level) -> None:
    assert durability.sentinels(SentinelFacts(primaries)).level == level


@pytest.mark.parametrize(
    ("ahead", "level"),
    [(0.0, OK), (-0.5, OK), (2.5, WARNING), (-30.0, WARNING), (61.0, PROBLEM), (-90.0, PROBLEM)],
)
def test_the_clocks_agree(ahead: float, level: Level) -> None:
    finding = server.clock(having(skew_seconds=ahead))

    assert finding.level == level
    if abs(ahead) > 0.1:
        assert ("ahead of" if ahead > 0 else "behind") in finding.what


def test_a_slow_answer_excuses_a_difference_of_clocks() -> None:
    assert "agree within 5" in server.clock(having(skew_seconds=3.0, skew_error=5.0)).what


@pytest.mark.parametrize(
    ("usual", "late", "level"),
    [(0.0002, 0.001, OK), (0.006, 0.007, WARNING), (0.0002, 0.06, WARNING), (0.0002, 1.2, PROBLEM)],
)
def test_answers_come_soon(usual: float, late: float, level: Level) -> None:
    took = (usual,) * 97 + (late,) * 3

    assert server.round_trip(having(round_trips=took), DEMANDS).level == level


@pytest.mark.parametrize(
    ("allowed", "level"), [(1024, PROBLEM), (20_499, PROBLEM), (20_500, OK), (1_000_000, OK)]
)
def test_a_process_may_open_a_socket_for_each_client(allowed: int, level: Level) -> None:
    assert host.open_files(HostFacts(allowed, None), DEMANDS).level == level


def test_a_short_backlog_is_a_warning_and_one_that_is_not_told_no_finding() -> None:
    assert [each.level for each in check_host(HostFacts(2**20, 128), DEMANDS)] == [OK, WARNING]
    assert [each.level for each in check_host(HostFacts(2**20, 4096), DEMANDS)] == [OK, OK]
    assert len(check_host(HostFacts(2**20, None), DEMANDS)) == 1


def test_the_worst_finding_is_the_verdict() -> None:
    findings = [ok("a", "."), unknown("b", ".", "."), warning("c", ".", "."), problem("d", ".", ".")]

    assert [worst(findings[:count]) for count in range(5)] == [OK, OK, UNKNOWN, WARNING, PROBLEM]


@pytest.mark.parametrize(
    ("number", "text"),
    [(512, "512 bytes"), (65_536, "64 KiB"), (1_153_434, "1.1 MiB"), (3 * 1024**3, "3 GiB")],
)
def test_sizes_are_written_for_people(number: int, text: str) -> None:
    assert size(number) == text
