"""``sio-gateway doctor`` against real servers, each misconfigured in one way."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.domain.notifications import DeadReason, Notification
from gateway.domain.redis_url import parse_redis_url
from gateway.metrics import MetricFactory
from gateway.state.redis import RedisState
from tests.support.gateway_process import GatewayProcess
from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer, Sentinels
from tests.support.waiter import TIMEOUT_SECONDS
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
    """The report of one run."""

    def __init__(self, url: str, *arguments: str, **settings: str) -> None:
        self.run = run("doctor", "--json", *arguments, REDIS_URL=url, **(GOOD | settings))
        assert self.run.stderr == ""
        assert PASSWORD not in self.run.stdout
        report = json.loads(self.run.stdout)
        self.status, self.level = self.run.returncode, report["level"]
        self.findings: dict[str, dict[str, Any]] = {each["name"]: each for each in report["findings"]}
        assert len(self.findings) == len(report["findings"])

    def levels(self, level: str) -> list[str]:
        """Return the names of the findings of that level."""
        return [name for name, each in self.findings.items() if each["level"] == level]

    def only_problem(self, name: str) -> str:
        """Return the description of the problem, which must be the only one."""
        assert (self.levels("problem"), self.level, self.status) == ([name], "problem", 1)
        assert self.findings[name]["remedy"]
        description: str = self.findings[name]["what"]
        return description


def test_unsafe_settings_are_warnings() -> None:
    shared = {"INGEST_KEYS": f"billing:{JWT_SECRET}", "JWT_JWKS_URL": "http://keys.example.com/jwks.json"}

    report = Report("", **shared)

    assert report.levels("warning")[:2] == ["settings.jwt_jwks_url", "settings.ingest_keys.billing"]
    assert JWT_SECRET not in report.run.stdout
    assert report.status == 0


def test_default_redis_has_warnings_and_no_problem(server: RedisServer) -> None:
    report = Report(server.url)

    assert report.levels("warning") == ["redis.memory", "redis.persistence", "redis.replication"]
    assert report.levels("unknown") == report.levels("problem") == []
    assert (report.status, report.level) == (0, "warning")


def test_well_configured_redis_has_no_warning(server: RedisServer) -> None:
    replica = RedisServer(replicaof=f"127.0.0.1 {server.port}")
    try:
        for name, value in (("maxmemory", "500mb"), ("appendonly", "yes"), ("min-replicas-to-write", "1")):
            server.execute("CONFIG", "SET", name, value)
        with server.client() as client:
            assert client.execute_command("WAIT", 1, 10_000) == 1
        report = Report(server.url)
    finally:
        replica.stop()

    assert (report.levels("warning"), report.levels("unknown"), report.status) == ([], [], 0)
    assert "about a second" in report.findings["redis.persistence"]["what"]


def test_report_is_also_printed_as_text(server: RedisServer) -> None:
    answer = run("doctor", REDIS_URL=server.url, **GOOD)

    assert answer.returncode == 0
    assert "ok       redis.role          The server is a primary.\n" in answer.stdout
    assert "→ Turn on appendonly" in answer.stdout
    assert answer.stdout.endswith(" ok, 3 warnings\n")


def test_doctor_writes_nothing_to_redis(server: RedisServer) -> None:
    Report(server.url)

    assert server.execute("DBSIZE") == 0


def test_eviction_is_found(server: RedisServer) -> None:
    server.execute("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")

    assert "allkeys-lru" in Report(server.url).only_problem("redis.eviction")


def test_small_output_buffer_is_found(server: RedisServer) -> None:
    server.execute("CONFIG", "SET", "client-output-buffer-limit", "pubsub 512kb 0 0")

    assert "512 KiB" in Report(server.url).only_problem("redis.output_buffer")


def test_full_memory_is_found(server: RedisServer) -> None:
    server.execute("CONFIG", "SET", "maxmemory", "512kb")

    assert "of 512 KiB" in Report(server.url).only_problem("redis.memory")


def test_too_few_connections_are_found(server: RedisServer) -> None:
    server.execute("CONFIG", "SET", "maxclients", "3")

    assert "of 3 connections" in Report(server.url).only_problem("redis.clients")


def test_primary_without_its_replicas_is_found(server: RedisServer) -> None:
    server.execute("CONFIG", "SET", "min-replicas-to-write", "1")

    assert "requires 1 replicas" in Report(server.url).only_problem("redis.replication")


def test_replica_is_found(server: RedisServer) -> None:
    replica = RedisServer(replicaof=f"127.0.0.1 {server.port}")
    try:
        with server.client() as client:
            assert client.execute_command("WAIT", 1, 10_000) == 1
        description = Report(replica.url).only_problem("redis.role")
    finally:
        replica.stop()

    assert f"replica of 127.0.0.1:{server.port}" in description


def test_member_of_a_cluster_is_found() -> None:
    server = RedisServer(cluster_enabled="yes", cluster_port=free_port())
    try:
        report = Report(server.url)
    finally:
        server.stop()

    assert "Cluster" in report.only_problem("redis.mode")


def restrict_user(server: RedisServer, *rights: str) -> str:
    """Create a user with the rights of the example and these, and return its URL."""
    acl = (ROOT / "examples/redis/users.acl").read_text(encoding="utf-8")
    (line,) = [line for line in acl.splitlines() if line.startswith("user sio-gateway ")]
    words = [word for word in line.split()[2:] if not word.startswith(">")]
    server.execute("ACL", "SETUSER", "sio-gateway", "reset", f">{PASSWORD}", *words, *rights)
    return f"redis://sio-gateway:{PASSWORD}@127.0.0.1:{server.port}"


def test_user_of_the_example_gets_unknown_findings_without_config(server: RedisServer) -> None:
    report = Report(restrict_user(server))

    assert report.levels("problem") == []
    assert report.levels("unknown") == ["redis.output_buffer", "redis.persistence"]
    assert (report.findings["redis.rights"]["level"], report.status) == ("ok", 0)


def test_user_with_config_get_gets_no_unknown_finding(server: RedisServer) -> None:
    assert Report(restrict_user(server, "+config|get")).levels("unknown") == []


def test_missing_right_is_named(server: RedisServer) -> None:
    report = Report(restrict_user(server, "-zadd", "-publish"))

    assert report.only_problem("redis.rights") == "The user lacks rights: +publish, +zadd."


def test_key_pattern_that_is_not_granted_is_named(server: RedisServer) -> None:
    report = Report(restrict_user(server, "resetkeys", "~another:*"))

    assert report.only_problem("redis.rights") == "The user lacks rights: keys ~sio-gateway:*."


def test_user_without_any_right_gets_a_report(server: RedisServer) -> None:
    report = Report(restrict_user(server, "nocommands"))

    assert "+eval" in report.only_problem("redis.rights")
    assert "redis.version" in report.levels("unknown")


@pytest.mark.parametrize("credentials", [f"sio-gateway:{PASSWORD}-wrong@", f"nobody:{PASSWORD}@", ""])
def test_wrong_password_is_reported_and_not_printed(server: RedisServer, credentials: str) -> None:
    restrict_user(server)
    server.execute("ACL", "SETUSER", "default", "off")

    report = Report(f"redis://{credentials}127.0.0.1:{server.port}")

    assert "rejects the credentials" in report.only_problem("redis.reachable")


def test_required_password_is_reported() -> None:
    server = RedisServer(requirepass=PASSWORD)
    try:
        missing, given = Report(server.url), Report(f"redis://:{PASSWORD}@127.0.0.1:{server.port}")
    finally:
        server.stop()

    assert "requires a password" in missing.only_problem("redis.reachable")
    assert given.status == 0


def test_closed_port_is_reported_with_the_address() -> None:
    port = free_port()

    description = Report(f"redis://127.0.0.1:{port}").only_problem("redis.reachable")

    assert f"127.0.0.1:{port}" in description
    assert "no server listens there" in description


def test_reached_maxclients_is_reported(server: RedisServer) -> None:
    server.execute("CONFIG", "SET", "maxclients", "1")
    with server.client() as client:
        assert client.ping()

        assert "max number of clients" in Report(server.url).only_problem("redis.reachable")


def test_server_that_is_not_redis_is_reported() -> None:
    gateway = GatewayProcess()
    try:
        report = Report(gateway.url.replace("http:", "redis:"))
    finally:
        gateway.stop()

    assert "does not speak the protocol" in report.only_problem("redis.reachable")


@pytest.mark.parametrize("credentials", ["", f":{PASSWORD}@"])
def test_frozen_redis_is_reported_within_the_timeout(server: RedisServer, credentials: str) -> None:
    server.freeze()

    description = Report(f"redis://{credentials}127.0.0.1:{server.port}").only_problem("redis.reachable")

    assert "did not answer" in description


def test_missing_database_is_reported(server: RedisServer) -> None:
    assert "index" in Report(f"{server.url}/99").only_problem("redis.reachable")


def test_records_of_another_format_are_found(server: RedisServer) -> None:
    server.execute("SET", "sio-gateway:head", "2 of another release")

    assert "format" in Report(server.url).only_problem("redis.records")


def test_keys_of_another_application_are_found(server: RedisServer) -> None:
    server.execute("LPUSH", "sio-gateway:head", "mine")

    assert Report(server.url).only_problem("redis.records")


def test_live_replica_is_counted(server: RedisServer) -> None:
    gateway = GatewayProcess(redis_url=server.url)
    try:
        assert gateway.backend.push_user("ann", "hello").status == 200
        report = Report(server.url)
    finally:
        gateway.stop()

    assert report.findings["redis.records"]["level"] == "ok"
    assert "one replica is live" in report.findings["redis.records"]["what"]


def test_every_sentinel_is_queried(server: RedisServer) -> None:
    with Sentinels() as sentinels:
        complete = Report(f"redis+sentinel://{sentinels.sentinels}/main")
        without_one = Report(f"redis+sentinel://{sentinels.sentinels},127.0.0.1:{free_port()}/main")
        other_name = Report(f"redis+sentinel://{sentinels.sentinels}/other")
        sentinel = Report(f"redis://{sentinels.sentinels.partition(',')[0]}")

    assert complete.findings["redis.sentinels"]["level"] == "ok"
    assert "127.0.0.1" in complete.findings["redis.reachable"]["what"]
    assert without_one.levels("warning")[:1] == ["redis.sentinels"]
    assert other_name.levels("problem") == ["redis.sentinels", "redis.reachable"]
    assert "redis.mode" in sentinel.levels("problem")


async def fill_queue(server: RedisServer) -> None:
    """Put three notifications into the queue of a webhook, and make the first one a dead letter."""
    state = RedisState(
        url=parse_redis_url(server.url),
        prefix="sio-gateway",
        replica="replica-1",
        history_length=1_000,
        history_bytes=1_000_000,
        recovery_seconds=60.0,
        metrics=MetricFactory(),
    )
    started = asyncio.Event()
    async with asyncio.timeout(TIMEOUT_SECONDS), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(state.run(started), name="state")
        await started.wait()
        for number in range(3):
            notification = Notification(f"n-{number}", "app", 0, "42", "client.event", 0.0, "{}")
            await state.broker.append_all((), notifications=[notification])
        await state.partitions.claim("app", 1)
        page = await state.webhook_queues.read("app", 0, max_entries=1, max_bytes=1_000)
        sequences = [page.notifications[0].sequence]
        await state.webhook_queues.bury("app", 0, sequences, reason=DeadReason.REJECTED, status=422)
        running.cancel()


def test_queue_of_a_webhook_is_read_from_redis(server: RedisServer, tmp_path: Path) -> None:
    catalogue = tmp_path / "events.yaml"
    catalogue.write_text(
        "version: 1\nnamespaces: {/: {client_events: {e: {notify: app}}}}\n", encoding="utf-8"
    )
    settings = {
        "EVENTS_FILE": str(catalogue),
        "WEBHOOKS": "app=http://127.0.0.1:9/",
        "WEBHOOK_SECRETS": "app:whsec_ZXhhbXBsZS1ob29rLXNlY3JldC1vZi0zMi1ieXRlcyE=",
    }
    empty = Report(server.url, **settings)
    asyncio.run(fill_queue(server))
    filled = Report(server.url, **settings)
    age_queue(server, seconds=400)
    old = Report(server.url, **settings)
    server.execute("CONFIG", "SET", "maxmemory", "150mb")
    small = Report(server.url, HISTORY_BYTES="2000000", HISTORY_LENGTH="1000", **settings)

    assert empty.findings["queue.app"]["what"] == "Waiting notifications: 0 (0 bytes)."
    assert "queue.app" in filled.levels("warning")
    assert filled.findings["queue.app"]["what"] == "Dead letters: 1."
    assert re.match(
        r"Waiting notifications: 2 \(\d+ bytes\), the oldest for 4\d\d s", old.findings["queue.app"]["what"]
    )
    assert small.findings["redis.memory"]["level"] == "ok"
    server.execute("CONFIG", "SET", "maxmemory", "80mb")
    too_small = Report(server.url, HISTORY_BYTES="2000000", HISTORY_LENGTH="1000", **settings)
    assert (
        "the queues of webhooks that do not answer may need 80 MiB"
        in too_small.findings["redis.memory"]["what"]
    )


def age_queue(server: RedisServer, *, seconds: int) -> None:
    """Write the queue again, as if its first entry had been added earlier."""
    key = "sio-gateway:webhook:app:0"
    with server.client() as client:
        [(first, fields), *others] = client.xrange(key)
        client.delete(key)
        sequence = int(first.partition(b"-")[0]) - seconds * 1_000_000
        client.xadd(key, fields, id=f"{sequence}-0")
        for id_, each in others:
            client.xadd(key, each, id=id_)


def test_host_is_checked_without_redis() -> None:
    report = Report("")

    assert list(report.findings) == ["state.memory", "host.open_files", "host.backlog"]
    assert report.status == 0


def open_files_under(limits: str) -> tuple[int, dict[str, Any]]:
    """Run doctor after a line of shell; return the exit status and the finding about open files."""
    answer = subprocess.run(
        ["sh", "-c", f'{limits} && exec "$@"', "sh", sys.executable, "-m", "gateway", "doctor", "--json"],
        env=environment(**GOOD),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    findings = {each["name"]: each for each in json.loads(answer.stdout)["findings"]}
    return answer.returncode, findings["host.open_files"]


def test_low_limit_of_open_files_is_found() -> None:
    status, finding = open_files_under("ulimit -n 256")

    assert (status, finding["level"]) == (1, "problem")
    assert "256 files" in finding["what"]


def test_low_soft_limit_is_no_problem_because_the_gateway_raises_it() -> None:
    status, finding = open_files_under("ulimit -Sn 256 && ulimit -Hn 1024")

    assert (status, finding["level"]) == (0, "ok")
    assert "1024 files" in finding["what"]


def test_wrong_settings_end_with_status_2() -> None:
    answer = run("doctor", PRT="1", **GOOD)

    assert (answer.returncode, answer.stdout) == (2, "")
    assert "GATEWAY_PRT: unknown setting" in answer.stderr


def test_redis_url_with_unknown_options_is_a_wrong_setting() -> None:
    answer = run("doctor", REDIS_URL=f"redis://:{PASSWORD}@127.0.0.1/0?retry=1", **GOOD)

    assert (answer.returncode, answer.stdout) == (2, "")
    assert "GATEWAY_REDIS_URL: has options that are not known: retry" in answer.stderr
    assert PASSWORD not in answer.stderr
