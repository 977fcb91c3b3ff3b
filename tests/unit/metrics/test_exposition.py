"""The text of a scrape: names, help texts, and the event loop while it is written."""

from __future__ import annotations

import asyncio
import re

from prometheus_client import Metric, generate_latest

from gateway.metrics import PREFIX, Exposition, MetricFactory, ProcessMetrics
from gateway.metrics.exposition import SAMPLES_PER_SLICE
from tests.support.loop_turns import with_turns
from tests.support.waiter import TIMEOUT_SECONDS

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
        for text in (await Exposition(metrics).text(), generate_latest(metrics.registry))
    )

    assert first == whole


async def test_other_tasks_run_between_the_metrics() -> None:
    written, turns = await with_turns(Exposition(_some_metrics()).text())

    assert turns > written.count(b"# TYPE") / 2


async def test_metric_with_many_series_is_written_in_slices() -> None:
    metrics = MetricFactory()
    counter = metrics.counter("found", "Found.", ("number",))
    histogram = metrics.histogram("waited_seconds", "Waited.", ("number",), bounds=(1.0, 2.0))
    for number in range(SAMPLES_PER_SLICE):
        counter.count((str(number),))
        histogram.observe(1.0, (str(number),))
    written, turns = await with_turns(Exposition(metrics).text())

    assert written == generate_latest(metrics.registry)
    assert turns >= 6


async def test_scrapes_within_a_second_and_at_once_share_one_text() -> None:
    metrics = MetricFactory()
    reads: list[None] = []

    def read() -> float:
        reads.append(None)
        return len(reads)

    metrics.callback_gauge("found", "Found.", read=read)
    exposition = Exposition(metrics)
    texts = await asyncio.gather(*(exposition.text() for _ in range(5)))

    assert [b"sio_gateway_found 1.0" in text for text in (*texts, await exposition.text())] == [True] * 6
    await await_until_fresh(exposition, b"sio_gateway_found 2.0")


async def await_until_fresh(exposition: Exposition, line: bytes) -> None:
    """Scrape until this line is in the text."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while line not in await exposition.text():  # noqa: ASYNC110  # only the clock makes the text old
            await asyncio.sleep(0.1)


async def test_values_are_collected_before_the_scrape() -> None:
    metrics = MetricFactory()
    found: list[float] = []

    async def collect() -> None:
        found.append(7)

    metrics.before_scrape.append(collect)
    metrics.callback_gauge("found", "Found.", read=lambda: {} if not found else found[0])

    assert b"\nsio_gateway_found 7.0\n" in await Exposition(metrics).text()


def _some_metrics() -> MetricFactory:
    metrics = MetricFactory()
    ProcessMetrics(metrics, version="1.2.3")
    for number in range(50):
        metrics.counter(f"counted_{number}", "Counted.").count()
    return metrics
