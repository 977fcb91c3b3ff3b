"""A link to Redis that a test cuts and heals, and that says what came over it; it runs in a thread of its own."""

from __future__ import annotations

import asyncio
import threading

from tests.support.tcp_cut import Cuttable


class Link:
    """``Cuttable`` for tests that wait in other ways than an event loop does; used as a context."""

    def __init__(self, port: int, *, watch_for: bytes = b"") -> None:
        """``watch_for`` is counted in what comes from the server."""
        self._link = Cuttable(port, watch_for=watch_for)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ready = threading.Event()
        self._over = asyncio.Event()

    @property
    def url(self) -> str:
        return self._link.url

    @property
    def seen(self) -> int:
        """How often the server sent what is watched for."""
        return self._link.seen

    def __enter__(self) -> Link:
        self._thread.start()
        assert self._ready.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(5)

    def cut(self) -> None:
        """Every connection breaks, and none is made."""
        self._loop.call_soon_threadsafe(self._link.cut)

    def heal(self) -> None:
        """New connections are made again."""
        self._loop.call_soon_threadsafe(self._link.heal)

    def hold(self) -> None:
        """Connections stay, and nothing gets through, not even their end."""
        self._loop.call_soon_threadsafe(self._link.hold)

    def deafen(self) -> None:
        """Commands go through, and nothing more reaches whoever subscribed or subscribes."""
        self._loop.call_soon_threadsafe(self._link.deafen)

    def let_hear(self) -> None:
        """What was published meanwhile arrives, and what comes then."""
        self._loop.call_soon_threadsafe(self._link.let_hear)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        async with self._link:
            self._ready.set()
            await self._over.wait()
        await asyncio.sleep(0.01)  # the loop closes aborted sockets in its next turns
