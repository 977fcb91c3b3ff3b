"""What a connect asks of Redis: it subscribes, and then runs one script."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

from redis.client import Monitor

from gateway.state.redis.sessions import decode_session
from tests.integration.redis_state.replicas import MANUAL_HEARTBEATS, replicas
from tests.integration.redis_state.test_joined_rooms import Services
from tests.support.redis_server import RedisServer


async def commands_of(server: RedisServer, work: Callable[[], Awaitable[None]]) -> list[str]:
    """Return the names of the commands that clients sent during some work, without those of scripts."""
    with server.client() as client, client.monitor() as monitor:
        client.ping()  # its connection is open, and asks nothing else any more
        await asyncio.to_thread(_read_until, monitor, "PING")
        await work()
        client.echo("the end")
        return await asyncio.to_thread(_read_until, monitor, "ECHO")


def _read_until(monitor: Monitor, last: str) -> list[str]:
    names: list[str] = []
    while True:
        command = monitor.next_command()
        name = command["command"].split()[0]
        if name == last:
            return names
        if command["client_type"] != "lua":
            names.append(name)


async def test_new_connection_takes_two_requests(server: RedisServer) -> None:
    async with replicas(server, "a", **MANUAL_HEARTBEATS) as [a]:
        services = Services(a)
        await services.connect("known")  # Redis knows the script from now on.

        async def connect() -> None:
            await services.connect("new:1", "new:2")

        assert await commands_of(server, connect) == ["SUBSCRIBE", "EVALSHA"]


async def test_sessions_and_presence_name_the_position_at_which_a_connection_began(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", **MANUAL_HEARTBEATS) as [a]:
        services = Services(a)
        before = await a.push("elsewhere")

        connection = await services.connect("granted")

        assert connection.session is not None
        begun = connection.session
        found = await a.state.broker.append(before)
        assert begun.first_position == connection.first_position == found.position
        [record] = server.execute("HVALS", "t:sessions:a")
        assert decode_session(begun.pid, record) == begun
        [counted] = server.execute("HVALS", "t:conns:a")
        assert json.loads(counted)["p"] == begun.first_position
