"""What the house tells of traces; here in lines of log, in ``exporting`` in spans as well."""

from __future__ import annotations

from typing import Protocol

from gateway.domain.claims import Claim
from gateway.domain.messages import Message, Receipt
from gateway.domain.traces import Trace
from gateway.ports import Deliveries


class Span(Protocol):
    """See ``ingest_api.interfaces.Span``, which it satisfies."""

    @property
    def trace(self) -> Trace: ...

    def end(self, *, route: str, status: int | None, code: str) -> None: ...


class Tracer(Protocol):
    """See ``ingest_api.interfaces.Tracer``, which it satisfies."""

    def begin(self, method: str, parent: Trace | None) -> Span: ...


class Publisher(Protocol):
    """Accepts what is pushed; see ``gateway.application.publishing``."""

    async def publish(self, message: Message, claim: Claim | None = None) -> Receipt: ...

    async def kick(
        self,
        user: str,
        *,
        namespace: str | None,
        exclude: frozenset[str],
        revoke: bool,
        claim: Claim | None = None,
    ) -> Receipt: ...


class Telemetry:
    """What the house tells of traces. This one writes lines of log and exports nothing."""

    tracer: Tracer | None = None
    """Begins spans of requests, if anybody collects them."""

    def __init__(self, deliveries: Deliveries) -> None:
        self.deliveries = deliveries

    def around(self, publisher: Publisher) -> Publisher:
        """The same publisher, told of in spans."""
        return publisher

    async def close(self) -> None:
        """Export what is left, within a bounded time, and stop. Never raises."""
