"""Floors, curves and the page of the benchmarks: what is made of the figures."""

from __future__ import annotations

import argparse
from xml.etree import ElementTree as ET

import pytest

from benchmarks import (
    __main__,
    batches,
    client_events,
    curves,
    document,
    floors,
    machine,
    notifications,
    plot,
    tables,
)
from benchmarks.comparison import Comparison, Figures
from benchmarks.curves import Curve
from benchmarks.floors import ROWS

LOAD = {"load_broadcast": 0.25, "load_emit": 0.3, "load_paced": 0.1}


def results() -> Comparison:
    figures = dict.fromkeys([*ROWS, *(row.cpu for row in ROWS.values() if row.cpu)], 1234.5)
    return Comparison(
        medians={"gateway": figures, "node": {key: value / 2 for key, value in figures.items()}},
        spread={name: dict.fromkeys(ROWS, (1.0, 2.0)) for name in ("gateway", "node")},
        load={"gateway": LOAD, "node": LOAD, "bare sender": {"deliveries": 150_000, "load_broadcast": 0.3}},
        rounds=3,
    )


def one_sided() -> Comparison:
    found = results()
    found.medians["node"] = dict.fromkeys(ROWS, float("nan"))
    found.spread["node"] = dict.fromkeys(ROWS, (float("nan"), float("nan")))
    return found


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        ({1: 100.0, 10: 90.0, 100: 124.0}, "flat"),
        ({64: 100.0, 1024: 110.0, 4096: 150.0, 16_384: 300.0}, "linear"),
        ({1: 60.0, 10: 66.0, 100: 120.0}, "linear"),
        ({1: 60.0, 10: 66.0, 100: 60_000.0}, "more than linear"),
        ({10: 100.0, 100: 200.0, 1000: 10_000.0}, "more than linear"),
        ({10: 100.0, 100: 200.0, 1000: 1_250.0}, "linear"),
        ({1_000: 1.0, 4_000: 16.0, 9_000: 81.0, 18_000: 324.0}, "more than linear"),
    ],
)
def test_shape_of_a_curve(costs: dict[int, float], expected: str) -> None:
    assert curves.shape(costs) == expected


def test_cost_that_grows_faster_than_it_may_is_named() -> None:
    costs = {
        number: {"emit": emit, "broadcast": 10.0 * number, "of it for each client": 10.0}
        for number, emit in {1_000: 50.0, 2_000: 55.0, 4_000: 90.0}.items()
    }
    held, missed = Curve("connections", costs), Curve("connections", costs, ("emit",))

    assert held.shapes() == {"emit": "linear", "broadcast": "linear"}
    assert tables.curve(held)[-1] == ["cost", "linear", "linear", ""]
    assert tables.curve(missed)[-1] == ["cost", "**linear**", "linear", ""]
    assert curves.summary(curves.Found(held, held, held, held, {})) == (
        "8 of 8 costs are flat or linear as they have to be."
    )
    assert curves.summary(curves.Found(held, held, held, missed, {})) == (
        "7 of 8 costs are flat or linear as they have to be. Not so: emit by connections (linear)."
    )


def with_ratios(**ratios: float) -> Comparison:
    """Return figures with these ratios of the rows; the floors of all others hold exactly."""
    found = results()
    for name in ("gateway", "node"):
        found.medians[name] = dict.fromkeys(found.medians[name], 100.0)
    for key, row in ROWS.items():
        if row.floor is not None:
            found.medians["gateway"][key] = 100.0 * ratios.get(key, row.floor.ratio)
    return found


def test_floor_holds_at_its_ratio_and_not_beyond_it() -> None:
    exact, missed = with_ratios(), with_ratios(emits=0.99, p99=1.01, redis_connect=1.31)

    assert [key for key in floors.FLOORS if floors.holds(exact, key) is not True] == []
    assert [key for key in floors.FLOORS if floors.holds(missed, key) is False] == [
        "emits", "p99", "redis_connect",
    ]  # fmt: skip


def test_floor_that_does_not_hold_or_was_not_measured_is_named() -> None:
    found = with_ratios(emits=0.75)
    del found.medians["node"]["redis_p50"]
    lines = {line[0]: line for line in tables.evaluated(found)}

    assert floors.summary(with_ratios()) == "12 of 12 floors hold."
    assert floors.summary(found) == (
        "10 of 12 floors hold. Missed: REST pushes to single users (0.75×, floor ≥ 1.0×). "
        "Not measured: Latency through Redis, median."
    )
    assert lines["REST pushes to single users"][4:7] == ["0.75×", "≥ 1.0×", "**no**"]
    assert lines["Latency through Redis, median"][4:7] == ["–", "≤ 1.1×", "not measured"]
    assert lines["CPU to connect one client"][4:7] == ["1.00×", "≤ 1.0×", "yes"]


def test_floor_of_connecting_with_redis_is_about_the_gateway_without_it() -> None:
    found = with_ratios()
    found.medians["gateway"] |= {"connect": 200.0, "redis_connect": 250.0}
    found.medians["node"]["redis_connect"] = 50.0

    assert floors.ratio(found, "redis_connect") == 1.25
    assert floors.holds(found, "redis_connect") is True
    assert floors.bound("redis_connect") == "≤ 1.3× without Redis"


def test_parts_are_named_in_a_list_and_measured_in_the_order_of_the_page() -> None:
    assert __main__._parts("curves,floors") == ["floors", "curves"]
    with pytest.raises(argparse.ArgumentTypeError, match="no part is called scale"):
        __main__._parts("scale,floors")


@pytest.mark.parametrize(
    ("options", "distribution", "shared", "expected"),
    [
        (
            "'--enable-optimizations'",
            None,
            False,
            "3.11, not from the distribution, built with --enable-optimizations",
        ),
        (
            "'--enable-shared'",
            None,
            True,
            "3.11, not from the distribution, built without --enable-optimizations",
        ),
        (
            "'--enable-shared'",
            "Fedora 40",
            True,
            "3.11, the package of Fedora 40, built without --enable-optimizations",
        ),
        (
            "'--enable-shared'",
            "Debian 12",
            True,
            "3.11, the package of Debian 12, built without --enable-optimizations",
        ),
        (
            "'--enable-shared'",
            "Debian 12",
            False,
            (
                "3.11, the package of Debian 12, built with profile-guided and link-time optimization, as its "
                "changelog says; its configuration, which is that of its shared library, is without "
                "--enable-optimizations"
            ),
        ),
    ],
)
def test_build_of_the_interpreter_is_named(
    options: str, distribution: str | None, shared: bool, expected: str
) -> None:
    assert machine.build_of("3.11", options, distribution=distribution, shared=shared) == expected


def test_machine_and_python_build_are_on_the_page() -> None:
    page = document.page(whole_run())

    assert "- CPU: one, 2 cores\n" in page
    assert "--enable-optimizations" in machine.python_build()
    assert "placeholder" not in page.lower()


def test_plot_is_svg_with_two_bars_for_each_row() -> None:
    picture = ET.fromstring(plot.bars(results()))  # noqa: S314  # made by this project

    assert len(picture.findall("{http://www.w3.org/2000/svg}rect")) == 2 * len(ROWS)


def test_table_shows_ratios_and_rounded_figures() -> None:
    first = tables.comparison(results(), ROWS)[1]

    assert first[2:5] == ["1 230", "617", "2.00×"]
    assert first[6:8] == ["1 230; 617", "2.00×"]
    assert tables.comparison(one_sided(), ROWS)[1][3:5] == ["–", "–"]
    assert tables.comparison(events(), client_events.ROWS)[0][5:] == ["is better", "lowest and highest round"]
    assert tables.markdown([["", "a"], ["b", "1"]]) == "|  | a |\n| --- | ---: |\n| b | 1 |"


def run(**found: object) -> document.Run:
    return document.Run("2026-11-30", {"CPU": "one, 2 cores"}, 6.0, 1.5, found)


def whole_run() -> document.Run:
    kinds = {"memory": {"new": 1.0}}
    curve = Curve("connections", {1_000: {"connect": 1.0}, 2_000: {"connect": 2.0}})
    parts = dict.fromkeys(document.SECTIONS, kinds) | {
        "curves": curves.Found(curve, curve, curve, curve, kinds)
    }
    notify = notifications.Found(delivered=kinds, connections=kinds)
    return run(**parts | {"floors": results(), "batch": batch(), "events": events(), "notify": notify})


def batch() -> Comparison:
    found = results()
    figures: Figures = dict.fromkeys(
        [*batches.ROWS, *(str(row.cpu) for row in batches.ROWS.values())], 9876.0
    )
    return Comparison(
        medians={"gateway": figures, "node": figures},
        spread={name: dict.fromkeys(batches.ROWS, (1.0, 2.0)) for name in ("gateway", "node")},
        load={name: dict.fromkeys(batches.LOAD, 0.2) for name in ("gateway", "node")},
        rounds=found.rounds,
    )


def events(figure: float = 4321.0) -> Comparison:
    rows = client_events.ROWS
    return Comparison(
        medians={name: dict.fromkeys(rows, figure) for name in ("gateway", "node")},
        spread={name: dict.fromkeys(rows, (1.0, 2.0)) for name in ("gateway", "node")},
        load={name: dict.fromkeys(client_events.LOAD, 0.25) for name in ("gateway", "node")},
        rounds=3,
    )


def test_page_has_the_sections_of_the_committed_one_and_those_measured_by_themselves() -> None:
    headings = [line for line in document.page(whole_run()).splitlines() if line.startswith("## ")]
    committed = [line for line in document.PAGE.read_text("utf-8").splitlines() if line.startswith("## ")]

    assert [heading for heading in headings if heading in committed] == committed
    assert headings[-3:] == [
        "## Events of clients",
        "## Notifications and presence events",
        "## Repeat it",
    ]


def test_run_of_one_part_replaces_its_section_and_no_other() -> None:
    page = document.page(whole_run())

    changed = document.with_parts(page, run(events=events(8765.0)))

    head, _, rest = page.partition("## Events of clients\n")
    assert changed.startswith(head)
    assert changed.endswith(rest[rest.index("## Notifications and presence events") :])
    assert "8 760" in changed.removeprefix(head)
    assert "4 320" not in changed
    assert "Measured by itself on 2026-11-30. CPU: one, 2 cores." in changed
    assert document.with_parts(changed, run(events=events(8765.0))) == changed


def test_run_of_one_part_adds_a_section_that_the_page_lacks_and_renews_how_to_repeat_it() -> None:
    page = document.page(whole_run())
    start, end = page.index("## Notifications and presence events"), page.index("## Repeat it")

    changed = document.with_parts(
        page[:start] + "## Repeat it\nold\n", run(notify=whole_run().found["notify"])
    )

    assert changed[:start] == page[:start]
    assert changed[start:].startswith("## Notifications and presence events\n")
    assert changed.endswith(page[end:])


def test_text_that_is_not_the_page_is_not_written() -> None:
    with pytest.raises(ValueError, match="Repeat it"):
        document.with_parts("# Something else\n", run(events=events()))
