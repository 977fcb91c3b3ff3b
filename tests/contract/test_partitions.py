"""Partitions: which replica owns which; here one replica, so it owns all that it claims."""

from __future__ import annotations

from gateway.domain.notifications import MAX_PARTITIONS, PRESENCE_PARTITIONS, PRESENCE_WORK, USER_LISTS_WORK
from tests.contract.states import StateUnderTest
from tests.contract.values import notification


async def read(state: StateUnderTest, partition: int) -> list[int]:
    page = await state.webhook_queues.read("app", partition, max_entries=100, max_bytes=100_000)
    return [each.sequence for each in page.notifications]


async def test_only_replica_owns_every_partition_that_it_claims(state: StateUnderTest) -> None:
    assert (await state.partitions.claim("app", MAX_PARTITIONS)).owned == frozenset(range(MAX_PARTITIONS))
    claim = await state.partitions.claim("app", MAX_PARTITIONS)

    assert (claim.owned, claim.surplus, claim.waiting) == (
        frozenset(range(MAX_PARTITIONS)), frozenset(), frozenset(),
    )  # fmt: skip


async def test_each_work_has_partitions_of_its_own(state: StateUnderTest) -> None:
    await state.partitions.claim(PRESENCE_WORK, PRESENCE_PARTITIONS)
    await state.partitions.claim(USER_LISTS_WORK, 1)
    await state.partitions.claim("app", 2)

    await state.partitions.leave("app")

    assert (await state.partitions.claim(USER_LISTS_WORK, 1)).owned == frozenset({0})
    assert len((await state.partitions.claim(PRESENCE_WORK, PRESENCE_PARTITIONS)).owned) == 16
    owners = (await state.webhook_queues.summaries(["app"]))["app"].owners
    assert owners == ()


async def test_claim_names_the_partitions_that_hold_notifications(state: StateUnderTest) -> None:
    await state.broker.append_all(
        [], notifications=[notification(partition=1), notification(partition=3), notification(webhook="shop")]
    )
    assert (await state.partitions.claim("app", 4)).waiting == frozenset({1, 3})

    await state.webhook_queues.remove("app", 1, await read(state, 1))

    assert (await state.partitions.claim("app", 4)).waiting == frozenset({3})


async def test_partitions_beyond_the_number_are_owned_until_they_hold_nothing(state: StateUnderTest) -> None:
    await state.partitions.claim("app", 4)
    await state.broker.append_all([], notifications=[notification(partition=3)])

    fewer = await state.partitions.claim("app", 2)

    assert fewer.owned - fewer.surplus == frozenset({0, 1, 3})
    assert fewer.waiting == frozenset({3})
    await state.webhook_queues.remove("app", 3, await read(state, 3))
    await state.partitions.release("app", fewer.surplus)
    drained = await state.partitions.claim("app", 2)
    assert drained.owned - drained.surplus == frozenset({0, 1})
    await state.partitions.release("app", drained.surplus)
    assert (await state.partitions.claim("app", 2)).owned == frozenset({0, 1})


async def test_notifications_of_a_former_number_of_partitions_are_claimed_by_a_new_owner(
    state: StateUnderTest,
) -> None:
    await state.broker.append_all([], notifications=[notification(partition=200)])

    claim = await state.partitions.claim("app", 1)

    assert (claim.owned, claim.surplus) == (frozenset({0, 200}), frozenset())
    assert len(await read(state, 200)) == 1


async def test_released_partition_is_claimed_again(state: StateUnderTest) -> None:
    await state.partitions.claim("app", 4)

    await state.partitions.release("app", [1, 2])

    assert (await state.webhook_queues.summaries(["app"]))["app"].owners == (
        (0, "replica-1"), (3, "replica-1"),
    )  # fmt: skip
    assert (await state.partitions.claim("app", 4)).owned == frozenset(range(4))


async def test_releasing_what_is_not_owned_and_leaving_twice_change_nothing(state: StateUnderTest) -> None:
    await state.partitions.release("app", [0])
    await state.partitions.claim("app", 2)
    await state.partitions.release("app", [7])
    assert len((await state.webhook_queues.summaries(["app"]))["app"].owners) == 2

    await state.partitions.leave("app")
    await state.partitions.leave("app")

    assert (await state.webhook_queues.summaries(["app"]))["app"].owners == ()
    assert (await state.partitions.claim("app", 2)).owned == frozenset({0, 1})


async def test_replica_holds_its_lease_while_the_state_works(state: StateUnderTest) -> None:
    await state.partitions.claim("app", 1)

    assert state.partitions.holds_lease()
