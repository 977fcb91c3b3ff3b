"""What had to be told twice may come to Redis after something newer; what is true is told again."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest

from gateway.domain.errors import BrokerTimeout, RecoveryFailed
from gateway.domain.positions import START
from gateway.domain.sessions import RecoverySession
from gateway.state.redis.errors import OutcomeUnknown
from tests.contract.values import at, connections_at
from tests.integration.redis_state.replicas import Replica, replicas, until, until_redis_says
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy

SESSION = RecoverySession("p", "s1", "ann", "/", "a/1", frozenset({"old"}), START)
PATIENCE = {"timeout_seconds": 2.0}


async def overtaken(
    server: RedisServer,
    replica: Replica,
    proxy: TcpProxy,
    first: Coroutine[Any, Any, Any],
    newer: Coroutine[Any, Any, Any],
) -> None:
    """The connection breaks under the first, so that it is asked again after the newer one."""
    for script in replica.state.commands.scripts.values():
        server.ask(
            "SCRIPT", "LOAD", script.text
        )  # what Redis does not know is sent again, and so comes later
    proxy.pause()
    asked = asyncio.create_task(first)
    await until(lambda: replica.state.commands.waiting > 0, "it is asked")
    proxy.break_connections()
    proxy.resume()
    await until(lambda: not replica.state.commands.is_connected, "the connection is lost")
    then = asyncio.create_task(newer)
    proxy.accept_connections()
    await asyncio.gather(asked, then)


async def test_who_left_while_it_was_registered_anew_is_not_there(server: RedisServer) -> None:
    async with TcpProxy(server.port) as proxy, replicas(server, "a", url=proxy.redis_url, **PATIENCE) as [a]:
        presence = a.state.presence
        await a.register("s1", "ann", "room")
        await a.register("s2", "bob", "room")
        presence.mark_all_dirty()

        await overtaken(server, a, proxy, presence.flush(0), presence.unregister("s1"))

        await until_redis_says(lambda: connections_at(a.state.broker, at("room")), 1)
        assert not (await presence.of_user("ann")).online


async def test_the_rooms_of_a_connection_are_the_newest_though_it_was_registered_anew(
    server: RedisServer,
) -> None:
    async with TcpProxy(server.port) as proxy, replicas(server, "a", url=proxy.redis_url, **PATIENCE) as [a]:
        presence = a.state.presence
        await a.register("s1", "ann", "old")
        presence.mark_all_dirty()

        await overtaken(server, a, proxy, presence.flush(0), presence.change_rooms("s1", {"new"}))

        await until_redis_says(lambda: connections_at(a.state.broker, at("new")), 1)
        assert await connections_at(a.state.broker, at("old")) == 0


async def test_of_two_changes_of_rooms_the_later_one_counts(server: RedisServer) -> None:
    async with TcpProxy(server.port) as proxy, replicas(server, "a", url=proxy.redis_url, **PATIENCE) as [a]:
        presence = a.state.presence
        await a.register("s1", "ann")

        await overtaken(
            server, a, proxy, presence.change_rooms("s1", {"old"}), presence.change_rooms("s1", {"new"})
        )

        await until_redis_says(lambda: connections_at(a.state.broker, at("new")), 1)
        assert await connections_at(a.state.broker, at("old")) == 0


@pytest.mark.parametrize("anew", [False, True])
async def test_a_session_that_was_deleted_while_it_was_saved_is_gone(server: RedisServer, anew: bool) -> None:
    async with TcpProxy(server.port) as proxy, replicas(server, "a", url=proxy.redis_url, **PATIENCE) as [a]:
        sessions = a.state.sessions
        await sessions.save(replace(SESSION, pid="other", sid="s2"))
        if anew:
            await sessions.save(SESSION)
            server.ask("DEL", "t:sessions:a")
            sessions.mark_all_dirty()
        saving = sessions.flush() if anew else sessions.save(SESSION)

        await overtaken(server, a, proxy, saving, sessions.delete("p", owner="a/1"))

        await until_redis_says(lambda: asyncio.to_thread(server.ask, "HKEYS", "t:sessions:a"), [b"other"])
        with pytest.raises(RecoveryFailed, match="unknown_session"):
            await sessions.resume("p", user="ann", namespace="/", owner="a/2")


async def test_of_two_changes_of_a_session_the_later_one_counts(server: RedisServer) -> None:
    async with TcpProxy(server.port) as proxy, replicas(server, "a", url=proxy.redis_url, **PATIENCE) as [a]:
        sessions = a.state.sessions
        old, new = (SESSION.with_rooms([room], START) for room in ("older", "newer"))
        await sessions.save(SESSION)

        await overtaken(server, a, proxy, sessions.change(old), sessions.change(new))

        await until_redis_says(lambda: asyncio.to_thread(knows, server, "newer"), True)
        assert (await sessions.resume("p", user="ann", namespace="/", owner="a/2")).session == new


async def test_a_session_whose_change_could_not_be_told_is_changed_later(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        await a.state.sessions.save(SESSION)
        server.freeze()
        with pytest.raises(BrokerTimeout):
            await a.state.sessions.change(SESSION.with_rooms(["newer"], START))
        server.thaw()

        await until_redis_says(lambda: asyncio.to_thread(knows, server, "newer"), True)


async def test_a_session_of_which_nobody_knows_whether_it_was_adopted_ends_unless_it_is_asked_for_again(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", "b", timeout_seconds=1.0) as [a, b]:
        adopted = {pid: ("a", pid, "ann", "/", "a/1") for pid in ("gone", "again")}
        for pid in adopted:
            await b.state.sessions.save(replace(SESSION, pid=pid, owner="b/1"))
        server.freeze()
        asked = [a.state.sessions.resume(pid, user="ann", namespace="/", owner="a/1") for pid in adopted]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(answer) for answer in answers] == [OutcomeUnknown, OutcomeUnknown]
        server.thaw()
        await until(lambda: b.state.commands.is_connected, "Redis is back")
        for arguments in adopted.values():  # it came through after all
            await b.state.commands.call("resume_session", *arguments)

        await a.state.sessions.resume("again", user="ann", namespace="/", owner="a/1")

        await until(lambda: server.ask("EXISTS", "t:left:gone") == 1, "nobody uses it")
        assert server.ask("HKEYS", "t:sessions:a") == [b"again"]


def knows(server: RedisServer, room: str) -> bool:
    return room.encode() in (server.ask("HGET", "t:sessions:a", "p") or b"")
