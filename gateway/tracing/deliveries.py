"""The lines about deliveries of messages that belong to a trace."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from gateway.domain.messages import Message
from gateway.domain.sampling import Sampling
from gateway.domain.traces import Trace


class DeliveryLog:
    """Satisfies ``gateway.ports.Deliveries``. Whoever began a trace decides by its sampled flag how loud it is: info or
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

    def caught_up(self, message: Message, sid: str) -> None:
        """A connection that came back, or was behind, got it from the history."""
        write, facts = self._line(message.trace)
        if write is not None:
            write("message.caught_up", message_id=message.id, namespace=message.namespace, sid=sid, **facts)

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
        if not self._sampling.keeps(trace.trace_id):
            return None, {}
        return self._log.info, {**facts, **self._sampling.facts}
