"""All checks, in the order of the report: what must be right first comes first."""

from __future__ import annotations

from gateway.doctor import capacity, durability, host, probe, rights, server
from gateway.doctor.facts import HostFacts, RedisFacts, Requirements, SentinelFacts, Unreached
from gateway.doctor.findings import Finding, ok
from gateway.domain.redis_url import RedisUrl
from gateway.state.redis.codec import Codec
from gateway.state.redis.connection import ConnectionFactory


async def run_checks(*, url: RedisUrl | None, prefix: str, requirements: Requirements) -> list[Finding]:
    """Run every check and return the findings in the order of the report. Without a URL only the host is checked."""
    if url is None:
        return [without_redis(), *check_host(host.read_host_facts(), requirements)]
    redis = ConnectionFactory(url, name="", timeout_seconds=requirements.timeout_seconds)
    watched = await probe.probe_sentinels(redis)
    found = await probe.probe_redis(redis, prefix=prefix, timeout_seconds=requirements.timeout_seconds)
    return [
        *check_redis(found, watched, probe.target_address(redis), prefix, requirements),
        *check_host(host.read_host_facts(), requirements),
    ]


def without_redis() -> Finding:
    """There is no Redis to be looked at."""
    return ok(
        "state.memory",
        "There is no Redis: one replica keeps everything in its memory, forgets it when it ends, and knows nothing of "
        "another one's clients.",
        "Set GATEWAY_REDIS_URL before you start a second replica, or if a restart must lose nothing.",
    )


def check_redis(
    found: RedisFacts | Unreached,
    watched: SentinelFacts | None,
    where: str,
    prefix: str,
    requirements: Requirements,
) -> list[Finding]:
    """All that there is to say of Redis."""
    first = [] if watched is None else [durability.sentinels(watched)]
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
        capacity.memory(found, requirements),
        capacity.clients(found),
        capacity.output_buffer(found),
        durability.persistence(found),
        durability.replication(found),
        server.clock(found),
        server.round_trip(found, requirements),
    ]


def check_host(found: HostFacts, requirements: Requirements) -> list[Finding]:
    """All that there is to say of this machine."""
    return [host.open_files(found, requirements), *filter(None, [host.backlog(found)])]
