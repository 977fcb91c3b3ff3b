"""A link to a server that a test cuts, holds up and heals."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress


class Cuttable:
    """Passes bytes between its own port and another one of this machine."""

    def __init__(self, port: int, *, watch_for: bytes = b"") -> None:
        """``watch_for`` is counted in what comes from that other port, where it is not split between two reads."""
        self._port = port
        self._watch_for = watch_for
        self.seen = 0
        self._open: set[asyncio.StreamWriter] = set()
        self._passing = asyncio.Event()
        self._passing.set()
        self._hears = asyncio.Event()
        self._hears.set()
        self._is_cut = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Cuttable:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def cut(self) -> None:
        """Every connection breaks, and none is made."""
        self._is_cut = True
        for writer in list(self._open):
            writer.transport.abort()

    def heal(self) -> None:
        """New connections are made again."""
        self._is_cut = False

    def deafen(self) -> None:
        """Commands go through, and nothing more reaches whoever subscribed or subscribes."""
        self._hears.clear()

    def let_hear(self) -> None:
        """What was published meanwhile arrives, and what comes then."""
        self._hears.set()

    def hold(self) -> None:
        """Connections stay, and nothing gets through."""
        self._passing.clear()

    def let_go(self) -> None:
        """What was held up goes on."""
        self._passing.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._port)
        subscribed = asyncio.Event()
        for way in (
            self._ask(reader, server_writer, subscribed),
            self._answer(server_reader, writer, subscribed),
        ):
            task = asyncio.create_task(way)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _ask(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, subscribed: asyncio.Event
    ) -> None:
        async def look(data: bytes) -> None:
            if b"SUBSCRIBE" in data.upper():
                subscribed.set()

        await self._pass(source, target, look)

    async def _answer(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, subscribed: asyncio.Event
    ) -> None:
        async def look(data: bytes) -> None:
            if self._watch_for:
                self.seen += data.count(self._watch_for)
            if subscribed.is_set():
                await self._hears.wait()

        await self._pass(source, target, look)

    async def _pass(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        look: Callable[[bytes], Awaitable[None]],
    ) -> None:
        self._open.add(target)
        try:
            with suppress(OSError):
                while data := await source.read(65536):
                    await look(data)
                    await self._passing.wait()
                    target.write(data)
                    await target.drain()
                await self._passing.wait()  # while nothing gets through, an end does not either
        finally:
            self._open.discard(target)
            target.transport.abort()
