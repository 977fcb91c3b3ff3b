"""Format figures as text for the terminal and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from benchmarks import floors
from benchmarks.comparison import Comparison, Figures, Row
from benchmarks.curves import Curve

WORK: Final = {
    "load_alone": "Broadcast, one at a time",
    "load_broadcast": "Broadcast, up to 48 at once",
    "load_emit": "REST pushes",
    "load_paced": "1 000 pushes/s",
    "load_redis_emit": "REST pushes through Redis",
    "load_redis_paced": "1 000 pushes/s through Redis",
}
AGAINST: Final = {
    "gateway": "against the gateway",
    "node": "against Socket.IO",
    "bare sender": "against a bare sender",
}
CPU: Final = ("CPU µs each", "its ratio")
Table = list[list[str]]
"""Rows of cells, the header first."""


def number(value: float) -> str:
    """Format with three significant digits and spaced thousands."""
    if math.isnan(value):
        return "–"
    if abs(value) >= 1000:
        digits = 10 ** (len(str(int(abs(value)))) - 3)
        return f"{round(value / digits) * digits:,}".replace(",", " ")
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def evaluated(found: Comparison) -> Table:
    """Make a line for each row of the floors: figures, ratio, floor, whether it holds, CPU time of an operation."""
    table = [["", "", "gateway", "Socket.IO", "ratio", "floor", "holds", *CPU, "lowest and highest round"]]
    for key, row in floors.ROWS.items():
        ours, theirs = (_figure(found, name, key) for name in ("gateway", "node"))
        answer = {True: "yes", False: "**no**", None: "not measured" if row.floor else ""}
        table.append(
            [
                row.title,
                row.unit,
                number(ours),
                number(theirs),
                _times(floors.ratio(found, key)),
                floors.bound(key),
                answer[floors.holds(found, key)],
                *_cpu(found, row),
                _spread(found, key),
            ]
        )
    return table


def _cpu(found: Comparison, row: Row) -> list[str]:
    """Return the CPU time of an operation of both servers, and its ratio; both empty if the row has none."""
    ours, theirs = (_figure(found, name, row.cpu) for name in ("gateway", "node"))
    return [f"{number(ours)}; {number(theirs)}", _times(ours / theirs)] if row.cpu else ["", ""]


def _figure(found: Comparison, name: str, key: str | None) -> float:
    return found.medians[name].get(key, math.nan) if key else math.nan


def _times(ratio: float) -> str:
    return "–" if math.isnan(ratio) else f"{ratio:.2f}×"


def _spread(found: Comparison, key: str) -> str:
    """Return the lowest and the highest round of each server."""
    return "; ".join(
        f"{number(low)}–{number(high)}"
        for low, high in (rows[key] for rows in found.spread.values() if key in rows)
        if not math.isnan(low)
    )


def comparison(found: Comparison, rows: Mapping[str, Row]) -> Table:
    """Make a line for each row: both servers, the ratio, lowest and highest round.

    A server without a figure for a row has NaN there. If rows have CPU times of an operation, two columns show them.
    """
    timed = any(row.cpu for row in rows.values())
    columns = [*(CPU if timed else ()), "lowest and highest round"]
    table = [["", "", "gateway", "Socket.IO", "ratio", "is better", *columns]]
    for key, row in rows.items():
        ours, theirs = found.medians["gateway"][key], found.medians["node"][key]
        better = "more" if row.more_is_better else "less"
        table.append(
            [
                row.title,
                row.unit,
                number(ours),
                number(theirs),
                _times(ours / theirs),
                better,
                *(_cpu(found, row) if timed else ()),
                _spread(found, key),
            ]
        )
    return table


def load(found: Comparison, work: Mapping[str, str] = WORK) -> Table:
    """Make the table of the share of its core that the load used, the bare sender included where there is one."""
    names = list(found.load)
    table = [["", *(AGAINST[name] for name in names)]]
    for key, title in work.items():
        shares = [found.load[name].get(key) for name in names]
        table.append([title, *(f"{share:.0%}" if share is not None else "" for share in shares)])
    return table


def curve(found: Curve) -> Table:
    """Make a line for each number that was measured, and a last one with the shape of each column."""
    steps = list(next(iter(found.costs.values())))
    table = [[found.counted, *steps]]
    table += [
        [f"{level:,}".replace(",", " "), *(number(figures[step]) for step in steps)]
        for level, figures in found.costs.items()
    ]
    shapes, steeper = found.shapes(), found.steeper()
    return [
        *table,
        ["cost", *(f"**{shapes[step]}**" if step in steeper else shapes.get(step, "") for step in steps)],
    ]


def kinds(found: Mapping[str, Figures]) -> Table:
    """Make a line for each variant of a measurement."""
    names = list(next(iter(found.values())))
    return [["", *names]] + [
        [kind, *(number(figures[name]) for name in names)] for kind, figures in found.items()
    ]


def markdown(table: Table) -> str:
    """Format as Markdown: the first column to the left, figures to the right."""
    head, *lines = table
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *lines))


def text(table: Table) -> str:
    """Format for a terminal."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join("  ".join(_padded(line, widths)).rstrip() for line in table)


def shown(row: Row) -> str:
    """Return the title of a row in the picture."""
    return f"{row.title} ({row.unit}, {'more' if row.more_is_better else 'less'} is better)"


def _padded(line: Sequence[str], widths: Iterable[int]) -> list[str]:
    return [
        cell.ljust(width) if index == 0 else cell.rjust(width)
        for index, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]
