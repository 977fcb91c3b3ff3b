"""An Engine.IO server on a real port, with an observer that records."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from gateway.domain.bounded_body import ArrivingBodies
from gateway.http_server import HttpServer
from gateway.metrics import MetricFactory, RequestMetrics
from gateway.timers import SystemClock, TimerHeap
from gateway.transport.admission import TrustedProxies
from gateway.transport.connection_totals import ConnectionTotals
from gateway.transport.cors import Origins
from gateway.transport.errors import HandshakeError
from gateway.transport.http import HttpLimits
from gateway.transport.new_connections import NO_HANDSHAKES, HandshakePath
from gateway.transport.server import EngineOptions, EngineServer
from gateway.transport.session import EngineSession, Handling
from gateway.transport.tcp_connections import OpenConnections
from gateway.transport.websocket import HandshakeRequest
from ingest_api.access_log import RejectedRequestLog
from tests.conformance.client import Client
from tests.support.clock import FakeClock
from tests.support.metrics import counted
from tests.support.waiter import TIMEOUT_SECONDS

PATH = "/engine.io/"
MAX_PAYLOAD_BYTES = 1_000_000


class Observer:
    """Records what the server reports; satisfies ``transport.server.EngineObserver``."""

    def __init__(self) -> None:
        self.opened: list[EngineSession] = []
        self.closed: list[str] = []
        self.received: list[str | bytes] = []
        self.skipped: list[str] = []
        self.upgraded = asyncio.Event()
        self.message_arrived = asyncio.Event()
        self.fails = self.fails_to_open = False
        self.may_receive = asyncio.Event()
        self.may_receive.set()

    def session_opened(self, session: EngineSession) -> None:
        self.opened.append(session)
        if self.fails_to_open:
            raise RuntimeError("a bug")

    def session_closed(self, session: EngineSession, reason: str) -> None:
        self.closed.append(reason)

    def session_upgraded(self, session: EngineSession) -> None:
        self.upgraded.set()

    def volatile_skipped(self, reason: str) -> None:
        self.skipped.append(reason)

    def message_received(self, session: EngineSession, data: str | bytes) -> Handling:
        if self.fails and self.may_receive.is_set():
            raise RuntimeError("a bug")
        self.message_arrived.set()
        if not self.may_receive.is_set():
            return self._receive_later(data)
        self.received.append(data)
        return None

    async def _receive_later(self, data: str | bytes) -> None:
        await self.may_receive.wait()
        if self.fails:
            raise RuntimeError("a bug")
        self.received.append(data)


class EngineHarness:
    """A server with its observer, timers and listener."""

    def __init__(
        self,
        *,
        send_buffer_bytes: int,
        upgrade_timeout_seconds: float,
        unauthenticated_payload_bytes: int | None,
        messages_per_second: float,
        deflates_from_bytes: int | None,
        trusted_proxies: Sequence[str],
        arriving: ArrivingBodies | None,
        opens_at_once: bool,
    ) -> None:
        self.observer = Observer()
        self.metrics = MetricFactory()
        self.handshake_addresses: list[str] = []
        self.rejection: HandshakeError | None = None
        """Why no handshake is admitted."""
        self.fails_to_admit = False
        self.opened_at_once = 0
        """How many WebSockets were opened without aiohttp."""
        self.clock = FakeClock(running=True)
        self.schedule = TimerHeap(asyncio.get_running_loop())
        self.engine = EngineServer(
            EngineOptions(
                replica="replica",
                transports=("polling", "websocket"),
                ping_interval_seconds=25,
                ping_timeout_seconds=20,
                upgrade_timeout_seconds=upgrade_timeout_seconds,
                max_payload_bytes=MAX_PAYLOAD_BYTES,
                unauthenticated_payload_bytes=unauthenticated_payload_bytes,
                messages_per_second=messages_per_second,
                deflates_from_bytes=deflates_from_bytes,
                body_timeout_seconds=0.2,
                send_buffer_bytes=send_buffer_bytes,
            ),
            observer=self.observer,
            schedule=self.schedule,
            clock=self.clock,
            origins=Origins(["https://app.example"]),
            proxies=TrustedProxies(trusted_proxies),
            check_admission=self._check_admission,
            metrics=self.metrics,
            arriving=arriving,
        )
        self.connections = OpenConnections(SystemClock(), listener="public", limit=10_000)
        self.listener = HttpServer(
            web.Application(),
            direct={PATH: self.engine.handle},
            handshakes=HandshakePath((PATH,), self._open_websocket) if opens_at_once else NO_HANDSHAKES,
            reject=RejectedRequestLog(RequestMetrics(self.metrics)),
            limits=HttpLimits(head_timeout_seconds=5.0),
            totals=ConnectionTotals(self.metrics),
            connections=self.connections,
            finish_seconds=1.0,
        )
        self.port = 0

    def _open_websocket(self, request: HandshakeRequest) -> bool:
        is_open = self.engine.open_websocket(request)
        self.opened_at_once += is_open
        return is_open

    def _check_admission(self, address: str) -> HandshakeError | None:
        if self.fails_to_admit:
            raise RuntimeError("a bug")
        self.handshake_addresses.append(address)
        return self.rejection

    def join(self) -> None:
        """Mark all sessions as joined, as the layer above does after CONNECT."""
        for session in self.engine.sessions.values():
            session.joined = True

    async def wait_empty(self) -> None:
        """Wait until every session is closed."""
        await asyncio.wait_for(self.engine.empty.wait(), TIMEOUT_SECONDS)


@asynccontextmanager
async def running_engine(
    *,
    send_buffer_bytes: int = 4 * MAX_PAYLOAD_BYTES,
    upgrade_timeout_seconds: float = 10.0,
    unauthenticated_payload_bytes: int | None = None,
    messages_per_second: float = 50.0,
    deflates_from_bytes: int | None = None,
    trusted_proxies: Sequence[str] = (),
    arriving: ArrivingBodies | None = None,
    opens_at_once: bool = True,
) -> AsyncIterator[tuple[EngineHarness, Client]]:
    """Run a server, and check at the end that no session and no timer is left.

    ``opens_at_once``: whether ordinary handshakes are opened without aiohttp.
    """
    server = EngineHarness(
        send_buffer_bytes=send_buffer_bytes,
        upgrade_timeout_seconds=upgrade_timeout_seconds,
        unauthenticated_payload_bytes=unauthenticated_payload_bytes,
        messages_per_second=messages_per_second,
        deflates_from_bytes=deflates_from_bytes,
        trusted_proxies=trusted_proxies,
        arriving=arriving,
        opens_at_once=opens_at_once,
    )
    server.port = await server.listener.start("127.0.0.1", 0)
    try:
        async with aiohttp.ClientSession() as http:
            yield server, Client(http, f"http://127.0.0.1:{server.port}{PATH}")
    finally:
        server.observer.may_receive.set()
        for session in list(server.engine.sessions.values()):
            session.abort("the test is over")
        await server.engine.stop(TIMEOUT_SECONDS)
        await server.listener.stop()
    assert len(server.observer.closed) == len(server.observer.opened)
    assert counted(server.metrics, "engineio_sessions_closed_total") == Counter(server.observer.closed)
    assert server.engine.sessions == {}
    assert len(server.schedule) == 0
