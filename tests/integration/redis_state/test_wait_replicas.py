"""``REDIS_WAIT_REPLICAS``: what was answered is on so many Redis replicas; reads and sessions wait for none."""

from __future__ import annotations

import asyncio

import pytest

from gateway.domain.errors import BrokerTimeout
from gateway.domain.messages import Address, DisconnectCommand, Message, new_id
from gateway.domain.offline_queue import kept_id
from gateway.domain.positions import START
from tests.integration.redis_state.delivery_checker import Client, Pusher, dedup_key
from tests.integration.redis_state.notifying import WORK, claim, notification, notify, read
from tests.integration.redis_state.replicas import Replica, append_until_accepted, ids, make, replicas
from tests.integration.redis_state.test_split_brain import ROOMS, TwoServers, info, two_servers
from tests.support.redis_server import RedisServer
from tests.support.waiter import await_until, wait_until

ONE = {"wait_replicas": 1, "timeout_seconds": 1.0}
LONG_TIMEOUT = ONE | {"timeout_seconds": 15.0}
"""So long that what does not wait for a replica of Redis is done before, on any machine."""


async def test_push_is_answered_once_a_redis_replica_has_it(server: RedisServer) -> None:
    async with two_servers(server, 0) as (servers, _), replicas(server, "a", **ONE) as [a]:
        for number in range(50):
            await a.push("room")
            assert servers.second.execute("XLEN", "t:log") == number + 1


@pytest.mark.parametrize(
    "entry", [make("room"), DisconnectCommand(new_id(), "ann", ("/",), 1.0, revoke=True)]
)
async def test_push_that_no_redis_replica_confirms_is_unknown_and_its_repeat_gets_the_first_answer(
    server: RedisServer, entry: Message | DisconnectCommand
) -> None:
    async with two_servers(server, 0) as (servers, _), replicas(server, "a", **ONE) as [a]:
        await a.subscribe("room", "user:ann")
        servers.second.freeze()
        with pytest.raises(BrokerTimeout):
            await a.state.broker.append(entry, dedup_key("k", 1))
        with pytest.raises(BrokerTimeout):
            await a.state.broker.append(entry._replace(id=new_id()), dedup_key("k", 2))
        servers.second.thaw()

        result = await append_until_accepted(a, entry._replace(id=new_id()), lambda: dedup_key("k", 3))

        assert (result.id, result.replayed) == (entry.id, True)
        last = await a.push("room")
        await a.receives(last)
        assert ids(a.received) == [entry.id, last.id]
        assert servers.second.execute("XLEN", "t:log") == 2


async def test_reads_sessions_and_heartbeats_do_not_wait_for_redis_replicas(server: RedisServer) -> None:
    async with two_servers(server, 0) as (servers, _), replicas(server, "a", **LONG_TIMEOUT) as [a]:
        servers.second.freeze()
        pushing = [asyncio.create_task(a.state.broker.append(make("room"))) for _ in range(20)]
        await asyncio.sleep(0.1)

        for number in range(20):
            await a.register(f"s{number}", "ann", "room")
            await a.state.presence.of_user("ann")
        assert [push for push in pushing if push.done()] == []

        outcomes = await asyncio.gather(*pushing, return_exceptions=True)
        assert all(isinstance(outcome, BrokerTimeout) for outcome in outcomes)
        assert not a.state.rejection


async def test_removed_notification_is_removed_on_a_redis_replica_too(server: RedisServer) -> None:
    async with two_servers(server, 0) as (servers, _), replicas(server, "a", **ONE) as [a]:
        first, second = notification("ann"), notification("ann")
        queue = f"t:webhook:{WORK}:{first.partition}"
        await notify(a, first, second)
        await claim(a)
        queued = await read(a, first.partition)

        await a.state.webhook_queues.remove(WORK, first.partition, [queued[0].sequence])

        assert servers.second.execute("XLEN", queue) == 1
        servers.second.freeze()
        with pytest.raises(BrokerTimeout):
            await a.state.webhook_queues.remove(WORK, first.partition, [queued[1].sequence])
        servers.second.thaw()
        await a.state.webhook_queues.remove(WORK, first.partition, [queued[1].sequence])
        assert servers.second.execute("XLEN", queue) == 0


async def test_primary_without_redis_replicas_accepts_nothing_that_a_failover_loses(
    server: RedisServer,
) -> None:
    async with two_servers(server, 3, **ONE) as (servers, made):
        third = RedisServer(replicaof=f"127.0.0.1 {servers.second.port}")
        try:
            wait_until(lambda: b"state=online" in info(servers.second), "the third is in sync")
            await _lose_a_primary(servers, made)
        finally:
            third.stop()


async def _lose_a_primary(servers: TwoServers, made: list[Replica]) -> None:
    clients = [Client(room) for _ in made for room in ROOMS]
    for number, client in enumerate(clients):
        await client.connect(made[number // len(ROOMS)])
    pushers = [Pusher(replica, *ROOMS) for replica in made]
    pushing = [asyncio.create_task(pusher.run()) for pusher in pushers]
    await _accept_more(*pushers)
    servers.promote_second(1, 2)
    await _accept_more(*pushers[1:])
    await await_until(lambda: len(pushers[0].unknown) > 0, "the isolated primary lets a message time out")
    servers.end()
    await await_until(lambda: len(made[0].gaps) > 0, "the isolated replica finds what was not confirmed")
    for task in pushing:
        task.cancel()
    await asyncio.wait(pushing)
    last = make()
    await append_until_accepted(made[0], last)
    for replica in made:
        await replica.receives(last)

    accepted = [each for pusher in pushers for each in pusher.accepted]
    held = servers.second.execute("XRANGE", "t:log", "-", "+")
    assert {each.position for each in accepted} <= {position.decode() for position, _ in held}
    assert [client.untold(accepted) for client in clients] == [[] for _ in clients]
    # Clients of the isolated replica received what no primary has, and were notified instead of what came meanwhile.
    for client in clients[len(ROOMS) :]:
        due = {news.id for news, _ in accepted if client.room in news.rooms}
        assert due - client.received == set()


async def _accept_more(*pushers: Pusher) -> None:
    """Wait until Redis has accepted ten more messages of each."""
    before = [len(pusher.accepted) for pusher in pushers]
    await await_until(
        lambda: all(
            len(pusher.accepted) >= number + 10 for pusher, number in zip(pushers, before, strict=True)
        ),
        "messages are accepted",
    )


async def test_confirmed_message_with_a_ttl_is_kept_by_the_promoted_server(server: RedisServer) -> None:
    users = [Address("/", "user:ann"), Address("/", "user:bob")]
    kept = make("user:ann", "user:bob")._replace(ttl_seconds=60)
    async with two_servers(server, 1, **ONE) as (servers, [a]):
        sent = [kept._replace(id=new_id()) for _ in range(20)]
        for message in sent:
            await a.state.broker.append(message)
        server.kill()
        servers.promote_second(0)
        third = RedisServer(replicaof=f"127.0.0.1 {servers.second.port}")
        try:
            wait_until(lambda: b"state=online" in info(servers.second), "the third is in sync")
            last = kept._replace(id=new_id())
            await append_until_accepted(a, last)
            for user in users:
                sid = f"~{user.room}"
                await a.subscribe(sid)
                start = await a.state.offline_queue.append_copies(user, sid)
                page = await a.state.broker.history(
                    start or START, [Address("/", sid)], max_entries=100, max_bytes=1_000_000
                )
                assert [kept_id(copy.id) for _, copy in page.entries] == ids([*sent, last])
        finally:
            third.stop()
