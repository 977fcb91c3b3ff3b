"""A TCP proxy in front of a server, whose connections a test breaks, pauses and restores."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress

from tests.support.ports import free_port
from tests.support.waiter import TIMEOUT_SECONDS

BACKLOG = 100


class TcpProxy:
    """Passes bytes between a port of its own and ``port``, both of this machine.

    It runs on an event loop in its own thread, so tests with and without an event loop use it as a context. Each
    method returns when its effect is there.
    """

    def __init__(self, port: int, *, count: bytes = b"") -> None:
        """``count`` is counted in what the server sends, where it is not split between two reads."""
        self._port = port
        self._count = count
        self.counted = 0
        self.answer_delay_seconds = 0.0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._writers: set[asyncio.StreamWriter] = set()
        self._connections: set[asyncio.Task[None]] = set()
        self._directions: set[asyncio.Task[None]] = set()
        self._is_broken = False
        self._passes = _open_gate()
        self._answers_pass = _open_gate()
        self._subscriptions_pass = _open_gate()
        self._pause_at: tuple[bytes, asyncio.Event] | None = None
        self._started = threading.Event()
        self._stopped = asyncio.Event()
        self._own_port = 0

    @property
    def address(self) -> str:
        """Host and port to connect to."""
        return f"127.0.0.1:{self._own_port}"

    @property
    def redis_url(self) -> str:
        return f"redis://{self.address}"

    @property
    def http_url(self) -> str:
        return f"http://{self.address}"

    def __enter__(self) -> TcpProxy:
        self._thread.start()
        assert self._started.wait(TIMEOUT_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._stopped.set)
        self._thread.join(TIMEOUT_SECONDS)

    async def __aenter__(self) -> TcpProxy:
        return self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        self.__exit__()

    def forward_to(self, port: int) -> None:
        """Pass each new connection to another port, as a load balancer does."""

        def change() -> None:
            self._port = port

        self._do(change)

    def break_connections(self) -> None:
        """Reset every connection, and each new one until ``accept_connections``."""
        self._do(self._break)

    def cut_connections(self) -> None:
        """Reset every connection, and accept new ones."""

        def cut() -> None:
            self._break()
            self._is_broken = False

        self._do(cut)

    def accept_connections(self) -> None:
        """Accept connections again after ``break_connections``."""

        def accept() -> None:
            self._is_broken = False

        self._do(accept)

    def lead_to(self, port: int) -> None:
        """Open each new connection to another port of this machine."""

        def lead() -> None:
            self._port = port

        self._do(lead)

    def pause(self) -> None:
        """Keep the connections open and pass nothing, not even their end."""
        self._do(self._passes.clear)

    def resume(self) -> None:
        """Pass what was kept by ``pause``, and what comes then."""
        self._do(self._passes.set)

    def pause_answers(self) -> None:
        """Pass commands to the server, and keep what it sends."""
        self._do(self._answers_pass.clear)

    def resume_answers(self) -> None:
        """Pass what was kept by ``pause_answers``, and what comes then."""
        self._do(self._answers_pass.set)

    def pause_at(self, text: bytes, *, passes_command: bool) -> None:
        """Do as ``pause_answers`` once a command has the text; or as ``pause``, before it is passed."""

        def pause() -> None:
            self._pause_at = text, self._answers_pass if passes_command else self._passes

        self._do(pause)

    def pause_subscriptions(self) -> None:
        """Keep what the server sends on connections that subscribed or subscribe; pass everything else."""
        self._do(self._subscriptions_pass.clear)

    def resume_subscriptions(self) -> None:
        """Pass what was kept by ``pause_subscriptions``, and what comes then."""
        self._do(self._subscriptions_pass.set)

    def _do(self, action: Callable[[], None]) -> None:
        done = threading.Event()

        def act() -> None:
            action()
            done.set()

        self._loop.call_soon_threadsafe(act)
        assert done.wait(TIMEOUT_SECONDS)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        # Not ``start_server``: a connection that it accepts in the turn in which it is closed is never closed.
        with socket.create_server(("127.0.0.1", free_port()), backlog=BACKLOG) as listener:
            listener.setblocking(False)
            self._own_port = listener.getsockname()[1]
            self._loop.add_reader(listener, self._accept, listener)
            self._started.set()
            await self._stopped.wait()
            self._loop.remove_reader(listener)
        self._break()
        for task in self._directions:
            task.cancel()
        while self._connections:
            done, _ = await asyncio.wait(self._connections, timeout=TIMEOUT_SECONDS)
            assert done, self._connections

    def _accept(self, listener: socket.socket) -> None:
        with suppress(BlockingIOError, ConnectionAbortedError):
            accepted, _ = listener.accept()
            task = self._loop.create_task(self._pass(accepted))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

    def _break(self) -> None:
        self._is_broken = True
        for writer in list(self._writers):
            writer.transport.abort()

    async def _pass(self, accepted: socket.socket) -> None:
        """Pass the bytes of a connection until it ends; return once its sockets are closed."""
        reader, writer = await asyncio.open_connection(sock=accepted)
        async with AsyncExitStack() as ends:
            await ends.enter_async_context(self._registered(writer))
            if self._is_broken:
                return
            try:
                server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                return
            await ends.enter_async_context(self._registered(server_writer))
            if self._is_broken:
                return
            subscribed = asyncio.Event()
            directions = {
                asyncio.create_task(self._pass_commands(reader, server_writer, subscribed)),
                asyncio.create_task(self._pass_answers(server_reader, writer, subscribed)),
            }
            self._directions |= directions
            await asyncio.wait(directions)
            self._directions -= directions

    @asynccontextmanager
    async def _registered(self, writer: asyncio.StreamWriter) -> AsyncIterator[None]:
        """Let ``_break`` abort a connection while the context is open; abort it at the end and wait for that."""
        self._writers.add(writer)
        try:
            yield
        finally:
            self._writers.discard(writer)
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()

    async def _pass_commands(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, subscribed: asyncio.Event
    ) -> None:
        with _aborted_at_end(target), suppress(OSError):
            while data := await source.read(65536):
                if b"SUBSCRIBE" in data.upper():
                    subscribed.set()
                if self._pause_at is not None and self._pause_at[0] in data:
                    self._pause_at[1].clear()
                    self._pause_at = None
                await self._write(data, target)
            await self._passes.wait()

    async def _pass_answers(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, subscribed: asyncio.Event
    ) -> None:
        with _aborted_at_end(target), suppress(OSError):
            while data := await source.read(65536):
                if self._count:
                    self.counted += data.count(self._count)
                if subscribed.is_set():
                    await self._subscriptions_pass.wait()
                await self._answers_pass.wait()
                if self.answer_delay_seconds:
                    await asyncio.sleep(self.answer_delay_seconds)
                await self._write(data, target)
            await self._passes.wait()

    async def _write(self, data: bytes, target: asyncio.StreamWriter) -> None:
        await self._passes.wait()
        target.write(data)
        await target.drain()


@contextmanager
def _aborted_at_end(writer: asyncio.StreamWriter) -> Iterator[None]:
    try:
        yield
    finally:
        writer.transport.abort()


def _open_gate() -> asyncio.Event:
    gate = asyncio.Event()
    gate.set()
    return gate
