"""examples/compose unchanged, with processes instead of containers: its settings, nginx, Redis and commands.

Only the prefix of its addresses is replaced: 172.30.0 becomes 127.30.0, which is local on every Linux machine.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
import yaml

from tests.support.clients import NodeClients
from tests.support.gateway_process import GatewayProcess
from tests.support.nginx import find_binary, start
from tests.support.paths import ROOT
from tests.support.redis_server import RedisServer
from tests.support.waiter import TIMEOUT_SECONDS, wait_until

pytestmark = [pytest.mark.proxies, pytest.mark.timeout(300)]

COMPOSE = ROOT / "examples" / "compose"


@dataclass(frozen=True)
class Example:
    """The running example. ``settings``, ``checks`` (the health check) and ``replicas`` are by name of the service."""

    url: str
    settings: dict[str, dict[str, str]]
    checks: dict[str, list[str]]
    replicas: dict[str, GatewayProcess]

    def is_healthy(self, service: str) -> bool:
        """Whether the health check of the service succeeds, as Docker would run it."""
        _, python, *arguments = self.checks[service]
        assert python == "python"
        host = self.settings[service]["GATEWAY_HOST"]
        command = [sys.executable, *(argument.replace("127.0.0.1", host) for argument in arguments)]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0

    def run(self, service: str, *command: str) -> str:
        """Return what `docker compose exec SERVICE sio-gateway …` prints."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        done = subprocess.run(
            [sys.executable, "-m", "gateway", *command],
            env=inherited | self.settings[service],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done
        return done.stdout.strip()


@pytest.fixture
def example(tmp_path: Path) -> Iterator[Example]:
    shutil.copytree(COMPOSE, tmp_path, dirs_exist_ok=True)
    secrets = tmp_path / "secrets"
    shutil.rmtree(secrets, ignore_errors=True)  # of a copy that was tried out
    subprocess.run(["sh", str(tmp_path / "make-secrets.sh")], check=True, capture_output=True)
    with ExitStack() as stack:
        redis = RedisServer(include=_localized(tmp_path / "redis.conf", tmp_path))
        stack.callback(redis.stop)
        url = (secrets / "redis_url").read_text()
        (secrets / "redis_url").write_text(url.replace("redis:6379", f"127.0.0.1:{redis.port}"))
        services = yaml.safe_load(_localized(tmp_path / "compose.yaml", tmp_path).read_text())["services"]
        replicas = {name: each for name, each in services.items() if name.startswith("gateway-")}
        settings = {name: _settings(service) for name, service in replicas.items()}
        checks = {name: service["healthcheck"]["test"] for name, service in replicas.items()}
        processes = {}
        for name, given in settings.items():
            processes[name] = _start(given)
            stack.callback(processes[name].stop)
        address = services["nginx"]["networks"]["front"]["ipv4_address"]
        folder = tmp_path / "nginx"
        for file in folder.iterdir():
            _localized(file, tmp_path)
        configuration = folder / "gateway.conf"
        configuration.write_text(
            re.sub(r"listen (\d+);", rf"listen {address}:\1;", configuration.read_text())
        )
        nginx = start(folder, (address, 8080), (address, 8081))
        stack.callback(nginx.wait, TIMEOUT_SECONDS)
        stack.callback(nginx.terminate)
        yield Example(f"http://{address}:8080", settings, checks, processes)


def test_push_through_each_replica_reaches_clients_behind_nginx(example: Example, node: NodeClients) -> None:
    token = example.run("gateway-a", "token", "--sub", "alice")
    polling = node.open(example.url, token=token, transports=["polling"]).connected()
    upgrading = node.open(example.url, token=token).connected()
    upgrading.wait("upgrade")

    for service in example.settings:
        example.run(service, "emit", "user", "alice", "notification:new", f'{{"through":"{service}"}}')

    for client in (polling, upgrading):
        assert [client.event("notification:new", count=number) for number in (1, 2)] == [
            [{"through": "gateway-a"}],
            [{"through": "gateway-b"}],
        ]
        client.disconnect()


def test_replica_is_healthy_as_long_as_it_is_ready(example: Example) -> None:
    assert [example.is_healthy(service) for service in example.settings] == [True, True]
    handshake = Request(f"{example.url}/socket.io/?EIO=4&transport=polling")
    handshake.add_header("Cookie", "gateway_replica=a")
    urlopen(handshake, timeout=TIMEOUT_SECONDS).close()  # a drain lasts as long as a client is connected

    example.replicas["gateway-a"].signal(signal.SIGTERM)
    wait_until(lambda: not example.is_healthy("gateway-a"), "the replica that drains is not healthy")

    assert example.is_healthy("gateway-b")


def test_nginx_accepts_the_configuration_unchanged(tmp_path: Path) -> None:
    configuration = COMPOSE / "nginx" / "nginx.conf"
    checked = subprocess.run(
        [find_binary(), "-t", "-p", str(tmp_path), "-c", str(configuration)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (checked.returncode, "[warn]" in checked.stderr) == (0, False), checked.stderr


def _localized(file: Path, folder: Path) -> Path:
    """Replace the addresses and paths of the containers in a file by those of this machine; return the file."""
    text = file.read_text().replace("172.30.0.", "127.30.0.").replace("/run/secrets", str(folder / "secrets"))
    file.write_text(text.replace("dir /data", f"dir {folder}").replace("${CORS_ORIGINS:-}", '""'))
    return file


def _settings(service: Any) -> dict[str, str]:
    return {**service["environment"], "GATEWAY_HOST": service["networks"]["front"]["ipv4_address"]}


def _start(given: dict[str, str]) -> GatewayProcess:
    # Unset the defaults of GatewayProcess: an empty variable counts as not set.
    settings: dict[str, Any] = {"jwt_secret": "", "ingest_keys": ""}
    settings |= {name.removeprefix("GATEWAY_").lower(): value for name, value in given.items()}
    return GatewayProcess(**settings)
