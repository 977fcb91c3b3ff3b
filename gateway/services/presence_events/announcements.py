"""Announce changes of presence to clients: messages through the broker, those to everyone at a limited rate."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from gateway.domain.errors import BrokerTimeout, BrokerUnavailable
from gateway.domain.event_catalogue import Announcement
from gateway.domain.messages import MAX_BATCH, Message, batches_by_rooms
from gateway.domain.presence import PresenceChange, PresenceConsumer
from gateway.domain.rate_limit import Rate
from gateway.interfaces import Broker, Clock, PresenceEvents, RateLimits, Schedule, sleep
from gateway.services.presence_events.webhook import id_of_user
from gateway.services.shared_work import FAILURE_SECONDS

EVERYONE_PER_SECOND: Final = 20
"""Announcements to everyone in a namespace, of all replicas."""
EVERYONE_RATE: Final = Rate(EVERYONE_PER_SECOND, 1)
MAX_HELD: Final = 1_000
"""Changes of this replica that wait for that rate. More are read again when these may be through."""
HELD_SECONDS: Final = 5.0
"""How long the state does not return a change that waits here. A replica that takes it over begins after this time."""
MAX_ANNOUNCED: Final = 10_000
"""Users of whom it is remembered which version was announced to rooms."""
PAGE: Final = 200
MAX_BATCH_ROOMS: Final = 256
"""Rooms of the announcements that are appended at once, so that other requests to the state do not wait for long."""
_CONSUMER: Final = PresenceConsumer.CLIENTS

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Held:
    """A change whose announcements to everyone wait for the rate of their namespaces."""

    change: PresenceChange
    messages: list[Message]


class Announcer:
    """Appends the announcements of changes. An id is made of user and version, so that a repeat changes nothing."""

    def __init__(
        self,
        *,
        events: PresenceEvents,
        broker: Broker,
        rates: RateLimits,
        clock: Clock,
        schedule: Schedule,
        owned: Callable[[], frozenset[int]],
        on_notified: Callable[[PresenceConsumer, Sequence[PresenceChange]], None],
    ) -> None:
        self.wake = asyncio.Event()
        """Set when there may be more changes to read."""
        self._announcements: tuple[Announcement, ...] = ()
        self._events = events
        self._broker = broker
        self._rates = rates
        self._clock = clock
        self._schedule = schedule
        self._owned = owned
        self._on_notified = on_notified
        self._held: OrderedDict[str, _Held] = OrderedDict()
        """Changes that wait for the rate, by user, the oldest in front."""
        self._announced: OrderedDict[str, int] = OrderedDict()
        """Versions that rooms got already, by user."""
        self._pacers: dict[str, asyncio.Task[None]] = {}
        """The task of each namespace whose everyone waits for announcements."""

    def configure(self, announcements: tuple[Announcement, ...]) -> None:
        """Announce by these entries of the event catalogue from now on."""
        self._announcements = announcements
        self.wake.set()

    @property
    def held(self) -> int:
        """How many changes wait for the rate."""
        return len(self._held)

    async def work(self, partitions: Collection[int], tasks: asyncio.TaskGroup) -> int:
        """Announce what is due in these partitions; return how many changes.

        Raises: BrokerUnavailable, BrokerTimeout.
        """
        await self.hand_over(kept=partitions)
        if not partitions or not self._announcements:
            return 0
        changes = await self._events.undelivered(_CONSUMER, partitions, limit=PAGE)
        waiting, new = [], []
        for change in changes:
            held = self._held.get(change.user)
            if held is not None and held.change.version >= change.version:
                waiting.append(change)
            else:
                new.append((change, self._messages(change)))
        await self._append_to_rooms(new)
        held_now, beyond, through = self._hold(new)
        await self._record(through)
        await self._postpone(waiting + held_now, HELD_SECONDS)
        await self._postpone(beyond, MAX_HELD / EVERYONE_PER_SECOND)
        self._start_pacers(tasks)
        if len(changes) == PAGE:
            self.wake.set()
        return len(changes)

    async def hand_over(self, *, kept: Collection[int] = ()) -> None:
        """Let other replicas announce at once what waits here, except in the partitions that are kept.

        Raises: BrokerUnavailable, BrokerTimeout; they announce it after HELD_SECONDS then.
        """
        handed = [each.change for each in self._held.values() if each.change.partition not in kept]
        for change in handed:
            del self._held[change.user]
        await self._postpone(handed, 0.0)

    def _messages(self, change: PresenceChange) -> list[Message]:
        # The user as in ids of events: what follows a dot in an id has a meaning (``messages.repeat_digest``).
        prefix, now = f"presence:{id_of_user(change.user)}:{change.version}", self._clock.now()
        return [
            message
            for number, announcement in enumerate(self._announcements)
            if (message := announcement.message(change, message_id=f"{prefix}:{number}", time=now))
            is not None
        ]

    async def _append_to_rooms(self, planned: Sequence[tuple[PresenceChange, list[Message]]]) -> None:
        """Append the messages to rooms of changes whose rooms did not get them yet."""
        due = [
            (change, message)
            for change, messages in planned
            for message in messages
            if not _is_for_everyone(message) and self._announced.get(change.user, 0) < change.version
        ]
        for batch in batches_by_rooms(
            [message for _, message in due], max_items=MAX_BATCH, max_rooms=MAX_BATCH_ROOMS
        ):
            await self._broker.append_all(batch)
        for change, _ in due:
            self._announced[change.user] = change.version
            self._announced.move_to_end(change.user)
        while len(self._announced) > MAX_ANNOUNCED:
            self._announced.popitem(last=False)

    def _hold(
        self, planned: Sequence[tuple[PresenceChange, list[Message]]]
    ) -> tuple[list[PresenceChange], list[PresenceChange], list[PresenceChange]]:
        """Keep the messages to everyone until the rate allows them.

        Return the changes that have such messages, those for which there is no space, and those without such messages.
        """
        held_now, beyond, through = [], [], []
        for change, messages in planned:
            held = self._held.get(change.user)
            paced = [each for each in messages if _is_for_everyone(each)]
            if not paced:
                self._held.pop(change.user, None)
                through.append(change)
            elif held is not None:  # It keeps its place in front of others.
                held.change, held.messages = change, paced
                held_now.append(change)
            elif len(self._held) < MAX_HELD:
                self._held[change.user] = _Held(change, paced)
                held_now.append(change)
            else:
                beyond.append(change)
        return held_now, beyond, through

    async def _record(self, changes: Sequence[PresenceChange]) -> None:
        if changes:
            await self._events.delivered(_CONSUMER, changes)
            self._on_notified(_CONSUMER, changes)

    async def _postpone(self, changes: Sequence[PresenceChange], seconds: float) -> None:
        if changes:
            await self._events.postpone(_CONSUMER, changes, seconds=seconds)

    # announcements to everyone

    def _start_pacers(self, tasks: asyncio.TaskGroup) -> None:
        for namespace in {each.namespace for held in self._held.values() for each in held.messages}:
            if namespace not in self._pacers:
                task = tasks.create_task(self._pace(namespace), name=f"presence announcements {namespace}")
                self._pacers[namespace] = task
                task.add_done_callback(partial(self._on_paced, namespace))

    def _on_paced(self, namespace: str, _task: asyncio.Task[None]) -> None:
        del self._pacers[namespace]

    async def _pace(self, namespace: str) -> None:
        """Append what waits for a namespace, the oldest first, until nothing does."""
        while (head := self._head(namespace)) is not None:
            held, message = head
            try:
                result = await self._rates.consume(f"presence:{namespace}", EVERYONE_RATE)
                if not result.allowed:
                    await sleep(self._schedule, result.retry_after_seconds)
                    continue
                if message not in held.messages:  # A newer change took its place meanwhile.
                    continue
                await self._broker.append(message)
                await self._remove(held, message)
            except (BrokerUnavailable, BrokerTimeout) as error:
                log.debug("presence.announcement_failed", reason=error.message)
                await sleep(self._schedule, FAILURE_SECONDS)

    def _head(self, namespace: str) -> tuple[_Held, Message] | None:
        """Return the message of a namespace that waits for the longest, in the partitions of this replica."""
        owned = self._owned()
        for held in self._held.values():
            if held.change.partition in owned:
                for message in held.messages:
                    if message.namespace == namespace:
                        return held, message
        return None

    async def _remove(self, held: _Held, message: Message) -> None:
        if message not in held.messages:
            return
        held.messages.remove(message)
        if not held.messages and self._held.get(held.change.user) is held:
            del self._held[held.change.user]
            await self._record([held.change])


def _is_for_everyone(message: Message) -> bool:
    return not message.rooms
