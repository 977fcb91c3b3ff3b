"""Spans of pushes and deliveries, and their way to a collector (OTLP over HTTP).

Attributes are those of the semantic conventions for HTTP and messaging where they have any. Nothing of a user or of a
payload is among them: no room, no user, no name of an event, no query. What the loop does for a span is to make it and
to put it into a queue of bounded length; a thread of its own sends it, and drops what finds no place.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from typing import Final

from opentelemetry import trace as otel
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from gateway.domain.dedup import DedupKey
from gateway.domain.messages import Message, PublishResult, json_bytes
from gateway.domain.traces import RANDOM, SAMPLED, Trace
from gateway.interfaces import DeliveryObserver
from gateway.tracing.telemetry import Publisher, Telemetry

CLOSE_SECONDS: Final = 2.0
"""How long the last spans may take when the process stops; a collector that is away keeps nobody from stopping."""
_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_FAILED: Final = 500
Attributes = dict[str, str | int]


class ExportingTelemetry(Telemetry):
    """Tells in lines of log and in spans."""

    def __init__(self, deliveries: DeliveryObserver, *, replica: str, version: str) -> None:
        """Reads the OTEL_ variables. Raises ValueError where one of them cannot be used."""
        ours = {
            "service.name": "sio-gateway",
            "service.version": version,
            "service.instance.id": replica,
        }
        self._provider = TracerProvider(
            # What the operator says in OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES wins.
            resource=Resource.create().merge(Resource(ours)).merge(OTELResourceDetector().detect()),
            # At the exit of the process it would wait for the collector once more.
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        spans = self._provider.get_tracer("sio-gateway", version)
        self._spans = spans
        self.tracer = RequestSpans(spans)
        super().__init__(DeliverySpans(spans, deliveries))

    def wrap(self, publisher: Publisher) -> Publisher:
        """The same publisher, with a span for each message."""
        return PublishingSpans(publisher, self._spans)

    async def close(self) -> None:
        """Export what is left and stop, or give up after CLOSE_SECONDS."""
        loop, closed = asyncio.get_running_loop(), asyncio.Event()

        def close() -> None:
            self._provider.shutdown()
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(closed.set)

        # Not of an executor, whose threads the process would wait for.
        threading.Thread(target=close, name="trace export closes", daemon=True).start()
        with suppress(TimeoutError):
            await asyncio.wait_for(closed.wait(), CLOSE_SECONDS)


class RequestSpans:
    """Server spans of REST requests; satisfies ``ingest_api.interfaces.Tracer``."""

    def __init__(self, spans: otel.Tracer) -> None:
        self._spans = spans

    def begin(self, method: str, parent: Trace | None) -> RequestSpan:
        """A request came; without ``parent`` a trace begins here."""
        known = method if method in _METHODS else "_OTHER"
        attributes = {"http.request.method": known}
        span = self._spans.start_span(
            known, context=_context(parent), kind=otel.SpanKind.SERVER, attributes=attributes
        )
        return RequestSpan(span, known, _trace_of(span, parent))


class RequestSpan:
    """One REST request."""

    def __init__(self, span: otel.Span, method: str, trace: Trace) -> None:
        self._span = span
        self._method = method
        self.trace = trace

    def end(self, *, route: str, status: int | None, code: str) -> None:
        """It is over; ``status`` None: without an answer."""
        span = self._span
        span.update_name(f"{self._method} {route}")
        span.set_attribute("http.route", route)
        span.set_attribute("sio_gateway.code", code)
        if status is not None:
            span.set_attribute("http.response.status_code", status)
        if status is None or status >= _FAILED:
            span.set_attribute("error.type", code)
            span.set_status(otel.StatusCode.ERROR)
        span.end()


class PublishingSpans:
    """A publisher with a producer span for each message, which its deliveries are children of."""

    def __init__(self, publisher: Publisher, spans: otel.Tracer) -> None:
        self._publisher = publisher
        self._spans = spans
        self.disconnect_user = publisher.disconnect_user
        """The span of its request is all there is to tell."""

    async def publish(self, message: Message, dedup_key: DedupKey | None = None) -> PublishResult:
        """See ``Publishing.publish``."""
        parent = message.trace
        attributes = _of_message("publish", "send", message) | {
            "messaging.message.body.size": json_bytes(message)
        }
        span = self._spans.start_span(
            f"publish {message.namespace}",
            context=_context(parent),
            kind=otel.SpanKind.PRODUCER,
            attributes=attributes,
        )
        try:
            result = await self._publisher.publish(message._replace(trace=_trace_of(span, parent)), dedup_key)
        except BaseException as error:
            # Its name alone: what it says may name hosts.
            span.set_attribute("error.type", getattr(error, "code", type(error).__name__))
            span.set_status(otel.StatusCode.ERROR)
            raise
        else:
            span.set_attribute("messaging.message.id", result.id)
            span.set_attribute("sio_gateway.connections", result.connections)
            span.set_attribute("sio_gateway.replayed", result.replayed)
            return result
        finally:
            span.end()


class DeliverySpans:
    """Consumer spans, one for each message and replica; satisfies ``gateway.interfaces.Deliveries``."""

    def __init__(self, spans: otel.Tracer, log: DeliveryObserver) -> None:
        """``log`` is told the same."""
        self._spans = spans
        self._log = log

    def delivered(self, message: Message, connections: int, seconds: float) -> None:
        """This replica handed it to so many connections, which took it so long."""
        self._log.delivered(message, connections, seconds)
        self._span("deliver", message, seconds, {"sio_gateway.connections": connections})

    def replayed(self, message: Message, sid: str) -> None:
        """A connection got it from the history."""
        self._log.replayed(message, sid)
        self._span("catch up", message, 0.0, {"sio_gateway.connections": 1})

    def _span(self, operation: str, message: Message, seconds: float, more: Attributes) -> None:
        ended = time.time_ns()
        span = self._spans.start_span(
            f"{operation} {message.namespace}",
            context=_context(message.trace),
            kind=otel.SpanKind.CONSUMER,
            attributes=_of_message(operation, "process", message) | more,
            start_time=ended - round(seconds * 1e9),
        )
        span.end(ended)


def _of_message(operation: str, type_: str, message: Message) -> Attributes:
    return {
        "messaging.system": "sio_gateway",
        "messaging.operation.name": operation,
        "messaging.operation.type": type_,
        "messaging.destination.name": message.namespace,
        "messaging.message.id": message.id,
    }


def _context(parent: Trace | None) -> Context:
    """That of a parent in another process; without one an empty one, which begins a trace."""
    context = Context()
    if parent is None:
        return context
    remote = otel.SpanContext(
        int(parent.trace_id, 16),
        int(parent.span_id, 16),
        is_remote=True,
        trace_flags=otel.TraceFlags(parent.flags),
    )
    return otel.set_span_in_context(otel.NonRecordingSpan(remote), context)


def _trace_of(span: otel.Span, parent: Trace | None) -> Trace:
    """What a span is to those that come after it. Whether the id of a trace is random is its beginner's to say (W3C
    level 2, §3.2.2.5.2), and the SDK forgets it."""
    context = span.get_span_context()
    flags = int(context.trace_flags) & (SAMPLED | RANDOM)
    if parent is not None:
        flags |= parent.flags & RANDOM
    return Trace(otel.format_trace_id(context.trace_id), otel.format_span_id(context.span_id), flags)
