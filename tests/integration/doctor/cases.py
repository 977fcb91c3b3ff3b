"""Facts to judge: those of a Redis with which all is well, to be changed in one place."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from gateway.doctor.facts import DataFacts, RedisFacts, Requirements

MIB: Final = 1024 * 1024
DEMANDS: Final = Requirements(
    max_connections=20_000,
    polling=False,
    history_bytes=64 * MIB,
    history_length=100_000,
    timeout_seconds=2.0,
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
    "save": "3600 1",
    "appendfsync": "everysec",
    "stop-writes-on-bgsave-error": "yes",
}
WELL: Final = RedisFacts(
    info=INFO,
    config=CONFIG,
    denied=(),
    round_trips=tuple(0.0002 for _ in range(100)),
    skew_seconds=0.0001,
    skew_error=0.0001,
    data=DataFacts(),
)
BLIND: Final = RedisFacts()
"""Everything was forbidden."""


def told(**lines: str | None) -> RedisFacts:
    """The same with other lines of INFO; None leaves one out."""
    info = {name: value for name, value in (INFO | lines).items() if value is not None}
    return replace(WELL, info=info)


def set_to(redis: RedisFacts = WELL, **config: str) -> RedisFacts:
    """The same with other settings, dashes written as underscores."""
    return replace(redis, config=CONFIG | {name.replace("_", "-"): value for name, value in config.items()})


def having(**facts: Any) -> RedisFacts:
    """The same with other facts."""
    return replace(WELL, **facts)
