"""Protocols that the REST API needs from the rest of the process. ``gateway.runtime`` passes the objects."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from types import TracebackType
from typing import NamedTuple, Protocol

from gateway.domain.acks import AckResult, AckTerms
from gateway.domain.dedup import AckClaim, DedupKey
from gateway.domain.listings import (
    ConnectionDetails,
    ConnectionPage,
    MemberRules,
    NamePage,
    RoomSummary,
    Slice,
    StateSummary,
)
from gateway.domain.messages import Address, Message, MessagePage, PublishResult, RoomChange
from gateway.domain.notifications import DeadLetter, QueueSummary
from gateway.domain.positions import Position
from gateway.domain.presence import UserPresence
from gateway.domain.rate_limit import Rate, RateLimitResult
from gateway.domain.traces import Trace


class Publisher(Protocol):
    """Accepts messages and disconnect commands.

    Raises:
        GatewayError: All methods raise the errors of ``gateway.interfaces.Broker.append``.
    """

    async def publish(
        self, message: Message, dedup_key: DedupKey, *, with_counts: bool = False
    ) -> PublishResult:
        """Return when the broker has the message. Never wait for a client.

        ``with_counts``: the result has the connections at each address, too.
        """
        ...

    def publish_now(
        self, message: Message, dedup_key: DedupKey
    ) -> PublishResult | asyncio.Future[PublishResult] | None:
        """Publish a plain message (``gateway.interfaces.Broker.append_now``) without waiting.

        Return the result, a future that gets it or an error of ``publish``, or None if nothing was done.
        """
        ...

    async def publish_all(
        self, messages: Sequence[Message], dedup_key: DedupKey
    ) -> tuple[PublishResult, ...]:
        """Return when the broker has all the messages, in this order. After an error it has none of them."""
        ...

    async def disconnect_user(
        self, user: str, *, namespace: str | None, exclude: frozenset[str], revoke: bool, dedup_key: DedupKey
    ) -> PublishResult:
        """Disconnect the user in one namespace, or in all (None). ``connections`` of the result counts them."""
        ...

    async def disconnect_room(
        self, room: str, *, namespace: str | None, exclude: frozenset[str], dedup_key: DedupKey
    ) -> PublishResult:
        """Disconnect the connections in a room of one namespace, or of all (None)."""
        ...


class RoomChanger(Protocol):
    """Changes the rooms of connections, on all replicas."""

    async def change_rooms(self, change: RoomChange, dedup_key: DedupKey) -> tuple[PublishResult, int]:
        """Return once the replicas have applied the change, or after a limited time.

        The number is that of connections which did not join because they would be in too many rooms.

        Raises:
            GatewayError: The errors of ``gateway.interfaces.Broker.append``; nothing was changed then.
        """
        ...


class DisconnectCount(Protocol):
    """How many connections were ended; at least so many unless ``is_exact``."""

    @property
    def connections(self) -> int: ...

    @property
    def is_exact(self) -> bool: ...


class TokenRevocations(Protocol):
    """Revokes single tokens."""

    def issuers(self) -> Collection[str]:
        """Return the issuers whose tokens may be revoked; the empty name stands for the keys of JWT_*."""
        ...

    async def revoke(self, jti: str, *, issuer: str, expires_at: float | None) -> DisconnectCount:
        """Revoke a token until it has expired; return how many connections that ended.

        Raises:
            GatewayError: An error of ``gateway.interfaces.Broker.append``.
        """
        ...


class UnknownEvent(Exception):
    """The event catalogue does not describe an event, and rejects pushes of such events."""


class EventSchemas(Protocol):
    """The events that the event catalogue describes."""

    def check(
        self, namespace: str, event: str, arguments: tuple[str, ...], *, value_count: int
    ) -> Mapping[str, str] | None:
        """Check the arguments of a push, which are JSON texts.

        ``value_count`` is how many values the arguments of a large body hold at most; 0 for a small body.
        Returns sentences by path; None if there are none, also for an event that is not described. A path begins with
        the index of the argument (``0.text``); an empty one stands for the number of arguments.

        Raises:
            UnknownEvent: The event is not described, and the catalogue rejects pushes of such events.
        """
        ...


class Caller(Protocol):
    """The connection of a request that is handled."""

    on_close: Callable[[], None] | None
    """Called when the connection is lost, or the caller sends no more. A handler that sets it resets it to None."""

    @property
    def is_closing(self) -> bool:
        """Whether that has happened."""
        ...


class AckWait(Protocol):
    """The wait for the acknowledgements to one message. A context manager: it ends there."""

    def __enter__(self) -> AckWait: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

    def end(self) -> None:
        """End the wait now, with what was collected."""
        ...

    async def wait(self, result: PublishResult) -> AckResult:
        """Return what was collected once the wait is over. ``result`` is that of the message."""
        ...


class AckWaits(Protocol):
    """Waits for acknowledgements of clients. See ``gateway.services.acks``."""

    @property
    def replica(self) -> str:
        """The name of this replica, for ``Message.reply_to``."""
        ...

    def open(self, message_id: str, terms: AckTerms) -> AckWait:
        """Expect acknowledgements to a message that is about to be published.

        Raises:
            TooManyAckWaits: As many requests as allowed wait on this replica.
        """
        ...


class PresenceReader(Protocol):
    """Reads the presence of users."""

    async def of_user(self, user: str) -> UserPresence:
        """Return the user's connections in all namespaces and on all replicas."""
        ...

    async def of_users(self, users: Collection[str]) -> Mapping[str, UserPresence]:
        """Return the same for each of the users, in one read."""
        ...

    async def has_sid(self, sid: str) -> bool:
        """Whether a connection with this sid is open or may be resumed, on any replica."""
        ...


class Listings(Protocol):
    """Lists of the users, rooms and connections of all replicas. See ``gateway.interfaces.Listings``."""

    @property
    def rules(self) -> MemberRules: ...

    async def stats(self, namespaces: Collection[str]) -> StateSummary: ...

    async def users(self, namespaces: Collection[str], prefix: str, part: Slice) -> NamePage: ...

    async def rooms(self, namespace: str, prefix: str, part: Slice) -> NamePage: ...

    async def room(self, namespace: str, room: str) -> RoomSummary: ...

    async def connections_of(self, user: str, namespace: str | None, part: Slice) -> ConnectionPage: ...

    async def members(self, namespace: str, room: str, part: Slice) -> ConnectionPage: ...

    async def connection(self, sid: str) -> ConnectionDetails | None: ...


class SocketData(Protocol):
    """Changes the socket data of connections. See ``gateway.services.socket_data``."""

    async def patch(self, sid: str, patch: Mapping[str, object]) -> str | None:
        """Apply a JSON merge patch; return the JSON text of all data, or None without an open connection.

        Raises:
            DataTooLarge: The data would be too large.
            ValueError: It would have an infinite number.
        """
        ...


class MessageHistory(Protocol):
    """The messages that are held for clients that reconnect.

    Raises:
        GatewayError: All methods raise those of ``gateway.interfaces.Broker.history``.
    """

    async def read(self, address: Address, *, after: Position | None, limit: int) -> MessagePage:
        """Return messages after a position, or from the oldest on (None), oldest first."""
        ...

    async def newest(self, address: Address, *, after: Position | None, limit: int) -> MessagePage:
        """Return the newest messages of those after a position, or of all (None), oldest first."""
        ...

    async def erase(self, address: Address, *, upto: Position) -> int:
        """Erase the messages up to a position, for all their addresses; return how many."""
        ...


class UnknownWebhook(Exception):
    """No webhook with this id is configured."""


class WebhookState(NamedTuple):
    """What the queue of a configured webhook holds, and whether this replica sends calls to it."""

    id: str
    queue: QueueSummary
    partitions: int
    is_circuit_open: bool


class DeadLetterPosition(NamedTuple):
    """A place in the dead letters of a webhook: behind the one with this id, which died at this time."""

    dead_at: float
    id: str


class WebhookQueues(Protocol):
    """The queues of the configured webhooks.

    Raises:
        GatewayError: All but ``check`` raise those of ``gateway.interfaces.WebhookQueues``.
        UnknownWebhook: No such webhook is configured.
    """

    def check(self, webhook: str) -> None:
        """Check that a webhook is configured."""
        ...

    async def states(self) -> Sequence[WebhookState]:
        """Return the state of each configured webhook, in the order of their ids."""
        ...

    async def dead_letters(
        self, webhook: str, *, after: DeadLetterPosition | None, limit: int
    ) -> tuple[Sequence[DeadLetter], bool]:
        """Return dead letters behind a place, oldest first, and whether there are more.

        Less than ``limit`` are returned if these are large.
        """
        ...

    async def replay(self, webhook: str, ids: tuple[str, ...]) -> int:
        """Put dead letters into the queue again; return how many. Unknown ids change nothing."""
        ...

    async def drop(self, webhook: str, ids: tuple[str, ...]) -> int:
        """Delete dead letters; return how many. Unknown ids change nothing."""
        ...


class AnswerStore(Protocol):
    """The answers to requests with an idempotency key. See ``gateway.interfaces.AckStore``."""

    async def claim(self, key: str, holder: str, *, user: str, seconds: float) -> AckClaim:
        """Claim a key, unless its answer is stored or another holder has it."""
        ...

    async def keep(self, key: str, holder: str, ack: str, *, user: str) -> None:
        """Store the answer, and end the claim."""
        ...

    async def release(self, key: str, holder: str, *, user: str) -> None:
        """End the claim without an answer."""
        ...


class DedupStore(Protocol):
    """Stores nonces. See ``gateway.interfaces.DedupStore``."""

    def now(self) -> float:
        """Return the time that timestamps are compared with, in seconds since 1970."""
        ...

    async def consume_nonce(self, dedup_key: DedupKey) -> None:
        """Consume the nonce of a request.

        Raises:
            NonceReplayed: The nonce was consumed before.
            FreshnessUnknown: It may have been.
        """
        ...


class RateLimits(Protocol):
    """Rate limits of ingest keys. See ``gateway.interfaces.RateLimits``."""

    async def consume(self, bucket: str, rate: Rate) -> RateLimitResult:
        """Count one request against the rate of a bucket."""
        ...


class Clock(Protocol):
    """The time."""

    def now(self) -> float:
        """Return the wall-clock time, in seconds since 1970."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        ...


class RequestMetrics(Protocol):
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
        """Count a finished request.

        ``route`` is the template of its route, ``code`` that of the problem, or ``ok``. ``seconds`` is None if the
        start of the request is not known. ``key`` is the id of its ingest key, if that key exists. ``signed`` is True
        if that key signed the request.
        """
        ...


class Span(Protocol):
    """The span of one request."""

    @property
    def trace(self) -> Trace:
        """The trace and span that are the parent of all further spans of this request."""
        ...

    def end(self, *, route: str, status: int | None, code: str) -> None:
        """End the span. ``status`` is None for a request without a response."""
        ...


class Tracer(Protocol):
    """Begins spans. Never waits and never raises."""

    def begin(self, method: str, parent: Trace | None) -> Span:
        """Begin the span of a request. ``parent`` is the trace that the request names, if any."""
        ...
