"""All checks, in the order of the report: a check comes before those that depend on it."""

from __future__ import annotations

from gateway.doctor import capacity, durability, host, probe, queues, rights, server
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
    sentinels = await probe.probe_sentinels(redis)
    facts = await probe.probe_redis(
        redis,
        prefix=prefix,
        timeout_seconds=requirements.timeout_seconds,
        webhooks=requirements.webhooks,
    )
    return [
        *check_redis(facts, sentinels, probe.target_address(redis), prefix, requirements),
        *check_host(host.read_host_facts(), requirements),
    ]


def without_redis() -> Finding:
    """Return the finding for a gateway without Redis."""
    return ok(
        "state.memory",
        "No Redis is configured: one replica keeps everything in its memory, loses it when the process ends, and does "
        "not know the clients of another replica.",
        "Set GATEWAY_REDIS_URL before you start a second replica, or if a restart must lose nothing.",
    )


def check_redis(
    facts: RedisFacts | Unreached,
    sentinels: SentinelFacts | None,
    address: str,
    prefix: str,
    requirements: Requirements,
) -> list[Finding]:
    """Return the findings about Redis. ``address`` is the one that the descriptions name."""
    first = [] if sentinels is None else [durability.check_sentinels(sentinels)]
    if isinstance(facts, Unreached):
        return [*first, server.not_reached(facts, address)]
    return [
        *first,
        server.reached(address),
        rights.check(facts, prefix, waits=requirements.wait_replicas > 0),
        server.check_version(facts),
        server.check_mode(facts),
        server.check_role(facts),
        server.check_eviction(facts),
        server.check_records(facts, prefix, Codec().newest),
        capacity.check_memory(facts, requirements),
        capacity.check_clients(facts),
        capacity.check_output_buffer(facts),
        durability.check_persistence(facts),
        durability.check_replication(facts, has_sentinels=sentinels is not None),
        *filter(None, [durability.check_wait_replicas(facts, requirements.wait_replicas)]),
        *queues.check_queues(facts, requirements),
        server.check_clock(facts),
        server.check_round_trip(facts, requirements),
    ]


def check_host(facts: HostFacts, requirements: Requirements) -> list[Finding]:
    """Return the findings about this machine."""
    return [host.check_open_files(facts, requirements), *filter(None, [host.check_backlog(facts)])]
