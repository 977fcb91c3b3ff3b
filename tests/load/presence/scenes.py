"""Scenes of presence: what happens to users, and what a backend is to know at the end."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Final

from tests.load.notify.receiver import Failure, Received, ReceiverProcess
from tests.load.notify.stage import configured, dead_letters
from tests.load.presence.pages import Pages
from tests.load.soak.runner import replicas_at
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer
from tests.support.waiter import wait_until

NAMES: Final = ("r0", "r1")
ONLINE, OFFLINE = "user.online", "user.offline"
SLACK_SECONDS: Final = 1.0
"""Beyond lease and ``offline_after_seconds``, as the contract says."""
QUIET_SECONDS: Final = 5.0
"""Within which a change is queued on a busy machine."""
RIGHT_SECONDS: Final = 120.0
"""Within which a backend knows the truth after a loss of data."""


@dataclass
class Known:
    """What a backend knows that ignores each change whose version is not above that of the user's last one."""

    is_online: dict[str, bool] = field(default_factory=dict)
    changes: list[Received] = field(default_factory=list)
    """The changes that were not ignored."""
    repeats: int = 0
    """Changes that arrived again with the same version."""
    stale: int = 0
    """Changes with a lower version than that of the last one."""
    wrong: list[str] = field(default_factory=list)

    def of(self, kind: str) -> list[Received]:
        """Return the changes of a type."""
        return [each for each in self.changes if each.type == kind]


def known_after(received: Iterable[Received]) -> Known:
    """Apply the receiver's rule to changes in the order of their arrival."""
    found = Known()
    newest: dict[str, Received] = {}
    for each in received:
        before = newest.get(each.user)
        if before is not None and each.rank == before.rank:
            found.repeats += 1
            if (each.id, each.type) != (before.id, before.type):
                found.wrong.append(f"another change with the same version: {before}, {each}")
            continue
        if before is not None and each.rank < before.rank:
            found.stale += 1
            continue
        newest[each.user] = each
        found.is_online[each.user] = each.type == ONLINE
        found.changes.append(each)
    return found


@dataclass
class Scene:
    """Replicas on one Redis, the backend that is notified, and pages of users."""

    replicas: list[GatewayProcess]
    redis: RedisServer
    receiver: ReceiverProcess
    pages: Pages
    lease_seconds: float
    offline_after_seconds: float

    def known(self) -> Known:
        return known_after(each for each in self.receiver.received() if each.n is None)

    def wait_until_known(
        self, online: Collection[str], offline: Collection[str] = (), *, seconds: float
    ) -> float:
        """Wait until the backend knows exactly these users as they are; return the seconds that it took."""
        began_at = time.monotonic()
        truth = dict.fromkeys(online, True) | dict.fromkeys(offline, False)
        try:
            wait_until(
                lambda: self.known().is_online == truth, "the backend knows the truth", seconds=seconds
            )
        except AssertionError:
            found = self.known().is_online
            wrong = {user: found.get(user) for user in truth if found.get(user) != truth[user]}
            more = sorted(found.keys() - truth)
            raise AssertionError(
                f"not within {seconds:.0f} s: {len(wrong)} of {len(truth)} are wrong: {wrong}; "
                f"others are known: {more}; wrong requests: {self.receiver.wrong()}"
            ) from None
        return time.monotonic() - began_at

    def stop(self, *replicas: GatewayProcess) -> None:
        """Check that the backend got nothing wrong, stop these replicas, and check their logs."""
        assert self.known().wrong == []
        assert self.receiver.wrong() == []
        assert dead_letters(replicas[0], "app") == []
        assert [replica.stop() for replica in replicas] == [0] * len(replicas)
        assert [line for replica in replicas for line in replica.failures()] == []


@contextmanager
def scene(
    *, lease_seconds: float = 5.0, offline_after_seconds: float, redis: Mapping[str, str] | None = None
) -> Iterator[Scene]:
    """Run two replicas, a backend and a Node process for pages."""
    catalogue = f"version: 1\npresence: {{offline_after_seconds: {offline_after_seconds}, notify: app}}\n"
    with ExitStack() as stack:
        server = RedisServer(**(redis or {}))
        stack.callback(server.stop)
        receiver = stack.enter_context(ReceiverProcess())
        settings = stack.enter_context(configured([{"id": "app", "url": receiver.url}], catalogue))
        replicas = stack.enter_context(
            replicas_at(
                dict.fromkeys(NAMES, server.url), lease_seconds=lease_seconds, drain_seconds=3.0, **settings
            )
        )
        pages = stack.enter_context(Pages())
        yield Scene(replicas, server, receiver, pages, lease_seconds, offline_after_seconds)


def users(count: int, *, first: int = 0) -> list[str]:
    """Return names of users."""
    return [f"u{number}" for number in range(first, first + count)]


def reload_pages(
    *, count: int, times: int, offline_after_seconds: float, away_seconds: float
) -> dict[str, float]:
    """Reload pages again and again; return how many reloads there were, and which changes the backend got."""
    everyone = users(count)
    with scene(offline_after_seconds=offline_after_seconds) as at:
        at.pages.open(at.replicas[0], everyone[::2])
        at.pages.open(at.replicas[1], everyone[1::2])
        at.wait_until_known(everyone, seconds=60)
        at.pages.reload(everyone, times=times, away_seconds=away_seconds)
        marker = users(1, first=count)
        at.pages.open(at.replicas[0], marker)  # once a user who came after them is known, so are they
        at.wait_until_known([*everyone, *marker], seconds=60)
        at.pages.close(marker)
        at.wait_until_known(everyone, marker, seconds=offline_after_seconds + 60)
        known = at.known()
        at.stop(*at.replicas)
    of_pages = [each for each in known.changes if each.user not in marker]
    return {
        "reloads": count * times,
        "online": sum(each.type == ONLINE for each in of_pages),
        "offline": sum(each.type == OFFLINE for each in of_pages),
        "repeats": known.repeats,
    }


def kill_replica(
    *, count: int, reconnecting: int, lease_seconds: float, offline_after_seconds: float
) -> dict[str, float]:
    """Kill a replica with all users, some of whom reconnect to the other one at once; return the figures."""
    everyone = users(count)
    back, gone = everyone[:reconnecting], everyone[reconnecting:]
    with scene(lease_seconds=lease_seconds, offline_after_seconds=offline_after_seconds) as at:
        killed, other = at.replicas
        at.pages.open(killed, back, elsewhere=other)
        at.pages.open(killed, gone)
        at.wait_until_known(everyone, seconds=60)
        killed_at = time.time()
        killed.kill()
        at.pages.wait_until_connected(back)
        at.wait_until_known(back, gone, seconds=lease_seconds + offline_after_seconds + 60)
        marker = users(1, first=count)
        at.pages.open(other, marker)
        at.wait_until_known([*back, *marker], gone, seconds=60)
        offline = [each for each in at.receiver.received() if each.type == OFFLINE]
        at.stop(other)
    waited = [each.at - killed_at for each in offline]
    return {
        "offline": len(offline),
        "offline users": len({each.user for each in offline}),
        "offline of the others": sum(each.user in back for each in offline),
        "first seconds": min(waited),
        "last seconds": max(waited),
        "at most seconds": lease_seconds + offline_after_seconds + SLACK_SECONDS,
    }


def lose_data(kind: str, *, count: int, offline_after_seconds: float) -> dict[str, float]:
    """Let Redis lose its data (``emptied``) or return to an older copy (``older copy``) while users leave and come.

    Return the seconds until the backend knew the truth, and the changes that it got.
    """
    everyone, late = users(count), users(count // 4, first=count)
    quarter = count // 4
    before, meanwhile, after, staying = (everyone[i * quarter : (i + 1) * quarter] for i in range(4))
    with scene(offline_after_seconds=offline_after_seconds) as at:
        for number, replica in enumerate(at.replicas):
            at.pages.open(replica, everyone[number::2])
        at.wait_until_known(everyone, seconds=60)
        at.redis.execute("SAVE")
        at.pages.close(before[: quarter // 2])
        at.wait_until_known(set(everyone) - set(before[: quarter // 2]), before[: quarter // 2], seconds=60)
        at.pages.close(before[quarter // 2 :])  # their time has not come when the data is lost
        closing = at.pages.start("close", ids=meanwhile)
        if kind == "emptied":
            at.redis.execute("FLUSHALL")
        else:
            at.redis.restart()
        lost_at = time.monotonic()
        closing()
        at.pages.close(after)
        at.pages.open(at.replicas[0], late)
        at.pages.load(before[: quarter // 4], at.replicas[1])
        online = {*staying, *late, *before[: quarter // 4]}
        offline = set(everyone) - online
        at.wait_until_known(online, offline, seconds=RIGHT_SECONDS)
        right_seconds = time.monotonic() - lost_at
        at.pages.close(staying)  # what is known later is right too
        at.wait_until_known(online - set(staying), offline | set(staying), seconds=RIGHT_SECONDS)
        known = at.known()
        at.stop(*at.replicas)
    return {
        "users": len(online) + len(offline),
        "right seconds": right_seconds,
        "changes": len(known.changes),
        "repeats": known.repeats,
        "stale": known.stale,
    }


def flap_while_down(*, count: int, times: int, offline_after_seconds: float) -> dict[str, float]:
    """Let users come and go while the backend is down; return which changes it got afterwards."""
    everyone = users(count)
    dice = random.Random(count)
    with scene(offline_after_seconds=offline_after_seconds) as at:
        at.pages.open(at.replicas[0], everyone)
        at.wait_until_known(everyone, seconds=60)
        at.receiver.fail(Failure.DOWN)
        online = set(everyone)
        for _ in range(times):
            leaving = {user for user in online if dice.random() < 0.5}
            connecting = {user for user in set(everyone) - online if dice.random() < 0.5}
            at.pages.close(leaving)
            at.pages.load(connecting, dice.choice(at.replicas))
            online = online - leaving | connecting
            time.sleep(offline_after_seconds * 1.5)  # so that leaving is a change
        time.sleep(QUIET_SECONDS)  # so that all of this happened before the backend is back
        at.receiver.accept()
        at.wait_until_known(online, set(everyone) - online, seconds=RIGHT_SECONDS)
        known = at.known()
        at.stop(*at.replicas)
    afterwards = known.changes[count:]
    return {
        "changes after": len(afterwards),
        "users after": len({each.user for each in afterwards}),
        "stale": known.stale,
        "repeats": known.repeats,
    }


def changes_by_user(changes: Iterable[Received]) -> dict[str, list[str]]:
    """Return the types of the changes of each user in order."""
    found: dict[str, list[str]] = defaultdict(list)
    for each in changes:
        found[each.user].append(each.type)
    return found
