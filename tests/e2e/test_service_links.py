"""Service links: for a Service named `gateway`, Kubernetes sets variables in each pod that look like settings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.gateway_process import GatewayProcess
from tests.support.waiter import TIMEOUT_SECONDS

LINKS = {
    "GATEWAY_SERVICE_HOST": "10.96.0.11",
    "GATEWAY_SERVICE_PORT": "80",
    "GATEWAY_SERVICE_PORT_HTTP": "80",
    "GATEWAY_PORT": "tcp://10.96.0.11:80",
    "GATEWAY_PORT_80_TCP": "tcp://10.96.0.11:80",
    "GATEWAY_PORT_80_TCP_PROTO": "tcp",
    "GATEWAY_PORT_80_TCP_PORT": "80",
    "GATEWAY_PORT_80_TCP_ADDR": "10.96.0.11",
    "GATEWAY_INGEST_SERVICE_HOST": "10.96.0.12",
    "GATEWAY_INGEST_SERVICE_PORT": "80",
    "GATEWAY_INGEST_PORT": "tcp://10.96.0.12:80",
    "GATEWAY_INGEST_PORT_80_TCP": "tcp://10.96.0.12:80",
}
"""Variables of two Services, ``gateway`` and ``gateway-ingest`` (https://kubernetes.io/docs/concepts/services-networking/service/)."""


def test_gateway_starts_with_service_links_and_does_not_log_them(tmp_path: Path, user: str) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text("port: 0\n")

    links: dict[str, Any] = {name.removeprefix("GATEWAY_").lower(): value for name, value in LINKS.items()}
    gateway = GatewayProcess(**links, config=config)

    assert gateway.ports[0] not in (0, 80)
    assert gateway.push_user(user, "note")["online"] is False
    assert gateway.stop() == 0
    assert [line["event"] for line in gateway.log.entries if line["event"].startswith("gateway.")] == [
        "gateway.listening",
        "gateway.draining",
        "gateway.stopped",
    ]
    assert "tcp://" not in str(gateway.log.entries)


def test_service_address_as_the_only_link_is_rejected_with_a_message_of_its_own() -> None:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    rejected = subprocess.run(
        [sys.executable, "-m", "gateway", "serve"],
        env=inherited | {"GATEWAY_PORT": LINKS["GATEWAY_PORT"]},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )

    assert rejected.returncode == 2
    assert "GATEWAY_PORT: is what Kubernetes sets for a Service named gateway" in rejected.stderr
