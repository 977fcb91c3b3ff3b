"""The connection for channels, and the buffer of what it receives.

redis-py's PubSub would subscribe again by itself after a lost connection, and not report the messages missed in
between. So redis-py is used for single connections only. Each connection but the first puts a ``ResyncMarker`` into the
``ReceiveBuffer`` before anything that it receives.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable
from itertools import islice
from typing import Any, Final

import structlog
from redis import exceptions
from redis.asyncio import Connection

from gateway.domain.errors import BrokerUnavailable, GatewayError, release_frames
from gateway.state.redis.connection import Backoff, ConnectionFactory, pack, run_until_first_exit, send
from gateway.state.redis.errors import REPLIES, NotExecuted, error_from_reply, rejection_of
from gateway.state.redis.metrics import CHANNELS, RedisMetrics
from gateway.state.redis.reply_reader import ReplyReader

UNSUBSCRIBE_DELAY_SECONDS: Final = 2.0
"""How long a channel stays subscribed without connections here: a client that reloads a page reconnects sooner."""
_BATCH: Final = 500
"""Channels in one command."""

log = structlog.get_logger(__name__)


class ResyncMarker:
    """Entries may be missing before this place: the log is read before anything behind it is delivered.

    ``ready`` is set once reading may begin: every channel is subscribed (``is_subscribed``), or the connection ended.
    """

    __slots__ = ("is_subscribed", "ready")

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self.is_subscribed = False


Item = tuple[bytes, bytes] | ResyncMarker
"""A channel and the data published on it, or a marker."""
Accept = Callable[[bytes, bytes], bool]
"""Takes a channel and the data published on it, and returns whether nothing is left to do for it."""


class ReceiveBuffer:
    """A bounded queue, first in, first out.

    When it is full it is emptied, and its entries are read from the log later. So Redis never has a slow subscriber,
    and this process need not keep what Redis keeps anyway.
    """

    def __init__(self, *, max_entries: int, max_bytes: int) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._arrived = asyncio.Event()
        self._accept: Accept | None = None
        """What ``take`` offers data to while it waits."""
        self._failure: Exception | None = None
        self.overflows = 0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def has_data(self) -> bool:
        """Whether the next item is there, and data of a channel."""
        return bool(self._items) and not isinstance(self._items[0], ResyncMarker)

    def put(self, channel: bytes, data: bytes, *, more: bool = False) -> None:
        """Append data of a channel; empty the buffer first if it is full.

        ``more``: further data has arrived. Without it, data that a waiting ``take`` accepts is not appended.
        """
        if (
            not more
            and not self._items
            and self._accept is not None
            and self._offer(self._accept, channel, data)
        ):
            return
        if len(self._items) >= self._max_entries or self._bytes + len(data) > self._max_bytes:
            self._empty()
        self._items.append((channel, data))
        self._bytes += len(data)
        self._arrived.set()

    def _offer(self, accept: Accept, channel: bytes, data: bytes) -> bool:
        try:
            return accept(channel, data)
        except Exception as error:  # noqa: BLE001  # raised by ``take``: it is an error of the delivery
            self._accept, self._failure = None, error
            self._arrived.set()
            return True

    def mark_resync(self, marker: ResyncMarker) -> None:
        """Append a marker: entries may be missing before what follows."""
        self._items.append(marker)
        self._arrived.set()

    async def take(self, accept: Accept) -> Item:
        """Remove and return the oldest item, once there is one.

        While this waits, data of a channel is offered to ``accept`` in the step that receives it.

        Raises: what ``accept`` raised.
        """
        items = self._items
        if not items:
            self._accept = accept
            try:
                while not items and self._failure is None:
                    self._arrived.clear()
                    await self._arrived.wait()
            finally:
                self._accept = None
            if self._failure is not None:
                raise self._failure
        item = items.popleft()
        if not isinstance(item, ResyncMarker):
            self._bytes -= len(item[1])
        return item

    def _empty(self) -> None:
        """Replace all items by one marker. The last marker in the buffer is kept: it may not be ready yet."""
        last = next((item for item in reversed(self._items) if isinstance(item, ResyncMarker)), None)
        if last is None:
            last = ResyncMarker()
            last.ready.set()
        self._items.clear()
        self._items.append(last)
        self._bytes = 0
        self.overflows += 1


class _Waiter:
    """A caller of ``subscribe``, until Redis has confirmed the last of its channels."""

    __slots__ = ("done", "missing")

    def __init__(self, missing: set[bytes], done: asyncio.Future[None]) -> None:
        self.missing = missing
        self.done = done

    def confirm(self, channel: bytes) -> None:
        self.missing.discard(channel)
        if not self.missing and not self.done.done():
            self.done.set_result(None)


class Subscriber:
    """Subscribes channels while ``run`` works, and puts what they bring into the receive buffer."""

    def __init__(
        self,
        factory: ConnectionFactory,
        receive_buffer: ReceiveBuffer,
        *,
        timeout_seconds: float,
        permanent: Collection[bytes],
        is_unavailable: Callable[[], bool],
        record: Callable[[GatewayError | None], None],
        metrics: RedisMetrics,
    ) -> None:
        """``permanent`` are channels that are never unsubscribed. ``is_unavailable``: Redis is known not to be reached.
        ``record`` gets the outcome of each attempt to subscribe: an error, or None."""
        self._factory = factory
        self._receive_buffer = receive_buffer
        self._timeout_seconds = timeout_seconds
        self._is_unavailable = is_unavailable
        self._record = record
        self._metrics = metrics
        self._wanted: set[bytes] = set(permanent)
        self._confirmed: set[bytes] = set()
        self._unsubscribe_at: dict[bytes, float] = {}
        self._waiters: dict[bytes, list[_Waiter]] = {}
        self._outgoing: list[bytes] = []
        self._changed = asyncio.Event()
        self._reconnect_requested = asyncio.Event()
        self._unconfirmed: set[bytes] = set()
        self._marker = ResyncMarker()
        self._backoff = Backoff()
        self._loop = asyncio.get_running_loop()
        self.subscribed = asyncio.Event()
        """Set once the first connection has confirmed every channel."""
        self.is_connected = False
        """Whether the connection is established."""

    def __len__(self) -> int:
        """The number of channels that Redis has confirmed."""
        return len(self._confirmed)

    async def subscribe(self, channels: Iterable[bytes]) -> None:
        """Subscribe channels and return when Redis has confirmed them all.

        Raises:
            NotExecuted: it did not within the timeout; the channels may be subscribed or not. Or Redis is known to be
                unavailable: then nothing waits, and the channels are not subscribed later.
        """
        channels = tuple(channels)
        if self._is_unavailable():
            raise NotExecuted("Redis is unavailable", retryable=False)
        missing: set[bytes] = set()
        new: list[bytes] = []
        for channel in channels:
            self._unsubscribe_at.pop(channel, None)
            if channel not in self._wanted:
                self._wanted.add(channel)
                new.append(channel)
            if channel not in self._confirmed:
                missing.add(channel)
        for start in range(0, len(new), _BATCH):
            self._send("SUBSCRIBE", *new[start : start + _BATCH])
        if not missing:
            return
        waiting = _Waiter(missing, self._loop.create_future())
        for channel in missing:
            self._waiters.setdefault(channel, []).append(waiting)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await waiting.done
        except TimeoutError as late:
            raise NotExecuted("Redis did not confirm a subscription in time", retryable=False) from late

    def unsubscribe(self, channels: Iterable[bytes]) -> None:
        """Unsubscribe channels after UNSUBSCRIBE_DELAY_SECONDS, unless they are subscribed again before."""
        due = self._loop.time() + UNSUBSCRIBE_DELAY_SECONDS
        for channel in channels:
            if channel in self._wanted:
                self._unsubscribe_at[channel] = due

    def reconnect(self) -> None:
        """Replace the connection by a new one."""
        self._reconnect_requested.set()

    def _send(self, command: str, *channels: bytes) -> None:
        self._outgoing.append(pack(command, *channels))
        self._changed.set()

    # the connection

    async def run(self) -> None:
        """Keep a connection until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_connected(), name="redis channels")
            tasks.create_task(self._unsubscribe_idle(), name="redis unsubscribe")

    async def _keep_connected(self) -> None:
        while True:
            try:
                connection, _ = await self._factory.connect()
            except GatewayError as error:
                self._metrics.connection_failed(CHANNELS)
                self._record(error)
                if self._backoff.record_failure(error.message):
                    log.warning("redis.channels_unavailable", reason=error.message)
                release_frames(error)
            else:
                await self._use(connection)
            await self._backoff.pause()

    async def _use(self, connection: Connection) -> None:
        self.is_connected = True
        self._metrics.connection_opened(CHANNELS)
        self._reconnect_requested.clear()
        self._confirmed.clear()
        self._outgoing.clear()  # the new connection begins with all wanted channels
        self._unconfirmed = set(self._wanted)
        self._marker = ResyncMarker()
        if self.subscribed.is_set():
            self._receive_buffer.mark_resync(self._marker)
        wanted = iter(tuple(self._wanted))
        while batch := tuple(islice(wanted, _BATCH)):
            self._send("SUBSCRIBE", *batch)
        try:
            reader = ReplyReader(connection, self._receive)
            await run_until_first_exit(
                channels_writer=self._write(connection),
                channels_reader=reader.wait_until_lost(),
                channels_watch=self._watch(),
            )
        except (exceptions.RedisError, OSError, BrokerUnavailable) as lost:
            self._record(lost if isinstance(lost, GatewayError) else NotExecuted(str(lost)))
            # The caller of ``reconnect`` has logged the reason.
            if not self._reconnect_requested.is_set() and self._backoff.record_failure(str(lost)):
                log.warning("redis.channels_lost", reason=str(lost))
            release_frames(lost)
        finally:
            self.is_connected = False
            # The log reader must not wait any longer: the next connection adds another marker.
            self._marker.ready.set()
            await connection.disconnect(nowait=True)

    async def _write(self, connection: Connection) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            pieces, self._outgoing = self._outgoing, []
            if pieces:
                await send(connection, b"".join(pieces))

    def _receive(self, reader: ReplyReader, reply: Any) -> None:
        """Take what a channel brings, or a confirmation."""
        if isinstance(reply, REPLIES):
            problem = error_from_reply(reply)
            raise NotExecuted(problem.message, rejection=rejection_of(problem)) from reply
        if isinstance(reply, Exception):
            raise reply
        try:
            kind, channel, content = reply
        except (ValueError, TypeError) as error:
            raise NotExecuted("Redis sent data that is no message of a channel") from error
        if kind == b"message":
            self._receive_buffer.put(channel, content, more=reader.has_more)
        elif kind == b"subscribe":
            self._confirm(channel)

    async def _watch(self) -> None:
        await self._reconnect_requested.wait()
        raise NotExecuted("the connection is replaced")

    def _confirm(self, channel: bytes) -> None:
        if channel in self._wanted:  # otherwise it was unsubscribed in the meantime
            self._confirmed.add(channel)
        for waiting in self._waiters.pop(channel, ()):
            waiting.confirm(channel)
        self._unconfirmed.discard(channel)
        if not self._unconfirmed:
            # Channels that are wanted since the connection began have a position of their own (RedisBroker.subscribe).
            self._marker.is_subscribed = True
            self._marker.ready.set()
            self._backoff.reset()
            self._record(None)
            self.subscribed.set()

    async def _unsubscribe_idle(self) -> None:
        while True:
            await asyncio.sleep(UNSUBSCRIBE_DELAY_SECONDS / 4)
            now = self._loop.time()
            # An unconfirmed channel waits: its confirmation must not be taken for that of a later subscription.
            due = [
                channel
                for channel, at in self._unsubscribe_at.items()
                if at <= now and (channel in self._confirmed or not self.is_connected)
            ]
            for channel in due:
                del self._unsubscribe_at[channel]
                self._wanted.discard(channel)
                self._confirmed.discard(channel)
            for start in range(0, len(due), _BATCH):
                self._send("UNSUBSCRIBE", *due[start : start + _BATCH])
