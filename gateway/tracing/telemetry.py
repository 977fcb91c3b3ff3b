"""What the house tells of traces; here in lines of log, in ``exporting`` in spans as well.

The lines about deliveries of messages that belong to a trace.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import structlog

from gateway.domain.dedup import DedupKey
from gateway.domain.messages import Message, PublishResult
from gateway.domain.sampling import Sampling
from gateway.domain.traces import Trace
from gateway.interfaces import DeliveryObserver


class DeliveryLog:
    """Satisfies ``gateway.interfaces.Deliveries``. Whoever began a trace decides by its sampled flag how loud it is: info or
    debug; of those at info ``sampling`` keeps a part."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._log = structlog.get_logger(__name__).bind()

    def delivered(self, message: Message, connections: int, seconds: float) -> None:
        """This replica handed it to so many connections, which took it so long."""
        write, facts = self._line(message.trace)
        if write is not None:
            facts |= {"connections": connections, "seconds": round(seconds, 6)}
            write("message.delivered", message_id=message.id, namespace=message.namespace, **facts)

    def replayed(self, message: Message, sid: str) -> None:
        """A connection that came back, or was behind, got it from the history."""
        write, facts = self._line(message.trace)
        if write is not None:
            write("message.replayed", message_id=message.id, namespace=message.namespace, sid=sid, **facts)

    def _line(self, trace: Trace | None) -> tuple[Callable[..., Any] | None, dict[str, Any]]:
        """Who writes a line about the trace, if anybody, and what it says of the trace."""
        if trace is None:
            return None, {}
        level = logging.INFO if trace.sampled else logging.DEBUG
        if not self._log.is_enabled_for(level):
            return None, {}
        facts: Mapping[str, Any] = {"trace_id": trace.trace_id, "span_id": trace.span_id}
        if not trace.sampled:
            return self._log.debug, dict(facts)
        if not self._sampling.should_log(trace.trace_id):
            return None, {}
        return self._log.info, {**facts, **self._sampling.fields}


class Span(Protocol):
    """See ``ingest_api.interfaces.Span``, which it satisfies."""

    @property
    def trace(self) -> Trace: ...

    def end(self, *, route: str, status: int | None, code: str) -> None: ...


class Tracer(Protocol):
    """See ``ingest_api.interfaces.Tracer``, which it satisfies."""

    def begin(self, method: str, parent: Trace | None) -> Span: ...


class Publisher(Protocol):
    """Accepts what is pushed; see ``gateway.services.publish``."""

    async def publish(self, message: Message, dedup_key: DedupKey | None = None) -> PublishResult: ...

    async def disconnect_user(
        self,
        user: str,
        *,
        namespace: str | None,
        exclude: frozenset[str],
        revoke: bool,
        dedup_key: DedupKey | None = None,
    ) -> PublishResult: ...


class Telemetry:
    """What the house tells of traces. This one writes lines of log and exports nothing."""

    tracer: Tracer | None = None
    """Begins spans of requests, if anybody collects them."""

    def __init__(self, deliveries: DeliveryObserver) -> None:
        self.deliveries = deliveries

    def wrap(self, publisher: Publisher) -> Publisher:
        """The same publisher, told of in spans."""
        return publisher

    async def close(self) -> None:
        """Export what is left, within a bounded time, and stop. Never raises."""
