"""At its memory limit Redis executes what frees memory; the rest waits and blocks nothing else."""

from __future__ import annotations

import asyncio

import pytest

from gateway.domain.errors import BrokerUnavailable
from gateway.domain.positions import START
from gateway.domain.sessions import RecoverySession
from tests.contract.values import at, connections_at
from tests.integration.redis_state.replicas import Replica, await_answer, replicas
from tests.support.redis_server import RedisServer
from tests.support.waiter import await_until


async def test_failed_registration_blocks_neither_unregistering_nor_reaping(
    server: RedisServer,
) -> None:
    async with replicas(server, "a") as [a]:
        dies = Replica(server, "z")
        await dies.start()
        await dies.register("s3", "cleo", "room")
        for sid, user in (("s1", "ann"), ("s2", "bob")):
            await a.register(sid, user, "room")
        await a.state.sessions.save(RecoverySession("p", "s1", "ann", "/", "a/1", frozenset(), START))
        server.execute("CONFIG", "SET", "maxmemory", "1mb")
        with pytest.raises(BrokerUnavailable, match="memory limit"):
            await a.state.presence.change_rooms("s1", {"other"})
        await a.state.presence.unregister("s2")
        a.state.presence.dirty.add("s2")  # as after a lost answer
        a.state.sessions.mark_all_dirty()
        await dies.stop()

        await await_until(lambda: a.reaped == ["z"], "the dead replica is reaped")
        await await_until(lambda: a.state.presence.dirty == {"s1"}, "the closed connection is removed")
        assert server.execute("HGETALL", "t:room:/,room") == {b"a": b"1"}

        server.execute("CONFIG", "SET", "maxmemory", "0")
        await await_answer(lambda: connections_at(a.state.broker, at("other")), 1)
        await await_answer(lambda: asyncio.to_thread(server.execute, "HKEYS", "t:sessions:a"), [b"p"])
