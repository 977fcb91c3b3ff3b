"""The text of a scrape: names, help texts, and the event loop while it is written."""

from __future__ import annotations

import re

from prometheus_client import Metric, generate_latest

from gateway.metrics import PREFIX, MetricFactory, ProcessMetrics, exposition
from tests.support.loop_turns import with_turns

NAME = re.compile(r"(sio_gateway|process|python_gc)(_[a-z0-9]+)+")
UNITS = ("seconds", "bytes", "info")


def test_every_metric_has_a_name_of_the_right_form_and_a_help_text(first_scrape: dict[str, Metric]) -> None:
    families = list(first_scrape.values())

    assert families
    assert [family.name for family in families if not NAME.fullmatch(family.name)] == []
    assert [family.name for family in families if not family.documentation] == []


def test_name_of_a_time_or_size_ends_in_its_unit(first_scrape: dict[str, Metric]) -> None:
    measured = {"duration", "latency", "lag", "age", "bytes", "round_trip", "timestamp"}
    ours = [family for family in first_scrape.values() if family.name.startswith(PREFIX)]

    named = [family.name for family in ours if set(family.name.split("_")) & measured]
    assert named
    assert [name for name in named if not name.endswith(UNITS)] == []


async def test_pieces_are_the_text_of_prometheus_client() -> None:
    metrics = _some_metrics()
    first, whole = (
        # Samples of the process change between the two.
        [line for line in text.splitlines() if not line.startswith((b"process_", b"python_gc_"))]
        for text in (await exposition(metrics), generate_latest(metrics.registry))
    )

    assert first == whole


async def test_other_tasks_run_between_the_metrics() -> None:
    written, turns = await with_turns(exposition(_some_metrics()))

    assert turns > written.count(b"# TYPE") / 2


async def test_values_are_collected_before_the_scrape() -> None:
    metrics = MetricFactory()
    found: list[float] = []

    async def collect() -> None:
        found.append(7)

    metrics.before_scrape.append(collect)
    metrics.callback_gauge("found", "Found.", read=lambda: {} if not found else found[0])

    assert b"\nsio_gateway_found 7.0\n" in await exposition(metrics)


def _some_metrics() -> MetricFactory:
    metrics = MetricFactory()
    ProcessMetrics(metrics, version="1.2.3")
    for number in range(50):
        metrics.counter(f"counted_{number}", "Counted.").count()
    return metrics
