"""The table of notifications under each fault, and its place in docs/explanation/guarantees.md."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Final

from tests.load.notify.stage import USERS, FaultKind, Run
from tests.load.soak import report
from tests.load.soak.runner import NAMES
from tests.support.paths import ROOT

PAGE: Final = ROOT / "docs" / "explanation" / "guarantees.md"
HEADING: Final = "Notifications under each fault"
HEADER: Final = (
    "fault",
    "acknowledged",
    "arrived",
    "lost",
    "out of order",
    "dead letters",
    "doubled",
    "slowest acknowledgement",
    "errors that clients repeated",
)
WRONG: Final = ("lost", "out of order", "dead letters")
"""The columns that are 0 under every fault."""


def row(kind: FaultKind, run: Run) -> list[str]:
    """Return the cells of one fault."""
    found = run.comparison
    lost = found.acknowledged - found.arrived
    errors = ", ".join(f"{code} {count}" for code, count in sorted(run.sent.errors.items())) or "0"
    counts = (found.acknowledged, found.arrived, lost, found.out_of_order, found.dead, found.doubled)
    shown = [f"{count:,}".replace(",", " ") for count in counts]
    return [kind.name, *shown, f"{run.sent.slowest_seconds:.1f} s", errors]


def write(results: Sequence[tuple[FaultKind, Run]]) -> None:
    """Replace the section of the page."""
    report.replace_section(PAGE, HEADING, section(results, dt.datetime.now(dt.UTC).date()))


def section(results: Sequence[tuple[FaultKind, Run]], day: dt.date) -> str:
    """Return the text of the section."""
    rows = [list(HEADER), ["---", *["---:"] * 7, "---"], *(row(kind, run) for kind, run in results)]
    lines = "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
    _, last = results[-1]
    return f"""
`python -m tests.load.notify --write` causes each fault while clients send events with `notify`, compares the
acknowledgements with what the webhook received, and writes this table. It ran on {day.isoformat()} with {len(NAMES)} \
replicas on
{last.versions["redis"]} and {USERS} stock clients (socket.io-client {last.versions["client"]}, with `retries` and \
`dedupe`). The
webhook verifies each request and takes 5 ms for an answer.

- **lost**: acknowledged events that did not arrive.
- **out of order**: events whose `sequence`, or whose number of the client, is not above that of the event before, of
  the same user and without repeats.
- **doubled**: events that arrived again, each with the same `webhook-id`. Their `sequence` is the same, or a higher one
  where Redis lost the event before it was acknowledged, so that the client sent it again.
- **slowest acknowledgement**: from the first try of an event to its acknowledgement.

{lines}

Each replica also has to end with status 0 and without an error in its log.
"""
