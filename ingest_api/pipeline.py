"""Handle every request to the REST API: request id, trace, route, handler, error response, log line and count."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, cast

import structlog
from aiohttp import web
from multidict import CIMultiDictProxy

from gateway.domain.bounded_body import ArrivingBodies
from gateway.domain.errors import BrokerTimeout, release_frames
from gateway.domain.messages import PublishResult
from gateway.domain.traces import find_trace
from ingest_api.access_log import AccessLog, find_request_id
from ingest_api.body import StreamedBody
from ingest_api.errors import Problem, problem_of
from ingest_api.interfaces import Caller, Clock, Span, Tracer
from ingest_api.plain_push import AcceptedPush, PlainPushes, header_values
from ingest_api.request import REQUEST_ID_HEADER, TRACE_HEADER, BodyStream, Request, Response
from ingest_api.routing import Routes

_METHODS: Final = ("POST", "GET", "PATCH")
ResponseParts = tuple[int, Mapping[str, str], bytes]
"""Status, headers and body."""

log = structlog.get_logger(__name__)


class RestApi:
    """Handles all requests to the REST API. Every request gets a response, a log line and a count.

    Requests arrive through aiohttp (``handle_aiohttp``) or through the transport's fast path (``matches``, ``begin``,
    ``handle``).
    """

    def __init__(
        self,
        routes: Routes,
        clock: Clock,
        access_log: AccessLog,
        *,
        plain_pushes: PlainPushes | None = None,
        tracer: Tracer | None = None,
        arriving: ArrivingBodies | None = None,
    ) -> None:
        """``plain_pushes`` accepts pushes in one step; None: none are.

        ``tracer`` is None if no spans are collected. A request then keeps the trace that it names.

        ``arriving`` bounds all bodies that arrive at once; None: those of this object alone.
        """
        self._routes = routes
        self.beginnings = tuple(
            f"{method} {each}".encode() for method in _METHODS for each in routes.beginnings
        )
        self._clock = clock
        self._access_log = access_log
        self._tracer = tracer
        # A request with a span is handled by ``handle``.
        self._plain_pushes = plain_pushes if tracer is None else None
        self._arriving = arriving or ArrivingBodies()

    @property
    def templates(self) -> tuple[str, ...]:
        """The templates of all routes."""
        return self._routes.templates

    async def handle_aiohttp(self, aiohttp_request: web.Request) -> web.Response:
        """Handle a request that aiohttp parsed.

        Raises:
            CancelledError: The request was cancelled. No other exception is raised.
        """
        status, headers, content = await self.handle(
            aiohttp_request.method,
            aiohttp_request.raw_path,
            aiohttp_request.headers,
            StreamedBody(aiohttp_request, self._arriving),
            remote=aiohttp_request.remote,
            caller=_caller_of(aiohttp_request),
        )
        response = web.Response(body=content, status=status, headers=headers)
        if not aiohttp_request.content.is_eof():
            # RFC 9110 §10.1.1: a response before the end of the body must state what happens to the connection.
            response.force_close()
        return response

    def matches(self, method: str, target: str) -> bool:
        """Return whether the fast path may handle such a request (``gateway.transport.fast_path.FastPath``)."""
        return method in _METHODS and self._routes.may_match(target)

    def begin(
        self,
        method: str,
        target: str,
        fields: Mapping[bytes, bytes],
        body: bytes,
        respond: Callable[[ResponseParts], None],
        *,
        remote: str | None,
    ) -> bool:
        """Handle a plain push in this step; return False, and do nothing, for any other request.

        See ``gateway.transport.fast_path.FastPath``.
        """
        if self._plain_pushes is None or method != "POST":
            return False
        started = self._clock.monotonic()
        try:
            push = self._plain_pushes.accept(target, fields, body, remote)
        except Exception as error:  # noqa: BLE001 - the outermost edge, as in ``handle``
            request = self._routed(method, target, fields, body, remote)
            respond(self._respond_to(request, _error_response(request, error), started))
            return True
        if push is None:
            return False
        if isinstance(push.result, PublishResult):
            respond(self._finish(push, push.result, started))
        else:
            push.result.add_done_callback(partial(self._finish_later, push, started, respond))
        return True

    def _routed(
        self, method: str, target: str, fields: Mapping[bytes, bytes], body: bytes, remote: str | None
    ) -> Request:
        """Return the request of a plain push that failed, for its response and its log line."""
        headers = header_values(fields)
        request = Request(
            method, target, headers, body, find_request_id(headers.getall(REQUEST_ID_HEADER, ()))
        )
        request.remote = remote
        self._routes.find(request)
        return request

    def _finish_later(
        self,
        push: AcceptedPush,
        started: float,
        respond: Callable[[ResponseParts], None],
        published: asyncio.Future[PublishResult],
    ) -> None:
        error = _cancelled() if published.cancelled() else published.exception()
        if error is None:
            respond(self._finish(push, published.result(), started))
        elif isinstance(error, Exception):
            push.request.headers = header_values(push.fields)
            respond(self._respond_to(push.request, _error_response(push.request, error), started))

    def _finish(self, push: AcceptedPush, result: PublishResult, started: float) -> ResponseParts:
        push.request.publish_result = result
        return self._respond_to(push.request, push.response(result), started)

    def _respond_to(
        self, request: Request, response: Response, started: float, span: Span | None = None
    ) -> ResponseParts:
        """Record a finished request and return its response."""
        self._access_log.request_finished(request, response, self._clock.monotonic() - started, span)
        return response.status, _headers(request, response), response.body

    async def handle(
        self,
        method: str,
        target: str,
        headers: CIMultiDictProxy[str],
        body: bytes | BodyStream,
        *,
        remote: str | None,
        caller: Caller | None = None,
    ) -> ResponseParts:
        """Handle a request. ``body`` is a stream if it may not have arrived completely; ``remote`` is the peer.

        ``caller`` is its connection; None if it is not known when that is closed.

        Raises:
            CancelledError: The request was cancelled. No other exception is raised.
        """
        started = self._clock.monotonic()
        request_id = find_request_id(headers.getall(REQUEST_ID_HEADER, ()))
        # W3C Trace Context §3.2.2: a malformed traceparent is ignored and is no reason to reject the request.
        trace = find_trace(headers.getall(TRACE_HEADER)) if TRACE_HEADER in headers else None
        request = Request(method, target, headers, body, request_id, trace)
        request.remote, request.caller = remote, caller
        span = None if self._tracer is None else self._begin_span(self._tracer, request)
        try:
            response = await self._routes.find(request).handle(request)
        except asyncio.CancelledError:
            self._access_log.request_cancelled(request, self._clock.monotonic() - started, span)
            raise
        except Exception as error:  # noqa: BLE001 - the outermost edge: an unexpected error is logged, its response has no details
            response = _error_response(request, error)
        return self._respond_to(request, response, started, span)

    def _begin_span(self, tracer: Tracer, request: Request) -> Span:
        span = tracer.begin(request.method, request.trace)
        request.trace = span.trace
        return span


def _caller_of(aiohttp_request: web.Request) -> Caller | None:
    """Return the connection of a request; None on aiohttp's own server, which does not report the end of one."""
    protocol = aiohttp_request.protocol
    return cast(Caller, protocol) if hasattr(protocol, "on_close") else None


def _error_response(request: Request, error: Exception) -> Response:
    """Return the response to an error, and release the request and its body, which the traceback holds."""
    response = (problem_of(error) or _internal_error(request, error)).response(request.request_id)
    release_frames(error)
    return response


def _cancelled() -> BrokerTimeout:
    """Return the error of a push whose result nothing will set: it is unknown whether the broker has it."""
    return BrokerTimeout("the push was cancelled")


def _internal_error(request: Request, error: Exception) -> Problem:
    log.error("request.failed", request_id=request.request_id, route=request.template, exc_info=error)
    return Problem("internal_error", "the gateway failed; its log has the request_id")


def _headers(request: Request, response: Response) -> Mapping[str, str]:
    headers = {
        "Content-Type": response.content_type,
        "Cache-Control": "no-store",
        REQUEST_ID_HEADER: request.request_id,
    }
    if request.response_headers:
        headers.update(request.response_headers)
    if response.headers:
        headers.update(response.headers)
    return headers
