"""At its memory limit Redis takes what gives some back; the rest waits, and holds nothing else up."""

from __future__ import annotations

import asyncio

import pytest

from gateway.domain.errors import BrokerUnavailable
from gateway.domain.positions import START
from gateway.domain.sessions import RecoverySession
from tests.contract.values import at, connections_at
from tests.integration.redis_state.replicas import Replica, replicas, until, until_redis_says
from tests.support.redis_server import RedisServer


async def test_a_registration_that_is_owed_holds_up_neither_who_leaves_nor_the_dead(
    server: RedisServer,
) -> None:
    async with replicas(server, "a") as [a]:
        dies = Replica(server, "z")
        await dies.start()
        await dies.register("s3", "cleo", "room")
        for sid, user in (("s1", "ann"), ("s2", "bob")):
            await a.register(sid, user, "room")
        await a.state.sessions.save(RecoverySession("p", "s1", "ann", "/", "a/1", frozenset(), START))
        server.ask("CONFIG", "SET", "maxmemory", "1mb")
        with pytest.raises(BrokerUnavailable, match="memory limit"):
            await a.state.presence.change_rooms("s1", {"other"})
        await a.state.presence.unregister("s2")
        a.state.presence.dirty.add("s2")  # as if the answer had been lost
        a.state.sessions.mark_all_dirty()
        await dies.stop()

        await until(lambda: a.cleaned == ["z"], "who died is cleaned up")
        await until(lambda: a.state.presence.dirty == {"s1"}, "who left is taken out")
        assert server.ask("HGETALL", "t:room:/,room") == {b"a": b"1"}

        server.ask("CONFIG", "SET", "maxmemory", "0")
        await until_redis_says(lambda: connections_at(a.state.broker, at("other")), 1)
        await until_redis_says(lambda: asyncio.to_thread(server.ask, "HKEYS", "t:sessions:a"), [b"p"])
