"""A backend that answers webhooks: a real HTTP server in threads of this process."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.ports import free_port

SECRET = "whsec_ZXhhbXBsZS1ob29rLXNlY3JldC1vZi0zMi1ieXRlcyE="


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    """Connections that wait to be accepted: replicas open dozens at once, and the kernel drops what is beyond it."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report every error but that of a gateway that a test killed."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class WebhookServer:
    """Answers each request with the status and body that ``answers`` has for its event, or for its type without one.

    A status of 0 lets the request wait for longer than a webhook may take; ``delay_seconds`` delays each answer.
    """

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Any]] = {}
        self.headers: dict[str, dict[str, str]] = {}
        """Further headers of the answer, by event."""
        self.seen: list[tuple[str, dict[str, Any]]] = []
        """The id and the body of each client event."""
        self.traces: list[str] = []
        """The ``traceparent`` of each client event."""
        self.notices: list[tuple[str, dict[str, Any]]] = []
        """The id and the body of each request of another type, such as ``user.online``."""
        self.requests: list[tuple[str, dict[str, Any]]] = []
        """The id and the body of each request, in the order in which they came."""
        self.delay_seconds = 0.0
        self.status_of: Callable[[dict[str, Any]], int | None] = lambda _: None
        """Returns the status of the answer to a body instead of ``answers``, which None leaves to them."""
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                is_event = body["type"] == "client.event"
                name = body["data"]["event"] if is_event else body["type"]
                if is_event:
                    owner.traces.append(self.headers["traceparent"])
                owner.requests.append((self.headers["webhook-id"], body))
                (owner.seen if is_event else owner.notices).append((self.headers["webhook-id"], body))
                status, answer = owner.answers.get(name, (200, {}))
                if (decided := owner.status_of(body)) is not None:
                    status = decided
                if status == 0:
                    time.sleep(3)
                    status = 200
                time.sleep(owner.delay_seconds)
                content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                for header, value in owner.headers.get(name, {}).items():
                    self.send_header(header, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = _Server(("127.0.0.1", free_port()), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/gateway"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
