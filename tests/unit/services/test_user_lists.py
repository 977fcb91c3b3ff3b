"""Lists of connections: when they are sent, what they hold, and which replica sends them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
import pytest_asyncio

from gateway.domain.event_catalogue import EventCatalogue, NamespaceEvents, OnlineUsers
from gateway.domain.messages import Address, LogEntry, Message
from gateway.domain.presence import PresentConnection
from gateway.domain.templates import Literal, ObjectTemplate, Reference
from gateway.metrics import MetricFactory
from gateway.services.user_lists import REPEATED_AFTER_SECONDS, Listings, UserListSender
from tests.unit.services.harness import REPLICA, Services

STEP_SECONDS = 0.05
TURNS = 20
EACH = ObjectTemplate((("socketId", Reference("sid")), ("userId", Reference("sub"))))


def catalogue(online_users: OnlineUsers | None) -> EventCatalogue:
    return EventCatalogue({"/chat": NamespaceEvents(online_users=online_users)})


class Setup:
    """A sender over the memory state of the services. ``received`` are the messages to everyone in ``/chat``."""

    def __init__(self) -> None:
        self.services = Services()
        self.schedule = self.services.schedule
        state = self.services.state
        self.received: list[tuple[float, Message]] = []
        self.listings = Listings(
            hub=self.services.hub,
            presence=state.presence,
            listings=state.listings,
            schedule=self.schedule,
        )
        self.sender = UserListSender(
            lists=state.user_lists,
            partitions=state.partitions,
            broker=state.broker,
            rates=state.rates,
            clock=self.services.clock,
            schedule=self.schedule,
            namespaces=("/", "/chat"),
            metrics=MetricFactory(),
        )
        self.services.delivered = self._deliver
        self.tasks = [asyncio.create_task(self.sender.run()), asyncio.create_task(self.listings.run())]

    def _deliver(self, entry: LogEntry) -> None:
        assert isinstance(entry, Message)
        self.received.append((self.services.clock.monotonic(), entry))

    def configure(self, online_users: OnlineUsers | None) -> None:
        self.listings.configure(catalogue(online_users), registers_again=False)
        self.sender.configure(catalogue(online_users))

    async def register(self, number: int) -> None:
        """Register a connection as the connector does."""
        connection = PresentConnection(
            f"~{number}", f"u{number}", "/chat", REPLICA, "websocket", float(number)
        )
        await self.services.state.presence.register(connection, [], listed=f'{{"n":{number}}}')

    async def pass_time(self, seconds: float) -> None:
        await self.turns()
        for _ in range(round(seconds / STEP_SECONDS)):
            self.schedule.advance(STEP_SECONDS)
            await self.turns()

    async def turns(self) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)
        for task in self.tasks:
            assert not task.done(), task

    def at(self) -> list[float]:
        """When each list was received."""
        return [at for at, _ in self.received]

    def lists(self) -> list[list[object]]:
        """The arguments of each list that was received."""
        return [[json.loads(text) for text in message.arguments] for _, message in self.received]


@pytest_asyncio.fixture
async def setup() -> AsyncIterator[Setup]:
    made = Setup()
    await made.services.state.broker.subscribe([Address("/chat", None)])
    yield made
    for task in made.tasks:
        task.cancel()
    await asyncio.wait(made.tasks)
    await made.services.close()


async def test_list_is_sent_volatile_when_it_changed_and_repeated_twice(setup: Setup) -> None:
    setup.configure(OnlineUsers("onlineUsers", EACH))
    await setup.register(1)
    await setup.register(2)
    await setup.pass_time(60.0)
    await setup.services.state.presence.unregister("~1")
    await setup.pass_time(60.0)

    assert setup.lists() == [[[{"n": 1}, {"n": 2}]]] * 3 + [[[{"n": 2}]]] * 3
    assert all(m.volatile and m.rooms == () and m.event == "onlineUsers" for _, m in setup.received)
    for first, *repeats in (setup.at()[:3], setup.at()[3:]):
        assert [at - first for at in repeats] == pytest.approx(REPEATED_AFTER_SECONDS, abs=0.5)


async def test_list_that_changes_before_it_was_repeated_is_repeated_in_its_new_form_alone(
    setup: Setup,
) -> None:
    setup.configure(OnlineUsers("onlineUsers", EACH))
    await setup.register(1)
    await setup.pass_time(1.5)
    await setup.register(2)
    await setup.pass_time(60.0)

    assert setup.lists() == [[[{"n": 1}]]] + [[[{"n": 1}, {"n": 2}]]] * 3


async def test_repeats_of_a_list_keep_to_its_period(setup: Setup) -> None:
    setup.configure(OnlineUsers("onlineUsers", EACH, every_seconds=30.0))
    await setup.register(1)
    await setup.pass_time(600.0)

    first, repeat = setup.at()
    assert repeat - first >= 30.0


async def test_list_is_sent_at_most_once_in_its_period_and_each_client_gets_one_within_it(
    setup: Setup,
) -> None:
    setup.configure(OnlineUsers("onlineUsers", EACH, every_seconds=2.0))
    connected_at = {}
    for number in range(200):
        connected_at[number] = setup.services.clock.monotonic()
        await setup.register(number)
        await setup.pass_time(0.1)
    await setup.pass_time(2.1)

    at = setup.at()
    assert all(later - earlier >= 1.999 for earlier, later in pairwise(at))
    for number, connected in connected_at.items():
        if number:  # The first one waits until the work is claimed, too.
            assert any(connected <= sent <= connected + 2.0 + STEP_SECONDS * 2 for sent in at)


async def test_long_list_is_cut_and_shows_it(setup: Setup) -> None:
    setup.configure(OnlineUsers("onlineUsers", EACH, max_entries=3))
    for number in range(5):
        await setup.register(number)

    await setup.pass_time(3.0)

    assert setup.lists()[-1] == [[{"n": 0}, {"n": 1}, {"n": 2}], {"truncated": True}]


async def test_client_that_is_registered_again_gets_a_list(setup: Setup) -> None:
    setup.configure(OnlineUsers("onlineUsers", EACH))
    await setup.register(1)
    await setup.pass_time(60.0)
    before = len(setup.received)

    await setup.register(1)
    await setup.pass_time(1.1)

    assert len(setup.received) == before + 1


async def test_clients_that_are_connected_are_listed_after_a_reload(setup: Setup) -> None:
    services = setup.services
    first, _ = await services.connect(services.identity("ann"), "/chat")
    second, _ = await services.connect(services.identity("bob"), "/chat")
    setup.configure(OnlineUsers("onlineUsers", EACH))
    await setup.pass_time(3.0)

    setup.configure(OnlineUsers("onlineUsers", Literal("x")))
    await setup.pass_time(3.0)
    setup.configure(None)
    await setup.pass_time(3.0)

    sids = {"ann": first.connection.sid, "bob": second.connection.sid}
    users, changed = setup.lists()[0][0], setup.lists()[-1][0]
    assert users == [{"socketId": sid, "userId": user} for user, sid in sids.items()]
    assert changed == ["x", "x"]
    assert await services.state.user_lists.version("/chat") == 0


async def test_nothing_runs_without_lists_in_the_catalogue(setup: Setup) -> None:
    setup.configure(None)

    await setup.pass_time(3.0)

    assert len(setup.schedule) == 0
    assert setup.services.state.partitions.owners("!online_users") == ()


async def test_replica_that_stops_leaves_the_work_to_others(setup: Setup) -> None:
    setup.configure(OnlineUsers("onlineUsers", EACH))
    await setup.register(1)
    await setup.pass_time(1.0)

    await setup.sender.close()

    assert setup.services.state.partitions.owners("!online_users") == ()
    await setup.register(2)
    await setup.pass_time(20.0)
    assert len(setup.received) == 1
