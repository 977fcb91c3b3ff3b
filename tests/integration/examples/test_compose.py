"""examples/compose: its files are consistent with each other, with the settings of the gateway and with its drain.

No container runs here. tests/load/rolling runs the same nginx configuration, and processes with the same settings.
"""

from __future__ import annotations

import ipaddress
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from gateway.runtime.lifecycle import STOP_SECONDS
from gateway.settings import load_settings
from tests.support.nginx import Upstream, replicas_conf
from tests.support.paths import ROOT
from tests.support.redis_server import RedisServer

COMPOSE = ROOT / "examples" / "compose"


@pytest.fixture(scope="module")
def compose() -> Any:
    """The content of compose.yaml, without variables of the shell."""
    text = (COMPOSE / "compose.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text.replace("${CORS_ORIGINS:-}", '""')))


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The secrets that make-secrets.sh creates, in a copy of the folder."""
    copy = tmp_path_factory.mktemp("compose")
    shutil.copy(COMPOSE / "make-secrets.sh", copy)
    subprocess.run(["sh", str(copy / "make-secrets.sh")], check=True, capture_output=True)
    return copy / "secrets"


def gateways(compose: Any) -> dict[str, Any]:
    """Return the services that run the gateway, by name."""
    return {name: each for name, each in compose["services"].items() if name.startswith("gateway-")}


def settings_of(service: Any, secrets: Path) -> Any:
    """Return the settings that the gateway reads in a service."""
    variables = service["environment"].items()
    return load_settings({name: value.replace("/run/secrets", str(secrets)) for name, value in variables})


def test_settings_of_both_replicas_are_valid(compose: Any, secrets: Path) -> None:
    found = [settings_of(service, secrets) for service in gateways(compose).values()]

    assert [each.replica_id for each in found] == ["a", "b"]


def test_nginx_has_the_names_and_addresses_of_the_replicas(compose: Any) -> None:
    replicas = {}
    for service in gateways(compose).values():
        address, environment = service["networks"]["front"]["ipv4_address"], service["environment"]
        replicas[environment["GATEWAY_REPLICA_ID"]] = Upstream(
            f"{address}:{environment['GATEWAY_PORT']}", f"{address}:{environment['GATEWAY_INGEST_PORT']}"
        )
    written = (COMPOSE / "nginx" / "replicas.conf").read_text(encoding="utf-8")
    listed = [" ".join(line.split()) for line in written.splitlines() if line and not line.startswith("#")]

    assert listed == [" ".join(line.split()) for line in replicas_conf(replicas).splitlines() if line]


def test_addresses_are_in_the_subnet_and_nginx_is_the_trusted_proxy(compose: Any, secrets: Path) -> None:
    (subnet,) = compose["networks"]["front"]["ipam"]["config"]
    addresses = {
        name: service["networks"]["front"]["ipv4_address"]
        for name, service in compose["services"].items()
        if "front" in service["networks"]
    }

    network = ipaddress.ip_network(subnet["subnet"])
    assert all(ipaddress.ip_address(address) in network for address in addresses.values())
    assert len(set(addresses.values())) == len(addresses)
    for service in gateways(compose).values():
        assert service["environment"]["GATEWAY_TRUSTED_PROXIES"] == addresses["nginx"]


def test_only_the_port_for_clients_is_published(compose: Any) -> None:
    published = {name: service.get("ports", []) for name, service in compose["services"].items()}

    assert {name: ports for name, ports in published.items() if ports} == {"nginx": ["8080:8080"]}
    assert compose["networks"]["state"]["internal"] is True
    assert list(compose["services"]["redis"]["networks"]) == ["state"]


def test_grace_period_is_long_enough_for_the_drain(compose: Any, secrets: Path) -> None:
    for service in gateways(compose).values():
        settings = settings_of(service, secrets)
        stop_seconds = settings.shutdown_delay_seconds + settings.drain_seconds + STOP_SECONDS + 1

        assert int(service["stop_grace_period"].removesuffix("s")) >= stop_seconds


def test_every_named_file_and_secret_exists(compose: Any, secrets: Path) -> None:
    for name, secret in compose["secrets"].items():
        assert (secrets / name).is_file()
        assert secret == {"file": f"secrets/{name}"}
    for service in compose["services"].values():
        assert set(service.get("secrets", [])) <= set(compose["secrets"])
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (COMPOSE / source).exists(), volume


def test_secrets_are_created_once_and_only_their_owner_can_enter_the_folder(secrets: Path) -> None:
    before = {path.name: path.read_text() for path in secrets.iterdir()}
    again = subprocess.run(
        ["sh", str(secrets.parent / "make-secrets.sh")], check=False, capture_output=True, text=True
    )

    assert (again.returncode, again.stderr) == (1, "secrets/ exists already; remove it to create new ones.\n")
    assert {path.name: path.read_text() for path in secrets.iterdir()} == before
    assert secrets.stat().st_mode & 0o777 == 0o700


def test_redis_accepts_its_configuration_requires_the_password_and_evicts_nothing(
    secrets: Path, tmp_path: Path
) -> None:
    written = (COMPOSE / "redis.conf").read_text(encoding="utf-8")
    own = tmp_path / "redis.conf"
    own.write_text(written.replace("/run/secrets", str(secrets)).replace("dir /data", f"dir {tmp_path}"))
    url = (secrets / "redis_url").read_text().strip()

    server = RedisServer(include=own)
    try:
        with redis.Redis.from_url(
            url.replace("redis:6379", f"127.0.0.1:{server.port}"), protocol=2
        ) as client:
            options = client.config_get("maxmemory-policy") | client.config_get("appendonly")
        with server.client() as unauthenticated, pytest.raises(redis.AuthenticationError):
            unauthenticated.ping()
    finally:
        server.stop()

    assert options == {"maxmemory-policy": "noeviction", "appendonly": "yes"}
