"""Spans of pushes, deliveries and calls of webhooks, and their export to a collector (OTLP over HTTP).

Attributes are those of the semantic conventions for HTTP and messaging, where there are any. None of them holds a room,
a user, the name of an event, a payload, a query or the URL of a webhook. The event loop creates a span and puts it into
a bounded queue. A separate thread sends it; a span that does not fit into the queue is dropped.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
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
"""How long the export of the last spans may take when the process stops, so that it stops without a collector too."""
_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_FAILED: Final = 500
Attributes = dict[str, str | int]


class ExportingTelemetry(Telemetry):
    """Writes log lines and exports spans."""

    def __init__(self, deliveries: DeliveryObserver, *, replica: str, version: str) -> None:
        """Read the OTEL_ variables. Raises ValueError if one of them cannot be used."""
        ours = {
            "service.name": "sio-gateway",
            "service.version": version,
            "service.instance.id": replica,
        }
        self._provider = TracerProvider(
            # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES of the operator take precedence.
            resource=Resource.create().merge(Resource(ours)).merge(OTELResourceDetector().detect()),
            # Otherwise it would wait for the collector again at the exit of the process.
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        spans = self._provider.get_tracer("sio-gateway", version)
        self._spans = spans
        self.tracer = RequestSpans(spans)
        self.call_tracer = CallSpans(spans)
        super().__init__(DeliverySpans(spans, deliveries))

    def wrap(self, publisher: Publisher) -> Publisher:
        """Return the publisher with a span for each message."""
        return PublishingSpans(publisher, self._spans)

    async def close(self) -> None:
        """Export the last spans, for at most CLOSE_SECONDS."""
        loop, closed = asyncio.get_running_loop(), asyncio.Event()

        def close() -> None:
            self._provider.shutdown()
            with suppress(RuntimeError):  # the loop is closed: close() gave up
                loop.call_soon_threadsafe(closed.set)

        # No executor: the process would wait for its threads.
        threading.Thread(target=close, name="trace export close", daemon=True).start()
        with suppress(TimeoutError):
            await asyncio.wait_for(closed.wait(), CLOSE_SECONDS)


class RequestSpans:
    """Server spans of REST requests; satisfies ``ingest_api.interfaces.Tracer``."""

    def __init__(self, spans: otel.Tracer) -> None:
        self._spans = spans

    def begin(self, method: str, parent: Trace | None) -> RequestSpan:
        """Begin the span of a request. Without ``parent`` it begins a trace."""
        known = method if method in _METHODS else "_OTHER"
        attributes = {"http.request.method": known}
        span = self._spans.start_span(
            known, context=_context(parent), kind=otel.SpanKind.SERVER, attributes=attributes
        )
        return RequestSpan(span, known, _trace_of(span, parent))


class RequestSpan:
    """The span of one REST request; satisfies ``ingest_api.interfaces.Span``."""

    def __init__(self, span: otel.Span, method: str, trace: Trace) -> None:
        self._span = span
        self._method = method
        self.trace = trace

    def end(self, *, route: str, status: int | None, code: str) -> None:
        """End the span. ``status``: None if the request got no response."""
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


class CallSpans:
    """Client spans of calls of webhooks, each with a trace of its own; satisfies ``webhooks.client.CallTracer``."""

    def __init__(self, spans: otel.Tracer) -> None:
        self._spans = spans

    def begin(self, webhook: str, event_type: str) -> CallSpan:
        """Begin the span of a call. It includes the wait for a slot, and the second try."""
        attributes = {
            "http.request.method": "POST",
            "sio_gateway.webhook": webhook,
            "sio_gateway.event_type": event_type,
        }
        return CallSpan(
            self._spans.start_span(
                f"call {webhook}", context=_context(None), kind=otel.SpanKind.CLIENT, attributes=attributes
            )
        )


class CallSpan:
    """The span of one call; satisfies ``gateway.webhooks.client.CallSpan``."""

    def __init__(self, span: otel.Span) -> None:
        self._span = span
        self.trace = _trace_of(span, None)

    def end(self, *, outcome: str, is_failure: bool, status: int | None, tries: int) -> None:
        """End the span. ``status``: None if no answer began; ``tries``: 0 if nothing was sent."""
        span = self._span
        span.set_attribute("sio_gateway.outcome", outcome)
        if status is not None:
            span.set_attribute("http.response.status_code", status)
        if tries > 1:
            span.set_attribute("http.request.resend_count", tries - 1)
        if is_failure:
            span.set_attribute("error.type", outcome)
            span.set_status(otel.StatusCode.ERROR)
        span.end()


class PublishingSpans:
    """A publisher with a producer span for each message. The spans of its deliveries are children of it."""

    def __init__(self, publisher: Publisher, spans: otel.Tracer) -> None:
        self._publisher = publisher
        self._spans = spans
        self.disconnect_user = publisher.disconnect_user
        """Without a span of its own: the span of the request shows everything."""
        self.disconnect_room = publisher.disconnect_room

    async def publish(
        self, message: Message, dedup_key: DedupKey | None = None, *, with_counts: bool = False
    ) -> PublishResult:
        """See ``MessagePublisher.publish``."""
        span, traced = self._begin(message)
        with _publishing((span,)):
            result = await self._publisher.publish(traced, dedup_key, with_counts=with_counts)
            _describe(span, result)
            return result

    def publish_now(self, _message: Message, _dedup_key: DedupKey) -> None:
        """Return None: a message with a span is published by ``publish``."""

    async def publish_all(
        self, messages: Sequence[Message], dedup_key: DedupKey | None = None
    ) -> tuple[PublishResult, ...]:
        """See ``MessagePublisher.publish_all``."""
        begun = [self._begin(message) for message in messages]
        spans = [span for span, _ in begun]
        with _publishing(spans):
            results = await self._publisher.publish_all([traced for _, traced in begun], dedup_key)
            for span, result in zip(spans, results, strict=True):
                _describe(span, result)
            return results

    def _begin(self, message: Message) -> tuple[otel.Span, Message]:
        """Begin the span of a message; return it, and the message as a part of it."""
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
        return span, message._replace(trace=_trace_of(span, parent))


@contextmanager
def _publishing(spans: Sequence[otel.Span]) -> Iterator[None]:
    """End the spans of messages that are accepted together, with the error if they are not."""
    try:
        yield
    except BaseException as error:
        for span in spans:
            # Only its name: its text may contain names of hosts.
            span.set_attribute("error.type", getattr(error, "code", type(error).__name__))
            span.set_status(otel.StatusCode.ERROR)
        raise
    finally:
        for span in spans:
            span.end()


def _describe(span: otel.Span, result: PublishResult) -> None:
    span.set_attribute("messaging.message.id", result.id)
    span.set_attribute("sio_gateway.connections", result.connections)
    span.set_attribute("sio_gateway.replayed", result.replayed)


class DeliverySpans:
    """Consumer spans of messages; satisfies ``gateway.interfaces.DeliveryObserver``."""

    def __init__(self, spans: otel.Tracer, log: DeliveryObserver) -> None:
        """``log`` is notified too."""
        self._spans = spans
        self._log = log

    def delivered(self, message: Message, connections: int, seconds: float) -> None:
        """Export that this replica sent a message to connections, and the seconds that it took."""
        self._log.delivered(message, connections, seconds)
        self._span("deliver", message, seconds, {"sio_gateway.connections": connections})

    def replayed(self, message: Message, sid: str) -> None:
        """Export that a connection got a message from the history."""
        self._log.replayed(message, sid)
        self._span("replay", message, 0.0, {"sio_gateway.connections": 1})

    def _span(self, operation: str, message: Message, seconds: float, attributes: Attributes) -> None:
        ended = time.time_ns()
        span = self._spans.start_span(
            f"{operation} {message.namespace}",
            context=_context(message.trace),
            kind=otel.SpanKind.CONSUMER,
            attributes=_of_message(operation, "process", message) | attributes,
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
    """Return the context of a parent in another process. Without a parent it is empty and begins a trace."""
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
    """Return the span as the parent of later spans.

    The flag for a random trace id is set by the first span (W3C level 2, §3.2.2.5.2). The SDK does not
    keep it, so it is taken from the parent.
    """
    context = span.get_span_context()
    flags = int(context.trace_flags) & (SAMPLED | RANDOM)
    if parent is not None:
        flags |= parent.flags & RANDOM
    return Trace(otel.format_trace_id(context.trace_id), otel.format_span_id(context.span_id), flags)
