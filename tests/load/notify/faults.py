"""The kinds of faults. Every replica owns partitions of the queue, so each one that a fault stops is an owner."""

from __future__ import annotations

from typing import Final

from tests.load.notify.stage import FaultKind, Stage
from tests.load.soak.chaos import KILL, KILL_PAST_LEASE
from tests.load.soak.runner import LEASE_SECONDS
from tests.support.redis_server import Sentinels
from tests.support.waiter import wait_until

SHORT_SECONDS, LONG_SECONDS = 1.0, LEASE_SECONDS + 4.0
"""Within a lease, and past it."""
FIRST, SECOND, THIRD = 0.15, 0.4, 0.65
"""After which shares of the notifications a fault is caused."""


def nothing(_: Stage) -> None:
    """Cause nothing."""


def kill_owners(stage: Stage) -> None:
    for share, replica, kind in zip(
        (FIRST, SECOND, THIRD), stage.replicas, (KILL_PAST_LEASE, KILL, KILL_PAST_LEASE), strict=True
    ):
        stage.wait_until_sent(share)
        stage.wait_until_owner(replica)
        stage.injector.inject(kind, replica)


def suspend_owners(stage: Stage) -> None:
    for share, replica in zip((FIRST, SECOND, THIRD), stage.replicas, strict=True):
        stage.wait_until_sent(share)
        stage.wait_until_owner(replica)
        stage.injector.suspend(replica, LONG_SECONDS)


def kill_and_suspend_owners(stage: Stage) -> None:
    killed, suspended, _ = stage.replicas
    stage.wait_until_sent(FIRST)
    stage.wait_until_owner(killed)
    stage.injector.inject(KILL_PAST_LEASE, killed)
    stage.wait_until_sent(SECOND)
    stage.wait_until_owner(suspended)
    stage.injector.suspend(suspended, LONG_SECONDS)


def fail_over(stage: Stage) -> None:
    """Kill the primary; once Sentinel has promoted the replica, start the former primary, which follows it."""
    watched = stage.sentinels
    assert watched is not None
    stage.wait_until_sent(FIRST)
    watched.primary.kill()
    wait_until(lambda: watched.replica.execute("ROLE")[0] == b"master", "the replica is promoted")
    stage.wait(SHORT_SECONDS)
    watched.primary.start()
    stage.wait_until_sent(THIRD)
    _exchange(watched)


def _exchange(watched: Sentinels) -> None:
    """Exchange both again, without a loss: Sentinel needs to know the former primary as a replica first."""
    wait_until(lambda: watched.primary.execute("ROLE")[0] == b"slave", "the former primary is a replica")

    def is_accepted() -> bool:
        try:
            watched.fail_over()
        except Exception as error:  # noqa: BLE001  # any answer of Sentinel but OK, such as NOGOODSLAVE
            print(error)
            return False
        return True

    wait_until(is_accepted, "Sentinel accepts a failover")
    wait_until(lambda: watched.primary.execute("ROLE")[0] == b"master", "the replica is promoted")


def kill_redis(stage: Stage) -> None:
    for share in (FIRST, THIRD):
        stage.wait_until_sent(share)
        stage.redis.kill()
        stage.wait(SHORT_SECONDS)
        stage.redis.start()


def roll_replicas(stage: Stage) -> None:
    stage.wait_until_sent(FIRST)
    stage.injector.roll_all(pause=SHORT_SECONDS)


PERSISTENT: Final = {"appendonly": "yes", "appendfsync": "always"}

KINDS: Final = (
    FaultKind("none", nothing),
    FaultKind("owners of partitions killed (`kill -9`), two of them past their lease", kill_owners),
    FaultKind("owners suspended past their lease (`SIGSTOP`, `SIGCONT`)", suspend_owners),
    FaultKind(
        "primary of Redis killed, then exchanged by Sentinel (`REDIS_WAIT_REPLICAS`)", fail_over, watched=True
    ),
    FaultKind("Redis killed and restarted, with persistence", kill_redis, redis=PERSISTENT),
    FaultKind("rolling restart", roll_replicas),
)
SHORT_FORM: Final = FaultKind("an owner killed, another one suspended", kill_and_suspend_owners)
