"""Two primaries for some seconds: what one of them accepted and then lost is reported to every client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from gateway.state.redis.codec import Codec
from gateway.state.redis.records import FORMS
from tests.contract.values import at
from tests.integration.redis_state.delivery_checker import Client, Pusher
from tests.integration.redis_state.replicas import Replica, append_until_accepted, make, replicas
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiter import await_until, wait_until

ROOMS = ("red", "green", "blue")
SECONDS = 2.0


class TwoServers:
    """A primary and a replica of it, and one proxy for each replica of the gateway."""

    def __init__(self, first: RedisServer, second: RedisServer, proxies: list[TcpProxy]) -> None:
        self.first = first
        self.second = second
        self.proxies = proxies

    def promote_second(self, *moved: int) -> None:
        """Make the second server a primary, too, and lead the proxies of these numbers to it."""
        self.second.execute("REPLICAOF", "NO", "ONE")
        for number in moved:
            self.proxies[number].lead_to(self.second.port)
            self.proxies[number].cut_connections()

    def end(self) -> None:
        """Make the first server a replica of the second, and lead every proxy to that."""
        self.first.execute("REPLICAOF", "127.0.0.1", self.second.port)
        for proxy in self.proxies:
            proxy.lead_to(self.second.port)
            proxy.cut_connections()


@asynccontextmanager
async def two_servers(
    server: RedisServer, number: int, **options: Any
) -> AsyncIterator[tuple[TwoServers, list[Replica]]]:
    """Start a replica of a server, and replicas of the gateway whose connections can be led to either."""
    second = RedisServer(replicaof=f"127.0.0.1 {server.port}")
    try:
        wait_until(lambda: b"master_link_status:up" in info(second), "the replica is in sync")
        async with AsyncExitStack() as stack:
            proxies = [await stack.enter_async_context(TcpProxy(server.port)) for _ in range(number)]
            made = [
                (
                    await stack.enter_async_context(
                        replicas(server, f"r{place}", url=proxy.redis_url, **options)
                    )
                )[0]
                for place, proxy in enumerate(proxies)
            ]
            yield TwoServers(server, second, proxies), made
    finally:
        second.stop()


def info(server: RedisServer) -> bytes:
    with server.client() as client:
        client.set_response_callback("INFO", lambda reply, **_: reply)
        reply: bytes = client.execute_command("INFO", "replication")
    return reply


async def test_messages_of_the_primary_that_lost_are_received_or_reported_at_every_replica(
    server: RedisServer,
) -> None:
    async with two_servers(server, 3) as (servers, made):
        clients = [Client(room) for _ in made for room in ROOMS]
        for number, client in enumerate(clients):
            await client.connect(made[number // len(ROOMS)])
        away = [Client(room) for room in ROOMS]
        for client in away:
            await client.connect(made[1])
        pushers = [Pusher(replica, *ROOMS) for replica in made]
        pushing = [asyncio.create_task(pusher.run()) for pusher in pushers]
        await asyncio.sleep(0.5)
        for client in away:
            await client.leave()
        await asyncio.sleep(0.2)

        servers.promote_second(1, 2)
        await asyncio.sleep(SECONDS)
        servers.end()

        await await_until(lambda: len(made[0].notified_at) > 0, "the isolated replica finds the loss")
        await asyncio.sleep(0.5)
        for task in pushing:
            task.cancel()
        await asyncio.wait(pushing)
        last = make()
        await append_until_accepted(made[0], last)
        for replica in made:
            await replica.receives(last)
        for client, replica in zip(away, made, strict=True):
            await client.resume(replica)
        accepted = [each for pusher in pushers for each in pusher.accepted]
        untold = [client.untold(accepted) for client in [*clients, *away]]
        print([len(each) for each in untold], [replica.notified_at for replica in made], len(accepted))
        assert untold == [[] for _ in untold]


async def test_clients_away_while_redis_went_back_are_notified_when_they_resume(server: RedisServer) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        clients = [Client(room) for room in ROOMS]
        for client in clients:
            await client.connect(a)
        seen = [await a.push(room) for room in ROOMS]
        await a.receives(*seen)
        for client in clients:
            await client.leave()
        server.execute("SAVE")
        pusher = Pusher(b, *ROOMS)  # which has no client, and so receives none of the messages
        pushing = asyncio.create_task(pusher.run())
        await await_until(lambda: len(pusher.accepted) >= 200, "messages are accepted")
        server.restart()
        pushing.cancel()
        await asyncio.wait([pushing])
        await append_until_accepted(a, make())
        await await_until(lambda: a.gaps == b.gaps == ["data_lost"], "every replica reports the loss")

        codes = [await client.resume(b) for client in clients]

        assert codes == ["data_lost"] * len(clients)
        assert [client.untold(pusher.accepted) for client in clients] == [[] for _ in clients]


async def test_loss_is_marked_once_by_several_replicas_that_saw_the_lost_messages(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", "b", "c") as made:
        for replica in made:
            await replica.subscribe("room")
        server.execute("SAVE")
        lost = [await replica.push("room") for replica in made]
        for replica in made:
            await replica.receives(*lost)
        server.restart()
        last = make("room")
        await append_until_accepted(made[0], last)

        await await_until(lambda: all(replica.gaps for replica in made), "each reports the loss")
        for replica in made:
            await replica.receives(last)

        assert server.execute("LLEN", "t:index:!") == 1
        assert all(len(replica.gaps) <= 2 for replica in made)


async def test_primaries_that_accept_messages_in_the_same_millisecond_assign_different_positions(
    server: RedisServer,
) -> None:
    async with two_servers(server, 2) as (servers, made):
        servers.promote_second(1)
        await await_until(
            lambda: made[0].state.commands.branch != made[1].state.commands.branch,
            "it reaches the second server",
        )
        await await_until(lambda: made[1].state.commands.is_connected, "it is connected")
        results = await asyncio.gather(
            *(replica.state.broker.append(make("room")) for _ in range(500) for replica in made)
        )

        assert len({result.position for result in results}) == len(results)


async def test_former_release_reports_a_marked_loss_as_lost_data(server: RedisServer) -> None:
    former = Codec(forms={form: decode for form, decode in FORMS.items() if form[1] != "L"})
    async with replicas(server, "a") as [a], replicas(server, "old", codec=former) as [old]:
        await old.subscribe(None, "room")
        start = await old.state.broker.subscribe([at("room")])
        await a.push("elsewhere")
        a.state._losses.found()  # as after a loss that only this replica saw

        await await_until(lambda: old.gaps == ["data_lost"], "the former release reports it")

        page = await old.state.broker.history(start, [at(None), at("room")], max_entries=9, max_bytes=9_999)
        assert page.gap == "data_lost"


async def test_session_knows_what_was_read_when_it_was_parked(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        client = Client("red")
        await client.connect(a)
        other = await a.state.broker.subscribe([at("other")])
        result = await a.state.broker.append(make("other"))
        await await_until(lambda: a.state.log_reader.cursor.newest == result.position, "it is delivered")
        await client.leave()
        server.execute("XDEL", "t:log", result.position)
        await a.push("other")

        assert other != result.position
        assert await client.resume(a) == "data_lost"
        assert await client.resume(a) is None


async def test_session_that_a_former_release_parked_is_resumed(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        client = Client("red")
        await client.connect(a)
        await a.receives(await a.push("red"))
        await client.leave()
        (key,) = server.execute("KEYS", "t:left:*")
        record = server.execute("GET", key)
        assert b',"n":"' in record
        server.execute("SET", key, record.partition(b',"n":"')[0] + b"}", "KEEPTTL")

        assert await client.resume(a) is None
        assert await client.resume(a) is None
