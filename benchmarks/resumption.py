"""Measure the CPU time of the gateway for a resumed connection, beside a new one."""

from __future__ import annotations

import asyncio
import json
import statistics
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from benchmarks import servers
from benchmarks.comparison import Figures
from benchmarks.machine import cores, on_cores
from benchmarks.servers import JWT_SECRET, Server
from tests.support.backend import Backend
from tests.support.raw_clients import RawSocket, connect_packet, http_session
from tests.support.redis_server import RedisServer
from tests.support.tokens import token

CLIENTS: Final = 1000
ROUNDS: Final = 3
AT_ONCE: Final = 50
MISSED: Final = 3


def measure(report: Callable[[str], None]) -> dict[str, Figures]:
    """Measure the CPU time of the gateway in µs for a new connection, a resumed one that missed nothing, and a resumed
    one that missed three messages, with the memory state and with the Redis state."""
    found = {}
    with on_cores(set(cores()[1])):
        for kind in ("memory", "Redis"):
            rounds = [_measure_state(shared=kind == "Redis") for _ in range(ROUNDS)]
            found[kind] = {row: statistics.median(each[row] for each in rounds) for row in rounds[0]}
            report(f"{kind}: " + ", ".join(f"{row} {value:,.4g}" for row, value in found[kind].items()))
    return found


def _measure_state(*, shared: bool) -> Figures:
    redis = RedisServer() if shared else None
    try:
        settings: dict[str, Any] = {} if redis is None else {"redis_url": redis.url}
        with servers.gateway(ping_interval_seconds=3600, **settings) as server:
            return asyncio.run(_measure_connects(server))
    finally:
        if redis is not None:
            redis.stop()


@dataclass(eq=False)
class _Client:
    """A client that keeps ``pid`` and offset, as the stock client does."""

    token: str
    socket: RawSocket | None = None
    auth: dict[str, str] | None = None

    async def connect(self, http: aiohttp.ClientSession, url: str, **auth: Any) -> None:
        self.socket = await RawSocket.open(http, url)
        await self.socket.send(connect_packet(self.token, **auth))
        accepted = json.loads((await self.socket.frame())[2:])
        while True:
            event = json.loads((await self.socket.frame())[2:])
            if event[0] == "authenticated":
                break
        if ("pid" in auth) != event[1].get("recovered", False):
            raise RuntimeError(f"not resumed: {event}")
        if "pid" in accepted:
            self.auth = {"pid": accepted["pid"], "offset": event[2]}

    async def disconnect(self) -> None:
        if self.socket is not None:
            self.socket.abort()


async def _measure_connects(server: Server) -> Figures:
    clients = [_Client(token(f"u{number}", JWT_SECRET)) for number in range(CLIENTS)]
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(http_session())

        async def costs(step: Callable[[_Client], Awaitable[None]]) -> float:
            before = server.idle_cpu_seconds()
            await _for_each(clients, step)
            spent = server.idle_cpu_seconds() - before
            return spent / CLIENTS * 1e6

        async def disconnect() -> None:
            await _for_each(clients, _Client.disconnect)
            server.idle_cpu_seconds()

        def connect(client: _Client) -> Awaitable[None]:
            return client.connect(http, server.url, recovery=True)

        def resume(client: _Client) -> Awaitable[None]:
            return client.connect(http, server.url, recovery=True, **client.auth or {})

        await costs(connect)  # warm-up: every step once
        await disconnect()
        new = await costs(connect)
        await disconnect()
        resumed = await costs(resume)
        await disconnect()
        await asyncio.to_thread(_push, server)
        replayed = await costs(resume)
        await disconnect()
    return {"new": new, "resumed": resumed, f"resumed, {MISSED} missed": replayed}


async def _for_each(clients: Sequence[_Client], step: Callable[[_Client], Awaitable[None]]) -> None:
    for start in range(0, len(clients), AT_ONCE):
        await asyncio.gather(*(step(client) for client in clients[start : start + AT_ONCE]))


def _push(server: Server) -> None:
    backend = Backend(server.url, *servers.KEY)
    for number in range(MISSED):
        answer = backend.broadcast("missed", number)
        if answer.status != 200:
            raise RuntimeError(f"a push was rejected: {answer}")
