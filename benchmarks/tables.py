"""Format figures as text for the terminal and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from benchmarks.comparison import ROWS, Comparison, Figures, Row

WORK: Final = {"load_broadcast": "Broadcast", "load_emit": "REST pushes", "load_paced": "1 000 pushes/s"}
AGAINST: Final = {
    "gateway": "against the gateway",
    "node": "against Socket.IO",
    "bare sender": "against a bare sender",
}
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


def comparison(found: Comparison, rows: Mapping[str, Row] = ROWS) -> Table:
    """Make a line for each row: both servers, the ratio, lowest and highest round.

    A server without a figure for a row has NaN there.
    """
    table = [["", "", "gateway", "Socket.IO", "ratio", "is better", "lowest and highest round"]]
    for key, row in rows.items():
        ours, theirs = found.medians["gateway"][key], found.medians["node"][key]
        spread = "; ".join(
            f"{number(low)}–{number(high)}"
            for low, high in (found.spread[name][key] for name in found.spread)
            if not math.isnan(low)
        )
        ratio = f"{ours / theirs:.2f}×" if not math.isnan(theirs) else "–"
        better = "more" if row.more_is_better else "less"
        table.append([row.title, row.unit, number(ours), number(theirs), ratio, better, spread])
    return table


def load(found: Comparison, work: Mapping[str, str] = WORK) -> Table:
    """Make the table of the share of its core that the load used, the bare sender included where there is one."""
    names = list(found.load)
    table = [["", *(AGAINST[name] for name in names)]]
    for key, title in work.items():
        shares = [found.load[name].get(key) for name in names]
        table.append([title, *(f"{share:.0%}" if share is not None else "" for share in shares)])
    return table


def scale(found: dict[int, Figures]) -> Table:
    """Make a line for each number of connections."""
    steps = list(next(iter(found.values())))
    table = [["connections", *steps]]
    return table + [
        [number(level), *(number(figures[step]) for step in steps)] for level, figures in found.items()
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
