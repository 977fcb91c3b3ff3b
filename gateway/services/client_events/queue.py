"""The client events of one connection: in which order they take effect, and how many may wait."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import orjson

from gateway.domain.errors import ClientEventRejected
from gateway.domain.event_catalogue import AllowKind, ClientEvent, NamespaceEvents
from gateway.domain.rate_limit import FULL, take_token, wait_seconds
from gateway.domain.templates import EventContext
from gateway.hub import Connection, ConnectionState
from gateway.interfaces import Schedule, Timer

MAX_WAITING: Final = 64
MAX_WAITING_BYTES: Final = 256 * 1024
MAX_CALLS: Final = 8
SLOW_SECONDS: Final = 0.1
"""After an event that took longer, the next ones are handled in a task. A client that sends the burst of MESSAGE_RATE
has its pong read in time nevertheless."""
ACK_WAIT_SECONDS: Final = 1.0
"""How long an acknowledgement waits for the messages that the event caused on its connection."""


class Acknowledge(Protocol):
    """Sends the acknowledgement that the client requested. It never waits."""

    def __call__(self, *arguments: object) -> None: ...


@dataclass(eq=False, slots=True)
class ReceivedEvent:
    """An event of a client with its entry in the catalogue. Times are seconds since 1970.

    Nothing changes it. It is not frozen because its constructor, which runs for each event, would take twice as long.
    """

    id: str
    connection: Connection
    namespace: NamespaceEvents
    entry: ClientEvent
    name: str
    arguments: Sequence[object]
    acknowledge: Acknowledge | None
    received_at: float
    are_plain: bool = False
    """Whether the arguments pass ``rules.check_values``."""

    def context(self) -> EventContext:
        """Return what the templates of its entry refer to."""
        connection = self.connection
        return EventContext(
            self.arguments, connection.sid, connection.identity, connection.data, self.received_at, self.id
        )

    @property
    def is_quick(self) -> bool:
        """Whether no webhook is called for it, so that it takes only as long as the state needs."""
        return self.entry.call is None and not (
            self.entry.join is not None
            and any(rule.join.kind is AllowKind.CALL for rule in self.namespace.rooms)
        )


class EventQueue:
    """What waits and what is in progress for one connection."""

    __slots__ = ("_bytes", "_tats", "_waiting", "acks", "calls", "is_busy", "is_slow", "last_error_at")

    def __init__(self) -> None:
        self.is_busy = False
        """An event is being handled; later ones wait."""
        self.is_slow = False
        """The last event took longer than SLOW_SECONDS, as when the state does not answer."""
        self.calls = 0
        """Events that are in progress beside the queue."""
        self.acks = 0
        """Acknowledgements that wait for messages."""
        self.last_error_at = float("-inf")
        self._waiting: deque[tuple[ReceivedEvent, int]] = deque()
        self._bytes = 0
        self._tats: dict[str, float] = {}
        """The bucket of each entry with a rate (``gateway.domain.rate_limit``)."""

    def put(self, event: ReceivedEvent) -> None:
        """Let an event wait.

        Raises: ClientEventRejected (``busy``) when too many wait.
        """
        size = _bytes_of(event.arguments)
        if len(self._waiting) >= MAX_WAITING or self._bytes + size > MAX_WAITING_BYTES:
            raise ClientEventRejected(
                "busy", "too many events of this connection wait", retry_after_seconds=1
            )
        self._waiting.append((event, size))
        self._bytes += size

    def take(self) -> ReceivedEvent | None:
        """Remove and return the event that has waited for the longest."""
        if not self._waiting:
            return None
        event, size = self._waiting.popleft()
        self._bytes -= size
        return event

    def clear(self) -> None:
        """Drop what waits."""
        self._waiting.clear()
        self._bytes = 0

    def begin_call(self) -> None:
        """Count an event that is in progress beside the queue.

        Raises: ClientEventRejected (``busy``) when there are too many.
        """
        if self.calls >= MAX_CALLS:
            raise ClientEventRejected(
                "busy", "too many calls of this connection are in progress", retry_after_seconds=1
            )
        self.calls += 1

    def check_rate(self, entry: str, per_second: float, now: float) -> None:
        """Count an event against the rate of its entry; ``now`` is monotonic.

        Raises: ClientEventRejected (``rate_limited``).
        """
        tat = self._tats.get(entry, FULL)
        wait = wait_seconds(tat, now, per_second, max(1.0, 2 * per_second))
        if wait:
            raise rate_limited(wait)
        self._tats[entry] = take_token(tat, now, per_second)


class DeliveryWait:
    """Runs an action once a message was sent to a connection, or after ACK_WAIT_SECONDS.

    The hub calls ``delivered``; that may be before ``then`` is called.
    """

    __slots__ = ("_action", "_connection", "_done", "_is_delivered", "_timer", "on_end")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.on_end: Callable[[], object] = lambda: None
        """Called when the action runs: nothing waits for the message any more."""
        self._is_delivered = False
        self._action: Callable[[], None] | None = None
        self._timer: Timer | None = None
        self._done: asyncio.Future[None] | None = None

    def delivered(self) -> None:
        """The hub has sent the message. A connection that is replaying gets it later, from the history."""
        if self._connection.state is ConnectionState.REPLAYING:
            return
        self._is_delivered = True
        self._run()

    def then(self, action: Callable[[], None], schedule: Schedule) -> None:
        """Run the action, now if the message was sent already."""
        self._action = action
        if self._is_delivered:
            self._run()
        else:
            self._timer = schedule.after(ACK_WAIT_SECONDS, self._run)

    async def done(self) -> None:
        """Wait until the action has run."""
        if self._action is not None:
            self._done = asyncio.get_running_loop().create_future()
            await self._done

    def _run(self) -> None:
        action, self._action = self._action, None
        if action is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self.on_end()
        if self._done is not None and not self._done.done():
            self._done.set_result(None)
        action()


def rate_limited(seconds: float) -> ClientEventRejected:
    """Return the error of an event over its rate."""
    return ClientEventRejected(
        "rate_limited", "the event comes too often", retry_after_seconds=round(seconds, 3)
    )


def _placeholder_of(value: object) -> str:
    """Return a text as long as a buffer; orjson calls it for what is no JSON."""
    if isinstance(value, bytes):
        return "0" * len(value)
    raise TypeError


def _bytes_of(arguments: Sequence[object]) -> int:
    try:
        return len(orjson.dumps(arguments, default=_placeholder_of))
    except TypeError:
        # It is rejected when its turn comes (``rules.check_arguments``).
        return len(repr(arguments))
