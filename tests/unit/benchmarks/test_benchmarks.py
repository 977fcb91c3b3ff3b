"""The load of the benchmark gets and counts everything, and what is found can be shown."""

from __future__ import annotations

import sys
from xml.etree import ElementTree as ET

import pytest

from benchmarks import comparing, plot, servers, tables
from benchmarks.comparing import ROWS, Comparison
from benchmarks.load import frames
from benchmarks.load.crowd import Crowd
from benchmarks.machine import cores

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the benchmark needs Linux")

LOAD = {"load_broadcast": 0.25, "load_emit": 0.3, "load_paced": 0.1}


def found() -> Comparison:
    figures = dict.fromkeys(ROWS, 1234.5)
    return Comparison(
        medians={"gateway": figures, "node": {key: value / 2 for key, value in figures.items()}},
        spread={name: dict.fromkeys(ROWS, (1.0, 2.0)) for name in ("gateway", "node")},
        load={"gateway": LOAD, "node": LOAD, "bare sender": {"deliveries": 150_000, "load_broadcast": 0.3}},
        rounds=3,
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_the_load_gets_every_broadcast_and_every_push_and_counts_them(workers: int) -> None:
    with servers.gateway() as server, Crowd(server, cores()[1], at_least=workers) as crowd:
        crowd.connect(30, role="staff-{}")
        everybody = crowd.broadcast(20)
        large = crowd.broadcast(3, size=70_000)
        single = crowd.emit(40, connections=4)

    assert (everybody["deliveries"], everybody["missing"]) == (600, 0)
    assert (large["deliveries"], large["missing"]) == (90, 0)
    assert (single["deliveries"], single["missing"], single["bad"]) == (40, 0, 0)
    assert 0 < single["latency"]["p50"] <= single["latency"]["p99"]


def test_clients_come_and_go_and_both_are_paid_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "MANY", 50)
    with servers.gateway() as server:
        figures = comparing.come_and_go(server)

    assert set(figures) == {"connect", "memory", "disconnect"}
    assert figures["connect"] > 0


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_a_frame_ends_where_its_head_says(size: int) -> None:
    head = {size < 126: bytes((0x81, size & 127))}.get(True) or (
        b"\x81\x7e" + size.to_bytes(2, "big") if size < 65_536 else b"\x81\x7f" + size.to_bytes(8, "big")
    )
    data = b"??" + head + b"x" * size + b"more"

    assert frames.split(data, 2) == (2 + len(head), 2 + len(head) + size)
    assert all(frames.split(data[:end], 2)[1] > end for end in range(2, 2 + len(head)))


def test_the_picture_is_svg_with_two_bars_for_each_row() -> None:
    picture = ET.fromstring(plot.bars(found()))  # noqa: S314  # our own

    assert len(picture.findall("{http://www.w3.org/2000/svg}rect")) == 2 * len(ROWS)


def test_the_table_shows_ratios_and_rounded_figures() -> None:
    first = tables.comparison(found())[1]

    assert first[2:5] == ["1 230", "617", "2.00×"]
    assert tables.markdown([["", "a"], ["b", "1"]]) == "|  | a |\n| --- | ---: |\n| b | 1 |"
