"""The REST API on a real port, and a client that sends exactly the bytes of a test."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from aiohttp import web

from gateway.domain.ingest_keys import IngestKey
from gateway.domain.messages import LogEntry, Message
from gateway.domain.names import GRANTED_PREFIXES
from gateway.domain.presence import PresentConnection
from gateway.domain.webhooks import Webhook
from gateway.http_server import HttpServer
from gateway.interfaces import Broker, Clock, State
from gateway.metrics import DeliveryTimer, MetricFactory
from gateway.runtime.webhook_queues import ConfiguredQueues
from gateway.services.acks import AckWaits
from gateway.services.counted_disconnects import DisconnectCount
from gateway.services.message_history import MessageHistory
from gateway.services.publish import MessagePublisher
from gateway.services.room_changes import RoomChangePublisher
from gateway.services.socket_data import SocketDataChanges
from gateway.state.memory import MemoryState
from gateway.timers import SystemClock
from gateway.transport.connection_totals import ConnectionTotals
from gateway.transport.http import HttpLimits
from gateway.transport.tcp_connections import OpenConnections
from ingest_api import signing
from ingest_api.access_log import RejectedRequestLog
from ingest_api.app import create_rest_api, mount
from ingest_api.history import HistoryHandlers
from ingest_api.interfaces import Publisher
from ingest_api.listings import ListingHandlers
from ingest_api.pipeline import RestApi
from ingest_api.revocation import RevocationHandlers
from ingest_api.room_changes import RoomChangeHandlers
from tests.support.clock import FakeClock
from tests.support.waiter import TIMEOUT_SECONDS

NOW = 1_795_262_400.0
SECRET = "a secret of the tests, thirty-two bytes and more"
SHOP = IngestKey("shop", (SECRET,))

AIOHTTP = "aiohttp"
FAST_PATH = "fast path"
ORDINARY_PATH = "ordinary path"
"""The HTTP server of the gateway without its fast path."""
code_path = AIOHTTP
"""The code path that requests take to the REST API, in servers that start from now on."""

Headers = list[tuple[str, str]]


@dataclass
class RecordingMetrics:
    """A fake of the request metrics. It records the finished requests."""

    finished: list[tuple[str, int, str]] = field(default_factory=list)
    """Route, status and code of each request."""
    keys: list[tuple[str | None, bool]] = field(default_factory=list)
    """The key id of each request, and whether the request was signed with that key."""

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
        self.finished.append((route, status, code))
        self.keys.append((key, signed))


@dataclass(frozen=True)
class HttpResponse:
    """A response as it was received. The names of headers are in lower case."""

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
    def problem(self) -> tuple[int, str]:
        """Status and code of an error response."""
        return self.status, self.code


class RawConnection:
    """One TCP connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def read_response(self, *, has_body: bool = True) -> HttpResponse:
        """Read the next response, with its body."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
            status, *lines = head.split("\r\n")
            headers = {
                name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)
            }
            length = int(headers.get("content-length", "0")) if has_body else 0
            return HttpResponse(int(status.split()[1]), headers, await self._reader.readexactly(length))

    async def read_to_end(self) -> bytes:
        """Read until the server closes the connection."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return await self._reader.read()

    def close(self) -> None:
        self._writer.close()


@dataclass
class WebhookSettings:
    """The configured webhooks, none of which is called in these tests."""

    by_id: dict[str, Webhook] = field(default_factory=dict)
    open_circuits: set[str] = field(default_factory=set)

    def configured(self) -> dict[str, Webhook]:
        return self.by_id

    def is_circuit_open(self, webhook: str) -> bool:
        return webhook in self.open_circuits


@dataclass
class RecordingRevocations:
    """Records the tokens that are revoked, of two issuers. Each revocation ends as many connections as a test sets."""

    revoked: list[tuple[str, str, float | None]] = field(default_factory=list)
    count: DisconnectCount = field(default_factory=lambda: DisconnectCount(0, is_exact=True))
    names: tuple[str, ...] = ("", "https://b.example/")

    def issuers(self) -> tuple[str, ...]:
        return self.names

    async def revoke(self, jti: str, *, issuer: str, expires_at: float | None) -> DisconnectCount:
        self.revoked.append((jti, issuer, expires_at))
        return self.count


@dataclass
class RestApiServer:
    """A running server, its state, and a client that signs requests."""

    port: int
    state: MemoryState
    clock: FakeClock
    metrics: RecordingMetrics
    published: list[LogEntry]
    """The entries that the broker accepted, without repeats."""
    webhooks: WebhookSettings = field(default_factory=WebhookSettings)
    factory: MetricFactory = field(default_factory=MetricFactory)

    revocations: RecordingRevocations = field(default_factory=RecordingRevocations)

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
    async def open_connection(self) -> AsyncIterator[RawConnection]:
        connection = RawConnection(*await asyncio.open_connection("127.0.0.1", self.port))
        try:
            yield connection
        finally:
            connection.close()

    async def send_request(
        self, method: str, target: str, body: bytes = b"", headers: Headers | None = None
    ) -> HttpResponse:
        """Send one request with only these headers, Host and Content-Length."""
        async with self.open_connection() as connection:
            await connection.send(
                request_head(method, target, [*(headers or []), ("Content-Length", str(len(body)))]) + body
            )
            return await connection.read_response(has_body=method != "HEAD")

    async def send_signed(
        self,
        method: str,
        target: str,
        body: bytes | Mapping[str, Any] = b"",
        *,
        extra_headers: Headers | None = None,
        media_type: str | None = "application/json",
        **signing_options: Any,
    ) -> HttpResponse:
        """Send one signed request."""
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        headers = self.sign(method, target, body, **signing_options) + (extra_headers or [])
        if media_type is not None and method in {"POST", "PATCH"}:
            headers.append(("Content-Type", media_type))
        return await self.send_request(method, target, body, headers)

    async def post(self, target: str, body: bytes | Mapping[str, Any], **options: Any) -> HttpResponse:
        return await self.send_signed("POST", target, body, **options)

    async def register_connection(
        self, user: str, sid: str, *, namespace: str = "/", rooms: tuple[str, ...] = ()
    ) -> None:
        """Register a connection in the presence, as the Socket.IO server does."""
        connection = PresentConnection(sid, user, namespace, "replica-1", "websocket", self.clock.now())
        await self.state.presence.register(connection, {f"user:{user}", sid, *rooms})


def request_head(method: str, target: str, headers: Headers) -> bytes:
    """Encode the head of a request."""
    lines = [f"{method} {target} HTTP/1.1", "Host: gateway", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode()


def app_of(rest_api: RestApi) -> web.Application:
    """Return an aiohttp application that serves only the REST API."""
    app = web.Application()
    mount(rest_api, app)
    return app


@asynccontextmanager
async def run_rest_api(
    *,
    keys: tuple[IngestKey, ...] = (SHOP,),
    lookup: Callable[[str], IngestKey | None] | None = None,
    create_app: Callable[[RestApi], web.Application] = app_of,
    aiohttp_options: Mapping[str, Any] | None = None,
    wrap_publisher: Any = None,
    history_length: int = 1000,
    recovery_seconds: float = 120.0,
    history: Any = None,
    **overrides: Any,
) -> AsyncIterator[RestApiServer]:
    """Run the REST API over the memory state.

    ``wrap_publisher`` wraps the publisher. ``create_app`` builds the aiohttp application around the REST API; the
    default is ``app_of``. Requests take the code path of ``code_path``. ``aiohttp_options`` are options of aiohttp's
    own server, and imply its code path.
    """
    clock = FakeClock(NOW)
    state = MemoryState(
        clock=clock,
        replica="replica-1",
        history_length=history_length,
        history_bytes=10_000_000,
        recovery_seconds=recovery_seconds,
    )
    server = RestApiServer(0, state, clock, RecordingMetrics(), [])
    publisher = _RecordingPublisher(server, clock)
    histories = HistoryHandlers(
        history=history
        or MessageHistory(
            broker=state.broker,
            logged_messages=state.logged_messages,
            recovery_seconds=recovery_seconds,
            metrics=server.factory,
        ),
        presence=state.presence,
        answers=state.acks,
        dedup=state.dedup,
        namespaces=("/", "/events"),
    )
    room_changes = RoomChangeHandlers(
        changer=RoomChangePublisher(
            broker=cast(Broker, publisher),
            rooms=state.connection_rooms,
            replies=state.replies,
            max_rooms_per_connection=50,
            join_wait_seconds=state.join_wait_seconds,
            metrics=MetricFactory(),
        ),
        publisher=cast(Publisher, publisher),
        namespaces=("/", "/events"),
        granted_prefixes=lambda: (*GRANTED_PREFIXES, "team:"),
    )
    revoking = RevocationHandlers(revocations=server.revocations, answers=state.acks, dedup=state.dedup)
    lists = ListingHandlers(
        listings=state.listings,
        socket_data=SocketDataChanges(store=state.socket_data, listings=state.listings, broker=state.broker),
        presence=state.presence,
        answers=state.acks,
        dedup=state.dedup,
        namespaces=("/", "/events"),
    )
    options: dict[str, Any] = {
        "publisher": wrap_publisher(publisher) if wrap_publisher else publisher,
        "groups": [histories.routes, room_changes.routes, lists.routes, revoking.routes],
        "presence": state.presence,
        "dedup": state.dedup,
        "rates": state.rates,
        "queues": ConfiguredQueues(cast(State, state), server.webhooks),
        "answers": state.acks,
        "ack_waits": AckWaits(replies=state.replies, max_bytes=100_000, metrics=MetricFactory()),
        "keys": lookup or {key.id: key for key in keys}.get,
        "clock": clock,
        "metrics": server.metrics,
        "namespaces": frozenset({"/", "/events"}),
        "max_body_bytes": 100_000,
        "body_timeout_seconds": 5.0,
    }
    rest_api = create_rest_api(**options | overrides)
    app = create_app(rest_api)
    if code_path != AIOHTTP and aiohttp_options is None:
        http_server = HttpServer(
            app,
            direct={},
            fast_path=rest_api if code_path == FAST_PATH else None,
            reject=RejectedRequestLog(server.metrics),
            limits=HttpLimits(head_timeout_seconds=TIMEOUT_SECONDS),
            totals=ConnectionTotals(MetricFactory()),
            connections=OpenConnections(SystemClock(), listener="public", limit=10_000),
            finish_seconds=TIMEOUT_SECONDS,
        )
        server.port = await http_server.start("127.0.0.1", 0)
        stop = http_server.stop
    else:
        # A short lingering time: the tests need not wait while the rest of a rejected body is read and dropped.
        runner_options = {"access_log": None, "lingering_time": 1.0, "auto_decompress": False}
        runner = web.AppRunner(app, **runner_options | dict(aiohttp_options or {}))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.port = runner.addresses[0][1]
        stop = runner.cleanup
    try:
        yield server
    finally:
        await stop()


class _RecordingPublisher:
    """The real publisher and broker. It records the entries that the broker accepted."""

    def __init__(self, server: RestApiServer, clock: Clock) -> None:
        broker = server.state.broker
        self._published = server.published
        self._append = broker.append
        self._append_all = broker.append_all
        self._append_now = broker.append_now
        metrics = MetricFactory()
        self._publishing = MessagePublisher(
            broker=cast(Broker, self),
            clock=clock,
            namespaces=("/", "/events"),
            delivery_timer=DeliveryTimer(lambda _: False, metrics),
            metrics=metrics,
        )
        self.publish = self._publishing.publish
        self.publish_now = self._publishing.publish_now
        self.publish_all = self._publishing.publish_all
        self.disconnect_user = self._publishing.disconnect_user
        self.disconnect_room = self._publishing.disconnect_room

    async def append(self, entry: LogEntry, dedup_key: Any = None, *, with_counts: bool = False) -> Any:
        result = await self._append(entry, dedup_key, with_counts=with_counts)
        if not result.replayed:
            self._published.append(entry)
        return result

    def append_now(self, message: Message, dedup_key: Any) -> Any:
        result = self._append_now(message, dedup_key)
        if result is not None:
            self._published.append(message)
        return result

    async def append_all(self, messages: Sequence[Message], dedup_key: Any = None) -> Any:
        results = await self._append_all(messages, dedup_key)
        if not results[0].replayed:
            self._published.extend(messages)
        return results
