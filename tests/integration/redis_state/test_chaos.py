"""Everything at once: three replicas, pushes of every kind, and somebody who breaks things at random."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack

from gateway.domain import positions
from gateway.domain.errors import BrokerTimeout, BrokerUnavailable
from gateway.domain.messages import Message
from tests.integration.redis_state.replicas import Replica, append, make, replicas
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy

ROOMS = [f"room{number}" for number in range(12)]
SECONDS = 8.0


class Pusher:
    """Pushes through a replica until it is told to stop, and keeps what it was answered."""

    def __init__(self, replica: Replica, dice: random.Random) -> None:
        self._replica = replica
        self._dice = dice
        self.accepted: list[Message] = []
        self.refused: list[Message] = []
        self.unknown: list[Message] = []

    async def run(self) -> None:
        while True:
            rooms = self._dice.choices([[], *([each] for each in ROOMS), self._dice.sample(ROOMS, 4)])[0]
            news = make(*rooms, size=self._dice.choice([5, 5, 5, 90_000]))
            try:
                await self._replica.state.broker.append(news)
            except BrokerUnavailable:
                self.refused.append(news)
            except BrokerTimeout:
                self.unknown.append(news)
            else:
                self.accepted.append(news)
            await asyncio.sleep(0.005)


async def break_things(server: RedisServer, proxies: list[TcpProxy], dice: random.Random) -> None:
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
                await asyncio.to_thread(server.ask, "CLIENT", "KILL", "TYPE", kind)


async def test_whatever_breaks_each_replica_hears_what_was_accepted_once_and_in_order(
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
        heard_by = [{None, *dice.sample(ROOMS, 6)} for _ in made]
        for replica, rooms in zip(made, heard_by, strict=True):
            await replica.subscribe(*rooms)
        pushers = [Pusher(replica, dice) for replica in made for _ in range(4)]
        tasks = [asyncio.create_task(pusher.run()) for pusher in pushers]
        breaking = asyncio.create_task(break_things(server, proxies, dice))
        await asyncio.sleep(SECONDS)
        breaking.cancel()
        await asyncio.wait([breaking])
        server.thaw()
        for proxy in proxies:
            proxy.resume()
            proxy.accept_connections()
        await asyncio.sleep(0.5)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        last = make()
        await append(made[0], last)

        accepted = [news for pusher in pushers for news in pusher.accepted] + [last]
        refused = {news.id for pusher in pushers for news in pusher.refused}
        assert len(accepted) > 300
        for replica, rooms in zip(made, heard_by, strict=True):
            await replica.hears(last)
            heard = [entry.id for entry in replica.heard]
            due = {news.id for news in accepted if not rooms.isdisjoint(news.rooms or (None,))}
            assert len(heard) == len(set(heard)), "something came twice"
            assert due - set(heard) == set(), "something accepted was not heard"
            assert refused.isdisjoint(heard), "something refused was heard"
            orders = [positions.order(position) for position, _ in replica.ear.received]
            assert orders == sorted(orders), "the order was lost"
            assert replica.gaps == []
