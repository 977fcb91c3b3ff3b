"""Events of stock clients are answered by a webhook, and its settings change while it is called."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import NodeClients
from tests.support.gateway_process import GatewayProcess
from tests.support.ports import free_port
from tests.unit.metrics.scraping import Scrape, scrape_until

OLD, NEW = (base64.b64encode(letter * 32).decode() for letter in (b"o", b"n"))
CATALOGUE = """
version: 1
namespaces:
  /:
    client_events:
      "*": {call: app}
"""


class Backend:
    """Verifies requests with ``secrets`` (base64) and answers with ``status`` and ``answer``."""

    def __init__(self) -> None:
        backend = self
        self.secrets = [OLD]
        self.status, self.answer = 200, b'{"ack":"done"}'
        self.events: list[dict[str, Any]] = []
        self.is_slow = False
        self.go = threading.Event()
        self.received = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                is_valid = backend.verifies(self.headers, body)
                backend.events.append(json.loads(body) | {"verified": is_valid})
                backend.received.set()
                if backend.is_slow:
                    backend.go.wait(60)
                answer = backend.answer if is_valid else b""
                self.send_response(backend.status if is_valid else 401)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_arguments: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def verifies(self, headers: Any, body: bytes) -> bool:
        """Verify as a library of Standard Webhooks does."""
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        given = headers["webhook-signature"].split()
        return any(
            "v1," + base64.b64encode(hmac.digest(base64.b64decode(secret), signed, hashlib.sha256)).decode()
            in given
            for secret in self.secrets
        )

    def stop(self) -> None:
        self.go.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def backend() -> Iterator[Backend]:
    backend = Backend()
    yield backend
    backend.stop()


class Operator:
    """An operator with a gateway that calls ``backend``."""

    def __init__(self, folder: Path, backend: Backend, **fields: object) -> None:
        self._secrets = folder / "secrets"
        self.write_secrets(OLD)
        config, events = folder / "gateway.yaml", folder / "events.yaml"
        events.write_text(CATALOGUE, encoding="utf-8")
        webhook = {"id": "app", "url": backend.url, "secret_file": str(self._secrets), "timeout_seconds": 20}
        config.write_text(json.dumps({"webhooks": [webhook | fields]}), encoding="utf-8")
        self.gateway = GatewayProcess(config=config, events_file=events)

    def write_secrets(self, *secrets: str) -> None:
        self._secrets.write_text("".join(f"whsec_{secret}\n" for secret in secrets), encoding="utf-8")

    def reload(self) -> list[str]:
        """Send SIGHUP; return the names of the changed settings."""
        before = len(self.gateway.log.entries)
        self.gateway.signal(signal.SIGHUP)
        line = self.gateway.log.wait(lambda line: line.get("event") == "settings.reloaded", after=before)
        return list(line["changed"])


@pytest.fixture
def operator(tmp_path: Path, backend: Backend) -> Iterator[Operator]:
    operator = Operator(tmp_path, backend)
    yield operator
    assert operator.gateway.stop() == 0


def test_answer_of_the_webhook_is_the_acknowledgement_of_the_stock_client(
    operator: Operator, backend: Backend, node: NodeClients, user: str
) -> None:
    client = node.open(operator.gateway.url, token=operator.gateway.token(user)).connected()

    assert client.emit_with_ack("save", {"title": "a"}) == "done"
    backend.status, backend.answer = 422, b'{"code":"too_long","message":"The title is too long."}'
    rejected = client.emit_with_ack("save", {"title": "b"})
    backend.answer = b"<html>secret</html>"
    unexplained = client.emit_with_ack("save", {"title": "c"})

    assert rejected == {"error": {"code": "too_long", "message": "The title is too long."}}
    assert unexplained["error"]["code"] == "rejected"
    event = backend.events[0]
    assert (event["type"], event["verified"]) == ("client.event", True)
    data = event["data"]
    assert (data["event"], data["args"], data["connection"]["user"]) == ("save", [{"title": "a"}], user)
    line = operator.gateway.log.wait(lambda line: line.get("event") == "webhook.answered")
    assert (line["webhook"], line["outcome"], line["status"], line["attempts"]) == ("app", "ok", 200, 1)
    assert all(backend.url not in json.dumps(line) for line in operator.gateway.log.entries)


def test_secrets_rotate_with_sighup_while_an_event_is_under_way(
    operator: Operator, backend: Backend, node: NodeClients, user: str
) -> None:
    client = node.open(operator.gateway.url, token=operator.gateway.token(user)).connected()
    backend.is_slow = True
    client.emit("first")
    assert backend.received.wait(60)

    operator.write_secrets(NEW, OLD)
    assert operator.reload() == ["webhooks"]
    backend.is_slow = False
    backend.go.set()
    assert client.emit_with_ack("second") == "done"
    backend.secrets = [NEW]
    assert client.emit_with_ack("third") == "done"
    operator.write_secrets(NEW)
    assert operator.reload() == ["webhooks"]

    assert client.emit_with_ack("fourth") == "done"
    assert [event["verified"] for event in backend.events] == [True] * 4


def test_gateway_stops_in_time_while_the_webhook_hangs(
    operator: Operator, backend: Backend, node: NodeClients, user: str
) -> None:
    client = node.open(operator.gateway.url, token=operator.gateway.token(user)).connected()
    backend.is_slow = True
    client.emit("save")

    assert backend.received.wait(60)
    # The fixture stops the gateway and expects status 0.


def test_calls_that_wait_are_not_sent_once_their_connection_is_closed(
    tmp_path: Path, backend: Backend, node: NodeClients, user: str
) -> None:
    gateway = Operator(tmp_path, backend, in_flight=1).gateway
    hanging, leaving, staying = (
        node.open(gateway.url, token=gateway.token(user)).connected() for _ in range(3)
    )
    backend.is_slow = True
    hanging.emit("hanging")
    assert backend.received.wait(60)
    for number in range(3):
        leaving.emit(f"waiting-{number}")
    wait_for_waiting(gateway, 3)
    staying.emit("staying")
    wait_for_waiting(gateway, 4)

    leaving.disconnect()
    gateway.log.wait(lambda line: line.get("event") == "connection.closed" and line["sid"] == leaving.sid)
    backend.is_slow = False
    backend.go.set()

    assert staying.emit_with_ack("after") == "done"
    assert [event["data"]["event"] for event in backend.events] == ["hanging", "staying", "after"]
    assert Scrape(gateway).value("webhook_requests_total", webhook="app", outcome="dropped") == 3
    assert gateway.stop() == 0


def wait_for_waiting(gateway: GatewayProcess, number: int) -> None:
    """Wait until so many calls of the webhook wait for a slot."""
    scrape_until(
        gateway,
        lambda now: now.value("webhook_waiting", webhook="app") == number,
        f"{number} calls wait",
    )
