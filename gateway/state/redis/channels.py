"""The connection on which channels are heard.

redis-py would subscribe again by itself after a lost connection, and say nothing of what was published in between. So
it is used for single connections only: here every one but the first begins with an Interruption in the inbox, in front
of everything that it brings.

What came on channels and was not handed over yet.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Collection, Iterable
from itertools import islice
from typing import Final

import structlog
from redis import exceptions
from redis.asyncio import Connection

from gateway.domain.errors import BrokerUnavailable, GatewayError
from gateway.state.redis.errors import REPLIES, Unsent, of_reply, refusal_of
from gateway.state.redis.meter import Meter
from gateway.state.redis.server import Attempts, Server, pack, until_one_ends


class Interruption:
    """Something was missed here: what follows is handed over after the log was read up to it.

    ``over`` is set once reading may begin: everything is ``heard`` again, or will not be on this connection.
    """

    __slots__ = ("heard", "over")

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self.heard = False


Item = tuple[bytes, bytes] | Interruption
"""A channel and what was published on it, or a gap in between."""


class Inbox:
    """A bounded queue, first in, first out.

    Where it would grow too long it is emptied, and everything in it is read from the log later: that is as good, and
    Redis keeps what this process need not.
    """

    def __init__(self, *, max_entries: int, max_bytes: int) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._arrived = asyncio.Event()
        self.overflows = 0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, channel: bytes, data: bytes) -> None:
        """Something was published."""
        if len(self._items) >= self._max_entries or self._bytes + len(data) > self._max_bytes:
            self._empty()
        self._items.append((channel, data))
        self._bytes += len(data)
        self._arrived.set()

    def interrupt(self, interruption: Interruption) -> None:
        """From here on something may be missing in front of what comes."""
        self._items.append(interruption)
        self._arrived.set()

    async def take(self) -> Item:
        """The oldest, once there is one."""
        items = self._items
        while not items:
            self._arrived.clear()
            await self._arrived.wait()
        item = items.popleft()
        if not isinstance(item, Interruption):
            self._bytes -= len(item[1])
        return item

    def _empty(self) -> None:
        """Drop everything behind an interruption: the last one that there is, since it may not be over yet."""
        last = next((item for item in reversed(self._items) if isinstance(item, Interruption)), None)
        if last is None:
            last = Interruption()
            last.over.set()
        self._items.clear()
        self._items.append(last)
        self._bytes = 0
        self.overflows += 1


log = structlog.get_logger(__name__)

LINGER_SECONDS: Final = 2.0
"""How long a channel stays subscribed after the last one here left: whoever reloads a page is back sooner."""
_AT_ONCE: Final = 500
"""Channels in one command."""


class _Waiting:
    """A caller of ``subscribe``, until the last of its channels is confirmed."""

    __slots__ = ("done", "missing")

    def __init__(self, missing: set[bytes], done: asyncio.Future[None]) -> None:
        self.missing = missing
        self.done = done

    def confirm(self, channel: bytes) -> None:
        self.missing.discard(channel)
        if not self.missing and not self.done.done():
            self.done.set_result(None)


class Channels:
    """Hears channels, from ``run`` being started until it ends; what comes goes into the inbox."""

    def __init__(
        self,
        server: Server,
        inbox: Inbox,
        *,
        patience_seconds: float,
        always: Collection[bytes],
        judge: Callable[[GatewayError | None], None],
        meter: Meter,
    ) -> None:
        """``always`` are channels that are never left. ``judge`` is told what becomes of each attempt to hear."""
        self._server = server
        self._inbox = inbox
        self._patience_seconds = patience_seconds
        self._judge = judge
        self._meter = meter
        self._wanted: set[bytes] = set(always)
        self._confirmed: set[bytes] = set()
        self._leaving: dict[bytes, float] = {}
        self._waiting: dict[bytes, list[_Waiting]] = {}
        self._outgoing: list[bytes] = []
        self._changed = asyncio.Event()
        self._given_up = asyncio.Event()
        self._unheard: set[bytes] = set()
        self._interruption = Interruption()
        self._attempts = Attempts()
        self._loop = asyncio.get_running_loop()
        self.heard_first = asyncio.Event()
        """Set once the first connection has confirmed every channel."""
        self.up = False
        """Whether there is a connection."""

    def __len__(self) -> int:
        """Channels that Redis confirmed."""
        return len(self._confirmed)

    async def subscribe(self, channels: Iterable[bytes]) -> None:
        """Return when Redis has confirmed them all. Raises Unsent; then they may be subscribed or not."""
        missing: set[bytes] = set()
        for channel in channels:
            self._leaving.pop(channel, None)
            if channel not in self._wanted:
                self._wanted.add(channel)
                self._send("SUBSCRIBE", channel)
            if channel not in self._confirmed:
                missing.add(channel)
        if not missing:
            return
        waiting = _Waiting(missing, self._loop.create_future())
        for channel in missing:
            self._waiting.setdefault(channel, []).append(waiting)
        try:
            async with asyncio.timeout(self._patience_seconds):
                await waiting.done
        except TimeoutError as late:
            raise Unsent("Redis did not confirm a subscription in time", passing=False) from late

    def unsubscribe(self, channels: Iterable[bytes]) -> None:
        """They are not needed any more; they are left a little later."""
        due = self._loop.time() + LINGER_SECONDS
        for channel in channels:
            if channel in self._wanted:
                self._leaving[channel] = due

    def reconnect(self) -> None:
        """Give up the connection that there is, and begin anew."""
        self._given_up.set()

    def _send(self, command: str, *channels: bytes) -> None:
        self._outgoing.append(pack(command, *channels))
        self._changed.set()

    # life

    async def run(self) -> None:
        """Keep a connection until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_connected(), name="redis channels")
            tasks.create_task(self._leave_in_time(), name="redis channels left")

    async def _keep_connected(self) -> None:
        while True:
            try:
                connection, _ = await self._server.open()
            except GatewayError as error:
                self._meter.connection_failed("channels")
                self._judge(error)
                if self._attempts.failed(error.message):
                    log.warning("redis.channels_unavailable", reason=error.message)
            else:
                await self._use(connection)
            await self._attempts.pause()

    async def _use(self, connection: Connection) -> None:
        self.up = True
        self._meter.connection_made("channels")
        self._given_up.clear()
        self._confirmed.clear()
        self._outgoing.clear()  # the new connection begins with everything that is wanted now
        self._unheard = set(self._wanted)
        self._interruption = Interruption()
        if self.heard_first.is_set():
            self._inbox.interrupt(self._interruption)
        wanted = iter(tuple(self._wanted))
        while some := tuple(islice(wanted, _AT_ONCE)):
            self._send("SUBSCRIBE", *some)
        try:
            await until_one_ends(
                channels_writer=self._write(connection),
                channels_reader=self._read(connection),
                channels_watch=self._watch(),
            )
        except (exceptions.RedisError, OSError, BrokerUnavailable) as lost:
            self._judge(lost if isinstance(lost, GatewayError) else Unsent(str(lost)))
            # Whoever gave it up said why.
            if not self._given_up.is_set() and self._attempts.failed(str(lost)):
                log.warning("redis.channels_lost", reason=str(lost))
        finally:
            self.up = False
            # Whoever waits for it goes on: another interruption is about to follow.
            self._interruption.over.set()
            await connection.disconnect(nowait=True)

    async def _write(self, connection: Connection) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            pieces, self._outgoing = self._outgoing, []
            if pieces:
                await connection.send_packed_command(b"".join(pieces), check_health=False)

    async def _read(self, connection: Connection) -> None:
        inbox = self._inbox
        while True:
            try:
                kind, channel, content = await connection.read_response(
                    disable_decoding=True, timeout=math.inf, disconnect_on_error=False
                )
            except REPLIES as error:
                problem = of_reply(error)
                raise Unsent(problem.message, refusal=refusal_of(problem)) from error
            except (ValueError, TypeError) as error:
                raise Unsent("something that is no message of a channel") from error
            if kind == b"message":
                inbox.put(channel, content)
            elif kind == b"subscribe":
                self._confirm(channel)

    async def _watch(self) -> None:
        await self._given_up.wait()
        raise Unsent("given up")

    def _confirm(self, channel: bytes) -> None:
        if channel in self._wanted:  # else it was left in the meantime
            self._confirmed.add(channel)
        for waiting in self._waiting.pop(channel, ()):
            waiting.confirm(channel)
        self._unheard.discard(channel)
        if not self._unheard:
            # Those wanted since the connection began bring their own position (Broker.subscribe).
            self._interruption.heard = True
            self._interruption.over.set()
            self._attempts.worked()
            self._judge(None)
            self.heard_first.set()

    async def _leave_in_time(self) -> None:
        while True:
            await asyncio.sleep(LINGER_SECONDS / 4)
            now = self._loop.time()
            # One that is not confirmed yet waits: its confirmation must not be taken for that of a later subscription.
            due = [c for c, at in self._leaving.items() if at <= now and c in self._confirmed]
            for channel in due:
                del self._leaving[channel]
                self._wanted.discard(channel)
                self._confirmed.discard(channel)
            for start in range(0, len(due), _AT_ONCE):
                self._send("UNSUBSCRIBE", *due[start : start + _AT_ONCE])
