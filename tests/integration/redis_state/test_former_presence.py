"""Presence events beside a replica of a former release, which records no changes of presence.

The former replica is imitated by one without rules: its scripts do what those of that release did. A real one is run by
``python -m tests.load.presence.upgrade``.
"""

from __future__ import annotations

import asyncio

from gateway.domain.notifications import PRESENCE_PARTITIONS
from gateway.domain.presence import PresenceConsumer, PresenceRules
from tests.integration.redis_state.replicas import Replica, former_release
from tests.support.redis_server import RedisServer
from tests.support.waiter import LOOK_SECONDS, TIMEOUT_SECONDS

RULES = PresenceRules(0.5, frozenset({PresenceConsumer.WEBHOOK}))
EVERY = range(PRESENCE_PARTITIONS)


class Backend:
    """What a backend knows that is notified by one replica, which sweeps and audits as the services do."""

    def __init__(self, replica: Replica) -> None:
        self._events = replica.state.presence_events
        self._events.configure(RULES)
        self.known: dict[str, bool] = {}
        self._versions: dict[str, int] = {}

    async def notify(self) -> None:
        """Execute one round."""
        await self._events.sweep(EVERY, limit=100)
        await self._events.audit(EVERY, limit=100)
        changes = await self._events.undelivered(PresenceConsumer.WEBHOOK, EVERY, limit=100)
        for change in changes:
            assert change.version > self._versions.get(change.user, 0)
            self._versions[change.user] = change.version
            self.known[change.user] = change.is_online
        await self._events.delivered(PresenceConsumer.WEBHOOK, changes)

    async def knows(self, **users: bool) -> None:
        """Wait until it knows exactly these users so."""
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                while self.known != users:
                    await asyncio.sleep(LOOK_SECONDS)
                    await self.notify()
        except TimeoutError:
            raise AssertionError(f"it knows {self.known}, not {users}") from None

    async def still_knows(self, seconds: float, **users: bool) -> None:
        """Execute rounds for longer than any change takes, and check that nothing changes."""
        for _ in range(round(seconds / 0.1)):
            await asyncio.sleep(0.1)
            await self.notify()
            assert self.known == users


async def test_user_who_moves_between_a_former_and_a_new_replica_stays_online(server: RedisServer) -> None:
    new, former = Replica(server, "new"), Replica(server, "former", codec=former_release())
    backend = Backend(new)
    try:
        await new.start()
        await former.start()
        await new.register("n1", "ann")
        await backend.knows(ann=True)

        await former.register("f1", "ann")
        await new.state.presence.unregister("n1")
        await backend.still_knows(2.0, ann=True)

        await new.register("n2", "ann")
        await former.state.presence.unregister("f1")
        await backend.still_knows(2.0, ann=True)
    finally:
        await former.stop()
        await new.stop()


async def test_user_who_leaves_a_former_replica_is_offline_in_the_end(server: RedisServer) -> None:
    new, former = Replica(server, "new"), Replica(server, "former", codec=former_release())
    backend = Backend(new)
    try:
        await new.start()
        await former.start()
        await new.register("n1", "ann")
        await backend.knows(ann=True)
        await former.register("f1", "ann")
        await new.state.presence.unregister("n1")
        await backend.still_knows(1.0, ann=True)

        await former.state.presence.unregister("f1")

        await backend.knows(ann=False)
    finally:
        await former.stop()
        await new.stop()


async def test_user_of_a_killed_former_replica_is_offline_in_the_end(server: RedisServer) -> None:
    new, former = Replica(server, "new"), Replica(server, "former", codec=former_release())
    backend = Backend(new)
    try:
        await new.start()
        await former.start()
        await new.register("n1", "ann")
        await new.register("n2", "bob")
        await backend.knows(ann=True, bob=True)
        await former.register("f1", "ann")
        await new.state.presence.unregister("n1")
        await backend.still_knows(1.0, ann=True, bob=True)

        await former.stop()

        await backend.knows(ann=False, bob=True)
    finally:
        await former.stop()
        await new.stop()
