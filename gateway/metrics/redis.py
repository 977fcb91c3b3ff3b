"""How the shared state serves this replica; satisfies ``state.redis.meter.Meter``. All zero without Redis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product
from typing import Final, Protocol

from prometheus_client import CollectorRegistry

from gateway.metrics.tallies import Shelf, singles

_COMMAND_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0)
_CANARY_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CONNECTIONS: Final = ("commands", "channels")
FAILURES: Final = ("unsent", "unanswered")


class Shared(Protocol):
    """What is looked at when somebody asks; see ``state.redis.RedisState``."""

    @property
    def connected(self) -> dict[str, bool]:
        """Each connection by its name, and whether it is there."""
        ...

    @property
    def refusals(self) -> Mapping[str, str]:
        """Of these, those on which Redis refuses something now, and its word for that."""
        ...

    @property
    def refusal_words(self) -> Iterable[str]: ...

    @property
    def command_names(self) -> Iterable[str]: ...

    @property
    def canary_age_seconds(self) -> float: ...

    @property
    def lag_seconds(self) -> float: ...

    @property
    def frames_heard(self) -> int: ...

    @property
    def inbox_overflows(self) -> int: ...


class RedisMetrics:
    """The connections to Redis, what is asked on them, and how far behind this replica hears."""

    def __init__(self, registry: CollectorRegistry) -> None:
        shelf = Shelf(registry)
        self._shelf = shelf
        self._met: set[str] = set()
        each = singles(CONNECTIONS)
        self._connected = shelf.reading(
            "redis_connected", "1 while there is this connection to Redis.", ("connection",)
        )
        self._refusing = shelf.reading(
            "redis_refusing",
            "1 while Redis answers on this connection, and refuses.",
            ("connection", "reason"),
        )
        self._reconnects = shelf.tally(
            "redis_reconnects", "Connections to Redis made after the first one.", ("connection",), each
        )
        self._connect_failures = shelf.tally(
            "redis_connect_failures", "Connections to Redis that could not be made.", ("connection",), each
        )
        self._seconds = shelf.spread(
            "redis_command_duration_seconds",
            "From asking Redis to its answer, repetitions included.",
            ("command",),
            bounds=_COMMAND_BOUNDS,
        )
        self._failures = shelf.tally(
            "redis_command_failures",
            "Commands that certainly did nothing (unsent), or of which nobody knows (unanswered).",
            ("command", "outcome"),
        )
        self._repetitions = shelf.tally(
            "redis_command_retries", "Commands asked again within their time.", ("command",)
        )
        self._describe_hearing(shelf)

    def _describe_hearing(self, shelf: Shelf) -> None:
        self._canary_age = shelf.reading(
            "canary_age_seconds", "Since this replica last heard on a channel what it said to itself."
        )
        self._canary_seconds = shelf.spread(
            "canary_round_trip_seconds",
            "From saying something to itself through Redis to its turn among what is delivered.",
            bounds=_CANARY_BOUNDS,
        )
        self._lag = shelf.reading(
            "broker_lag_seconds", "How far behind this replica hears what is published."
        )
        self._frames = shelf.count_reading("redis_frames_heard", "Entries that came on channels of Redis.")
        self._overflows = shelf.count_reading(
            "inbox_overflows", "Times that too much had come on channels, and was read from the log instead."
        )
        self._catch_ups = shelf.tally("catch_ups", "Times that the log was read after an interruption.")
        self._caught_up = shelf.tally("caught_up_entries", "Entries that came by reading the log.")
        self._leases_lost = shelf.tally(
            "leases_lost", "Times that this replica had been taken for dead, or another log was found."
        )
        self._cleaned = shelf.tally("replicas_cleaned_up", "Dead replicas cleaned up after by this one.")
        self._unreadable = shelf.tally(
            "frames_unreadable", "Things on the channels of Redis that this release cannot read."
        )

    def watch(self, shared: Shared) -> None:
        """Where to look when somebody asks."""
        names = tuple(shared.command_names)
        self._seconds.expect(singles(names))
        self._failures.expect(product(names, FAILURES))
        self._repetitions.expect(singles(names))
        self._connected.read = lambda: {(name,): there for name, there in shared.connected.items()}
        words = tuple(shared.refusal_words)
        self._refusing.read = lambda: {
            (name, word): shared.refusals.get(name) == word for name in CONNECTIONS for word in words
        }
        self._canary_age.read = lambda: {(): shared.canary_age_seconds}
        self._lag.read = lambda: {(): shared.lag_seconds}
        self._frames.read = lambda: {(): shared.frames_heard}
        self._overflows.read = lambda: {(): shared.inbox_overflows}

    def connection_made(self, connection: str) -> None:
        if connection in self._met:
            self._reconnects.count((connection,))
        self._met.add(connection)

    def connection_failed(self, connection: str) -> None:
        self._connect_failures.count((connection,))

    def command_answered(self, command: str, seconds: float) -> None:
        self._seconds.observe(seconds, (command,))

    def command_failed(self, command: str, outcome: str) -> None:
        self._failures.count((command, outcome))

    def command_repeated(self, command: str) -> None:
        self._repetitions.count((command,))

    def canary_heard(self, seconds: float) -> None:
        self._canary_seconds.observe(seconds)

    def caught_up(self, entries: int) -> None:
        self._catch_ups.count()
        self._caught_up.count((), entries)

    def lease_lost(self) -> None:
        self._leases_lost.count()

    def replica_cleaned_up(self, _replica: str) -> None:
        self._cleaned.count()

    def frame_unreadable(self) -> None:
        self._unreadable.count()
