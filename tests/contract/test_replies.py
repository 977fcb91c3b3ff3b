"""Replies: what replicas answer to an entry, passed to what waits for it."""

from __future__ import annotations

import asyncio

import pytest

from gateway.domain.acks import FIRST, AckTerms
from gateway.domain.messages import LogEntry, Reply, RoomChange, new_id
from tests.contract.recording_listener import listening
from tests.contract.states import REPLICA, StateUnderTest
from tests.contract.values import at, connection, disconnect_command, message
from tests.support.waiter import TIMEOUT_SECONDS

LARGE = ('"' + "x" * 200_000 + '"',)
MANY = tuple(f"{number:0>300}" for number in range(300))
"""Larger than what Redis publishes itself: its channels carry a pointer to such an entry."""


class ReplyRecorder:
    """Keeps the replies to one entry, in order."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self._changed = asyncio.Event()

    def on_reply(self, reply: Reply) -> None:
        self.replies.append(reply)
        self._changed.set()

    async def first(self, number: int) -> list[Reply]:
        """Wait for this many replies; return the first ones."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while len(self.replies) < number:
                self._changed.clear()
                await self._changed.wait()
        return self.replies[:number]


async def test_replies_reach_what_waits_for_the_entry_in_the_order_sent(state: StateUnderTest) -> None:
    recorder, other = ReplyRecorder(), ReplyRecorder()
    state.replies.expect("entry", recorder.on_reply)
    state.replies.expect("other", other.on_reply)

    async with listening(state.broker):
        for number in range(50):
            await state.replies.send(REPLICA, "entry", f'{{"n":{number},"text":"ä\\u001e"}}')
        await state.replies.send(REPLICA, "other", "null")

        assert await recorder.first(50) == [
            Reply("entry", REPLICA, f'{{"n":{number},"text":"ä\\u001e"}}') for number in range(50)
        ]
        assert await other.first(1) == [Reply("other", REPLICA, "null")]


async def test_reply_that_nothing_waits_for_is_dropped(state: StateUnderTest) -> None:
    forgotten, recorder = ReplyRecorder(), ReplyRecorder()
    state.replies.expect("forgotten", forgotten.on_reply)
    state.replies.expect("entry", recorder.on_reply)
    state.replies.forget("forgotten")
    state.replies.forget("never expected")

    async with listening(state.broker) as listener:
        await state.replies.send(REPLICA, "forgotten", "1")
        await state.replies.send(REPLICA, "unknown", "2")
        await state.replies.send("another replica", "entry", "3")
        await state.replies.send(REPLICA, "entry", "4")

        assert await recorder.first(1) == [Reply("entry", REPLICA, "4")]
        assert await listener.entries() == []
    assert forgotten.replies == []


async def test_replica_names_itself(state: StateUnderTest) -> None:
    assert state.replies.replica == REPLICA


@pytest.mark.parametrize(
    "entry",
    [
        message("room")._replace(reply_to=REPLICA),
        message()._replace(reply_to=REPLICA),
        message("elsewhere", "room")._replace(reply_to=REPLICA),
        disconnect_command("ann", at=1_700_000_000.0)._replace(reply_to=REPLICA),
        RoomChange(new_id(), "/", ("room",), ("other",), is_join=True, reply_to=REPLICA),
    ],
    ids=["room", "everyone", "two rooms", "disconnect command", "room change"],
)
async def test_result_names_the_replica_with_a_connection_at_an_address(
    state: StateUnderTest, entry: LogEntry
) -> None:
    await state.presence.register(connection("s1", "ann"), ["room", "user:ann"])

    assert (await state.broker.append(entry)).replicas == (REPLICA,)


@pytest.mark.parametrize(
    "entry",
    [message("elsewhere")._replace(reply_to=REPLICA), message("room"), message("room", volatile=True)],
    ids=["no connection there", "no reply wanted", "volatile"],
)
async def test_result_names_no_replica_that_need_not_reply(state: StateUnderTest, entry: LogEntry) -> None:
    await state.presence.register(connection("s1", "ann"), ["room"])

    assert (await state.broker.append(entry)).replicas == ()


async def test_result_names_no_replica_once_its_connection_has_left(state: StateUnderTest) -> None:
    await state.presence.register(connection("s1", "ann"), ["room"])
    await state.presence.unregister("s1")

    assert (await state.broker.append(message("room")._replace(reply_to=REPLICA))).replicas == ()


@pytest.mark.parametrize(
    "entry",
    [
        message("room")._replace(reply_to=REPLICA),
        disconnect_command("ann", at=1_700_000_000.0)._replace(reply_to=REPLICA),
        RoomChange(new_id(), "/", ("room",), ("other",), is_join=False, reply_to=REPLICA),
        message("room", arguments=LARGE)._replace(reply_to=REPLICA),
        message("room", arguments=LARGE)._replace(reply_to=REPLICA, ack=AckTerms(FIRST, 5.0)),
        RoomChange(new_id(), "/", ("room",), MANY, is_join=False, reply_to=REPLICA),
    ],
    ids=[
        "message",
        "disconnect command",
        "room change",
        "large message",
        "large message with ack",
        "large room change",
    ],
)
async def test_replica_that_the_result_names_gets_the_entry_although_it_has_just_unsubscribed(
    state: StateUnderTest, entry: LogEntry
) -> None:
    addresses = [at("room"), at("user:ann"), at("still here")]
    await state.broker.subscribe(addresses)
    await state.presence.register(connection("s1", "ann"), ["room", "user:ann"])
    unwanted, wanted = message("room"), message("still here")
    unwanted_large = message("room", arguments=LARGE)

    async with listening(state.broker) as listener:
        await state.broker.unsubscribe(addresses[:2])
        assert (await state.broker.append(entry)).replicas == (REPLICA,)
        await state.broker.append(unwanted)
        await state.broker.append(unwanted_large)
        await state.broker.append(wanted)

        assert await listener.entries() == [entry, wanted]


async def test_message_that_wants_replies_is_delivered_once_and_not_kept(state: StateUnderTest) -> None:
    start = await state.broker.subscribe([at("room")])
    wanting, kept = message("room")._replace(reply_to=REPLICA), message("room")

    async with listening(state.broker) as listener:
        result = await state.broker.append(wanting)
        await state.broker.append(wanting)
        await state.broker.append(kept)

        assert await listener.entries() == [wanting, kept]
    assert result.position == start
    page = await state.broker.history(start, [at("room")], max_entries=10, max_bytes=10_000)
    assert [entry for _, entry in page.entries] == [kept]
