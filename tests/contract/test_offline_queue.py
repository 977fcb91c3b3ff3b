"""The contract of the offline queue, for every implementation."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import pairwise

import pytest

from gateway.domain.errors import OfflineQueueFull
from gateway.domain.messages import Message
from gateway.domain.offline_queue import copy_id, kept_id
from gateway.domain.positions import Position, is_after
from tests.contract.states import MakeState, StateUnderTest
from tests.contract.values import at, dedup_key, message, newest_position

ANN = at("user:ann")
BOB = at("user:bob")


def kept(*users: str, ttl: int = 3600, size: int = 10, **fields) -> Message:
    rooms = tuple(f"user:{user}" for user in users or ("ann",))
    return message(*rooms, arguments=(f'"{"x" * (size - 2)}"',), **fields)._replace(ttl_seconds=ttl)


async def copies(state: StateUnderTest, sid: str, *, user: str = "ann", upto: Position | None = None):
    """Append copies for a sid; return them as the history of its room has them, and the position before them."""
    await state.broker.subscribe([at(sid)])
    start = await state.offline_queue.append_copies(at(f"user:{user}"), sid, upto=upto)
    if start is None:
        return [], None
    page = await state.broker.history(start, [at(sid)], max_entries=1_000, max_bytes=10_000_000)
    assert page.gap is None
    assert not page.has_more
    return [entry for _, entry in page.entries], start


async def copied_ids(state: StateUnderTest, sid: str, *, user: str = "ann") -> list[str]:
    found, _ = await copies(state, sid, user=user)
    return [kept_id(entry.id) for entry in found]


def ids(messages: Iterable[Message]) -> list[str]:
    return [each.id for each in messages]


async def test_a_message_with_a_ttl_is_copied_to_a_sid_with_all_that_it_has(state):
    sent = kept(exclude=frozenset({"role:viewer"}))._replace(all_of=("org:7",))
    position = (await state.broker.append(sent)).position
    found, _ = await copies(state, "~s1")
    assert found == [sent._replace(id=copy_id(sent.id, position, "~s1"), rooms=("~s1",))]


async def test_messages_are_copied_in_their_order_behind_all_positions(state):
    sent = [kept() for _ in range(20)]
    for each in sent:
        await state.broker.append(each)
    before = await newest_position(state.broker)
    found, start = await copies(state, "~s1")
    assert [kept_id(each.id) for each in found] == ids(sent)
    assert start == before
    assert is_after(await newest_position(state.broker), before)


async def test_nothing_is_copied_for_a_user_without_kept_messages(state):
    await state.broker.append(kept("bob"))
    await state.broker.append(message("user:ann"))
    assert await copies(state, "~s1") == ([], None)


async def test_each_namespace_has_a_queue_of_its_own(state):
    await state.broker.append(kept(namespace="/chat"))
    assert await copied_ids(state, "~s1") == []
    await state.broker.subscribe([at("~s2", "/chat")])
    assert await state.offline_queue.append_copies(at("user:ann", "/chat"), "~s2") is not None


async def test_a_message_to_several_users_is_kept_for_each_of_them(state):
    sent = kept("ann", "bob")
    await state.broker.append(sent)
    await state.broker.subscribe([])
    await state.offline_queue.remove({ANN: [sent.id]})
    assert await copied_ids(state, "~s1") == []
    assert await copied_ids(state, "~s2", user="bob") == [sent.id]


async def test_appending_a_message_again_keeps_it_once_and_not_after_it_was_received(state):
    sent = kept()
    await state.broker.append(sent)
    await state.broker.append(sent)
    assert await copied_ids(state, "~s1") == [sent.id]
    await state.offline_queue.remove({ANN: [sent.id]})
    await state.broker.append(sent)
    assert await copied_ids(state, "~s2") == []


async def test_a_repeat_with_the_idempotency_key_keeps_nothing(state):
    first, repeat = kept(), kept()
    await state.broker.append(first, dedup_key(state, idempotency_key="k"))
    result = await state.broker.append(repeat, dedup_key(state, idempotency_key="k"))
    assert result.replayed
    assert await copied_ids(state, "~s1") == [first.id]


async def test_copies_for_a_sid_are_appended_once(state):
    sent = [kept(), kept()]
    await state.broker.append(sent[0])
    first, start = await copies(state, "~s1")
    await state.broker.append(sent[1])
    again, same_start = await copies(state, "~s1")
    assert same_start == start
    assert len(first) == 1
    assert [kept_id(each.id) for each in again] == ids(sent)


async def test_each_sid_gets_copies_until_the_message_is_received(state):
    sent = kept()
    await state.broker.append(sent)
    assert await copied_ids(state, "~s1") == [sent.id]
    assert await copied_ids(state, "~s2") == [sent.id]
    await state.offline_queue.remove({ANN: [sent.id]})
    assert await copied_ids(state, "~s3") == []


async def test_only_messages_up_to_a_position_are_copied(state):
    early, late = kept(), kept()
    upto = (await state.broker.append(early)).position
    await state.broker.append(late)
    found, _ = await copies(state, "~s1", upto=upto)
    assert [kept_id(each.id) for each in found] == [early.id]


async def test_removing_messages_of_several_users_leaves_the_others(state):
    sent = [kept("ann", "bob") for _ in range(5)]
    for each in sent:
        await state.broker.append(each)
    await state.broker.subscribe([])
    await state.offline_queue.remove({ANN: ids(sent[:2]), BOB: ids(sent[4:]), at("user:none"): ["unknown"]})
    await state.offline_queue.remove({ANN: ["unknown", sent[0].id]})
    assert await copied_ids(state, "~s1") == ids(sent[2:])
    assert await copied_ids(state, "~s2", user="bob") == ids(sent[:4])


async def test_a_message_is_kept_until_its_ttl_ends(state):
    short, long = kept(ttl=60), kept(ttl=7200)
    await state.broker.append(long)
    await state.broker.append(short)
    await state.advance(50)
    assert await copied_ids(state, "~s1") == [long.id, short.id]
    await state.advance(20)
    assert await copied_ids(state, "~s2") == [long.id]
    await state.advance(7200)
    assert await copied_ids(state, "~s3") == []


async def test_a_message_is_kept_for_seven_days(state):
    sent = kept(ttl=604_800)
    await state.broker.append(sent)
    await state.advance(604_700)
    assert await copied_ids(state, "~s1") == [sent.id]
    await state.advance(200)
    assert await copied_ids(state, "~s2") == []


async def test_the_oldest_message_goes_when_a_user_has_too_many(make_state: MakeState):
    state = await make_state(max_kept=3)
    sent = [kept() for _ in range(5)]
    results = [await state.broker.append(each) for each in sent]
    assert [result.dropped for result in results] == [0, 0, 0, 1, 1]
    assert await copied_ids(state, "~s1") == ids(sent[2:])


async def test_the_oldest_messages_go_when_those_of_a_user_are_too_large(make_state: MakeState):
    state = await make_state(max_kept_bytes=30_000)
    sent = [kept(size=9_000) for _ in range(3)] + [kept(size=18_500)]
    results = [await state.broker.append(each) for each in sent]
    assert [result.dropped for result in results] == [0, 0, 0, 2]
    assert await copied_ids(state, "~s1") == ids(sent[2:])


async def test_expired_messages_make_space_before_the_oldest_goes(make_state: MakeState):
    state = await make_state(max_kept=2)
    long, short, newest = kept(ttl=3600), kept(ttl=10), kept()
    await state.broker.append(long)
    await state.broker.append(short)
    await state.advance(11)
    assert (await state.broker.append(newest)).dropped == 0
    assert await copied_ids(state, "~s1") == [long.id, newest.id]


async def test_a_full_queue_rejects_messages_with_a_ttl_and_appends_none_of_a_batch(make_state: MakeState):
    state = await make_state(max_offline_bytes=30_000)
    sent = [kept(user, size=9_000) for user in ("ann", "bob")]
    for each in sent:
        await state.broker.append(each)
    before = await newest_position(state.broker)
    with pytest.raises(OfflineQueueFull):
        await state.broker.append_all([message("user:ann"), kept("eve", size=12_000)])
    with pytest.raises(OfflineQueueFull):
        await state.broker.append(kept("eve", "dan", size=8_000))
    assert await newest_position(state.broker) == before
    await state.broker.append(message("user:ann"))
    await state.offline_queue.remove({ANN: [sent[0].id]})
    await state.broker.append(kept("eve", size=12_000))


async def test_space_of_messages_whose_ttl_ended_is_used_again(make_state: MakeState):
    state = await make_state(max_offline_bytes=30_000)
    for user in ("ann", "bob", "eve"):
        await state.broker.append(kept(user, size=9_000, ttl=60))
    with pytest.raises(OfflineQueueFull):
        await state.broker.append(kept("dan", size=9_000))
    await state.advance(61)
    for user in ("ann", "zoe", "dan"):
        await state.broker.append(kept(user, size=9_000))
    with pytest.raises(OfflineQueueFull):
        await state.broker.append(kept("joe", size=9_000))


async def test_a_large_message_is_copied_whole(state):
    sent = kept(size=120_000)
    await state.broker.append(sent)
    found, _ = await copies(state, "~s1")
    assert found[0].arguments == sent.arguments


async def test_copies_are_delivered_to_the_listener_in_order(state):
    sent = [kept(), kept(size=100_000), kept()]
    for each in sent:
        await state.broker.append(each)
    arrived: asyncio.Queue[tuple[str, Position]] = asyncio.Queue()

    async def deliver(entry, position, *, more=False):
        arrived.put_nowait((entry.id, position))

    listening = asyncio.create_task(state.broker.listen(deliver))
    try:
        await copies(state, "~s1")
        async with asyncio.timeout(5):
            got = [await arrived.get() for _ in sent]
    finally:
        listening.cancel()
    assert [kept_id(id_) for id_, _ in got] == ids(sent)
    assert all(is_after(later, earlier) for (_, earlier), (_, later) in pairwise(got))


async def test_messages_that_are_kept_meanwhile_are_copied_or_come_after_the_copies(state):
    """Nothing is between the copies and what a connection gets from then on, whatever is appended beside them."""
    await state.broker.append(kept())
    sent = [kept() for _ in range(60)]

    async def append_all():
        for each in sent:
            await state.broker.append(each)
            await asyncio.sleep(0)

    appending = asyncio.create_task(append_all())
    await asyncio.sleep(0.005)
    await state.broker.subscribe([at("~s1")])
    start = await state.offline_queue.append_copies(ANN, "~s1")
    await appending
    assert start is not None
    page = await state.broker.history(start, [ANN, at("~s1")], max_entries=1_000, max_bytes=10_000_000)
    assert [kept_id(entry.id) for _, entry in page.entries][1:] == ids(sent)


# erasing


async def in_history(state: StateUnderTest, start: Position, sid: str) -> list[str]:
    """Return the ids of the kept messages whose copies a client could still recover."""
    page = await state.broker.history(start, [at(sid)], max_entries=1_000, max_bytes=10_000_000)
    assert page.gap is None
    return [kept_id(entry.id) for _, entry in page.entries]


async def test_erasing_the_messages_to_a_user_erases_what_is_kept_up_to_the_position(state):
    sent = [kept() for _ in range(4)]
    appended = [(await state.broker.append(each)).position for each in sent]
    others = [kept("bob"), kept(namespace="/chat")]
    for each in others:
        await state.broker.append(each)

    assert await state.logged_messages.erase(ANN, appended[1]) == 2

    assert await copied_ids(state, "~s1") == ids(sent[2:])
    assert await copied_ids(state, "~s2", user="bob") == ids(others[:1])
    await state.broker.subscribe([at("~s3", "/chat")])
    assert await state.offline_queue.append_copies(at("user:ann", "/chat"), "~s3") is not None
    assert await state.logged_messages.erase(ANN, appended[1]) == 0


async def test_erasing_the_messages_to_a_user_erases_the_copies_for_connections(state):
    sent = [kept() for _ in range(3)]
    appended = [(await state.broker.append(each)).position for each in sent]
    starts = {sid: (await copies(state, sid))[1] for sid in ("~s1", "~s2")}
    await state.offline_queue.remove({ANN: [sent[0].id]})

    assert await state.logged_messages.erase(ANN, appended[1]) == 2

    for sid, start in starts.items():
        assert await in_history(state, start, sid) == ids(sent[2:])
    assert await copied_ids(state, "~s3") == ids(sent[2:])


async def test_erasing_a_message_to_several_users_erases_it_for_each_of_them(state):
    both, other = kept("ann", "bob"), kept("bob")
    position = (await state.broker.append(both)).position
    await state.broker.append(other)
    _, start = await copies(state, "~s1", user="bob")

    assert await state.logged_messages.erase(ANN, position) == 1

    assert await in_history(state, start, "~s1") == [other.id]
    assert await copied_ids(state, "~s2") == []
    assert await copied_ids(state, "~s3", user="bob") == [other.id]


async def test_what_is_kept_is_erased_after_the_history_has_forgotten_it(state):
    sent = kept()
    position = (await state.broker.append(sent)).position
    await state.advance(600)
    await state.broker.append(message("org:7"))

    assert await state.logged_messages.erase(ANN, position) == 1

    assert await copied_ids(state, "~s1") == []


async def test_erasing_the_messages_to_a_room_leaves_what_is_kept_for_its_users(state):
    sent = kept()
    await state.broker.append(sent)
    await state.logged_messages.erase(at("org:7"), await newest_position(state.broker))
    await state.logged_messages.erase(at(None), await newest_position(state.broker))
    assert await copied_ids(state, "~s1") == [sent.id]


async def test_erasing_what_is_kept_makes_space(make_state: MakeState):
    state = await make_state(max_offline_bytes=20_000)
    position = (await state.broker.append(kept(size=15_000))).position
    with pytest.raises(OfflineQueueFull):
        await state.broker.append(kept("bob", size=15_000))
    await state.logged_messages.erase(ANN, position)
    await state.broker.append(kept("bob", size=15_000))


async def test_receipts_of_many_users_with_many_messages_are_all_removed(state):
    """A store that works on a part of them at a time is given the rest again."""
    users = [f"u{number}" for number in range(12)]
    sent = [[kept(user) for _ in range(80)] for user in users]
    for of_user in sent:
        await state.broker.append_all(of_user)
    await state.broker.subscribe([])
    await state.offline_queue.remove(
        {at(f"user:{user}"): ids(of_user[::2]) for user, of_user in zip(users, sent, strict=True)}
    )
    for number, (user, of_user) in enumerate(zip(users, sent, strict=True)):
        assert await copied_ids(state, f"~s{number}", user=user) == ids(of_user[1::2])


async def test_a_batch_keeps_its_messages_in_order_and_drops_the_oldest_of_each_user(make_state: MakeState):
    state = await make_state(max_kept=3)
    sent = [kept("ann", "bob") if number % 2 else kept("ann") for number in range(10)]
    results = await state.broker.append_all(sent)
    assert sum([result.dropped for result in results]) == 7 + 2
    assert await copied_ids(state, "~s1") == ids(sent[-3:])
    assert await copied_ids(state, "~s2", user="bob") == ids(sent[5::2])
