"""The REST door on a real port, and a backend that sends exactly the bytes it is told to."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from aiohttp import web

from gateway.domain.ingest_keys import IngestKey
from gateway.domain.messages import LogEntry
from gateway.domain.presence import PresentConnection
from gateway.http_server import HttpServer
from gateway.hub import DeliveryTimer
from gateway.interfaces import Broker, Clock
from gateway.metrics import MetricFactory
from gateway.services.publish import MessagePublisher
from gateway.state.memory import MemoryState
from ingest_api import signing
from ingest_api.access_log import RejectedRequestLog
from ingest_api.app import create_app, create_rest_api

NOW = 1_795_262_400.0
SECRET = "a secret of the tests, thirty-two bytes and more"
SHOP = IngestKey("shop", (SECRET,))
PATIENCE = 10.0

LONG = "aiohttp's way"
SHORT = "the short way"
way = LONG
"""How requests come to the doors that run now."""

Headers = list[tuple[str, str]]


class SettableClock:
    """A fake: time stands still until a test sets it."""

    def __init__(self) -> None:
        self.seconds = NOW

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds


@dataclass
class RecordingMeter:
    """A fake meter: keeps what it is told."""

    answered: list[tuple[str, int, str]] = field(default_factory=list)
    keys: list[tuple[str | None, bool]] = field(default_factory=list)
    """The key that each of these named, and whether it was signed with it."""

    def request_finished(
        self,
        *,
        route: str,
        status: int,
        code: str,
        seconds: float | None = None,
        key: str | None = None,
        signed: bool = False,
    ) -> None:
        self.answered.append((route, status, code))
        self.keys.append((key, signed))


@dataclass(frozen=True)
class Reply:
    """An answer as it came over the wire; names of headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        assert self.headers["content-type"] == "application/problem+json", self
        problem = self.json
        assert problem["status"] == self.status, problem
        assert problem["request_id"] == self.headers["x-request-id"], problem
        return str(problem["code"])

    @property
    def refusal(self) -> tuple[int, str]:
        return self.status, self.code


class Wire:
    """One connection to the door."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def reply(self, *, has_body: bool = True) -> Reply:
        """The next answer, whole."""
        async with asyncio.timeout(PATIENCE):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
            status, *lines = head.split("\r\n")
            headers = {
                name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)
            }
            length = int(headers.get("content-length", "0")) if has_body else 0
            return Reply(int(status.split()[1]), headers, await self._reader.readexactly(length))

    async def rest(self) -> bytes:
        """What comes until the door closes the connection."""
        async with asyncio.timeout(PATIENCE):
            return await self._reader.read()

    def close(self) -> None:
        self._writer.close()


@dataclass
class Door:
    """A running door, its state, and what a signed request to it looks like."""

    port: int
    state: MemoryState
    clock: SettableClock
    tally: RecordingMeter
    taken: list[LogEntry]

    def sign(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        *,
        key: IngestKey = SHOP,
        secret: str | None = None,
        timestamp: int | None = None,
        nonce: str | None = None,
        idempotency_key: str | None = None,
    ) -> Headers:
        return list(
            signing.sign(
                secret or key.secrets[0],
                key_id=key.id,
                method=method,
                target=target,
                timestamp=int(self.clock.now()) if timestamp is None else timestamp,
                nonce=nonce or secrets.token_hex(8),
                body=body,
                idempotency_key=idempotency_key,
            ).items()
        )

    @asynccontextmanager
    async def wire(self) -> AsyncIterator[Wire]:
        wire = Wire(*await asyncio.open_connection("127.0.0.1", self.port))
        try:
            yield wire
        finally:
            wire.close()

    async def ask(self, method: str, target: str, body: bytes = b"", headers: Headers | None = None) -> Reply:
        """Send one request with these headers and no others but those that HTTP needs."""
        async with self.wire() as wire:
            await wire.send(
                head(method, target, [*(headers or []), ("Content-Length", str(len(body)))]) + body
            )
            return await wire.reply(has_body=method != "HEAD")

    async def call(
        self,
        method: str,
        target: str,
        body: bytes | Mapping[str, Any] = b"",
        *,
        more: Headers | None = None,
        media_type: str | None = "application/json",
        **signing_options: Any,
    ) -> Reply:
        """Send one signed request."""
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        headers = self.sign(method, target, body, **signing_options) + (more or [])
        if media_type is not None and method == "POST":
            headers.append(("Content-Type", media_type))
        return await self.ask(method, target, body, headers)

    async def post(self, target: str, body: bytes | Mapping[str, Any], **options: Any) -> Reply:
        return await self.call("POST", target, body, **options)

    async def connect(
        self, user: str, sid: str, *, namespace: str = "/", rooms: tuple[str, ...] = ()
    ) -> None:
        """Somebody is connected: what the Socket.IO door would tell the presence."""
        connection = PresentConnection(sid, user, namespace, "replica-1", "websocket", self.clock.now())
        await self.state.presence.register(connection, {f"user:{user}", sid, *rooms})


def head(method: str, target: str, headers: Headers) -> bytes:
    """The head of a request, byte for byte."""
    lines = [f"{method} {target} HTTP/1.1", "Host: gateway", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode()


@asynccontextmanager
async def running(
    *,
    keys: tuple[IngestKey, ...] = (SHOP,),
    lookup: Callable[[str], IngestKey | None] | None = None,
    mount: Any = None,
    server: Mapping[str, Any] | None = None,
    wrap: Any = None,
    **overrides: Any,
) -> AsyncIterator[Door]:
    """A door over the memory state. ``wrap`` puts something around the publisher, ``mount`` around the door.

    Requests come to it by the way that ``way`` says, ``server`` options are those of aiohttp's own server.
    """
    clock = SettableClock()
    state = MemoryState(
        clock=clock, replica="replica-1", history_length=1000, history_bytes=10_000_000, recovery_seconds=120
    )
    door = Door(0, state, clock, RecordingMeter(), [])
    publisher = _Keeping(door, clock)
    options: dict[str, Any] = {
        "publisher": wrap(publisher) if wrap else publisher,
        "presence": state.presence,
        "dedup": state.dedup,
        "rates": state.rates,
        "keys": lookup or {key.id: key for key in keys}.get,
        "clock": clock,
        "meter": door.tally,
        "namespaces": frozenset({"/", "/events"}),
        "max_body_bytes": 100_000,
        "body_timeout_seconds": 5.0,
    }
    rest = create_rest_api(**options | overrides)
    app = mount(rest) if mount else create_app(rest)
    if way == SHORT and server is None:
        listener = HttpServer(
            app,
            direct={},
            fast_path=rest,
            reject=RejectedRequestLog(door.tally),
            head_timeout_seconds=PATIENCE,
            finish_seconds=PATIENCE,
        )
        door.port = await listener.start("127.0.0.1", 0)
        stop = listener.stop
    else:
        # How long a refused sender may go on sending is the server's to say; the tests need not wait for it.
        served = {"access_log": None, "lingering_time": 1.0, "auto_decompress": False} | dict(server or {})
        runner = web.AppRunner(app, **served)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        door.port = runner.addresses[0][1]
        stop = runner.cleanup
    try:
        yield door
    finally:
        await stop()


class _Keeping:
    """The real way to the real broker; notes what it took."""

    def __init__(self, door: Door, clock: Clock) -> None:
        broker = door.state.broker
        self._taken = door.taken
        self._append = broker.append
        metrics = MetricFactory()
        self._publishing = MessagePublisher(
            broker=cast(Broker, self),
            clock=clock,
            namespaces=("/", "/events"),
            delivery_timer=DeliveryTimer(lambda _: False, metrics),
            metrics=metrics,
        )
        self.publish = self._publishing.publish
        self.disconnect_user = self._publishing.disconnect_user

    async def append(self, entry: LogEntry, dedup_key: Any = None) -> Any:
        result = await self._append(entry, dedup_key)
        if not result.replayed:
            self._taken.append(entry)
        return result
