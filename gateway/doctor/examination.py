"""All checks, in the order of the report: what must be right first comes first."""

from __future__ import annotations

from gateway.doctor import gathering, host, rights, room, safety, server
from gateway.doctor.facts import Demands, HostFacts, RedisFacts, SentinelFacts, Unreached
from gateway.doctor.findings import Finding, ok
from gateway.state.redis.records import Codec
from gateway.state.redis.server import Server


async def examine(*, url: str | None, prefix: str, demands: Demands) -> list[Finding]:
    """Everything that there is to say. Raises ValueError for an address that says too much or too little."""
    if url is None:
        return [in_memory(), *check_host(host.look(), demands)]
    redis = Server(url, name="", timeout_seconds=demands.patience_seconds)
    watched = await gathering.gather_sentinels(redis)
    found = await gathering.gather(redis, prefix=prefix, patience_seconds=demands.patience_seconds)
    return [
        *check_redis(found, watched, gathering.where(redis), prefix, demands),
        *check_host(host.look(), demands),
    ]


def in_memory() -> Finding:
    """There is no Redis to be looked at."""
    return ok(
        "state.memory",
        "There is no Redis: one replica keeps everything in its memory, forgets it when it ends, and knows nothing of "
        "another one's clients.",
        "Set GATEWAY_REDIS_URL before you start a second replica, or if a restart must lose nothing.",
    )


def check_redis(
    found: RedisFacts | Unreached, watched: SentinelFacts | None, where: str, prefix: str, demands: Demands
) -> list[Finding]:
    """All that there is to say of Redis."""
    first = [] if watched is None else [safety.sentinels(watched)]
    if isinstance(found, Unreached):
        return [*first, server.not_reached(found, where)]
    return [
        *first,
        server.reached(where),
        rights.check(found, prefix),
        server.version(found),
        server.mode(found),
        server.role(found),
        server.eviction(found),
        server.records(found, prefix, Codec().newest),
        room.memory(found, demands),
        room.clients(found),
        room.output_buffer(found),
        safety.persistence(found),
        safety.replication(found),
        server.clock(found),
        server.round_trip(found, demands),
    ]


def check_host(found: HostFacts, demands: Demands) -> list[Finding]:
    """All that there is to say of this machine."""
    return [host.open_files(found, demands), *filter(None, [host.backlog(found)])]
