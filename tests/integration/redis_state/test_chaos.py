"""All failures together: three replicas, messages of every kind, faults at random, and losses of data."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack, suppress

from gateway.domain import positions
from gateway.domain.errors import BrokerTimeout, BrokerUnavailable
from gateway.domain.messages import Message
from tests.integration.redis_state.delivery_checker import Client
from tests.integration.redis_state.delivery_checker import Pusher as TimedPusher
from tests.integration.redis_state.replicas import Replica, append_until_accepted, make, replicas
from tests.integration.redis_state.test_split_brain import TwoServers, info, two_servers
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiter import wait_until

ROOMS = [f"room{number}" for number in range(12)]
SECONDS = 8.0


class Pusher:
    """Appends messages through a replica until it is cancelled, and keeps them by outcome."""

    def __init__(self, replica: Replica, dice: random.Random) -> None:
        self._replica = replica
        self._dice = dice
        self.accepted: list[Message] = []
        self.rejected: list[Message] = []
        self.unknown: list[Message] = []

    async def run(self) -> None:
        while True:
            rooms = self._dice.choices([[], *([each] for each in ROOMS), self._dice.sample(ROOMS, 4)])[0]
            news = make(*rooms, size=self._dice.choice([5, 5, 5, 90_000]))
            try:
                await self._replica.state.broker.append(news)
            except BrokerUnavailable:
                self.rejected.append(news)
            except BrokerTimeout:
                self.unknown.append(news)
            else:
                self.accepted.append(news)
            await asyncio.sleep(0.005)


async def inject_faults(server: RedisServer, proxies: list[TcpProxy], dice: random.Random) -> None:
    while True:
        await asyncio.sleep(dice.uniform(0.1, 0.5))
        match dice.choice(["pubsub", "normal", "proxy", "pause", "silence"]):
            case "proxy":
                proxy = dice.choice(proxies)
                proxy.break_connections()
                await asyncio.sleep(dice.uniform(0.0, 0.6))
                proxy.accept_connections()
            case "silence":
                proxy = dice.choice(proxies)
                proxy.pause()
                await asyncio.sleep(dice.uniform(0.0, 1.5))
                proxy.resume()
            case "pause":
                server.freeze()
                await asyncio.sleep(dice.uniform(0.0, 1.6))
                server.thaw()
            case kind:
                await asyncio.to_thread(server.execute, "CLIENT", "KILL", "TYPE", kind)


async def test_each_replica_receives_accepted_entries_once_and_in_order_whatever_fails(
    server: RedisServer,
) -> None:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    dice = random.Random(seed)
    async with AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(TcpProxy(server.port)) for _ in range(3)]
        made = [
            (await stack.enter_async_context(replicas(server, f"r{number}", url=proxy.redis_url)))[0]
            for number, proxy in enumerate(proxies)
        ]
        rooms_of = [{None, *dice.sample(ROOMS, 6)} for _ in made]
        for replica, rooms in zip(made, rooms_of, strict=True):
            await replica.subscribe(*rooms)
        pushers = [Pusher(replica, dice) for replica in made for _ in range(4)]
        tasks = [asyncio.create_task(pusher.run()) for pusher in pushers]
        faults = asyncio.create_task(inject_faults(server, proxies, dice))
        await asyncio.sleep(SECONDS)
        faults.cancel()
        await asyncio.wait([faults])
        server.thaw()
        for proxy in proxies:
            proxy.resume()
            proxy.accept_connections()
        await asyncio.sleep(0.5)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        last = make()
        await append_until_accepted(made[0], last)

        accepted = [news for pusher in pushers for news in pusher.accepted] + [last]
        rejected = {news.id for pusher in pushers for news in pusher.rejected}
        assert len(accepted) > 300
        for replica, rooms in zip(made, rooms_of, strict=True):
            await replica.receives(last)
            received = [entry.id for entry in replica.received]
            due = {news.id for news in accepted if not rooms.isdisjoint(news.rooms or (None,))}
            assert len(received) == len(set(received)), "a message was delivered twice"
            assert due - set(received) == set(), "an accepted message was not delivered"
            assert rejected.isdisjoint(received), "a rejected message was delivered"
            orders = [positions.order(position) for position, _ in replica.listener.received]
            assert orders == sorted(orders), "positions went back"
            assert replica.gaps == []


class Wanderers:
    """Clients that lose their connections at random and resume them at any replica."""

    def __init__(self, clients: list[Client], made: list[Replica], dice: random.Random) -> None:
        self._clients = clients
        self._made = made
        self._dice = dice

    async def run(self) -> None:
        while True:
            client = self._dice.choice(self._clients)
            with suppress(BrokerUnavailable, BrokerTimeout):
                await client.leave()
            await asyncio.sleep(self._dice.uniform(0.0, 0.5))
            await self.resume(client)

    async def resume(self, client: Client) -> None:
        """Resume at a replica, again until one accepts it."""
        while True:
            with suppress(BrokerUnavailable, BrokerTimeout):
                await client.resume(self._dice.choice(self._made))
                return
            await asyncio.sleep(0.05)


async def lose_data(servers: TwoServers, dice: random.Random) -> None:
    """Let the primary go back to an older copy, and then be replaced while some replicas still use it."""
    for _ in range(2):
        servers.first.execute("SAVE")
        await asyncio.sleep(dice.uniform(0.1, 0.8))
        await asyncio.to_thread(servers.first.restart)
        await asyncio.sleep(dice.uniform(0.5, 1.5))
        dice.choice(servers.proxies).cut_connections()
    wait_until(lambda: b"master_link_status:up" in info(servers.second), "the replica is in sync")
    servers.promote_second(*dice.sample(range(3), dice.choice([1, 2])))
    await asyncio.sleep(dice.uniform(0.5, 2.0))
    servers.end()
    await asyncio.sleep(1.5)


async def test_each_client_receives_what_was_accepted_or_is_notified_of_the_loss(server: RedisServer) -> None:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    dice = random.Random(seed)
    async with two_servers(server, 3) as (servers, made):
        clients = [Client(dice.choice(ROOMS[:4])) for _ in range(12)]
        for client in clients:
            await client.connect(dice.choice(made))
        wanderers = Wanderers(clients[6:], made, dice)
        pushers = [TimedPusher(replica, *ROOMS[:4]) for replica in made]
        tasks = [asyncio.create_task(pusher.run()) for pusher in pushers]
        wandering = asyncio.create_task(wanderers.run())

        await lose_data(servers, dice)

        wandering.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.wait([wandering, *tasks])
        for client in clients[6:]:
            await wanderers.resume(client)
        last = make()
        await append_until_accepted(made[0], last)
        for replica in made:
            await replica.receives(last)
        accepted = [each for pusher in pushers for each in pusher.accepted]
        assert len(accepted) > 100
        assert all(replica.gaps for replica in made), "nothing was lost"
        assert [client.untold(accepted) for client in clients] == [[] for _ in clients]
