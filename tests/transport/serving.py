"""An Engine.IO server on a real port, with a layer above that a test looks into."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from gateway.listening import Listener
from gateway.schedule import HeapSchedule
from gateway.transport.cors import Origins
from gateway.transport.http import ProblemWriter
from gateway.transport.server import EngineOptions, EngineServer
from gateway.transport.session import Session
from ingest_api.errors import PROBLEM_TYPE, problem_body
from tests.conformance.client import PATIENCE_SECONDS, Client

PATH = "/engine.io/"
MAX_PAYLOAD_BYTES = 1_000_000


class Above:
    """Keeps what it is told; satisfies ``transport.server.Application``."""

    def __init__(self) -> None:
        self.opened: list[Session] = []
        self.closed: list[str] = []
        self.received: list[str | bytes] = []
        self.skipped: list[str] = []
        self.upgraded = asyncio.Event()
        self.got = asyncio.Event()
        self.fails = False
        self.may_receive = asyncio.Event()
        self.may_receive.set()

    def session_opened(self, session: Session) -> None:
        self.opened.append(session)

    def session_closed(self, session: Session, reason: str) -> None:
        self.closed.append(reason)

    def session_upgraded(self, session: Session) -> None:
        self.upgraded.set()

    def volatile_skipped(self, reason: str) -> None:
        self.skipped.append(reason)

    async def message_received(self, session: Session, data: str | bytes) -> None:
        if self.fails:
            raise RuntimeError("a bug")
        self.got.set()
        await self.may_receive.wait()
        self.received.append(data)


class Serving:
    """A server, what stands above it, and a client."""

    def __init__(self, *, outbox_bytes: int, upgrade_timeout_seconds: float) -> None:
        self.above = Above()
        self.schedule = HeapSchedule(asyncio.get_running_loop())
        self.engine = EngineServer(
            EngineOptions(
                replica="replica",
                transports=("polling", "websocket"),
                ping_interval_seconds=25,
                ping_timeout_seconds=20,
                upgrade_timeout_seconds=upgrade_timeout_seconds,
                max_payload_bytes=MAX_PAYLOAD_BYTES,
                body_timeout_seconds=0.2,
                outbox_bytes=outbox_bytes,
            ),
            above=self.above,
            schedule=self.schedule,
            origins=Origins(["https://app.example"]),
            admit=lambda: None,
        )
        self.listener = Listener(
            web.Application(),
            direct={PATH: self.engine.handle},
            problems=ProblemWriter(PROBLEM_TYPE, problem_body),
            head_timeout_seconds=5.0,
            finish_seconds=1.0,
        )
        self.port = 0

    async def emptied(self) -> None:
        """Wait until every session is gone."""
        await asyncio.wait_for(self.engine.empty.wait(), PATIENCE_SECONDS)


@asynccontextmanager
async def serving(
    *, outbox_bytes: int = 4 * MAX_PAYLOAD_BYTES, upgrade_timeout_seconds: float = 10.0
) -> AsyncIterator[tuple[Serving, Client]]:
    """Nothing may be left of any session, and nothing in the schedule, once all have gone."""
    server = Serving(outbox_bytes=outbox_bytes, upgrade_timeout_seconds=upgrade_timeout_seconds)
    server.port = await server.listener.start("127.0.0.1", 0)
    try:
        async with aiohttp.ClientSession() as http:
            yield server, Client(http, f"http://127.0.0.1:{server.port}{PATH}")
    finally:
        server.above.may_receive.set()
        for session in list(server.engine.sessions.values()):
            session.abort("the test is over")
        await server.listener.stop()
    assert len(server.above.closed) == len(server.above.opened)
    assert server.engine.sessions == {}
    assert len(server.schedule) == 0
