"""Rejected requests leave nothing behind that only the garbage collector frees, which runs seldom."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.load.attacks.measures import MIB, rss_bytes
from tests.load.attacks.rejected_requests import (
    BODY_BYTES,
    SMALL_BYTES,
    RejectedRequest,
    client_event,
    configured_requests,
    rejected_requests,
    secret_of,
    send_each,
    slow_requests,
)
from tests.support.gateway_process import KEY_SECRET, GatewayProcess
from tests.support.gateway_without_gc import EVENT
from tests.support.redis_server import RedisServer

PROGRAM = (sys.executable, "-m", "tests.support.gateway_without_gc")
OF_EACH = 20
REQUESTS = 10_000
LARGE_BYTES = 60_000
GROWTH_BYTES = 40 * MIB
"""Of the allocator. Before, it was 518 MiB."""
CATALOGUE = """
version: 1
schemas:
  Note: {type: object, properties: {text: {type: string}}}
namespaces:
  /:
    undescribed_pushes: reject
    client_events:
      note: {args: [{$ref: "#/schemas/Note"}], ack: []}
"""


@pytest.fixture(scope="module")
def gateway() -> Iterator[GatewayProcess]:
    process = GatewayProcess(program=PROGRAM, request_timeout_seconds=5)
    yield process
    assert process.stop() == 0
    assert process.failures() == []


def unreachable(gateway: GatewayProcess) -> dict[str, Any]:
    """Return what only a garbage collector would free now."""
    after = len(gateway.log.entries)
    gateway.signal(signal.SIGUSR1)
    return gateway.log.wait(lambda line: line.get("event") == EVENT, after=after)


async def assert_leaves_nothing(
    gateway: GatewayProcess, kinds: list[RejectedRequest], watched: Sequence[str] = ()
) -> None:
    """Send some requests of each kind, and check their statuses and that the gateway keeps no object of them.

    ``watched``: only objects of these types are counted.
    """
    for kind in kinds:
        await kind.send()  # the first one may fill caches
    await asyncio.sleep(0.1)
    unreachable(gateway)
    found = {}
    for kind in kinds:
        statuses = await send_each([kind], OF_EACH)
        assert statuses == {kind.name: {kind.status}}
        left = unreachable(gateway)
        counts = [count for kind_of, count in left["types"].items() if not watched or kind_of in watched]
        if max(counts, default=0) >= OF_EACH:
            found[kind.name] = left["types"]
    assert found == {}


@pytest.mark.parametrize("body_bytes", [SMALL_BYTES, BODY_BYTES])
async def test_no_rejected_request_leaves_a_reference_cycle(gateway: GatewayProcess, body_bytes: int) -> None:
    await assert_leaves_nothing(gateway, rejected_requests(gateway, body_bytes))


async def test_no_slow_request_leaves_a_reference_cycle(gateway: GatewayProcess) -> None:
    await assert_leaves_nothing(gateway, slow_requests(gateway, BODY_BYTES))


async def test_no_request_over_a_limit_of_the_configuration_leaves_a_reference_cycle(tmp_path: Path) -> None:
    config, events = tmp_path / "gateway.yaml", tmp_path / "events.yaml"
    keys = [
        f"{{id: narrow, secrets: [{secret_of('narrow')}], scopes: [presence]}}",
        f"{{id: slow, secrets: [{secret_of('slow')}], rate: {{per_second: 0.0001, burst: 1}}}}",
        f"{{id: tests, secrets: [{KEY_SECRET}]}}",
    ]
    config.write_text(f"ingest_keys: [{', '.join(keys)}]\n")
    events.write_text(CATALOGUE)
    gateway = GatewayProcess(program=PROGRAM, ingest_keys=None, config=config, events_file=events)
    try:
        await assert_leaves_nothing(
            gateway,
            [
                configured_requests(gateway, BODY_BYTES, "unknown event", 422),
                configured_requests(gateway, BODY_BYTES, "scope", 403, key_id="narrow"),
                client_event(gateway, "invalid payload", '421["note",{"text":1}]'),
            ],
        )
        await configured_requests(gateway, SMALL_BYTES, "", 422, key_id="slow").send()
        await assert_leaves_nothing(
            gateway, [configured_requests(gateway, BODY_BYTES, "rate", 429, key_id="slow")]
        )
    finally:
        gateway.kill()


async def test_no_push_that_redis_does_not_accept_leaves_a_reference_cycle() -> None:
    redis = RedisServer()
    gateway = GatewayProcess(program=PROGRAM, redis_url=redis.url)
    try:
        redis.kill()
        await assert_leaves_nothing(
            gateway,
            [
                configured_requests(gateway, SMALL_BYTES, "without Redis", 503),
                configured_requests(gateway, BODY_BYTES, "large without Redis", 503),
            ],
            # redis-py leaves some objects at each attempt to connect, of which there are few.
            watched=("Request", "DedupKey", "Message", "frame", "traceback", "Future"),
        )
    finally:
        gateway.kill()
        redis.kill()


async def test_memory_stays_as_it_is_while_requests_of_every_kind_are_rejected(
    gateway: GatewayProcess,
) -> None:
    kinds = [*rejected_requests(gateway, SMALL_BYTES), *rejected_requests(gateway, LARGE_BYTES)]
    await send_each(kinds, 1_000)
    before = rss_bytes(gateway.pid)
    await send_each(kinds, REQUESTS)

    assert rss_bytes(gateway.pid) - before < GROWTH_BYTES
