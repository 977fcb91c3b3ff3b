"""Changes of presence against plain sets: any order of connections, sweeps, deliveries and pauses."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from gateway.domain.notifications import PRESENCE_PARTITIONS, partition_of
from gateway.domain.presence import PresenceChange, PresenceConsumer, PresenceRules
from gateway.state.memory import MemoryState
from tests.contract.values import connection
from tests.support.clock import FakeClock
from tests.unit.memory_state.steps import result_of

Batch = tuple[PresenceConsumer, list[tuple[PresenceChange, int]]]
"""Changes that a consumer is being notified of, each with the number of changes of its user so far."""

OFFLINE_AFTER = 10.0
RULES = PresenceRules(OFFLINE_AFTER, frozenset(PresenceConsumer))
USERS = ("ann", "dan")
PARTITIONS = range(PRESENCE_PARTITIONS)
HALVES = (PARTITIONS, PARTITIONS[:8], PARTITIONS[8:])
assert {partition_of(user, PRESENCE_PARTITIONS) < 8 for user in USERS} == {True, False}

consumers = st.sampled_from(PresenceConsumer)
halves = st.sampled_from(HALVES)
users = st.sampled_from(USERS)


class PresenceMachine(RuleBasedStateMachine):
    """The model has of users: who is connected, who is online, when the last connection of those who left ended, and
    who is undelivered or postponed by consumer. Of each consumer it has the newest change that it received."""

    in_flight = Bundle("in_flight")

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.state = MemoryState(
            clock=self.clock,
            replica="replica-1",
            history_length=10,
            history_bytes=10_000,
            recovery_seconds=0.0,
        )
        self.events = self.state.presence_events
        self.events.configure(RULES)
        self.connected: dict[str, set[str]] = {user: set() for user in USERS}
        self.online: set[str] = set()
        self.left_at: dict[str, float] = {}
        self.known_offline: set[str] = set()
        self.undelivered: dict[PresenceConsumer, set[str]] = {each: set() for each in PresenceConsumer}
        self.postponed: dict[PresenceConsumer, dict[str, float]] = {each: {} for each in PresenceConsumer}
        self.received: dict[tuple[PresenceConsumer, str], PresenceChange] = {}
        self.versions: dict[str, dict[int, bool]] = {user: {} for user in USERS}
        """Versions that were read, with the state of each."""
        self.changes: Counter[str] = Counter()

    def changed(self, user: str) -> None:
        self.changes[user] += 1
        for consumer in PresenceConsumer:
            self.undelivered[consumer].add(user)
            self.postponed[consumer].pop(user, None)

    @rule(user=users, number=st.integers(0, 1))
    def connect(self, user: str, number: int) -> None:
        sid = f"{user}-{number}"
        result_of(self.state.presence.register(connection(sid, user), ["a"]))
        self.connected[user].add(sid)
        self.left_at.pop(user, None)
        if user not in self.online:
            self.online.add(user)
            self.changed(user)

    @rule(user=users, number=st.integers(0, 1))
    def disconnect(self, user: str, number: int) -> None:
        sid = f"{user}-{number}"
        result_of(self.state.presence.unregister(sid))
        if sid in self.connected[user]:
            self.connected[user].remove(sid)
            if not self.connected[user]:
                self.left_at[user] = self.clock.ticks

    @rule(user=users)
    def become_offline(self, user: str) -> None:
        for number in range(2):
            self.disconnect(user, number)
        self.pass_time(OFFLINE_AFTER)
        self.sweep(PARTITIONS)

    @rule(seconds=st.sampled_from([0.5, 4.0, OFFLINE_AFTER]))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(seconds=st.sampled_from([0.001, 5.0, 3_600.0]))
    def set_clock_back(self, seconds: float) -> None:
        self.clock.set_back(seconds)

    @rule(partitions=halves)
    def sweep(self, partitions: range) -> None:
        due = {
            user
            for user, left_at in self.left_at.items()
            if left_at + OFFLINE_AFTER <= self.clock.ticks
            and partition_of(user, PRESENCE_PARTITIONS) in partitions
        }

        assert result_of(self.events.sweep(partitions, limit=100)) == len(due)

        for user in due:
            del self.left_at[user]
            self.online.remove(user)
            self.changed(user)
            if user in self.known_offline:  # They need not be notified of someone who came and went.
                for consumer in PresenceConsumer:
                    self.undelivered[consumer].remove(user)

    @rule(target=in_flight, consumer=consumers, partitions=halves, limit=st.sampled_from([1, 2, 100]))
    def read(self, consumer: PresenceConsumer, partitions: range, limit: int) -> Batch:
        due = {
            user
            for user in self.undelivered[consumer]
            if self.postponed[consumer].get(user, 0.0) <= self.clock.ticks
            and partition_of(user, PRESENCE_PARTITIONS) in partitions
        }

        changes = result_of(self.events.undelivered(consumer, partitions, limit=limit))

        found = {change.user for change in changes}
        assert len(found) == len(changes) == min(limit, len(due))
        assert found <= due
        for change in changes:
            assert change.is_online == (change.user in self.online)
            assert change.connections == len(self.connected[change.user])
            versions = self.versions[change.user]
            assert versions.setdefault(change.version, change.is_online) == change.is_online
            assert change.version == max(versions)
            before = self.received.get((consumer, change.user))
            if before is None or before.version < change.version:
                self.received[consumer, change.user] = change
        self.known_offline -= found
        return consumer, [(change, self.changes[change.user]) for change in changes]

    @rule(batch=consumes(in_flight))
    def deliver(self, batch: Batch) -> None:
        consumer, changes = batch

        result_of(self.events.delivered(consumer, [change for change, _ in changes]))

        for change in self.newest(batch):
            self.undelivered[consumer].remove(change.user)
            self.postponed[consumer].pop(change.user, None)
            if not change.is_online and not any(change.user in each for each in self.undelivered.values()):
                self.known_offline.add(change.user)

    @rule()
    def notify(self) -> None:
        for consumer in PresenceConsumer:
            self.deliver(self.read(consumer, PARTITIONS, 100))

    @rule(batch=in_flight, seconds=st.sampled_from([0.0, 1.0, 30.0]))
    def postpone(self, batch: Batch, seconds: float) -> None:
        consumer, changes = batch

        result_of(self.events.postpone(consumer, [change for change, _ in changes], seconds=seconds))

        for change in self.newest(batch):
            self.postponed[consumer][change.user] = self.clock.ticks + seconds

    def newest(self, batch: Batch) -> list[PresenceChange]:
        """Return the changes that are the newest of their users, and that the consumer was not notified of."""
        consumer, changes = batch
        return [
            change
            for change, number in changes
            if self.changes[change.user] == number and change.user in self.undelivered[consumer]
        ]

    @rule(partitions=halves, limit=st.sampled_from([1, 100]))
    def audit(self, partitions: range, limit: int) -> None:
        online = sum(partition_of(user, PRESENCE_PARTITIONS) in partitions for user in self.online)

        assert result_of(self.events.audit(partitions, limit=limit)) == min(limit, online)

    @invariant()
    def counts_are_those_of_the_sets(self) -> None:
        counts = result_of(self.events.undelivered_counts())
        assert {each: number for each, (number, _) in counts.items()} == {
            each: len(waiting) for each, waiting in self.undelivered.items()
        }
        remembered = self.online | set().union(*self.undelivered.values())
        assert self.state.sizes()["presence_states"] == len(remembered)
        assert self.state.sizes()["former_presence_states"] == len(self.known_offline - self.online)

    def teardown(self) -> None:
        """Once nothing changes any more, each consumer has the true state of all users that it was notified of."""
        self.clock.advance(3_600.0)
        self.sweep(PARTITIONS)
        self.notify()
        self.counts_are_those_of_the_sets()
        for (_, user), change in self.received.items():
            assert change.is_online == bool(self.connected[user])
        connected = {user for user, sids in self.connected.items() if sids}
        assert self.online == connected
        assert {user for _, user in self.received} >= connected


PresenceMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestPresenceMachine = PresenceMachine.TestCase
