"""The whole of it: names, descriptions, and who has a turn while it is written."""

from __future__ import annotations

import re

from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics import PREFIX, Metrics
from tests.support.loop_turns import with_turns

NAME = re.compile(r"(sio_gateway|process|python_gc)(_[a-z0-9]+)+")
UNITS = ("seconds", "bytes", "info")


async def test_every_metric_is_named_by_the_rule_and_described() -> None:
    families = list(text_string_to_metric_families((await Metrics().exposition()).decode()))

    assert families
    assert [family.name for family in families if not NAME.fullmatch(family.name)] == []
    assert [family.name for family in families if not family.documentation] == []


async def test_what_is_a_time_or_a_size_ends_in_its_unit() -> None:
    families = text_string_to_metric_families((await Metrics().exposition()).decode())
    measured = re.compile(r"duration|latency|lag|age|bytes|round_trip|timestamp")
    ours = [family for family in families if family.name.startswith(PREFIX)]

    named = [family.name for family in ours if set(family.name.split("_")) & set(measured.pattern.split("|"))]
    assert named
    assert [name for name in named if not name.endswith(UNITS)] == []


async def test_the_pieces_are_what_would_be_written_at_once() -> None:
    from prometheus_client import generate_latest

    metrics = Metrics()
    first = [line for line in (await metrics.exposition()).splitlines() if b"process_" not in line]
    whole = [line for line in generate_latest(metrics.registry).splitlines() if b"process_" not in line]

    assert first == whole


async def test_others_have_their_turns_while_it_is_written() -> None:
    written, turns = await with_turns(Metrics().exposition())

    assert turns > written.count(b"# TYPE") / 2
