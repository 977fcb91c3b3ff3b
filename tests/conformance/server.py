"""Our transport with the handlers, paths and timings that the official protocol suites expect.

    python -m tests.conformance.server --suite engine.io|socket.io --port 3000

The suites are in https://github.com/socketio/socket.io, docs/engine.io-protocol/v4-test-suite and
docs/socket.io-protocol/v5-test-suite. Everything below the handlers is the gateway's own.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence

import uvloop
from aiohttp import web
from socketio import packet

from gateway import interfaces
from gateway.domain.bounded_body import ArrivingBodies
from gateway.domain.disconnects import NO_NAMESPACE, PROTOCOL_ERROR, DisconnectReason
from gateway.http_server import HttpServer
from gateway.interfaces import Schedule, Timer
from gateway.metrics import MetricFactory, RequestMetrics
from gateway.socketio_server import packets, server
from gateway.socketio_server.python_socketio import Acknowledge, PacketServer
from gateway.socketio_server.unfinished_packets import AttachmentLimits
from gateway.timers import SystemClock, TimerHeap
from gateway.transport.admission import Admission, AdmissionLimits, TrustedProxies
from gateway.transport.connection_totals import ConnectionTotals
from gateway.transport.cors import Origins
from gateway.transport.errors import HandshakeError
from gateway.transport.http import HttpLimits
from gateway.transport.new_connections import HandshakePath
from gateway.transport.packets import Frames, message
from gateway.transport.server import EngineObserver, EngineOptions, EngineServer
from gateway.transport.session import EngineSession
from gateway.transport.tcp_connections import OpenConnections
from ingest_api.access_log import RejectedRequestLog

PING_INTERVAL_SECONDS = 0.3
PING_TIMEOUT_SECONDS = 0.2
CONNECT_TIMEOUT_SECONDS = 1.0
MAX_PAYLOAD_BYTES = 1_000_000
ATTACHMENT_SECONDS = 10.0
NAMESPACES = ("/", "/custom")
PATHS = {"engine.io": "/engine.io/", "socket.io": "/socket.io/"}


class EchoEngine:
    """Echoes each Engine.IO message; satisfies ``transport.server.EngineObserver``."""

    def session_opened(self, session: EngineSession) -> None:
        """Take the session for one that joined, so that the rate of frames is that of an application's client."""
        session.joined = True

    def session_closed(self, session: EngineSession, reason: str) -> None: ...

    def session_upgraded(self, session: EngineSession) -> None: ...

    def volatile_skipped(self, reason: str) -> None: ...

    async def message_received(self, session: EngineSession, data: str | bytes) -> None:
        session.send(message(data) if isinstance(data, str) else Frames(data))


class EchoServer:
    """Accepts every client and answers its events.

    Satisfies ``transport.server.EngineObserver`` and ``python_socketio.ServerEvents``.
    """

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._sessions: dict[str, EngineSession] = {}
        self._join_deadlines: dict[str, Timer] = {}
        self._joined: dict[tuple[str, str], str] = {}
        self._packets = PacketServer(
            self,
            namespaces=list(NAMESPACES),
            limits=AttachmentLimits(max_bytes=MAX_PAYLOAD_BYTES, timeout_seconds=ATTACHMENT_SECONDS),
            schedule=schedule,
            arriving=ArrivingBodies(),
        )

    # from the transport

    def session_opened(self, session: EngineSession) -> None:
        self._sessions[session.sid] = session
        self._join_deadlines[session.sid] = self._schedule.after(
            CONNECT_TIMEOUT_SECONDS, lambda: _close(session, NO_NAMESPACE)
        )

    def session_closed(self, session: EngineSession, reason: str) -> None:
        self._packets.forget(session.sid)
        del self._sessions[session.sid]
        self._join_deadlines.pop(session.sid).cancel()
        for namespace in NAMESPACES:
            self._joined.pop((session.sid, namespace), None)

    def session_upgraded(self, session: EngineSession) -> None: ...

    def volatile_skipped(self, reason: str) -> None: ...

    async def message_received(self, session: EngineSession, data: str | bytes) -> None:
        try:
            handling = self._packets.message_received(session.sid, data)
            if handling is not None:
                await handling
        except Exception:  # noqa: BLE001  # the decoder raises whatever its input provokes
            _close(session, PROTOCOL_ERROR)

    # from python-socketio

    async def on_connect(self, engine_sid: str, namespace: str, auth: object) -> None:
        if namespace not in NAMESPACES:
            self.send(engine_sid, packets.connect_error(namespace, server.INVALID_NAMESPACE))
            return
        self._join_deadlines[engine_sid].cancel()
        sid = self._joined[engine_sid, namespace] = secrets.token_urlsafe(15)
        self.send(engine_sid, packets.connect(namespace, sid, None))
        self.send(engine_sid, packets.event(namespace, "auth", auth if isinstance(auth, Mapping) else {}))

    def on_disconnect(self, engine_sid: str, namespace: str) -> None:
        self._joined.pop((engine_sid, namespace), None)

    def on_event(
        self,
        engine_sid: str,
        namespace: str,
        data: list[object],
        acknowledge: Acknowledge | None,
        *,
        are_plain: bool,
    ) -> None:
        name, *arguments = data
        if (engine_sid, namespace) not in self._joined:
            _close(self._sessions[engine_sid], PROTOCOL_ERROR)
        elif name == "message":
            self._emit(engine_sid, namespace, ["message-back", *arguments])
        elif name == "message-with-ack" and acknowledge is not None:
            acknowledge(*arguments)

    def is_asked(self, engine_sid: str, text: str) -> bool:
        return False

    def on_binary_ack(self, engine_sid: str, text: str, attachments: Sequence[bytes]) -> None: ...

    def on_failure(self, engine_sid: str, error: Exception) -> None:
        _close(self._sessions[engine_sid], PROTOCOL_ERROR)

    def connection_of(self, engine_sid: str, namespace: str) -> str | None:
        return self._joined.get((engine_sid, namespace))

    def send(self, engine_sid: str, frames: interfaces.Frames) -> None:
        session = self._sessions.get(engine_sid)
        if session is not None:
            session.send(frames)

    def _emit(self, engine_sid: str, namespace: str, data: list[object]) -> None:
        encoded = packet.Packet(packet.EVENT, namespace=namespace, data=data).encode()
        for part in encoded if isinstance(encoded, list) else [encoded]:
            self.send(engine_sid, Frames(part) if isinstance(part, bytes) else message(part))


class ConformanceServer:
    """A server with the path of one suite."""

    def __init__(self, suite: str, *, ping_timeout_seconds: float = PING_TIMEOUT_SECONDS) -> None:
        self.schedule = TimerHeap(asyncio.get_running_loop())
        self.path = PATHS[suite]
        metrics = MetricFactory()
        observer: EngineObserver = EchoEngine() if suite == "engine.io" else EchoServer(self.schedule)
        self.admission = Admission(SystemClock(), AdmissionLimits(), metrics=metrics)
        self.engine = EngineServer(
            EngineOptions(
                replica="conformance",
                transports=("polling", "websocket"),
                ping_interval_seconds=PING_INTERVAL_SECONDS,
                ping_timeout_seconds=ping_timeout_seconds,
                max_payload_bytes=MAX_PAYLOAD_BYTES,
                body_timeout_seconds=5.0,
                send_buffer_bytes=2 * MAX_PAYLOAD_BYTES,
            ),
            observer=observer,
            schedule=self.schedule,
            clock=SystemClock(),
            origins=Origins(["*"]),
            proxies=TrustedProxies(()),
            check_admission=self._check_admission,
            metrics=metrics,
        )
        self._listener = HttpServer(
            web.Application(),
            direct={self.path: self.engine.handle},
            handshakes=HandshakePath((self.path,), self.engine.open_websocket),
            reject=RejectedRequestLog(RequestMetrics(metrics)),
            limits=HttpLimits(head_timeout_seconds=5.0),
            totals=ConnectionTotals(metrics),
            connections=OpenConnections(SystemClock(), listener="public", limit=10_000),
            finish_seconds=1.0,
        )

    def _check_admission(self, address: str) -> HandshakeError | None:
        return self.admission.decide(
            address, sessions=len(self.engine.sessions), unauthenticated=0, make_room=lambda: False
        )

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port."""
        return await self._listener.start(host, port)

    async def stop(self) -> None:
        for session in list(self.engine.sessions.values()):
            session.abort("stopped")
        await self._listener.stop()


def _close(session: EngineSession, reason: DisconnectReason) -> None:
    session.end(reason.close_code or 1000, reason.reason)


async def serve(suite: str, port: int, report: Callable[[str], None]) -> None:
    """Serve until cancelled."""
    server = ConformanceServer(suite)
    # No host means every address of the machine, as for Node's server: `localhost` may be IPv4 or IPv6.
    bound = await server.start("", port)
    report(f"http://localhost:{bound}{server.path}")
    try:
        await asyncio.Event().wait()
    finally:
        await server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description="Serves what an official protocol suite expects.")
    parser.add_argument("--suite", choices=sorted(PATHS), required=True)
    parser.add_argument("--port", type=int, default=3000)
    arguments = parser.parse_args()
    try:
        uvloop.run(serve(arguments.suite, arguments.port, lambda url: print(url, flush=True)))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
