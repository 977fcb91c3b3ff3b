"""Receivers of examples/backends as processes, and the requests that they get."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import itertools
import json
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.integration.examples.languages import BACKENDS

SECRET = "whsec_ZXhhbXBsZS1ob29rLXNlY3JldC1vZi0zMi1ieXRlcyE="
ids = (f"a-{os.getpid()}-{number}" for number in itertools.count())


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Return a signature as Standard Webhooks 1.0 defines it."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


@dataclass
class WebhookRequest:
    """A request as the gateway sends it; a test may change each part before or after it is signed."""

    body: bytes
    message_id: str = field(default_factory=lambda: next(ids))
    timestamp: int = field(default_factory=lambda: int(time.time()))
    signatures: str = ""

    def signed(self, *secrets: str) -> WebhookRequest:
        """Sign the request with these secrets, else with that of the receiver."""
        self.signatures = " ".join(
            signature(secret, self.message_id, self.timestamp, self.body) for secret in secrets or (SECRET,)
        )
        return self


def as_json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


@dataclass(frozen=True)
class Answer:
    """Status and JSON of an answer; None without a body."""

    status: int
    json: Any = None


@dataclass
class Receiver:
    """A running receiver. ``log`` gets all that it prints."""

    port: int
    log: Path

    async def post(self, request: WebhookRequest, **changed: str | None) -> Answer:
        """Send a request, with changed headers (None: without the header)."""
        headers = {
            "content-type": "application/json",
            "webhook-id": request.message_id,
            "webhook-timestamp": str(request.timestamp),
            "webhook-signature": request.signatures,
        } | {name.replace("_", "-"): value for name, value in changed.items() if value is not None}
        kept = {
            name: value
            for name, value in headers.items()
            if changed.get(name.replace("-", "_"), "") is not None
        }
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(60)) as session,
            session.post(
                f"http://127.0.0.1:{self.port}/gateway", data=io.BytesIO(request.body), headers=kept
            ) as response,
        ):
            text = await response.text()
            return Answer(response.status, json.loads(text) if text else None)


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def start(command: tuple[str, ...], port: int, log: Path, **settings: str) -> subprocess.Popen[bytes]:
    """Start a receiver in a process group of its own."""
    with log.open("wb") as output:
        return subprocess.Popen(
            [word.replace("{port}", str(port)) for word in command],
            cwd=BACKENDS,
            env={"PATH": os.environ["PATH"], "HOME": str(log.parent), "TMPDIR": str(log.parent), **settings},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a receiver and the processes that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
    process.wait(60)
