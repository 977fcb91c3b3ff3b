"""The kinds of faults, each with what is promised under it."""

from __future__ import annotations

from typing import Final

from tests.load.delivery.stage import FaultKind, Stage
from tests.load.soak.chaos import KILL, KILL_PAST_LEASE
from tests.load.soak.runner import LEASE_SECONDS
from tests.support.waiter import wait_until

SHORT_SECONDS, LONG_SECONDS = 1.0, LEASE_SECONDS + 4.0
"""Within a lease, and past it."""
SPLIT_SECONDS = 4.0
HOUR_SECONDS = 3600.0


def nothing(stage: Stage) -> None:
    stage.wait(LONG_SECONDS)


def kill_replica(stage: Stage) -> None:
    stage.injector.inject(KILL, stage.replicas[0])
    stage.wait(SHORT_SECONDS)
    stage.injector.inject(KILL_PAST_LEASE, stage.replicas[1])


def roll_replicas(stage: Stage) -> None:
    stage.injector.roll_all(pause=SHORT_SECONDS)


def suspend_replica_shortly(stage: Stage) -> None:
    stage.injector.suspend(stage.replicas[0], SHORT_SECONDS)


def suspend_replica(stage: Stage) -> None:
    stage.injector.suspend(stage.replicas[0], LONG_SECONDS)


def suspend_clients(stage: Stage) -> None:
    with stage.clients.paused(0):
        stage.wait(LONG_SECONDS)


def restart_redis(stage: Stage) -> None:
    stage.redis.kill()
    stage.wait(SHORT_SECONDS)
    stage.redis.start()


def flush_redis(stage: Stage) -> None:
    stage.redis.execute("FLUSHALL")


def freeze_redis_shortly(stage: Stage) -> None:
    stage.redis.freeze()
    stage.wait(SHORT_SECONDS)
    stage.redis.thaw()


def freeze_redis(stage: Stage) -> None:
    stage.redis.freeze()
    stage.wait(LONG_SECONDS)
    stage.redis.thaw()


def fail_over(stage: Stage) -> None:
    stage.redis.execute("FAILOVER", "TO", "127.0.0.1", stage.spare.port)
    wait_until(lambda: stage.spare.execute("ROLE")[0] == b"master", "the replica of Redis is promoted")
    stage.wait(SHORT_SECONDS)
    stage.lead_to(stage.spare)


def fail_over_after_kill(stage: Stage) -> None:
    stage.redis.kill()
    stage.wait(SHORT_SECONDS)
    stage.spare.execute("REPLICAOF", "NO", "ONE")
    stage.lead_to(stage.spare)


def fail_over_to_replica_behind(stage: Stage) -> None:
    stage.spare.execute("REPLICAOF", "NO", "ONE")  # from here on it gets nothing
    stage.wait(SPLIT_SECONDS)
    stage.redis.kill()
    stage.lead_to(stage.spare)


def return_to_older_copy(stage: Stage) -> None:
    stage.redis.execute("SAVE")
    stage.wait(SPLIT_SECONDS)
    stage.redis.restart()


def split_brain(stage: Stage) -> None:
    stage.spare.execute("REPLICAOF", "NO", "ONE")
    stage.lead_to(stage.spare, 1, 2)
    stage.wait(SPLIT_SECONDS)
    stage.redis.execute("REPLICAOF", "127.0.0.1", stage.spare.port)
    stage.lead_to(stage.spare, 0)


def fill_redis(stage: Stage) -> None:
    stage.redis.execute("CONFIG", "SET", "maxmemory", 1_000_000)
    stage.wait(LONG_SECONDS)
    stage.redis.execute("CONFIG", "SET", "maxmemory", 0)


def demote_redis(stage: Stage) -> None:
    stage.redis.execute("REPLICAOF", "127.0.0.1", "1")
    stage.wait(SPLIT_SECONDS)
    stage.redis.execute("REPLICAOF", "NO", "ONE")


def fail_saves(stage: Stage) -> None:
    with stage.redis.failing_saves():
        stage.wait(SPLIT_SECONDS)


def require_replicas(stage: Stage) -> None:
    stage.redis.execute("CONFIG", "SET", "min-replicas-to-write", 1)
    stage.wait(SPLIT_SECONDS)
    stage.redis.execute("CONFIG", "SET", "min-replicas-to-write", 0)


def kill_subscriptions(stage: Stage) -> None:
    for _ in range(6):
        stage.redis.execute("CLIENT", "KILL", "TYPE", "pubsub")
        stage.wait(SHORT_SECONDS)


def reset_one_replica(stage: Stage) -> None:
    stage.proxies[0].break_connections()
    stage.wait(LONG_SECONDS)
    stage.proxies[0].accept_connections()


def cut_off_one_replica(stage: Stage) -> None:
    stage.proxies[0].pause()
    stage.wait(LONG_SECONDS)
    stage.proxies[0].resume()


def hold_answers(stage: Stage) -> None:
    stage.proxies[0].pause_answers()
    stage.wait(SPLIT_SECONDS)
    stage.proxies[0].resume_answers()


def hold_subscription(stage: Stage) -> None:
    stage.proxies[0].pause_subscriptions()
    stage.wait(LONG_SECONDS)
    stage.proxies[0].resume_subscriptions()


def set_clock_ahead(stage: Stage) -> None:
    stage.step_clock(HOUR_SECONDS, back_after=SPLIT_SECONDS)


def set_clock_back(stage: Stage) -> None:
    stage.step_clock(-HOUR_SECONDS, back_after=SPLIT_SECONDS)


PERSISTENT: Final = {"appendonly": "yes", "appendfsync": "always"}

KINDS: Final = (
    FaultKind("none", nothing, drops=False),
    FaultKind("connections of clients break", nothing),
    FaultKind("half of the clients stop reading for 9 s", suspend_clients, processes=2),
    FaultKind("replicas killed (`kill -9`), one of them past its lease", kill_replica),
    FaultKind("rolling restart", roll_replicas),
    FaultKind("a replica suspended for 1 s", suspend_replica_shortly),
    FaultKind("a replica suspended past its lease", suspend_replica),
    FaultKind("Redis killed and restarted, with persistence", restart_redis, redis=PERSISTENT),
    FaultKind("Redis killed and restarted, without persistence", restart_redis, lossy=True),
    FaultKind("Redis emptied (`FLUSHALL`)", flush_redis, lossy=True),
    FaultKind("Redis suspended for 1 s", freeze_redis_shortly),
    FaultKind("Redis suspended past all leases", freeze_redis),
    FaultKind("failover that loses nothing (`FAILOVER`)", fail_over, mirrored=True),
    FaultKind("the primary killed, its replica promoted", fail_over_after_kill, mirrored=True, lossy=True),
    FaultKind(
        "a replica promoted that was 4 s behind", fail_over_to_replica_behind, mirrored=True, lossy=True
    ),
    FaultKind("Redis restored to a copy 4 s older", return_to_older_copy, lossy=True),
    FaultKind("two primaries for 4 s (split brain)", split_brain, mirrored=True, lossy=True),
    FaultKind("Redis at its memory limit (`OOM`)", fill_redis),
    FaultKind("Redis is a replica for 4 s (`READONLY`)", demote_redis),
    FaultKind("Redis cannot save (`MISCONF`)", fail_saves),
    FaultKind("Redis misses its replicas (`NOREPLICAS`)", require_replicas),
    FaultKind("subscriptions killed six times", kill_subscriptions),
    FaultKind("connections of one replica to Redis reset for 9 s", reset_one_replica),
    FaultKind("one replica and Redis cut off without a reset for 9 s", cut_off_one_replica),
    FaultKind("answers of Redis to one replica held for 4 s", hold_answers),
    FaultKind(
        "subscription of one replica held for 9 s", hold_subscription, logged=["gateway.subscription_stalled"]
    ),
    FaultKind(
        "clock of Redis an hour ahead for 4 s, so that keys expire",
        set_clock_ahead,
        lossy=True,
        clock_of="redis",
    ),
    FaultKind("clock of Redis an hour back for 4 s", set_clock_back, lossy=True, clock_of="redis"),
    FaultKind("clock of a replica an hour ahead for 4 s", set_clock_ahead, clock_of="replica"),
    FaultKind("clock of a replica an hour back for 4 s", set_clock_back, clock_of="replica"),
)
