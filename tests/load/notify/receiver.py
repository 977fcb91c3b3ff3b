"""A backend in a process of its own that verifies each webhook request and records its events.

``python -m tests.load.notify.receiver PORT SECRET DELAY_SECONDS`` reads commands and writes results, as JSON lines. It
accepts requests, or fails as it was commanded to (``Failure``).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from enum import Enum
from typing import Any, Final, NamedTuple, Self, cast

import orjson
import uvloop

from tests.support.paths import ROOT
from tests.support.ports import free_port

KEY: Final = secrets.token_bytes(32)
SECRET: Final = f"whsec_{base64.b64encode(KEY).decode()}"
"""Of the gateways of this process; those of other tests are answered with 401."""
TOLERANCE_SECONDS: Final = 300
_HEADER: Final = re.compile(rb"^([a-z-]+): *(.*?)\r$", re.IGNORECASE | re.MULTILINE)
_REASONS: Final = {200: b"OK", 401: b"Unauthorized"}


class Failure(Enum):
    """How the backend fails, beside a status: no connection is accepted, no answer comes, the answer is cut off."""

    DOWN = "down"
    HANG = "hang"
    CLOSE = "close"


class Received(NamedTuple):
    """An event that was accepted. ``n`` is the number of the sender, ``rank`` its ``sequence`` or ``version``.

    ``at`` is in seconds since 1970. ``type`` is that of the event, ``size`` how many events the request had.
    """

    id: str
    type: str
    user: str
    n: int | None
    rank: int
    at: float
    size: int


class Try(NamedTuple):
    """A request that was not accepted: the id of its first event, and when it arrived, in seconds since 1970."""

    id: str
    at: float


class ReceiverProcess:
    """The backend as its parent uses it; a context manager. ``url`` is the address of the webhook."""

    def __init__(self, *, delay_seconds: float = 0.0) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/gateway"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.load.notify.receiver", str(self.port), SECRET, str(delay_seconds)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._execute({"do": "listen"})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def fail(self, how: Failure | int, **headers: str) -> None:
        """Answer nothing but this status from now on, or fail so; ``headers`` are those of the answer."""
        self._execute(
            {"do": "fail", "how": how.value if isinstance(how, Failure) else how, "headers": headers}
        )

    def accept(self) -> None:
        """Accept requests again."""
        self._execute({"do": "accept"})

    def accept_poison(self) -> None:
        """Accept also the events that were rejected with 422, as a backend does that was mended."""
        self._execute({"do": "accept poison"})

    def counts(self) -> tuple[int, int]:
        """Return how many events were accepted, repeats included, and how many ids they had."""
        events, ids = self._execute({"do": "count"})
        return events, ids

    def received(self, *, after: int = 0) -> list[Received]:
        """Return the accepted events in the order of their arrival, without the first ``after`` ones."""
        return [Received(*each) for each in self._execute({"do": "received", "after": after})]

    def failed_tries(self) -> list[Try]:
        """Return the requests that were not accepted."""
        return [Try(*each) for each in self._execute({"do": "tries"})]

    def wrong(self) -> list[str]:
        """Return sentences about requests that a gateway does not send: a wrong signature, a wrong form."""
        return [str(each) for each in self._execute({"do": "wrong"})]

    def stop(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()

    def _execute(self, command: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the backend ended"
        return orjson.loads(line)


class Receiver:
    """The backend in its own process."""

    def __init__(self, port: int, key: bytes, delay_seconds: float) -> None:
        self._port = port
        self._key = key
        self.delay_seconds = delay_seconds
        self.how: int | str = 200
        self.headers: dict[str, str] = {}
        self.connections: set[_Connection] = set()
        self._received: list[Received] = []
        self._ids: set[str] = set()
        self._tries: list[Try] = []
        self._wrong: list[str] = []
        self._rejects_poison = True
        self._server: asyncio.Server | None = None

    async def listen(self) -> None:
        """Accept connections."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Connection(self), "127.0.0.1", self._port, backlog=1024, reuse_address=True
        )

    async def execute(self, command: dict[str, Any]) -> Any:
        """Execute a command of the parent process and return its result."""
        match command["do"]:
            case "listen":
                await self.listen()
            case "fail":
                await self._fail(command["how"], command["headers"])
            case "accept":
                self.how, self.headers = 200, {}
                if self._server is None:
                    await self.listen()
            case "accept poison":
                self._rejects_poison = False
            case "count":
                return [len(self._received), len(self._ids)]
            case "received":
                return [tuple(each) for each in self._received[command["after"] :]]
            case "tries":
                return [tuple(each) for each in self._tries]
            case "wrong":
                return self._wrong
        return None

    async def _fail(self, how: int | str, headers: dict[str, str]) -> None:
        self.how, self.headers = how, headers
        if how == Failure.DOWN.value and self._server is not None:
            self._server.close()
            self._server = None
            for connection in list(self.connections):
                connection.close()

    def answer(self, headers: dict[bytes, bytes], body: bytes) -> int:
        """Record a request and return the status of its answer; 0 for none."""
        now = time.time()
        if (problem := _problem(self._key, headers, body, now)) is not None:
            self._wrong.append(problem)
            return 401
        event, event_id = orjson.loads(body), headers[b"webhook-id"].decode()
        is_batch = event["type"] == "batch"
        events = event["data"] if is_batch else [event | {"id": event_id}]
        status = self.how if isinstance(self.how, int) else 0
        if status == 200 and self._rejects_poison and any(_is_poison(each) for each in events):
            status = 422
        if status != 200:
            self._tries.append(Try(events[0]["id"], now))
            return status
        for each in events:
            self._received.append(_received(each, now, len(events)))
            self._ids.add(each["id"])
        return status


class _Connection(asyncio.Protocol):
    """One kept-alive connection; one request at a time."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._receiver.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._receiver.connections.discard(self)

    def close(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Answer each complete request."""
        self._rest += data
        while (end := self._rest.find(b"\r\n\r\n") + 4) >= 4:
            headers = {name.lower(): value for name, value in _HEADER.findall(self._rest[:end])}
            length = end + int(headers[b"content-length"])
            if len(self._rest) < length:
                return
            body, self._rest = self._rest[end:length], self._rest[length:]
            self._answer(headers, body)

    def _answer(self, headers: dict[bytes, bytes], body: bytes) -> None:
        receiver = self._receiver
        status = receiver.answer(headers, body)
        if status:
            lines = b"".join(f"{name}: {value}\r\n".encode() for name, value in receiver.headers.items())
            reason = _REASONS.get(status, b"Failed")
            answer = b"HTTP/1.1 %d %b\r\n%bContent-Length: 0\r\n\r\n" % (status, reason, lines)
            self._later(lambda: self._write(answer))
        elif receiver.how == Failure.CLOSE.value:
            self._transport.write(b"HTTP/1.1 2")
            self._transport.close()
        elif receiver.how == Failure.DOWN.value:
            self.close()

    def _write(self, answer: bytes) -> None:
        if not self._transport.is_closing():  # the gateway may have been killed
            self._transport.write(answer)

    def _later(self, write: Callable[[], None]) -> None:
        if self._receiver.delay_seconds:
            asyncio.get_running_loop().call_later(self._receiver.delay_seconds, write)
        else:
            write()


def _problem(key: bytes, headers: dict[bytes, bytes], body: bytes, now: float) -> str | None:
    """Verify a request as Standard Webhooks 1.0 says, before its JSON is parsed."""
    try:
        event_id, at = headers[b"webhook-id"], headers[b"webhook-timestamp"]
        signatures = headers[b"webhook-signature"].split()
    except KeyError as missing:
        return f"a request without {missing}"
    digest = hmac.digest(key, event_id + b"." + at + b"." + body, hashlib.sha256)
    if b"v1," + base64.b64encode(digest) not in signatures:
        return f"a wrong signature: {headers}"
    if abs(int(at) - now) > TOLERANCE_SECONDS:
        return f"a wrong timestamp: {headers}"
    return None


def _is_poison(event: dict[str, Any]) -> bool:
    arguments = event["data"].get("args", ())
    return bool(arguments) and bool(arguments[0].get("poison"))


def _received(event: dict[str, Any], now: float, size: int) -> Received:
    data = event["data"]
    if "version" in data:
        return Received(event["id"], event["type"], data["user"], None, data["version"], now, size)
    return Received(
        event["id"],
        event["type"],
        data["connection"]["user"],
        data["args"][0]["n"],
        data["sequence"],
        now,
        size,
    )


async def main() -> None:
    """Execute commands until stdin ends."""
    port, secret, delay_seconds = sys.argv[1:]
    receiver = Receiver(int(port), base64.b64decode(secret.removeprefix("whsec_")), float(delay_seconds))
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader(limit=2**20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        result = orjson.dumps(await receiver.execute(orjson.loads(line))) + b"\n"
        await loop.run_in_executor(None, _write, result)


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(sys.stdout.fileno(), data) :]


if __name__ == "__main__":
    uvloop.run(main())
