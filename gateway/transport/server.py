"""The Engine.IO path: dispatches handshakes, polls, posts and WebSockets, rejects all else, and keeps the sessions."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

import structlog
from aiohttp import hdrs, web
from multidict import CIMultiDictProxy

from gateway.domain.bounded_body import ArrivingBodies
from gateway.domain.sampling import LineLimiter
from gateway.hub import GatheredFrames
from gateway.interfaces import Clock, Schedule
from gateway.metrics import MetricFactory, one_label
from gateway.transport import errors
from gateway.transport.admission import FORWARDED_FOR, TrustedProxies, read_handshake
from gateway.transport.cors import Origins
from gateway.transport.errors import HandshakeError
from gateway.transport.heartbeat import Heartbeat
from gateway.transport.http_response import DETACHED
from gateway.transport.packets import Frames, open_packet
from gateway.transport.polling import PollingTransport
from gateway.transport.receive_limits import ReceiveLimits, receive_limits
from gateway.transport.session import EngineSession, Handling, SessionObserver
from gateway.transport.stats import create_stats_metrics
from gateway.transport.transports import FrameWriter
from gateway.transport.websocket import HandshakeRequest, WebSocketTransport

PROTOCOL_VERSION: Final = "4"
MAX_ORIGIN_CHARACTERS: Final = 200
"""Maximum length of an origin and of a host in the log: a client may send any text."""
_NO_STORE: Final = {"Cache-Control": "no-store"}

log = structlog.get_logger(__name__)


class EngineObserver(SessionObserver, Protocol):
    """What the server reports to the layer above."""

    def session_opened(self, session: EngineSession) -> None:
        """A session is open; its client has not received the handshake yet."""
        ...

    def message_received(self, session: EngineSession, data: str | bytes) -> Handling:
        """A message arrived; the next one of the session is reported once this one is handled."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineOptions:
    """Settings of the transport. Sizes in bytes, times in seconds.

    ``unauthenticated_payload_bytes`` applies until a session has joined a namespace; None: ``max_payload_bytes`` does.
    ``messages_per_second``: how many events a client may send; the rate of all its frames follows from it.
    ``token_cookie``: the name of the cookie that may hold the token; None: no cookie is read.
    ``deflates_from_bytes``: WebSocket messages of this size and above are compressed; None: compression is not offered.
    ``compresses_polls_from_bytes``: answers to polls of this size and above are compressed; None: none is.
    """

    replica: str
    transports: tuple[str, ...]
    ping_interval_seconds: float
    ping_timeout_seconds: float
    upgrade_timeout_seconds: float = 10.0
    max_payload_bytes: int
    unauthenticated_payload_bytes: int | None = None
    messages_per_second: float = 50.0
    deflates_from_bytes: int | None = None
    compresses_polls_from_bytes: int | None = None
    body_timeout_seconds: float
    send_buffer_bytes: int
    token_cookie: str | None = None


class EngineServer:
    """Serves the Engine.IO path and keeps every session of this replica."""

    def __init__(
        self,
        options: EngineOptions,
        *,
        observer: EngineObserver,
        schedule: Schedule,
        clock: Clock,
        origins: Origins,
        proxies: TrustedProxies,
        check_admission: Callable[[str], HandshakeError | None],
        metrics: MetricFactory,
        gathered: GatheredFrames | None = None,
        arriving: ArrivingBodies | None = None,
        lines: LineLimiter | None = None,
    ) -> None:
        """``check_admission`` gets the address of a client before its session is opened; None admits it.

        ``gathered`` are the frames that the hub has gathered for sockets; None: it gathers none.
        ``arriving`` bounds all bodies that arrive at once; None: those of this server alone.
        ``lines`` limits the log lines about rejected handshakes; None: all are written.
        """
        self.sessions: dict[str, EngineSession] = {}
        self.empty = asyncio.Event()
        """Set while there is no session."""
        self.empty.set()
        self._options = options
        self._observer = observer
        self._schedule = schedule
        self._origins = origins
        self._proxies = proxies
        self._check_admission = check_admission
        self._lines = lines
        limits = _limits_of(options)
        arriving = arriving or ArrivingBodies()
        self._heartbeat = Heartbeat(
            schedule,
            interval_seconds=options.ping_interval_seconds,
            timeout_seconds=options.ping_timeout_seconds,
        )
        self._polling = PollingTransport(
            self._deliver,
            clock=clock,
            limits=limits,
            body_timeout_seconds=options.body_timeout_seconds,
            arriving=arriving,
            compresses_from_bytes=options.compresses_polls_from_bytes,
        )
        self._websocket = WebSocketTransport(
            self._deliver,
            schedule,
            clock=clock,
            limits=limits,
            arriving=arriving,
            upgrade_timeout_seconds=options.upgrade_timeout_seconds,
            deflates_from_bytes=options.deflates_from_bytes,
            gathered={} if gathered is None else gathered,
        )

        self._create_metrics(metrics)

    def _create_metrics(self, metrics: MetricFactory) -> None:
        self._rejected = metrics.counter(
            "engineio_requests_rejected",
            "Requests to the Socket.IO path that were rejected, by reason.",
            ("reason",),
            one_label(errors.REJECTIONS),
        )
        self._closed = metrics.counter(
            "engineio_sessions_closed",
            "Engine.IO sessions that ended, by reason; also those that joined no namespace.",
            ("reason",),
            one_label(errors.ALL_CLOSE_REASONS),
        )
        metrics.callback_gauge(
            "send_buffer_limit_bytes",
            "SEND_BUFFER_BYTES, the limit for each Engine.IO session.",
            read=lambda: self._options.send_buffer_bytes,
        )
        create_stats_metrics(self.sessions, metrics)

    @property
    def websockets(self) -> int:
        """The number of open WebSockets, also of those whose session has ended."""
        return self._websocket.count

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request to the Engine.IO path."""
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is not None and not self._allows(origin, request):
            return self._reject(request, errors.FORBIDDEN, {})
        cors = self._origins.headers(origin)
        if request.method == hdrs.METH_OPTIONS:
            requested = request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS)
            return web.Response(status=204, headers=self._origins.preflight_headers(origin, requested))
        upgrade = request.headers.get(hdrs.UPGRADE, "").lower() == "websocket"
        query = request.query
        sid = query.get("sid")
        rejection = self._check(request.method, query.get("EIO"), query.get("transport"), sid, upgrade)
        if rejection is None and request.method == hdrs.METH_GET and request.body_exists:
            # It would not be read, and be kept for as long as the poll waits.
            rejection = errors.BAD_REQUEST
        if rejection is not None:
            return self._reject(request, rejection, cors)
        answer = await (
            self._continue_session(request, sid, upgrade) if sid else self._start_session(request, upgrade)
        )
        if isinstance(answer, HandshakeError):
            return self._reject(request, answer, cors)
        if answer is not DETACHED:
            answer.headers.update(cors)
        return answer

    def open_websocket(self, request: HandshakeRequest) -> bool:
        """Open a WebSocket for a new session in this step, as ``handle`` does with its GET of one.

        Return False if the request is rejected or continues a session: nothing was done then.
        """
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is not None and not self._allows(origin, request):
            return False
        query = request.query
        if query.get("sid") or self._check(
            hdrs.METH_GET, query.get("EIO"), query.get("transport"), None, upgrade=True
        ):
            return False
        answer = self._websocket.answer(request)
        # Admission is last: it counts the handshake.
        if answer is None or self._check_admission(address := self._address_of(request)) is not None:
            return False
        self._websocket.open(request, answer, partial(self._open_on_websocket, request, address))
        return True

    def cors_headers(self, remote: str | None, headers: CIMultiDictProxy[str]) -> dict[str, str]:
        """Return the headers that let a page read the answer to a request that reached no handler."""
        origin = headers.get(hdrs.ORIGIN)
        if origin is None:
            return {}
        host, scheme = self._proxies.requested_host(remote, headers)
        return self._origins.headers(origin) if self._origins.allows(origin, host=host, scheme=scheme) else {}

    async def stop(self, timeout_seconds: float) -> None:
        """Wait until WebSockets are closed, at most ``timeout_seconds``, then abort the rest. aiohttp ends polls."""
        await self._websocket.stop(timeout_seconds)

    def session_closed(self, session: EngineSession, reason: str) -> None:
        """Forget the session and report it to the layer above."""
        self._closed.count((reason,))
        self._heartbeat.unwatch(session)
        self.sessions.pop(session.sid, None)
        if not self.sessions:
            self.empty.set()
        self._observer.session_closed(session, reason)

    def session_upgraded(self, session: EngineSession) -> None:
        self._observer.session_upgraded(session)

    def volatile_skipped(self, reason: str) -> None:
        self._observer.volatile_skipped(reason)

    def _allows(self, origin: str, request: HandshakeRequest) -> bool:
        host, scheme = self._proxies.requested_host(request.remote, request.headers)
        return self._origins.allows(origin, host=host, scheme=scheme)

    def _deliver(self, session: EngineSession, message: str | bytes) -> Handling:
        try:
            handling = self._observer.message_received(session, message)
        except Exception:
            log.exception("message.failed")
            session.end(1011, "internal_error")
            return None
        return None if handling is None else self._finish(session, handling)

    async def _finish(self, session: EngineSession, handling: Coroutine[Any, Any, None]) -> None:
        try:
            await handling
        except Exception:
            log.exception("message.failed")
            session.end(1011, "internal_error")

    def _check(
        self, method: str, version: str | None, transport: str | None, sid: str | None, upgrade: bool
    ) -> HandshakeError | None:
        """Return the first error of a request, in the order of the reference server's ``verify``."""
        if transport not in self._options.transports:
            return errors.UNKNOWN_TRANSPORT
        if sid:
            return self._check_session(method, transport, sid, upgrade)
        if method != hdrs.METH_GET:
            return errors.BAD_HANDSHAKE_METHOD
        if (transport == "websocket") != upgrade:
            return errors.BAD_REQUEST
        if version != PROTOCOL_VERSION:
            return errors.UNSUPPORTED_PROTOCOL
        return None

    def _check_session(self, method: str, transport: str, sid: str, upgrade: bool) -> HandshakeError | None:
        """Return the first error of a request that names a session."""
        session = self.sessions.get(sid)
        if session is None:
            return errors.UNKNOWN_SID
        if method not in {hdrs.METH_GET, hdrs.METH_POST}:
            return errors.BAD_REQUEST
        if upgrade:
            return None if transport == "websocket" and method == hdrs.METH_GET else errors.BAD_REQUEST
        return None if transport == session.transport == "polling" else errors.BAD_REQUEST

    async def _start_session(
        self, request: web.Request, upgrade: bool
    ) -> web.StreamResponse | HandshakeError:
        """Answer a handshake."""
        address = self._address_of(request)
        rejection = self._check_admission(address)
        if rejection is not None:
            return rejection
        if upgrade:
            return self._websocket.serve(request, partial(self._open_on_websocket, request, address))
        session = self._open(request, address, None)
        return web.Response(
            body=self._open_packet(session, "polling").record,
            content_type="text/plain",
            charset="UTF-8",
            headers=_NO_STORE,
        )

    async def _continue_session(
        self, request: web.Request, sid: str, upgrade: bool
    ) -> web.StreamResponse | HandshakeError:
        """Answer a request of an open session."""
        session = self.sessions[sid]
        if upgrade:
            return self._websocket.upgrade(request, session)
        if request.method == hdrs.METH_POST:
            return await self._polling.post(request, session)
        return await self._polling.poll(request, session)

    def _open_on_websocket(
        self, request: HandshakeRequest, address: str, writer: FrameWriter, head: bytes
    ) -> EngineSession:
        session = self._open(request, address, writer)
        # In one write with the answer to the request: each write wakes up the client.
        writer.write(head + self._open_packet(session, "websocket").frame)
        return session

    def _open(self, request: HandshakeRequest, address: str, writer: FrameWriter | None) -> EngineSession:
        # 128 random bits after the name of the replica, by which a proxy or an operator finds the replica.
        sid = f"{self._options.replica}.{secrets.token_urlsafe(16)}"
        session = EngineSession(
            sid,
            handshake=read_handshake(
                request.headers, request.query, address=address, token_cookie=self._options.token_cookie
            ),
            observer=self,
            send_buffer_bytes=self._options.send_buffer_bytes,
            writer=writer,
        )
        self.sessions[sid] = session
        self.empty.clear()
        self._heartbeat.watch(session)
        self._observer.session_opened(session)
        return session

    def _open_packet(self, session: EngineSession, transport: str) -> Frames:
        may_upgrade = transport == "polling" and "websocket" in self._options.transports
        return open_packet(
            session.sid,
            upgrades=["websocket"] if may_upgrade else [],
            ping_interval_seconds=self._options.ping_interval_seconds,
            ping_timeout_seconds=self._options.ping_timeout_seconds,
            max_payload_bytes=self._options.max_payload_bytes,
        )

    def _reject(self, request: web.Request, error: HandshakeError, cors: dict[str, str]) -> web.Response:
        self._rejected.count((error.reason,))
        self._log_rejected(request, error)
        return _rejection(error, cors)

    def _log_rejected(self, request: web.Request, error: HandshakeError) -> None:
        fields: dict[str, object] = {
            "reason": error.reason,
            "status": error.status,
            "address": self._address_of(request),
        }
        if error is errors.FORBIDDEN:
            # Nearly always a page of the operator's own that is missing in CORS_ORIGINS.
            fields["origin"] = request.headers.get(hdrs.ORIGIN, "")[:MAX_ORIGIN_CHARACTERS]
            host, _ = self._proxies.requested_host(request.remote, request.headers)
            fields["host"] = host[:MAX_ORIGIN_CHARACTERS]
        if request.query.get("sid"):
            log.debug("request.rejected", **fields)
        elif self._lines is None or self._lines.allows(
            "handshake.rejected", error.reason, str(fields["address"])
        ):
            log.info("handshake.rejected", **fields)

    def _address_of(self, request: HandshakeRequest) -> str:
        return self._proxies.client_of(request.remote, request.headers.getall(FORWARDED_FOR, ()))


def _limits_of(options: EngineOptions) -> ReceiveLimits:
    unauthenticated_bytes = options.unauthenticated_payload_bytes or options.max_payload_bytes
    return receive_limits(
        joined_bytes=options.max_payload_bytes,
        unauthenticated_bytes=min(unauthenticated_bytes, options.max_payload_bytes),
        messages_per_second=options.messages_per_second,
    )


def _rejection(error: HandshakeError, cors: dict[str, str]) -> web.Response:
    headers = _NO_STORE | cors
    answer = web.Response(
        status=error.status, text=error.body, content_type="application/json", headers=headers
    )
    if error.retry_after_seconds is not None:
        answer.headers["Retry-After"] = str(error.retry_after_seconds)
        # Another replica may admit the client; over a kept connection it would reach this one again.
        answer.force_close()
    return answer
