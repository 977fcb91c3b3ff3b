"""What this door needs; the composition root hands over objects that satisfy it."""

from __future__ import annotations

from typing import Protocol

from gateway.domain.dedup import DedupKey
from gateway.domain.messages import Message, PublishResult
from gateway.domain.presence import UserPresence
from gateway.domain.rate_limit import Rate, RateLimitResult
from gateway.domain.traces import Trace


class Publisher(Protocol):
    """Accepts what is pushed. Both methods raise the errors of ``gateway.interfaces.Broker.append``."""

    async def publish(self, message: Message, dedup_key: DedupKey) -> PublishResult:
        """Answers when the broker has the message; never waits for a client."""
        ...

    async def disconnect_user(
        self, user: str, *, namespace: str | None, exclude: frozenset[str], revoke: bool, dedup_key: DedupKey
    ) -> PublishResult:
        """End the user's connections in one namespace, or in all; ``connections`` of the receipt counts them."""
        ...


class PresenceReader(Protocol):
    """Knows who is connected."""

    async def of_user(self, user: str) -> UserPresence: ...


class DedupStore(Protocol):
    """Remembers nonces; see ``gateway.interfaces.Claims``."""

    @property
    def began_at(self) -> float: ...

    async def consume_nonce(self, dedup_key: DedupKey) -> None: ...


class RateLimits(Protocol):
    """Token buckets; see ``gateway.interfaces.Rates``."""

    async def consume(self, bucket: str, rate: Rate) -> RateLimitResult: ...


class Clock(Protocol):
    """Seconds since 1970, and seconds that never go back."""

    def now(self) -> float: ...

    def monotonic(self) -> float: ...


class Meter(Protocol):
    """Counts requests."""

    def request_finished(
        self,
        *,
        route: str,
        status: int,
        code: str,
        seconds: float | None = None,
        key: str | None = None,
        signed: bool = False,
    ) -> None:
        """``route`` is the pattern of the route, ``code`` that of the problem or ``ok``. ``seconds`` is None where
        nobody knows when the request began. ``key`` is the id of an ingest key that there is, if the request named one;
        ``signed`` tells whether it bore a signature of that key."""
        ...


class Span(Protocol):
    """A request that is being answered, as it is told to whoever collects traces."""

    @property
    def trace(self) -> Trace:
        """What happens for this request is a child of that."""
        ...

    def end(self, *, route: str, status: int | None, code: str) -> None:
        """It is over; ``status`` None: without an answer."""
        ...


class Tracer(Protocol):
    """Begins spans. Never waits, never raises."""

    def begin(self, method: str, parent: Trace | None) -> Span: ...
