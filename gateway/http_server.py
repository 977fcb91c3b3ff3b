"""An HTTP server: one port that serves an aiohttp application with the gateway's own connection handler.

It listens with one socket for each address of its host, IPv4 and IPv6 apart: an IPv6 socket that also accepts IPv4
would show IPv4 clients with mapped addresses, and does not exist everywhere.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final, cast

import structlog
from aiohttp import HttpVersion10, HttpVersion11, hdrs, web

from gateway.transport.connection_totals import ConnectionTotals
from gateway.transport.fast_path import FastPath, FastPathHandler
from gateway.transport.http import (
    CorsHeaders,
    GatewayRequestHandler,
    HandlerOptions,
    HttpLimits,
    Reject,
)
from gateway.transport.http_response import keepalive_headers
from gateway.transport.new_connections import NO_HANDSHAKES, HandshakePath, NewConnection
from gateway.transport.tcp_connections import RETRY_SECONDS, OpenConnections

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

BACKLOG: Final = 4096
UNSENT_BYTES: Final = 128 * 1024
"""How many bytes the kernel takes for a connection beside those that are on their way to the client."""
PROBES: Final = frozenset({"/healthz", "/health/live", "/health/ready", "/metrics"})
"""Paths that are answered on every connection, also when there are too many."""
_FULL: Final = "this replica has too many open connections"
_CODES: Final = {404: "not_found", 405: "method_not_allowed"}
ANSWER_SECONDS: Final = 2.0
"""How long whole requests may take to be answered when the server stops; nothing that they wait for takes longer."""
_BOTH_FAMILIES: Final = {
    "": ("0.0.0.0", "::"),  # noqa: S104  # the operator asked for all addresses
    "::": ("0.0.0.0", "::"),  # noqa: S104
    "localhost": ("127.0.0.1", "::1"),
}
"""Hosts that mean both families, whatever the file of hosts says. Programs connect to ``localhost`` over either."""
_NO_FAMILY: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})
"""Errors of a machine without IPv6."""
_ATTEMPTS: Final = 16
"""How often a port is chosen: the one that is free over IPv4 may be in use over IPv6."""

log = structlog.get_logger(__name__)


class ListenFailed(Exception):
    """A port is in use or not permitted; the message says which port and why."""


class HttpServer:
    """One port that serves one application, and some paths without the routing and middlewares of the application."""

    def __init__(
        self,
        app: web.Application,
        *,
        direct: Mapping[str, Handler],
        reject: Reject,
        limits: HttpLimits,
        totals: ConnectionTotals,
        connections: OpenConnections,
        finish_seconds: float,
        cors: CorsHeaders | None = None,
        fast_path: FastPath | None = None,
        handshakes: HandshakePath = NO_HANDSHAKES,
    ) -> None:
        """``direct``: handlers of exact paths. ``fast_path``: handles whole requests; it matches none of these paths.

        ``handshakes``: opens WebSockets on new connections without aiohttp, as ``direct`` would.

        ``totals`` are those of the process, ``connections`` those of this port. ``finish_seconds``: how long running
        requests may take to finish when the server stops. ``cors``: makes headers of the answers to requests that reach
        no handler; None: there are none.
        """
        self._runner = web.AppRunner(
            app, handle_signals=False, access_log=None, shutdown_timeout=ANSWER_SECONDS
        )
        self._finish_seconds = finish_seconds
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._direct = direct
        self._fast_path = fast_path
        self._handshakes = handshakes
        self._reject = reject
        self._cors: CorsHeaders = cors or (lambda _, __: {})
        self._limits = limits
        self._totals = totals
        self._connections = connections
        self._new: set[NewConnection] = set()
        self._kept = keepalive_headers(limits.keepalive_seconds)
        self._listeners: list[asyncio.Server] = []
        self._draining = asyncio.Event()

    async def start(self, host: str, port: int) -> int:
        """Listen on every address of the host, and return the port, which the system chooses if ``port`` is 0.

        Raises: ListenFailed.
        """
        await self._runner.setup()
        server = cast(web.Server, self._runner.server)  # None only before setup
        server.request_handler = partial(self._dispatch, server.request_handler)
        loop = asyncio.get_running_loop()
        try:
            bound = await bind_sockets(host, port)
            for each in bound:
                # asyncio's own loop accepts as many at a time as the backlog has; when files run out, it would fail and
                # try again as often. uvloop accepts all in any case.
                self._listeners.append(
                    await loop.create_server(partial(self._new_connection, server), sock=each, backlog=1)
                )
                each.listen(BACKLOG)
        except OSError as error:
            raise ListenFailed(
                f"port {port} of {error.filename or host} cannot be opened: {error.strerror or error}"
            ) from error
        chosen: int = bound[0].getsockname()[1]
        return chosen

    def start_draining(self) -> None:
        """Close each connection with its next answer, so that its client opens one to another replica.

        Connections keep open after an answer of ``direct``: the next request of a session has to reach this process.
        """
        self._draining.set()

    def close(self) -> None:
        """Accept no more connections; open ones stay open."""
        for listener in self._listeners:
            listener.close()

    async def stop(self) -> None:
        """Let running requests finish, then close every connection."""
        self.close()
        # aiohttp reads no more bytes once it shuts down, so a body that is still arriving would never be whole.
        with suppress(TimeoutError):
            async with asyncio.timeout(self._finish_seconds):
                await self._idle.wait()
        for each in list(self._new):
            each.close()
        await self._runner.cleanup()

    async def _dispatch(self, application: Handler, request: web.Request) -> web.StreamResponse:
        handler = cast(GatewayRequestHandler, request.protocol)
        fault = find_fault(request)
        if fault is not None:
            return self._answer(request, *fault)
        if handler.is_spare and request.path not in PROBES:
            response: web.StreamResponse = self._answer(request, 503, "overloaded", _FULL)
            response.headers[hdrs.RETRY_AFTER] = str(RETRY_SECONDS)
            return response
        direct = self._direct.get(request.path)
        self._running += 1
        self._idle.clear()
        try:
            response = await (direct or application)(request)
        except web.HTTPException as rejection:
            response = self._translate(request, rejection)
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()
        if handler.is_last_answer or handler.is_spare or (self._draining.is_set() and direct is None):
            response.force_close()
        elif request.keep_alive and response.keep_alive is not False and not response.prepared:
            response.headers.update(self._kept)
        return response

    def _translate(self, request: web.Request, rejection: web.HTTPException) -> web.StreamResponse:
        """Translate aiohttp's own 404 and 405, which answer requests that select no application.

        A request in absolute form without a path is one.
        """
        code = _CODES.get(rejection.status)
        if code is None:
            return rejection
        response = self._answer(
            request, rejection.status, code, "there is nothing here that answers this request"
        )
        if hdrs.ALLOW in rejection.headers:
            response.headers[hdrs.ALLOW] = rejection.headers[hdrs.ALLOW]
        return response

    def _answer(self, request: web.Request, status: int, code: str, detail: str) -> web.Response:
        headers, body = self._reject(status, code, detail, request.headers, request.remote)
        response = web.Response(status=status, body=body, headers=headers)
        if code not in _CODES.values():
            response.force_close()
        return response

    def _new_connection(self, server: web.Server) -> NewConnection:
        return NewConnection(
            asyncio.get_running_loop(),
            limits=self._limits,
            connections=self._connections,
            new_connections=self._new,
            handshakes=self._handshakes,
            make_handler=partial(self._make_handler, server),
        )

    def _make_handler(self, server: web.Server, is_spare: bool) -> GatewayRequestHandler:
        options: HandlerOptions = {
            "is_spare": is_spare,
            "loop": asyncio.get_running_loop(),
            "reject": self._reject,
            "limits": self._limits,
            "cors": self._cors,
            "totals": self._totals,
            "connections": self._connections,
        }
        if self._fast_path is None:
            return GatewayRequestHandler(server, **options)
        return FastPathHandler(
            server, fast_path=self._fast_path, is_draining=self._draining.is_set, **options
        )


def find_fault(request: web.BaseRequest) -> tuple[int, str, str] | None:
    """Return status, code and sentence for the first fault of a head that aiohttp accepts; None if it has none."""
    if request.version < HttpVersion10:
        return 400, "bad_request", "a request names its version, HTTP/1.0 or HTTP/1.1"
    if request.version > HttpVersion11:
        return 505, "unsupported_version", "this is for HTTP/1.0 and HTTP/1.1"
    if request.version == HttpVersion11 and hdrs.HOST not in request.headers:
        # RFC 9112 §3.2 requires this answer, and aiohttp needs the host to select an application.
        return 400, "bad_request", "an HTTP/1.1 request names its Host"
    if hdrs.TRANSFER_ENCODING not in request.headers:
        return None
    # aiohttp looks at the last coding alone. A proxy that reads the others would see another end of the request.
    codings = [
        each.strip().lower() for each in ",".join(request.headers.getall(hdrs.TRANSFER_ENCODING)).split(",")
    ]
    if request.version < HttpVersion11:
        return 400, "bad_request", "a Transfer-Encoding needs HTTP/1.1 (RFC 9112 §6.1)"
    if hdrs.CONTENT_LENGTH in request.headers or codings.count("chunked") > 1:
        return 400, "bad_request", "the length of the body is given twice (RFC 9112 §6.1)"
    if codings != ["chunked"]:
        return 501, "unsupported_transfer_encoding", "the only Transfer-Encoding is chunked"
    return None


def printable_host(host: str) -> str:
    """Return the host as it is written in a URL that is opened on this machine."""
    if host.lower() in {"0.0.0.0", "::", "", "localhost"}:  # noqa: S104  # compared, not bound
        return "127.0.0.1"
    try:
        socket.inet_pton(socket.AF_INET6, host)
    except OSError:
        return host
    return f"[{host}]"


async def bind_sockets(host: str, port: int) -> list[socket.socket]:
    """Bind a socket for each address of the host. If ``port`` is 0, the system chooses one that all of them get.

    An address of a family that this machine does not have is skipped if there is another one.

    Raises: OSError, with the address as ``filename``.
    """
    addresses = await _resolve(host)
    for _ in range(_ATTEMPTS - 1):
        try:
            return _bind_all(addresses, port)
        except OSError as error:
            if port or error.errno != errno.EADDRINUSE:
                raise
    return _bind_all(addresses, port)


async def _resolve(host: str) -> list[tuple[socket.AddressFamily, Any]]:
    """Return family and address of each name; IPv4 comes first, and its address is the one that is shown."""
    loop = asyncio.get_running_loop()
    found: list[tuple[socket.AddressFamily, Any]] = []
    for name in _BOTH_FAMILIES.get(host.lower(), (host,)):
        resolved = await loop.getaddrinfo(name, 0, type=socket.SOCK_STREAM)
        found += [(family, address) for family, _, _, _, address in resolved]
    return sorted(dict.fromkeys(found), key=lambda each: each[0] != socket.AF_INET)


def _bind_all(addresses: list[tuple[socket.AddressFamily, Any]], port: int) -> list[socket.socket]:
    bound: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, address in addresses:
            try:
                bound.append(_bind(family, address, port))
            except OSError as error:
                if family != socket.AF_INET6 or error.errno not in _NO_FAMILY:
                    raise
                missing = error
            else:
                port = bound[-1].getsockname()[1]
        if not bound and missing is not None:
            raise missing
    except BaseException:
        for each in bound:
            each.close()
        raise
    if missing is not None:
        log.info("gateway.address_skipped", address=missing.filename, reason=missing.strerror)
    return bound


def _bind(family: socket.AddressFamily, address: Any, port: int) -> socket.socket:
    """Bind one socket.

    Raises: OSError, with the address as ``filename``.
    """
    try:
        bound = socket.socket(family, socket.SOCK_STREAM)
        try:
            if os.name == "posix":
                # Otherwise connections that were closed lately would keep the port for a minute.
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if hasattr(socket, "TCP_NOTSENT_LOWAT"):
                # Accepted sockets inherit it. The kernel would take up to 4 MB for each client that does not read.
                bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            bound.bind((address[0], port, *address[2:]))
        except BaseException:
            bound.close()
            raise
    except OSError as error:
        raise OSError(error.errno, os.strerror(error.errno or 0), address[0]) from error
    bound.setblocking(False)
    return bound
