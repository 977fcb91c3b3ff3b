"""The image with the privileges, probes and settings of the chart: it serves, and it drains."""

from __future__ import annotations

import json
import os
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from tests.integration.image.pod import Pod
from tests.support.backend import Backend
from tests.support.clients import NodeClients
from tests.support.redis_server import RedisServer
from tests.support.tokens import token
from tests.support.waiter import wait_until

pytestmark = [pytest.mark.image, pytest.mark.timeout(240)]

JWT_SECRET, KEY_SECRET = secrets.token_hex(32), secrets.token_hex(32)
DELAY_SECONDS, DRAIN_SECONDS = 4, 2


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.stop()


@pytest.fixture
def pod(redis_server: RedisServer) -> Iterator[Pod]:
    image = os.environ.get("IMAGE")
    assert image, "IMAGE must name the image to test: `make image` builds it and sets the variable"
    pod = Pod(
        image if ":" in image else f"{image}:latest",
        {
            "secrets": {"jwtSecret": JWT_SECRET, "redisUrl": redis_server.url},
            "ingestKeys": [{"id": "shop", "secrets": [KEY_SECRET]}],
            "drain": {"shutdownDelaySeconds": DELAY_SECONDS, "seconds": DRAIN_SECONDS},
        },
    )
    try:
        pod.wait_logged("gateway.listening")
        yield pod
    finally:
        pod.remove()


def status_of(address: str) -> int:
    """Return the HTTP status of a GET request."""
    try:
        with urllib.request.urlopen(address, timeout=5) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_image_serves_without_privileges_and_drains(pod: Pod, node: NodeClients) -> None:
    assert [status_of(pod.probe(name)) for name in ("startup", "liveness", "readiness")] == [200] * 3

    # The process has an unprivileged user, no capabilities and no writable file system.
    assert pod.execute("id", "-u").stdout.strip() == "10001"
    assert pod.inspect(".HostConfig.ReadonlyRootfs") is True
    assert pod.inspect(".EffectiveCaps") in (None, [])
    assert "NoNewPrivs:\t1" in pod.execute("cat", "/proc/1/status").stdout
    written = pod.execute(
        "sh", "-c", "touch /written || touch /tmp/written || touch /opt/sio-gateway/written"
    )
    assert written.returncode != 0
    assert written.stderr.count("Read-only file system") == 3

    # Pushes arrive.
    client = node.open(pod.url, token=token("alice", JWT_SECRET)).connected()
    backend = Backend(pod.ingest_url, "shop", KEY_SECRET)
    assert backend.push_user("alice", "note", {"n": 1}).body["connections"] == 1
    assert client.event("note")[0] == {"n": 1}
    assert status_of(f"{pod.url}/metrics") == 404

    # After SIGTERM it is not ready, but serves until load balancers have noticed.
    stopped_at = time.monotonic()
    pod.start_stopping()
    wait_until(lambda: status_of(pod.probe("readiness")) == 503, "the pod is not ready")
    assert status_of(pod.probe("liveness")) == 200
    assert backend.push_user("alice", "note", {"n": 2}).body["connections"] == 1
    assert client.event("note", count=2)[0] == {"n": 2}
    client.wait("disconnect", reason="transport close")
    assert pod.wait_stopped() == 0
    assert DELAY_SECONDS <= time.monotonic() - stopped_at < pod.grace_seconds

    lines = pod.log()
    assert [line for line in lines if line["level"] in {"error", "critical"}] == []
    text = json.dumps(lines)
    assert [secret for secret in (JWT_SECRET, KEY_SECRET) if secret in text] == []
