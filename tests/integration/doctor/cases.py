"""Facts of a Redis without problems, which a test changes in one place."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from gateway.doctor.facts import DataFacts, RedisFacts, Requirements

MIB: Final = 1024 * 1024
REQUIREMENTS: Final = Requirements(
    max_connections=20_000,
    polling=False,
    history_bytes=64 * MIB,
    history_length=100_000,
    timeout_seconds=2.0,
    wait_replicas=1,
)
INFO: Final = {
    "redis_version": "7.0.15",
    "redis_mode": "standalone",
    "cluster_enabled": "0",
    "role": "master",
    "loading": "0",
    "maxmemory_policy": "noeviction",
    "used_memory": str(100 * MIB),
    "maxmemory": str(1024 * MIB),
    "total_system_memory": str(4096 * MIB),
    "connected_clients": "12",
    "maxclients": "10000",
    "connected_slaves": "2",
    "min_slaves_good_slaves": "2",
    "aof_enabled": "1",
    "aof_last_write_status": "ok",
    "rdb_last_bgsave_status": "ok",
}
CONFIG: Final = {
    "client-output-buffer-limit": "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
    "min-replicas-to-write": "1",
    "min-replicas-max-lag": "10",
    "save": "3600 1",
    "appendfsync": "everysec",
    "stop-writes-on-bgsave-error": "yes",
}
HEALTHY: Final = RedisFacts(
    info=INFO,
    config=CONFIG,
    denied=(),
    round_trips=tuple(0.0002 for _ in range(100)),
    skew_seconds=0.0001,
    skew_error=0.0001,
    data=DataFacts(),
)
UNREADABLE: Final = RedisFacts()
"""Every query was denied."""


def with_info(**lines: str | None) -> RedisFacts:
    """Return healthy facts with other lines of INFO. None removes a line."""
    info = {name: value for name, value in (INFO | lines).items() if value is not None}
    return replace(HEALTHY, info=info)


def with_config(redis: RedisFacts = HEALTHY, **config: str) -> RedisFacts:
    """Return facts with other parameters of CONFIG, with underscores instead of dashes."""
    return replace(redis, config=CONFIG | {name.replace("_", "-"): value for name, value in config.items()})


def with_facts(**facts: Any) -> RedisFacts:
    """Return healthy facts with other values of the fields."""
    return replace(HEALTHY, **facts)
