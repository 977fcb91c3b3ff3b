"""Everything that replicas share, put together; the names of ``gateway.state.memory.MemoryState``."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.domain.condition import Condition
from gateway.domain.errors import StateUnusable
from gateway.state.redis.broker import RedisBroker
from gateway.state.redis.channels import Channels, Inbox
from gateway.state.redis.claims import RedisClaims, RedisRates, RedisRevocations
from gateway.state.redis.commands import READ, Commands
from gateway.state.redis.errors import REFUSALS
from gateway.state.redis.keys import Keys
from gateway.state.redis.leases import KEEP_SECONDS, Leases
from gateway.state.redis.listening import Listening
from gateway.state.redis.meter import Meter, Silent
from gateway.state.redis.presence import RedisPresence
from gateway.state.redis.records import Codec
from gateway.state.redis.scripting import load_scripts
from gateway.state.redis.server import Identity, Server
from gateway.state.redis.sessions import RedisSessions
from gateway.state.redis.singing import CHANNELS, COMMANDS, Singing

DAY: Final = 86_400.0
_SEGMENTS: Final = 8
"""The log is cut in pieces of an eighth of each bound, so it holds at most an eighth more than it must."""
_LONGEST_SEGMENT: Final = 1_000
_MIN_RECEIPT_SECONDS: Final = 60.0
_MIN_RECEIPTS: Final = 1_000
_VOLATILE_SECONDS: Final = 10.0
"""A volatile message too large for a channel is kept for twice as long."""


@dataclass(kw_only=True, eq=False, repr=False)
class RedisState:
    """The six ports of ``gateway.ports`` over one Redis. Made on the running loop; works while ``run`` does.

    ``patience_seconds`` bounds every operation. ``gap`` is told the code of a gap that could not be filled
    (``listening.py``), ``condition_changed`` what this replica can do, ``cleaned`` of each replica that died,
    ``unreadable`` that something on a channel was not ours. ``clock_shift_seconds`` moves the clock that the scripts
    read: production leaves it at 0, tests have no other way to make what a real server keeps older.
    """

    url: str
    prefix: str
    replica: str
    history_length: int
    history_bytes: int
    recovery_seconds: float
    history_slack_seconds: float = 60.0
    lease_seconds: float = 15.0
    deaf_seconds: float = 10.0
    patience_seconds: float = 2.0
    nonces: int = 15_000_000
    nonce_seconds: float = 720.0
    idempotency_seconds: float = 3600.0
    idempotency_keys: int = 5_000_000
    revocation_seconds: float = 30 * DAY
    last_seen_seconds: float = 30 * DAY
    inbox_entries: int = 20_000
    inbox_bytes: int = 32 * 1024 * 1024
    gap: Callable[[str], None] = lambda _: None
    condition_changed: Callable[[Condition], None] = lambda _: None
    cleaned: Callable[[str], None] = lambda _: None
    unreadable: Callable[[], None] = lambda: None
    meter: Meter = field(default_factory=Silent)
    codec: Codec = field(default_factory=Codec)
    clock_shift_seconds: float = 0.0

    broker: RedisBroker = field(init=False)
    presence: RedisPresence = field(init=False)
    sessions: RedisSessions = field(init=False)
    claims: RedisClaims = field(init=False)
    rates: RedisRates = field(init=False)
    revocations: RedisRevocations = field(init=False)
    leases: Leases = field(init=False)

    def __post_init__(self) -> None:
        self._keys = Keys(self.prefix)
        self._token = secrets.token_urlsafe(12)
        self._reached: set[Identity] = set()
        server = Server(self.url, name=f"push-gateway:{self.replica}", timeout_seconds=self.patience_seconds)
        self.commands = Commands(
            server,
            load_scripts(self._keys, self._limits()),
            patience_seconds=self.patience_seconds,
            connected=self._commands_connected,
            meter=self.meter,
        )
        self._singing = Singing(
            commands=self.commands,
            keys=self._keys,
            codec=self.codec,
            replica=self.replica,
            token=self._token,
            deaf_seconds=self.deaf_seconds,
            patience_seconds=self.patience_seconds,
            condition_changed=self.condition_changed,
            meter=self.meter,
        )
        self._inbox = Inbox(max_entries=self.inbox_entries, max_bytes=self.inbox_bytes)
        self.channels = Channels(
            server,
            self._inbox,
            patience_seconds=self.patience_seconds,
            always=[self._keys.canary(self.replica)],
            judge=self._singing.judge_channels,
            meter=self.meter,
        )
        self._wire_ports()
        self._singing.listen_to(channels=self.channels, listening=self.listening, claims=self.claims)

    def _wire_ports(self) -> None:
        commands = self.commands
        self.listening = Listening(
            commands=commands,
            inbox=self._inbox,
            keys=self._keys,
            codec=self.codec,
            token=self._token,
            gap=self.gap,
            heard=self._singing.heard,
            unreadable=self.unreadable,
            meter=self.meter,
        )
        self.sessions = RedisSessions(
            commands, replica=self.replica, doubt_seconds=self.history_slack_seconds
        )
        self.presence = RedisPresence(commands, self._keys, replica=self.replica, pid_of=self.sessions.pid_of)
        self.claims = RedisClaims(commands)
        self.rates = RedisRates(commands)
        self.revocations = RedisRevocations(commands, self._keys)
        self.broker = RedisBroker(
            commands=commands,
            channels=self.channels,
            listening=self.listening,
            claims=self.claims,
            keys=self._keys,
            codec=self.codec,
        )
        self.leases = Leases(
            commands=commands,
            presence=self.presence,
            sessions=self.sessions,
            claims=self.claims,
            codec=self.codec,
            replica=self.replica,
            process=self._token,
            lease_seconds=self.lease_seconds,
            cleaned=self.cleaned,
            meter=self.meter,
        )

    def _limits(self) -> dict[str, int | bool]:
        age = self.recovery_seconds + self.history_slack_seconds
        return {
            "shift": _ms(self.clock_shift_seconds),
            "keep": _ms(max(KEEP_SECONDS, 2 * age)),
            "lease": _ms(self.lease_seconds),
            "age": _ms(age),
            "recovery": _ms(self.recovery_seconds),
            # Without a window the log serves to catch up alone, and nobody asks for the part of one address.
            "indexed": self.recovery_seconds > 0,
            "history_length": self.history_length,
            "history_bytes": self.history_bytes,
            "segment_length": max(1, min(_LONGEST_SEGMENT, self.history_length // _SEGMENTS)),
            "segment_bytes": max(1, self.history_bytes // _SEGMENTS),
            "segment_age": _ms(age / _SEGMENTS),
            "ids": max(self.history_length, _MIN_RECEIPTS),
            "ids_age": _ms(max(age, _MIN_RECEIPT_SECONDS)),
            "nonce_window": _ms(self.nonce_seconds / 2),
            "nonces": max(1, self.nonces // 3),
            "answer_window": _ms(self.idempotency_seconds / 4),
            "answers": max(1, self.idempotency_keys // 5),
            "volatile_window": _ms(_VOLATILE_SECONDS),
            "volatile_bytes": max(1, self.history_bytes // 4),
            "revocation": _ms(self.revocation_seconds),
            "last_seen": _ms(self.last_seen_seconds),
        }

    # life

    async def run(self, started: asyncio.Event) -> None:
        """Work until cancelled; ``started`` is set once everything can be asked. Raises StateUnusable."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.commands.run(), name="redis commands")
                await self.commands.reached.wait()
                await self._singing.begin(self.leases.begin)
                tasks.create_task(self.channels.run(), name="redis channels")
                await self.channels.heard_first.wait()
                tasks.create_task(self.leases.run(), name="redis leases")
                tasks.create_task(self._singing.run(), name="redis canary")
                await self.leases.be_noticed()
                started.set()
        except ExceptionGroup as failures:
            unusable, _ = failures.split(StateUnusable)
            if unusable is not None:
                raise _first(unusable) from None
            raise

    async def leave(self) -> None:
        """Be no replica any more, once nobody is connected and nobody can come, and while ``run`` still works.

        Takes LEAVE_SECONDS at most, raises nothing, and does nothing where ``run`` has ended: who fails is found dead.
        """
        await self.leases.leave()

    @property
    def condition(self) -> Condition:
        """What this replica can do at the moment."""
        return self._singing.condition

    @property
    def refusal(self) -> str:
        """What Redis refuses although it answers, as a sentence; nothing where it refuses nothing."""
        return self._singing.refusal

    def shift_clock(self, seconds: float) -> None:
        """Let the scripts read a clock that is so much later. For tests."""
        self.clock_shift_seconds += seconds
        self.commands.scripts = load_scripts(self._keys, self._limits())
        self.commands.shift_clock(seconds)

    def sizes(self) -> dict[str, float]:
        """How much of everything that has a limit is held now, under stable names, for the metrics."""
        held = self.leases.held
        oldest_ms = held.history_oldest_ms
        return {
            "history_entries": held.history_entries,
            "history_bytes": held.history_bytes,
            "history_age_seconds": max(0.0, (self.commands.redis_ms() - oldest_ms) / 1000)
            if oldest_ms
            else 0.0,
            "nonces": held.nonces,
            "replicas": held.replicas,
            "channels": len(self.channels),
            "inbox_entries": len(self._inbox),
            "redis_questions": self.commands.waiting,
            "connections": len(self.presence),
            "connections_owed": len(self.presence.owed),
            "sessions": len(self.sessions),
        }

    # for the metrics

    @property
    def connected(self) -> dict[str, bool]:
        """The connections to Redis, and which of them there are now."""
        return {COMMANDS: self.commands.up, CHANNELS: self.channels.up}

    @property
    def refusals(self) -> Mapping[str, str]:
        """The connections on which Redis refuses something now, and its word for that."""
        return self._singing.refusals

    @property
    def refusal_words(self) -> Sequence[str]:
        """All words that there are for that."""
        return REFUSALS

    @property
    def command_names(self) -> list[str]:
        """What can be asked of Redis, as it is counted."""
        # Whom a connection meets is asked before anything else can be.
        return [*(name for name in self.commands.scripts if name != "meet"), READ]

    @property
    def canary_age_seconds(self) -> float:
        """Since this replica last heard itself."""
        return self._singing.age_seconds

    @property
    def lag_seconds(self) -> float:
        """How far behind this replica hears what is published."""
        return self._singing.lag_seconds

    @property
    def frames_heard(self) -> int:
        """Entries that came on channels, for whomever."""
        return self.listening.frames

    @property
    def inbox_overflows(self) -> int:
        """How often too much had come on channels and was dropped, to be read from the log."""
        return self._inbox.overflows

    def _commands_connected(self, identity: Identity) -> None:
        """Another primary, or the same one started anew, publishes to others than whom the channels are with."""
        if self._reached and identity not in self._reached:
            self.channels.reconnect()
            self.leases.doubt()
        self._reached = {identity}
        self.leases.wake()


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


def _first(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group
