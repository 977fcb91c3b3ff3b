"""``sio-gateway doctor`` against real servers, each wrong in one way."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.gateway_process import GatewayProcess
from tests.support.paths import ROOT
from tests.support.redis_server import RedisServer, Sentinels, free_port
from tests.unit.cli.command_line import JWT_SECRET, environment, run

GOOD = {
    "JWT_SECRET": JWT_SECRET,
    "INGEST_KEYS": "billing:the secret that backends sign with",
    "MAX_CONNECTIONS": "100",
}
PASSWORD = "s3cret-of-redis"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.stop()


class Report:
    """What a run said."""

    def __init__(self, url: str, *arguments: str, **settings: str) -> None:
        self.run = run("doctor", "--json", *arguments, REDIS_URL=url, **(GOOD | settings))
        assert self.run.stderr == ""
        assert PASSWORD not in self.run.stdout
        said = json.loads(self.run.stdout)
        self.status, self.level = self.run.returncode, said["level"]
        self.findings: dict[str, dict[str, Any]] = {each["name"]: each for each in said["findings"]}
        assert len(self.findings) == len(said["findings"])

    def levels(self, level: str) -> list[str]:
        """Names of the findings of that level."""
        return [name for name, each in self.findings.items() if each["level"] == level]

    def only_problem(self, name: str) -> str:
        """What the problem is, if it is the only one."""
        assert (self.levels("problem"), self.level, self.status) == ([name], "problem", 1)
        assert self.findings[name]["remedy"]
        what: str = self.findings[name]["what"]
        return what


def test_a_plain_redis_gets_warnings_and_no_problem(server: RedisServer) -> None:
    report = Report(server.url)

    assert report.levels("warning") == ["redis.memory", "redis.persistence", "redis.replication"]
    assert report.levels("unknown") == report.levels("problem") == []
    assert (report.status, report.level) == (0, "warning")


def test_one_that_is_set_up_well_gets_none(server: RedisServer) -> None:
    replica = RedisServer(replicaof=f"127.0.0.1 {server.port}")
    try:
        for name, value in (("maxmemory", "500mb"), ("appendonly", "yes"), ("min-replicas-to-write", "1")):
            server.ask("CONFIG", "SET", name, value)
        with server.client() as client:
            assert client.execute_command("WAIT", 1, 10_000) == 1
        report = Report(server.url)
    finally:
        replica.stop()

    assert (report.levels("warning"), report.levels("unknown"), report.status) == ([], [], 0)
    assert "about a second" in report.findings["redis.persistence"]["what"]


def test_what_it_says_is_also_said_to_people(server: RedisServer) -> None:
    answer = run("doctor", REDIS_URL=server.url, **GOOD)

    assert answer.returncode == 0
    assert "ok       redis.role          It is a primary.\n" in answer.stdout
    assert "→ Turn on appendonly" in answer.stdout
    assert answer.stdout.endswith(" ok, 3 warnings\n")


def test_nothing_is_changed_in_redis(server: RedisServer) -> None:
    Report(server.url)

    assert server.ask("DBSIZE") == 0


def test_one_that_evicts_is_found(server: RedisServer) -> None:
    server.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")

    assert "allkeys-lru" in Report(server.url).only_problem("redis.eviction")


def test_a_small_output_buffer_is_found(server: RedisServer) -> None:
    server.ask("CONFIG", "SET", "client-output-buffer-limit", "pubsub 512kb 0 0")

    assert "512 KiB" in Report(server.url).only_problem("redis.output_buffer")


def test_a_full_memory_is_found(server: RedisServer) -> None:
    server.ask("CONFIG", "SET", "maxmemory", "512kb")

    assert "of 512 KiB" in Report(server.url).only_problem("redis.memory")


def test_too_few_connections_are_found(server: RedisServer) -> None:
    server.ask("CONFIG", "SET", "maxclients", "3")

    assert "of 3 connections" in Report(server.url).only_problem("redis.clients")


def test_a_primary_that_misses_its_replicas_is_found(server: RedisServer) -> None:
    server.ask("CONFIG", "SET", "min-replicas-to-write", "1")

    assert "wants 1 replicas" in Report(server.url).only_problem("redis.replication")


def test_a_replica_is_found(server: RedisServer) -> None:
    replica = RedisServer(replicaof=f"127.0.0.1 {server.port}")
    try:
        with server.client() as client:
            assert client.execute_command("WAIT", 1, 10_000) == 1
        what = Report(replica.url).only_problem("redis.role")
    finally:
        replica.stop()

    assert f"replica of 127.0.0.1:{server.port}" in what


def test_one_of_a_cluster_is_found() -> None:
    server = RedisServer(cluster_enabled="yes", cluster_port=free_port())
    try:
        report = Report(server.url)
    finally:
        server.stop()

    assert "Cluster" in report.only_problem("redis.mode")


def let_in(server: RedisServer, *rights: str) -> str:
    """The address for a user with the rights of the example and these; the default user is locked out."""
    acl = (ROOT / "examples/redis/users.acl").read_text(encoding="utf-8")
    (line,) = [line for line in acl.splitlines() if line.startswith("user sio-gateway ")]
    words = [word for word in line.split()[2:] if not word.startswith(">")]
    server.ask("ACL", "SETUSER", "sio-gateway", "reset", f">{PASSWORD}", *words, *rights)
    return f"redis://sio-gateway:{PASSWORD}@127.0.0.1:{server.port}"


def test_with_the_least_rights_it_says_what_it_could_not_look_at(server: RedisServer) -> None:
    report = Report(let_in(server))

    assert report.levels("problem") == []
    assert report.levels("unknown") == ["redis.output_buffer", "redis.persistence"]
    assert (report.findings["redis.rights"]["level"], report.status) == ("ok", 0)


def test_with_one_right_more_it_can_look_at_everything(server: RedisServer) -> None:
    assert Report(let_in(server, "+config|get")).levels("unknown") == []


def test_a_right_that_is_missing_is_named(server: RedisServer) -> None:
    report = Report(let_in(server, "-zadd", "-publish"))

    assert report.only_problem("redis.rights") == "The user lacks rights: +publish, +zadd."


def test_keys_that_are_not_granted_are_named(server: RedisServer) -> None:
    report = Report(let_in(server, "resetkeys", "~another:*"))

    assert report.only_problem("redis.rights") == "The user lacks rights: keys ~sio-gateway:*."


def test_one_who_may_nothing_gets_a_report_all_the_same(server: RedisServer) -> None:
    report = Report(let_in(server, "nocommands"))

    assert "+eval" in report.only_problem("redis.rights")
    assert "redis.version" in report.levels("unknown")


@pytest.mark.parametrize("credentials", [f"sio-gateway:{PASSWORD}-wrong@", f"nobody:{PASSWORD}@", ""])
def test_a_wrong_password_is_told_and_not_printed(server: RedisServer, credentials: str) -> None:
    let_in(server)
    server.ask("ACL", "SETUSER", "default", "off")

    report = Report(f"redis://{credentials}127.0.0.1:{server.port}")

    assert "lets nobody in" in report.only_problem("redis.reachable")


def test_a_password_that_is_asked_for_is_told() -> None:
    server = RedisServer(requirepass=PASSWORD)
    try:
        missing, given = Report(server.url), Report(f"redis://:{PASSWORD}@127.0.0.1:{server.port}")
    finally:
        server.stop()

    assert "asks for a password" in missing.only_problem("redis.reachable")
    assert given.status == 0


def test_nobody_listening_is_told_with_the_address() -> None:
    port = free_port()

    what = Report(f"redis://127.0.0.1:{port}").only_problem("redis.reachable")

    assert f"127.0.0.1:{port}" in what
    assert "Connect call failed" in what or "refused" in what


def test_one_that_takes_nobody_any_more_says_so(server: RedisServer) -> None:
    server.ask("CONFIG", "SET", "maxclients", "1")
    with server.client() as client:
        assert client.ping()

        assert "max number of clients" in Report(server.url).only_problem("redis.reachable")


def test_what_is_no_redis_is_told() -> None:
    gateway = GatewayProcess()
    try:
        report = Report(gateway.url.replace("http:", "redis:"))
    finally:
        gateway.stop()

    assert "does not speak the protocol" in report.only_problem("redis.reachable")


@pytest.mark.parametrize("credentials", ["", f":{PASSWORD}@"])
def test_one_that_is_frozen_is_told_in_time(server: RedisServer, credentials: str) -> None:
    server.freeze()

    what = Report(f"redis://{credentials}127.0.0.1:{server.port}").only_problem("redis.reachable")

    assert "did not answer" in what


def test_a_database_that_is_not_there_is_told(server: RedisServer) -> None:
    assert "index" in Report(f"{server.url}/99").only_problem("redis.reachable")


def test_records_of_another_format_are_found(server: RedisServer) -> None:
    server.ask("SET", "sio-gateway:head", "2 of another release")

    assert "format" in Report(server.url).only_problem("redis.records")


def test_keys_that_are_somebody_elses_are_found(server: RedisServer) -> None:
    server.ask("LPUSH", "sio-gateway:head", "mine")

    assert Report(server.url).only_problem("redis.records")


def test_a_gateway_that_lives_there_is_counted(server: RedisServer) -> None:
    gateway = GatewayProcess(redis_url=server.url)
    try:
        assert gateway.backend.push_user("ann", "hello").status == 200
        report = Report(server.url)
    finally:
        gateway.stop()

    assert report.findings["redis.records"]["level"] == "ok"
    assert "one replica is living" in report.findings["redis.records"]["what"]


def test_sentinels_are_asked_each(server: RedisServer) -> None:
    with Sentinels() as watched:
        whole = Report(f"redis+sentinel://{watched.sentinels}/main")
        without_one = Report(f"redis+sentinel://{watched.sentinels},127.0.0.1:{free_port()}/main")
        stranger = Report(f"redis+sentinel://{watched.sentinels}/other")
        itself = Report(f"redis://{watched.sentinels.partition(',')[0]}")

    assert whole.findings["redis.sentinels"]["level"] == "ok"
    assert "127.0.0.1" in whole.findings["redis.reachable"]["what"]
    assert without_one.levels("warning")[:1] == ["redis.sentinels"]
    assert stranger.levels("problem") == ["redis.sentinels", "redis.reachable"]
    assert "redis.mode" in itself.levels("problem")


def test_without_redis_the_host_is_looked_at() -> None:
    report = Report("")

    assert list(report.findings) == ["state.memory", "host.open_files", "host.backlog"]
    assert report.status == 0


def open_files_under(limits: str) -> tuple[int, dict[str, Any]]:
    """Exit status of a doctor that is started after a line of shell, and what it finds about open files."""
    answer = subprocess.run(
        ["sh", "-c", f'{limits} && exec "$@"', "sh", sys.executable, "-m", "gateway", "doctor", "--json"],
        env=environment(**GOOD),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    found = {each["name"]: each for each in json.loads(answer.stdout)["findings"]}
    return answer.returncode, found["host.open_files"]


def test_a_low_file_limit_is_found() -> None:
    status, finding = open_files_under("ulimit -n 256")

    assert (status, finding["level"]) == (1, "problem")
    assert "256 files" in finding["what"]


def test_a_low_soft_limit_is_none_since_the_gateway_raises_it() -> None:
    status, finding = open_files_under("ulimit -Sn 256 && ulimit -Hn 1024")

    assert (status, finding["level"]) == (0, "ok")
    assert "1024 files" in finding["what"]


def test_bad_settings_are_told_as_everywhere() -> None:
    answer = run("doctor", PRT="1", **GOOD)

    assert (answer.returncode, answer.stdout) == (2, "")
    assert "GATEWAY_PRT: unknown setting" in answer.stderr


def test_an_address_that_says_too_much_is_a_bad_setting() -> None:
    answer = run("doctor", REDIS_URL=f"redis://:{PASSWORD}@127.0.0.1/0?retry=1", **GOOD)

    assert (answer.returncode, answer.stdout) == (2, "")
    assert "GATEWAY_REDIS_URL: has options that are not known: retry" in answer.stderr
    assert PASSWORD not in answer.stderr
