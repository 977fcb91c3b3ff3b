"""The state of the gateway as the rest of the house sees it; ``state.memory`` is the specification of each.

Every method may raise BrokerUnavailable (the state was not changed) or BrokerTimeout (nobody knows) unless its
docstring says otherwise. Times are seconds since 1970.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from gateway.domain.dedup import DedupKey
from gateway.domain.identity import Identity
from gateway.domain.messages import Address, LogEntry, Message, PublishResult
from gateway.domain.positions import Position
from gateway.domain.presence import PresentConnection, UserPresence
from gateway.domain.rate_limit import Rate, RateLimitResult
from gateway.domain.sessions import RecoverySession, ResumedSession
from gateway.domain.status import StateStatus

Deliver = Callable[[LogEntry, Position], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Page:
    """Part of the history, oldest first.

    ``upto`` is where the next page starts from (the position of the last entry when there may be more, else the newest
    position of the whole stream). ``more`` tells whether entries were left for the next page. ``gap`` tells that
    something newer than the asked position and addressed to the asked rooms is no longer held, and why:
    ``history_trimmed``, or ``data_lost`` where the stream does not know that position.
    """

    entries: tuple[tuple[Position, LogEntry], ...]
    last_position: Position
    has_more: bool
    gap: str | None = None


class Broker(Protocol):
    """Carries entries between replicas and keeps their recent history.

    Laws:
    - ``append`` is atomic: claim, position, history, publication and count happen together or not at all.
    - Positions rise strictly in the order of acceptance, also across a clock that goes back. A volatile message is
      not kept in the history: it has no position of its own and repeats the newest one.
    - Appending an id again, within the time that history is kept, changes nothing and answers the first receipt,
      whatever the claim: that is how an append whose answer was lost is repeated.
    - What is addressed to a subscribed address after ``subscribe`` returned is handed to ``listen``'s callback, in
      the order of positions, one at a time, each once.
    - A replica hears its own entries only that way.
    """

    async def append(self, entry: LogEntry, dedup_key: DedupKey | None = None) -> PublishResult:
        """Accept an entry and answer when the broker has it; never waits for a client.

        Where entries pile up in front of the listener it waits for room, for a limited time, before it does anything.
        Raises NonceReplayed and IdempotencyConflict when the claim is refused (nothing happened then). An idempotency
        key that was used before with the same fingerprint answers the first receipt with ``replayed`` true; it spends
        the new nonce.
        """
        ...

    async def subscribe(self, addresses: Collection[Address]) -> Position:
        """Return the newest position: everything for these addresses after it reaches the listener. Idempotent.

        Before the first entry it is the position at which this stream begins, which no other stream hands out. It is
        never ``positions.START``, which is before all of them.
        """
        ...

    async def unsubscribe(self, addresses: Collection[Address]) -> None:
        """The listener need not hear these any more. Idempotent; entries already on their way may still arrive."""
        ...

    async def listen(self, deliver: Deliver) -> None:
        """Hand over entries until cancelled. Called once; an exception of ``deliver`` ends it and is raised here."""
        ...

    async def history(
        self, after: Position, addresses: Collection[Address], *, max_entries: int, max_bytes: int
    ) -> Page:
        """Entries after a position for any of the addresses, each once; at least one if there is one at all.

        ``max_bytes`` counts the JSON of the arguments. Raises MalformedPosition.
        """
        ...


class Presence(Protocol):
    """Who is connected, over all replicas, as one of them sees it. One registration for each sid."""

    async def register(self, connection: PresentConnection, rooms: Collection[str]) -> None:
        """Count a connection in, in its namespace and rooms; the room of its sid counts without being named.

        Registering a sid again replaces what was known. Raises ValueError for a connection of another replica.
        """
        ...

    async def change_rooms(self, sid: str, rooms: Collection[str]) -> None:
        """The rooms are now these. An unknown sid changes nothing."""
        ...

    async def change_transport(self, sid: str, transport: str) -> None:
        """The connection was upgraded. An unknown sid changes nothing."""
        ...

    async def unregister(self, sid: str) -> None:
        """Count a connection out; after a user's last one ``last_seen`` is now. An unknown sid changes nothing."""
        ...

    async def of_user(self, user: str) -> UserPresence:
        """One read: the user's connections in every namespace and on every replica."""
        ...

    async def of_users(self, users: Collection[str]) -> dict[str, UserPresence]:
        """The same of each of these users, whoever they are, in one read: what was true of all at one moment.

        Costs what all their connections cost, during which a shared state does nothing else: whoever lets others ask
        bounds how many users they ask for.
        """
        ...


class Sessions(Protocol):
    """Connections that may come back. What a former owner says late is ignored."""

    async def save(self, session: RecoverySession) -> None:
        """Write a new session. A known pid is left as it is."""
        ...

    async def change(self, session: RecoverySession) -> None:
        """It is now like this. Ignored once it was left or has another owner: a late write brings nothing back."""
        ...

    async def resume(self, pid: str, *, user: str, namespace: str, owner: str) -> ResumedSession:
        """Make ``owner`` the owner and answer the session as it was.

        Raises NotRecovered: ``unknown_session`` (also for one of another namespace), ``other_user``, and for as long
        again as it was kept ``session_expired``; nothing is changed then.
        """
        ...

    async def park(self, pid: str, *, owner: str) -> None:
        """The connection is gone: the session expires RECOVERY_SECONDS from now unless it is adopted."""
        ...

    async def delete(self, pid: str, *, owner: str) -> None:
        """The connection ended for good."""
        ...


class DedupStore(Protocol):
    """One-time uses of requests that append nothing; ``Broker.append`` looks at the same store."""

    @property
    def began_at(self) -> float:
        """Since when every nonce is remembered: an earlier request could be a replay of one that was forgotten.

        A whole second, because requests carry no fractions.
        """
        ...

    async def consume_nonce(self, dedup_key: DedupKey) -> None:
        """Spend the nonce. The claim's idempotency key is not looked at.

        Raises NonceReplayed, also once ``nonce_expires_at`` has passed: nobody could tell any more.
        """
        ...


class RateLimits(Protocol):
    """Token buckets shared by the replicas."""

    async def consume(self, bucket: str, rate: Rate) -> RateLimitResult:
        """Take one token from the bucket, if there is one."""
        ...


class Revocations(Protocol):
    """Users whose older tokens are refused; written by appending a Kick that revokes."""

    async def revoked_at(self, user: str) -> float | None:
        """Tokens of this user issued before that time are refused; None: none are."""
        ...


class RedisStats(Protocol):
    """What the metrics read of a Redis state."""

    @property
    def connected(self) -> Mapping[str, bool]:
        """Each connection to Redis by its name, and whether it is established."""
        ...

    @property
    def rejections(self) -> Mapping[str, str]:
        """The connections on which Redis rejects something now, each with the code of the rejection."""
        ...

    @property
    def rejection_codes(self) -> Collection[str]:
        """Every code that ``rejections`` may hold."""
        ...

    @property
    def command_names(self) -> Collection[str]:
        """The names by which commands are counted."""
        ...

    @property
    def probe_age_seconds(self) -> float:
        """Time since this replica last received its own pub/sub probe."""
        ...

    @property
    def lag_seconds(self) -> float:
        """How late this replica receives what is published."""
        ...

    @property
    def messages_received(self) -> int:
        """Entries received on channels, whether a connection here wants them or not."""
        ...

    @property
    def receive_buffer_overflows(self) -> int:
        """How often the receive buffer was full and its entries were read from the log instead."""
        ...


class State(Protocol):
    """The state of one replica: the stores of this module, wired to each other, and their life.

    Contract:

    - ``run`` is called once. The stores work from the moment at which it sets its event until it ends.
    - ``close`` is called while ``run`` still works, once no client is connected and none can connect.
    - The properties and ``sizes`` never wait and never raise; they may be read before ``run`` and after ``close``.
    """

    @property
    def broker(self) -> Broker: ...

    @property
    def presence(self) -> Presence: ...

    @property
    def sessions(self) -> Sessions: ...

    @property
    def dedup(self) -> DedupStore: ...

    @property
    def rates(self) -> RateLimits: ...

    @property
    def revocations(self) -> Revocations: ...

    @property
    def status(self) -> StateStatus:
        """What this replica can do now, as far as the state goes."""
        ...

    @property
    def rejection(self) -> str:
        """What the state rejects although it answers, as a sentence; empty when it rejects nothing."""
        ...

    @property
    def redis_stats(self) -> RedisStats | None:
        """What the metrics read of Redis; None for a state without Redis."""
        ...

    async def run(self, started: asyncio.Event) -> None:
        """Work until cancelled; set ``started`` once the stores can be used.

        Raises: StateMisconfigured, when the state cannot be used as it is configured.
        """
        ...

    async def close(self) -> None:
        """Leave the other replicas. Takes a bounded time and raises nothing."""
        ...

    def sizes(self) -> Mapping[str, float]:
        """How much of everything that has a limit is held now, under stable names, for the metrics."""
        ...


class TokenVerifier(Protocol):
    """Turns a token into an identity."""

    async def verify(self, token: str) -> Identity:
        """Raises TokenRefused, or KeysUnavailable while the keys to check it with cannot be had."""
        ...


class Frames(Protocol):
    """A message encoded once for every recipient (law 1)."""

    @property
    def frame(self) -> bytes:
        """A whole WebSocket frame."""
        ...

    @property
    def compressed(self) -> bytes:
        """The same for those who negotiated compression."""
        ...

    @property
    def record(self) -> bytes:
        """A packet of a polling payload."""
        ...

    @property
    def record_bytes(self) -> int:
        """The length of the record."""
        ...


class Socket(Protocol):
    """What ready frames are written to; aiohttp's transport of a connection is one."""

    def write(self, frame: bytes, /) -> object: ...

    def get_write_buffer_size(self) -> int:
        """The bytes that were written and are still in this process."""
        ...


class DeliveryObserver(Protocol):
    """Told what became of messages that belong to a trace. Never waits, never raises."""

    def delivered(self, message: Message, connections: int, seconds: float) -> None:
        """This replica handed it to so many connections, which took it so long."""
        ...

    def replayed(self, message: Message, sid: str) -> None:
        """A connection that came back, or was behind, got it from the history."""
        ...


class Clock(Protocol):
    """What time it is."""

    def now(self) -> float:
        """Seconds since 1970; may be set back."""
        ...

    def monotonic(self) -> float:
        """Seconds since some start; never goes back."""
        ...


class Timer(Protocol):
    """Something that will happen."""

    def cancel(self) -> None:
        """It will not. Idempotent."""
        ...


class Schedule(Protocol):
    """One heap of things to do later for the whole process."""

    def after(self, delay_seconds: float, action: Callable[[], None]) -> Timer:
        """Call ``action`` once the delay has passed, on the event loop; it must not wait."""
        ...
