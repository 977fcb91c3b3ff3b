"""Log lines about deliveries of traced messages. ``export`` adds spans to them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import structlog

from gateway.domain.dedup import DedupKey
from gateway.domain.messages import Message, PublishResult
from gateway.domain.sampling import Sampling
from gateway.domain.traces import Trace
from gateway.interfaces import DeliveryObserver


class DeliveryLog:
    """Writes a line for each delivery; satisfies ``gateway.interfaces.DeliveryObserver``.

    The sampled flag of the trace decides about the level: info if it is set, debug otherwise. ``sampling`` keeps a part
    of the traces at info.
    """

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._log = structlog.get_logger(__name__).bind()

    def delivered(self, message: Message, connections: int, seconds: float) -> None:
        """Log that this replica sent a message to connections, and the seconds that it took."""
        write, fields = self._line(message.trace)
        if write is not None:
            fields |= {"connections": connections, "seconds": round(seconds, 6)}
            write("message.delivered", message_id=message.id, namespace=message.namespace, **fields)

    def replayed(self, message: Message, sid: str) -> None:
        """Log that a connection got a message from the history."""
        write, fields = self._line(message.trace)
        if write is not None:
            write("message.replayed", message_id=message.id, namespace=message.namespace, sid=sid, **fields)

    def _line(self, trace: Trace | None) -> tuple[Callable[..., Any] | None, dict[str, Any]]:
        """Return the method that writes a line about this trace, None for no line, and the fields of the trace."""
        if trace is None:
            return None, {}
        level = logging.INFO if trace.is_sampled else logging.DEBUG
        if not self._log.is_enabled_for(level):
            return None, {}
        fields: Mapping[str, Any] = {"trace_id": trace.trace_id, "span_id": trace.span_id}
        if not trace.is_sampled:
            return self._log.debug, dict(fields)
        if not self._sampling.should_log(trace.trace_id):
            return None, {}
        return self._log.info, {**fields, **self._sampling.fields}


class Span(Protocol):
    """See ``ingest_api.interfaces.Span``, which it satisfies."""

    @property
    def trace(self) -> Trace: ...

    def end(self, *, route: str, status: int | None, code: str) -> None: ...


class Tracer(Protocol):
    """See ``ingest_api.interfaces.Tracer``, which it satisfies."""

    def begin(self, method: str, parent: Trace | None) -> Span: ...


class CallSpan(Protocol):
    """See ``gateway.webhooks.client.CallSpan``, which it satisfies."""

    @property
    def trace(self) -> Trace: ...

    def end(self, *, outcome: str, is_failure: bool, status: int | None, tries: int) -> None: ...


class CallTracer(Protocol):
    """See ``gateway.webhooks.client.CallTracer``, which it satisfies."""

    def begin(self, webhook: str, event_type: str) -> CallSpan: ...


class Publisher(Protocol):
    """Publishes entries; see ``gateway.services.publish.MessagePublisher``, which satisfies it."""

    async def publish(
        self, message: Message, dedup_key: DedupKey | None = None, *, with_counts: bool = False
    ) -> PublishResult: ...

    def publish_now(
        self, message: Message, dedup_key: DedupKey
    ) -> PublishResult | asyncio.Future[PublishResult] | None: ...

    async def publish_all(
        self, messages: Sequence[Message], dedup_key: DedupKey | None = None
    ) -> tuple[PublishResult, ...]: ...

    async def disconnect_user(
        self,
        user: str,
        *,
        namespace: str | None,
        exclude: frozenset[str],
        revoke: bool,
        dedup_key: DedupKey | None = None,
    ) -> PublishResult: ...

    async def disconnect_room(
        self,
        room: str,
        *,
        namespace: str | None,
        exclude: frozenset[str],
        dedup_key: DedupKey | None = None,
    ) -> PublishResult: ...


class Telemetry:
    """What the composition root uses of this package. This class writes log lines and exports no spans."""

    tracer: Tracer | None = None
    """Begins the spans of REST requests; None without an export."""
    call_tracer: CallTracer | None = None
    """Begins the spans of calls of webhooks; None without an export."""

    def __init__(self, deliveries: DeliveryObserver) -> None:
        self.deliveries = deliveries

    def wrap(self, publisher: Publisher) -> Publisher:
        """Return the publisher, with a span for each message if spans are exported."""
        return publisher

    async def close(self) -> None:
        """Export the last spans, within a bounded time. Never raises."""
