"""A repeated write may be executed after a newer one; the newer one is then written again."""

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
from tests.integration.redis_state.replicas import Replica, await_answer, replicas
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiter import await_until

SESSION = RecoverySession("p", "s1", "ann", "/", "a/1", frozenset({"old"}), START)
TIMEOUT = {"timeout_seconds": 2.0}


async def run_in_reverse(
    server: RedisServer,
    replica: Replica,
    proxy: TcpProxy,
    first: Coroutine[Any, Any, Any],
    newer: Coroutine[Any, Any, Any],
) -> None:
    """Break the connection under the first write, so that it is repeated after the newer one."""
    for script in replica.state.commands.scripts.values():
        server.execute(
            "SCRIPT", "LOAD", script.text
        )  # a script that Redis does not know would be sent again, later
    proxy.pause()
    repeated = asyncio.create_task(first)
    await await_until(lambda: replica.state.commands.waiting > 0, "the first is sent")
    proxy.break_connections()
    proxy.resume()
    await await_until(lambda: not replica.state.commands.is_connected, "the connection is lost")
    overtaking = asyncio.create_task(newer)
    proxy.accept_connections()
    await asyncio.gather(repeated, overtaking)


async def test_connection_unregistered_while_it_was_registered_again_is_absent(server: RedisServer) -> None:
    async with TcpProxy(server.port) as proxy, replicas(server, "a", url=proxy.redis_url, **TIMEOUT) as [a]:
        presence = a.state.presence
        await a.register("s1", "ann", "room")
        await a.register("s2", "bob", "room")
        presence.mark_all_dirty()

        await run_in_reverse(server, a, proxy, presence.flush(0), presence.unregister("s1"))

        await await_answer(lambda: connections_at(a.state.broker, at("room")), 1)
        assert not (await presence.of_user("ann")).is_online


async def test_rooms_of_a_connection_registered_again_are_the_newest(
    server: RedisServer,
) -> None:
    async with TcpProxy(server.port) as proxy, replicas(server, "a", url=proxy.redis_url, **TIMEOUT) as [a]:
        presence = a.state.presence
        await a.register("s1", "ann", "old")
        presence.mark_all_dirty()

        await run_in_reverse(server, a, proxy, presence.flush(0), presence.change_rooms("s1", {"new"}))

        await await_answer(lambda: connections_at(a.state.broker, at("new")), 1)
        assert await connections_at(a.state.broker, at("old")) == 0


async def test_later_of_two_changes_of_rooms_counts(server: RedisServer) -> None:
    async with TcpProxy(server.port) as proxy, replicas(server, "a", url=proxy.redis_url, **TIMEOUT) as [a]:
        presence = a.state.presence
        await a.register("s1", "ann")

        await run_in_reverse(
            server, a, proxy, presence.change_rooms("s1", {"old"}), presence.change_rooms("s1", {"new"})
        )

        await await_answer(lambda: connections_at(a.state.broker, at("new")), 1)
        assert await connections_at(a.state.broker, at("old")) == 0


@pytest.mark.parametrize("anew", [False, True])
async def test_session_deleted_while_it_was_saved_is_absent(server: RedisServer, anew: bool) -> None:
    async with TcpProxy(server.port) as proxy, replicas(server, "a", url=proxy.redis_url, **TIMEOUT) as [a]:
        sessions = a.state.sessions
        await sessions.save(replace(SESSION, pid="other", sid="s2"))
        if anew:
            await sessions.save(SESSION)
            server.execute("DEL", "t:sessions:a")
            sessions.mark_all_dirty()
        saving = sessions.flush() if anew else sessions.save(SESSION)

        await run_in_reverse(server, a, proxy, saving, sessions.delete("p", owner="a/1"))

        await await_answer(lambda: asyncio.to_thread(server.execute, "HKEYS", "t:sessions:a"), [b"other"])
        with pytest.raises(RecoveryFailed, match="unknown_session"):
            await sessions.resume("p", user="ann", namespace="/", owner="a/2")


async def test_later_of_two_changes_of_a_session_counts(server: RedisServer) -> None:
    async with TcpProxy(server.port) as proxy, replicas(server, "a", url=proxy.redis_url, **TIMEOUT) as [a]:
        sessions = a.state.sessions
        old, new = (SESSION.with_rooms([room], START) for room in ("older", "newer"))
        await sessions.save(SESSION)

        await run_in_reverse(server, a, proxy, sessions.change(old), sessions.change(new))

        await await_answer(lambda: asyncio.to_thread(has_room, server, "newer"), True)
        assert (await sessions.resume("p", user="ann", namespace="/", owner="a/2")).session == new


async def test_session_change_that_failed_is_repeated(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        await a.state.sessions.save(SESSION)
        server.freeze()
        with pytest.raises(BrokerTimeout):
            await a.state.sessions.change(SESSION.with_rooms(["newer"], START))
        server.thaw()

        await await_answer(lambda: asyncio.to_thread(has_room, server, "newer"), True)


async def test_session_with_unknown_outcome_of_resume_is_parked_unless_resumed_again(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", "b", timeout_seconds=1.0) as [a, b]:
        resumed = {pid: ("a", pid, "ann", "/", "a/1") for pid in ("gone", "again")}
        for pid in resumed:
            await b.state.sessions.save(replace(SESSION, pid=pid, owner="b/1"))
        server.freeze()
        asked = [a.state.sessions.resume(pid, user="ann", namespace="/", owner="a/1") for pid in resumed]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(answer) for answer in answers] == [OutcomeUnknown, OutcomeUnknown]
        server.thaw()
        await await_until(lambda: b.state.commands.is_connected, "Redis answers again")
        for arguments in resumed.values():  # executed after all
            await b.state.commands.call("resume_session", *arguments)

        await a.state.sessions.resume("again", user="ann", namespace="/", owner="a/1")

        await await_until(lambda: server.execute("EXISTS", "t:left:gone") == 1, "it is parked")
        assert server.execute("HKEYS", "t:sessions:a") == [b"again"]


def has_room(server: RedisServer, room: str) -> bool:
    return room.encode() in (server.execute("HGET", "t:sessions:a", "p") or b"")
