"""The containers of ``helm test``, run against a gateway with the settings of the chart."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import load_settings
from tests.integration.chart.pod import MOUNTS, PodFiles
from tests.integration.chart.sets import gateway, with_
from tests.support.backend import Backend
from tests.support.clients import NodeClients
from tests.support.gateway_process import GatewayProcess
from tests.support.tokens import token
from tests.support.waiter import TIMEOUT_SECONDS
from tools.chart.rendering import Document, Rendered, Values, render

SHAPES: list[dict[str, Any]] = [
    {"config__socketio_path": "/realtime/"},
    {"ports__split": False},
    {"config__ingest_path_prefix": "/push", "config__transports": ["polling"]},
]


class Installed:
    """A gateway with the files and settings of its pod, on free ports, and the containers of the test pod."""

    def __init__(self, values: Values, folder: Path) -> None:
        self.rendered: Rendered = render(values)
        self._files = PodFiles(self.rendered, folder)
        main = gateway(self.rendered)["spec"]["template"]["spec"]["containers"][0]
        settings: dict[str, Any] = {
            name.removeprefix("GATEWAY_").lower(): value
            for name, value in self._files.environment(main).items()
        }
        # Differences from a pod: free ports, and no wait for load balancers. Secrets come from the files.
        settings |= {"jwt_secret": "", "ingest_keys": "", "shutdown_delay_seconds": 0, "drain_seconds": 0}
        if values.get("ports", {}).get("split", True):
            settings["ingest_port"] = 0
        self.process = GatewayProcess(**settings)
        self.secret: str = values["ingestKeys"][0]["secrets"][0]
        self.client_token = token("helm-test", values["secrets"]["jwtSecret"])
        self._services = self._addresses()

    def _addresses(self) -> dict[tuple[str, str], tuple[str, str]]:
        """Return the address of the process for each Service of the release: {(name, port): (host, port)}."""
        found = {}
        for service in self.rendered.of_kind("Service"):
            port = service["spec"]["ports"][0]
            bound = self.process.ports[-1 if port["targetPort"] == "ingest" else 0]
            found[service["metadata"]["name"], str(port["port"])] = ("127.0.0.1", str(bound))
        return found

    def write_secret(self, name: str, content: str) -> None:
        """Change a file of the Secret in place, as the kubelet does after the Secret has changed."""
        self._files.inside(f"{MOUNTS}/secrets/{name}").write_text(content, encoding="utf-8")

    def container(self, name: str) -> Document:
        """Return a container of the test pod."""
        found: list[Document] = self.rendered.one("Pod")["spec"]["containers"]
        return next(each for each in found if each["name"] == name)

    def push(self) -> subprocess.CompletedProcess[str]:
        """Run the container that pushes; the entry point of the image is sio-gateway."""
        container = self.container("push")
        environment = self._files.environment(container)
        port = "GATEWAY_INGEST_PORT" if "GATEWAY_INGEST_PORT" in environment else "GATEWAY_PORT"
        environment["GATEWAY_HOST"], environment[port] = self._services[
            environment["GATEWAY_HOST"], environment[port]
        ]
        return _run([sys.executable, "-m", "gateway", *container["args"]], environment)

    def handshake(self) -> subprocess.CompletedProcess[str]:
        """Run the container that makes a handshake."""
        container = self.container("handshake")
        script, host, port, *rest = container["args"]
        return _run(
            [sys.executable, *container["command"][1:], script, *self._services[host, port], *rest], {}
        )


def _run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    return subprocess.run(
        command,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


@contextmanager
def installed(values: Values, folder: Path) -> Iterator[Installed]:
    """Run a gateway with these values, and stop it in the end."""
    release = Installed(values, folder)
    try:
        yield release
    finally:
        assert release.process.stop() == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_helm_test_pushes_with_the_first_key_and_makes_a_handshake(
    minimal: Values, tmp_path: Path, node: NodeClients, shape: dict[str, Any]
) -> None:
    values = with_(minimal, **shape)
    with installed(values, tmp_path) as release:
        path = values.get("config", {}).get("socketio_path", "/socket.io/")
        client = node.open(release.process.url, token=release.client_token, path=path).connected()

        pushed, opened = release.push(), release.handshake()

        assert (pushed.returncode, opened.returncode) == (0, 0), (pushed, opened)
        assert '"online": true' in pushed.stdout
        assert client.event("helm:test")[0] == {"release": "live"}
        assert release.process.failures() == []


@pytest.mark.parametrize("split", [True, False])
def test_settings_of_helm_test_are_valid_if_the_service_has_the_port_for_clients(
    minimal: Values, tmp_path: Path, split: bool
) -> None:
    rendered = render(with_(minimal, ingestService__port=8080, ports__split=split))
    (container,) = (each for each in rendered.one("Pod")["spec"]["containers"] if each["name"] == "push")

    settings = load_settings(PodFiles(rendered, tmp_path).environment(container))

    assert (settings.ingest_port or settings.port) == 8080


def test_secret_that_changes_in_place_is_reloaded_without_a_restart(minimal: Values, tmp_path: Path) -> None:
    with installed(minimal, tmp_path) as release:
        changed = "another-secret-of-this-test-for-pushes"
        release.write_secret("ingest-shop", f"{changed}\n{release.secret}\n")
        release.process.signal(signal.SIGHUP)
        release.process.log.wait(lambda line: line.get("event") == "settings.reloaded")

        backends = [
            Backend(release.process.ingest_url, "shop", secret) for secret in (changed, release.secret)
        ]
        assert [backend.push_user("alice", "note").status for backend in backends] == [200, 200]


def test_helm_test_fails_if_the_key_may_not_push_to_users(minimal: Values, tmp_path: Path) -> None:
    minimal["ingestKeys"][0]["scopes"] = ["broadcast"]
    with installed(minimal, tmp_path) as release:
        pushed = release.push()

        assert pushed.returncode == 1
        assert "missing_scope" in pushed.stderr


def test_helm_test_fails_without_a_running_gateway(minimal: Values, tmp_path: Path) -> None:
    with installed(minimal, tmp_path) as release:
        pass

    assert release.push().returncode == 3
    assert release.handshake().returncode == 1
