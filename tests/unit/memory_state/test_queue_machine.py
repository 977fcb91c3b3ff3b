"""Queues of notifications against plain lists: any order of appends, removals, dead letters and replays."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.domain.errors import QueueFull
from gateway.domain.notifications import DeadReason, Notification, partition_of, queued_bytes
from gateway.state.memory import MemoryState
from tests.support.clock import FakeClock
from tests.unit.memory_state.steps import result_of

PARTITIONS = 2
MAX_QUEUED, MAX_DEAD_LETTERS = 12, 5
MAX_QUEUED_BYTES, MAX_DEAD_LETTER_BYTES = 5_000, 2_200
USERS = ("ann", "bob", "cid", "dan")

partitions = st.integers(0, PARTITIONS - 1)
places = st.sets(st.integers(0, 3), min_size=1)


class QueueMachine(RuleBasedStateMachine):
    """The model has the notifications of each partition and the dead letters, in lists."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.state = MemoryState(
            clock=self.clock,
            replica="replica-1",
            history_length=10,
            history_bytes=10_000,
            recovery_seconds=0.0,
            max_queued=MAX_QUEUED,
            max_queued_bytes=MAX_QUEUED_BYTES,
            max_dead_letters=MAX_DEAD_LETTERS,
            max_dead_letter_bytes=MAX_DEAD_LETTER_BYTES,
        )
        self.queues = self.state.webhook_queues
        result_of(self.state.partitions.claim("app", PARTITIONS))
        self.appended: list[Notification] = []
        self.queued: list[list[Notification]] = [[] for _ in range(PARTITIONS)]
        self.dead: list[Notification] = []
        self.newest_sequence = 0
        """The highest sequence that was read."""

    def has_space(self, added: Sequence[Notification]) -> bool:
        held = [*added, *[each for queue in self.queued for each in queue]]
        return len(held) <= MAX_QUEUED and sum(map(queued_bytes, held)) <= MAX_QUEUED_BYTES

    def put(self, notifications: Sequence[Notification]) -> None:
        for each in notifications:
            self.queued[partition_of(each.user, PARTITIONS)].append(each)

    @rule(
        users=st.lists(st.sampled_from(USERS), min_size=1, max_size=4),
        size=st.sampled_from([0, 0, 300, 1_500]),
        repeats=st.booleans(),
    )
    def append(self, users: list[str], size: int, repeats: bool) -> None:
        new = [
            Notification(
                id=f"n{len(self.appended) + number}",
                webhook="app",
                partition=partition_of(user, PARTITIONS),
                user=user,
                type="client.event",
                at=self.clock.now(),
                data=f'{{"text":"{"x" * size}"}}',
            )
            for number, user in enumerate(users)
        ]
        known = self.appended[-2:] if repeats else []
        append = self.state.broker.append_all([], notifications=[*known, *new])
        if self.has_space(new):
            result_of(append)
            self.appended += new
            self.put(new)
        else:
            with pytest.raises(QueueFull):
                result_of(append)

    @rule(partition=partitions, chosen=places)
    def remove(self, partition: int, chosen: set[int]) -> None:
        sequences = self.take(partition, chosen)[1]
        result_of(self.queues.remove("app", partition, sequences))
        result_of(self.queues.remove("app", 1 - partition, sequences))

    @rule(partition=partitions, chosen=places)
    def bury(self, partition: int, chosen: set[int]) -> None:
        taken, sequences = self.take(partition, chosen)
        for _ in range(2):
            result_of(self.queues.bury("app", partition, sequences, reason=DeadReason.FAILED, status=None))
        self.dead += taken
        while len(self.dead) > MAX_DEAD_LETTERS or (
            sum(map(queued_bytes, self.dead)) > MAX_DEAD_LETTER_BYTES
        ):
            del self.dead[0]

    def take(self, partition: int, chosen: set[int]) -> tuple[list[Notification], list[int]]:
        """Take the notifications at these places out of the model; return them and their sequences."""
        page = result_of(self.queues.read("app", partition, max_entries=100, max_bytes=1_000_000))
        held = self.queued[partition]
        taken = [each for place, each in enumerate(held) if place in chosen]
        self.queued[partition] = [each for place, each in enumerate(held) if place not in chosen]
        return taken, [each.sequence for place, each in enumerate(page.notifications) if place in chosen]

    @rule(chosen=places)
    def replay(self, chosen: set[int]) -> None:
        replayed = [each for place, each in enumerate(self.dead) if place in chosen]
        replay = self.queues.replay("app", [each.id for each in replayed[::-1]], partitions=PARTITIONS)
        if self.has_space(replayed):
            assert result_of(replay) == len(replayed)
            self.dead = [each for each in self.dead if each not in replayed]
            self.put(replayed)
        else:
            with pytest.raises(QueueFull):
                result_of(replay)

    @rule(chosen=places)
    def drop(self, chosen: set[int]) -> None:
        dropped = [each for place, each in enumerate(self.dead) if place in chosen]
        ids = [each.id for each in dropped]
        assert result_of(self.queues.drop("app", ids)) == len(dropped)
        assert result_of(self.queues.drop("app", ids)) == 0
        self.dead = [each for each in self.dead if each not in dropped]

    @rule(seconds=st.sampled_from([-3_600.0, -0.001, 0.001]))
    def set_clock(self, seconds: float) -> None:
        self.clock.set_back(-seconds)

    @invariant()
    def queues_and_dead_letters_are_those_of_the_lists(self) -> None:
        newest = self.newest_sequence
        for partition, held in enumerate(self.queued):
            page = result_of(self.queues.read("app", partition, max_entries=100, max_bytes=1_000_000))
            assert [(each.id, each.data, each.size) for each in page.notifications] == [
                (each.id, each.data, queued_bytes(each)) for each in held
            ]
            sequences = [each.sequence for each in page.notifications]
            assert sequences == sorted(set(sequences))
            newest = max([newest, *sequences])
        self.newest_sequence = newest
        letters = result_of(self.queues.dead_letters("app", limit=100))
        assert [each.id for each in letters] == [each.id for each in self.dead]

    @invariant()
    def summary_is_that_of_the_lists(self) -> None:
        held = [each for queue in self.queued for each in queue]
        summary = result_of(self.queues.summaries(["app"]))["app"]
        assert (summary.entries, summary.bytes, summary.dead_letters) == (
            len(held), sum(map(queued_bytes, held)), len(self.dead),
        )  # fmt: skip
        assert (summary.oldest_at is None) == (not held)
        sizes = self.state.sizes()
        assert (sizes["queued_notifications"], sizes["dead_letters"]) == (len(held), len(self.dead))
        waiting = result_of(self.state.partitions.claim("app", PARTITIONS)).waiting
        assert waiting == {partition for partition, held in enumerate(self.queued) if held}

    @rule(user=st.sampled_from(USERS))
    def new_sequences_are_above_all_that_were_read(self, user: str) -> None:
        before = self.newest_sequence
        partition = partition_of(user, PARTITIONS)
        is_longer = len(self.queued[partition])
        self.append([user], 0, False)
        if len(self.queued[partition]) > is_longer:
            page = result_of(self.queues.read("app", partition, max_entries=100, max_bytes=1_000_000))
            assert page.notifications[-1].sequence > before


QueueMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestQueueMachine = QueueMachine.TestCase
