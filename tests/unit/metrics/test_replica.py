"""The event loop, the state and the probes as they are shown."""

from __future__ import annotations

import asyncio
import time

import pytest
from prometheus_client import CollectorRegistry

from gateway.metrics.replica import LOOK_SECONDS, ReplicaMetrics

PATIENCE_SECONDS = 10.0
LAG = "sio_gateway_event_loop_lag_seconds"


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def replica(registry: CollectorRegistry) -> ReplicaMetrics:
    return ReplicaMetrics(registry)


async def test_what_holds_up_the_event_loop_is_seen(
    registry: CollectorRegistry, replica: ReplicaMetrics
) -> None:
    watching = asyncio.create_task(replica.watch_loop())
    async with asyncio.timeout(PATIENCE_SECONDS):
        await _looked(registry, 1)
        before = registry.get_sample_value(f"{LAG}_bucket", {"le": "0.25"})
        time.sleep(LOOK_SECONDS + 0.4)  # noqa: ASYNC251  # this is what holds it up
        await _looked(registry, 2)
    watching.cancel()

    late = (registry.get_sample_value(f"{LAG}_count") or 0) - (
        registry.get_sample_value(f"{LAG}_bucket", {"le": "0.25"}) or 0
    )
    assert before is not None
    assert late >= 1
    assert (registry.get_sample_value(f"{LAG}_sum") or 0) >= 0.4


async def _looked(registry: CollectorRegistry, times: int) -> None:
    while (registry.get_sample_value(f"{LAG}_count") or 0) < times:  # noqa: ASYNC110  # nothing tells of it
        await asyncio.sleep(LOOK_SECONDS / 10)


def test_the_state_is_asked_how_much_it_holds_at_every_look(
    registry: CollectorRegistry, replica: ReplicaMetrics
) -> None:
    held = {"nonces": 1.0, "history_entries": 2.0, "history_bytes": 30.0, "history_age_seconds": 4.5}
    replica.watch_state(lambda: held, history_length=100, history_bytes=1000)

    held["nonces"] = 7

    read = registry.get_sample_value
    assert read("sio_gateway_state_items", {"part": "nonces"}) == 7
    assert read("sio_gateway_state_items", {"part": "history_bytes"}) is None
    assert read("sio_gateway_history_entries") == 2
    assert read("sio_gateway_history_bytes") == 30
    assert read("sio_gateway_history_oldest_age_seconds") == 4.5
    assert read("sio_gateway_history_limit_entries") == 100
    assert read("sio_gateway_history_limit_bytes") == 1000


def test_probes_and_metrics_say_the_same(registry: CollectorRegistry, replica: ReplicaMetrics) -> None:
    ready, draining = True, False
    replica.watch_health(is_ready=lambda: ready, is_draining=lambda: draining)

    ready, draining = False, True

    assert registry.get_sample_value("sio_gateway_replica_ready") == 0
    assert registry.get_sample_value("sio_gateway_replica_draining") == 1
