"""``sio-gateway webhooks test``, and the webhooks in ``doctor``."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.support.ports import free_port
from tests.unit.cli.command_line import JWT_SECRET, run

SECRETS = "app:whsec_ZXhhbXBsZS1ob29rLXNlY3JldC1vZi0zMi1ieXRlcyE="


class Backend:
    """Answers every request with ``status``."""

    def __init__(self) -> None:
        backend = self
        self.status = 204
        self.bodies: list[bytes] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                backend.bodies.append(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(backend.status)
                self.end_headers()

            def log_message(self, *_arguments: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
        self.settings = {
            "WEBHOOKS": f"app=http://127.0.0.1:{self._server.server_port}/",
            "WEBHOOK_SECRETS": SECRETS,
        }
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def backend() -> Iterator[Backend]:
    backend = Backend()
    yield backend
    backend.stop()


def test_webhook_that_works_exits_with_status_0(backend: Backend) -> None:
    answer = run("webhooks", "test", "app", **backend.settings)

    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.startswith("ok: It answered with status 204")
    assert [json.loads(body)["type"] for body in backend.bodies] == ["webhook.test"]


def test_webhook_that_rejects_the_signature_exits_with_status_1_and_the_remedy(backend: Backend) -> None:
    backend.status = 401

    answer = run("webhooks", "test", "app", **backend.settings)

    assert (answer.returncode, answer.stderr) == (1, "")
    assert answer.stdout.startswith(
        "problem: It answered with status 401.\n  → It probably rejects the signature"
    )


def test_unknown_webhook_exits_with_status_2_and_the_known_ones(backend: Backend) -> None:
    answer = run("webhooks", "test", "other", **backend.settings)

    assert answer.returncode == 2
    assert answer.stderr == "Error: GATEWAY_WEBHOOKS has no webhook 'other'; configured: app\n"
    assert backend.bodies == []


def test_doctor_checks_every_webhook(backend: Backend) -> None:
    backend.status = 500

    answer = run(
        "doctor", "--json", JWT_SECRET=JWT_SECRET, INGEST_KEYS="shop:" + "s" * 32, **backend.settings
    )

    findings = {each["name"]: each for each in json.loads(answer.stdout)["findings"]}
    assert answer.returncode == 1
    assert findings["webhook.app"]["level"] == "problem"
    assert findings["webhook.app"]["what"] == "It answered with status 500."


def test_print_env_masks_webhooks_and_their_secrets(backend: Backend) -> None:
    answer = run("print-env", JWT_SECRET=JWT_SECRET, INGEST_KEYS="shop:" + "s" * 32, **backend.settings)

    lines = answer.stdout.splitlines()
    assert "GATEWAY_WEBHOOKS=app=********  # environment" in lines
    assert "GATEWAY_WEBHOOK_SECRETS=app:********  # environment" in lines
    assert "whsec_" not in answer.stdout
