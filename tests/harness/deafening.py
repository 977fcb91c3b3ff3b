"""A link to Redis on which commands go through and what is published does not, when a test says so."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress


class DeafeningLink:
    """Passes bytes between a port of its own and a server, in a thread of its own; used as a context."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._hears = asyncio.Event()
        self._hears.set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._writers: list[asyncio.StreamWriter] = []
        self.url = ""

    def __enter__(self) -> DeafeningLink:
        ready = threading.Event()
        self._loop.call_soon(lambda: self._loop.create_task(self._listen(ready)))
        self._thread.start()
        assert ready.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def deafen(self) -> None:
        """Nothing more reaches whoever subscribed or subscribes."""
        self._loop.call_soon_threadsafe(self._hears.clear)

    def heal(self) -> None:
        """What was held up arrives, and what comes then."""
        self._loop.call_soon_threadsafe(self._hears.set)

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.run_until_complete(self._end())
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)  # the loop closes aborted sockets in its next turns

    async def _listen(self, ready: threading.Event) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        ready.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, to_server]
        subscribed = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._ask(reader, to_server, subscribed))
            tasks.create_task(self._answer(from_server, writer, subscribed))

    async def _ask(
        self, reader: asyncio.StreamReader, to_server: asyncio.StreamWriter, subscribed: asyncio.Event
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                if b"SUBSCRIBE" in data.upper():
                    subscribed.set()
                to_server.write(data)
                await to_server.drain()
        to_server.transport.abort()

    async def _answer(
        self, from_server: asyncio.StreamReader, writer: asyncio.StreamWriter, subscribed: asyncio.Event
    ) -> None:
        with suppress(OSError):
            while data := await from_server.read(65_536):
                if subscribed.is_set():
                    await self._hears.wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
