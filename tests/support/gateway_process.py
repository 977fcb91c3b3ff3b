"""A gateway as a process, as an operator starts it."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.backend import Backend
from tests.support.clients import StockClient
from tests.support.journal import Journal
from tests.support.ports import free_port
from tests.support.tokens import token
from tests.support.waiter import TIMEOUT_SECONDS

JWT_SECRET = "a secret of the tests, thirty-two bytes and more"
KEY_ID, KEY_SECRET = "tests", "an ingest secret of the tests and long enough too"


class GatewayProcess:
    """A gateway on a free port.

    ``settings`` are GATEWAY_ settings in lower case without prefix; None leaves a setting at its default.
    ``under`` is a command that starts the command after it. With ``serves`` the constructor waits until the gateway
    serves. ``program`` starts another installation, in ``folder``; ``arguments`` are further ones of ``serve``.
    """

    def __init__(
        self,
        *,
        dev: bool = False,
        under: Sequence[str] = (),
        serves: bool = True,
        program: Sequence[str] = (sys.executable, "-m", "gateway"),
        folder: Path | None = None,
        arguments: Sequence[str] = (),
        **settings: Any,
    ) -> None:
        self._settings = {
            name.upper(): None if value is None else str(value) for name, value in settings.items()
        }
        self._command = (*under, *program, "serve", *(["--dev"] if dev else []), *arguments)
        self._folder = folder
        self._port = free_port()
        self.key_id, self.secret, self.jwt_secret = KEY_ID, KEY_SECRET, JWT_SECRET
        self._launch()
        if serves:
            self.wait_until_listening()

    def start(self) -> None:
        """Start again on the same port; return once it serves."""
        self._launch()
        self.wait_until_listening()

    def wait_until_listening(self) -> None:
        """Wait until it serves clients and backends."""
        self.log.wait(lambda line: line.get("event") == "gateway.listening", timeout=TIMEOUT_SECONDS)

    def _launch(self) -> None:
        """Start the process; return once its ports are open."""
        defaults = {
            "HOST": "127.0.0.1",
            "PORT": str(self._port),
            "JWT_SECRET": JWT_SECRET,
            "INGEST_KEYS": f"{KEY_ID}:{KEY_SECRET}",
            "LOG_FORMAT": "json",
        }
        chosen = {
            f"GATEWAY_{name}": value
            for name, value in (defaults | self._settings).items()
            if value is not None
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        self._process = subprocess.Popen(
            self._command,
            cwd=self._folder,
            env=inherited | chosen,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.log = Journal("the gateway's log")
        self.printed = Journal("what the gateway printed")
        self._readers = [
            threading.Thread(target=_read, args=(self._process.stderr, self.log), daemon=True),
            threading.Thread(target=_read, args=(self._process.stdout, self.printed), daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        is_open = {"gateway.waiting_for_state", "gateway.listening"}
        opened = self.log.wait(lambda line: line.get("event") in is_open, timeout=TIMEOUT_SECONDS)
        self.ports: list[int] = opened["ports"]
        self._port = self.ports[0]
        self.url = f"http://127.0.0.1:{self.ports[0]}"
        self.ingest_url = f"http://127.0.0.1:{self.ports[-1]}"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def replica_id(self) -> str:
        """Its REPLICA_ID; empty if the gateway generated one."""
        return self._settings.get("REPLICA_ID") or ""

    @property
    def backend(self) -> Backend:
        """A backend whose key has all scopes."""
        return Backend(self.ingest_url, self.key_id, self.secret)

    def token(self, sub: Any, **options: Any) -> str:
        """Make a token that this gateway accepts; see ``tests.support.tokens.token``."""
        return token(sub, self.jwt_secret, **options)

    def push_user(self, user: str, event: str, data: Any = None, **more: Any) -> Any:
        """Push to a user, check that it succeeds, and return the body of the answer."""
        answer = self.backend.push_user(user, event, data, **more)
        assert answer.status == 200, answer
        return answer.body

    def wait_until_delivered(self, *clients: StockClient, namespace: str = "/") -> None:
        """Wait until every earlier push has been delivered to these clients: a last event to each follows it."""
        mark = f"delivered:{secrets.token_hex(8)}"
        for client in clients:
            answer = self.backend.push_room(client.sid, mark, namespace=namespace)
            assert answer.body["online"], answer
        for client in clients:
            client.event(mark)

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def wait(self, timeout: float = TIMEOUT_SECONDS) -> int:
        """Wait until the process has ended; return its exit status."""
        status = self._process.wait(timeout)
        for reader in self._readers:
            reader.join(timeout)
        return status

    def stop(self, timeout: float = TIMEOUT_SECONDS) -> int:
        """Stop it with SIGTERM, as an orchestrator does; return its exit status."""
        if self._process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def kill(self) -> None:
        self._process.kill()
        self.wait()

    def failures(self) -> list[dict[str, Any]]:
        """Return lines of the log that a healthy process does not write: errors, tracebacks, anything but JSON."""
        return [
            line
            for line in self.log.entries
            if line.get("level") in {"error", "critical"} or "exception" in line or "Traceback" in str(line)
        ]


def _read(stream: Any, journal: Journal) -> None:
    with stream:
        for raw in stream:
            text = raw.decode(errors="replace").rstrip("\n")
            try:
                entry = json.loads(text)
            except ValueError:
                entry = None
            journal.add(entry if isinstance(entry, dict) else {"text": text})
    journal.end()
