"""The table of deliveries under each fault, and its place in docs/explanation/guarantees.md."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from tests.load.delivery.stage import CLIENTS, PER_SECOND, FaultKind
from tests.load.soak import report
from tests.load.soak.comparison import Comparison
from tests.load.soak.runner import NAMES, Run
from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "explanation" / "guarantees.md"
HEADING = "Delivery under each fault"
HEADER = (
    "fault",
    "promised",
    "accepted",
    "due",
    "delivered",
    "lost unreported",
    "doubled",
    "out of order",
    "rejected but delivered",
    "reported",
)


def row(kind: FaultKind, found: Comparison) -> list[str]:
    """Return the cells of one fault."""
    reported = ", ".join(f"{code} {count}" for code, count in sorted(found.failed.items())) or "0"
    counts = (
        found.accepted,
        found.due,
        found.delivered,
        found.unreported,
        found.doubled,
        found.out_of_order,
        found.misdelivered,
    )
    return [kind.name, kind.promised, *(f"{count:,}".replace(",", " ") for count in counts), reported]


def write(results: Sequence[tuple[FaultKind, Run]]) -> None:
    """Replace the section of the page."""
    report.replace_section(PAGE, HEADING, _section(results))


def _section(results: Sequence[tuple[FaultKind, Run]]) -> str:
    rows = [list(HEADER), ["---", "---", *["---:"] * 7, "---"]]
    rows += [row(kind, run.comparison) for kind, run in results]
    lines = "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
    _, last = results[-1]
    return f"""
`python -m tests.load.delivery --write` causes each fault, compares the answers to the backends with what the clients
received, and writes this table. It ran on {dt.datetime.now(dt.UTC).date().isoformat()} with {len(NAMES)} replicas on \
{last.versions["redis"]}, {CLIENTS} stock clients
(socket.io-client {last.versions["client"]}) on polling and WebSocket, and {PER_SECOND:.0f} pushes a second through \
all replicas. But for the
first row, the connections of clients break every few seconds, so some clients are away during each fault.

- **accepted**: pushes that were answered 2xx, most at once and the others when repeated with their `Idempotency-Key`.
  Of the pushes that were answered `broker_unavailable` at first, some are not repeated.
- **due**: deliveries of accepted pushes to the clients of their rooms.
- **lost unreported**: due deliveries that did not happen, at clients without a `recovery:failed` after the push.
- **rejected but delivered**: pushes that were only answered `broker_unavailable` and arrived, or that arrived at a
  client outside of their rooms.
- **out of order**: messages at clients without a `recovery:failed` after the message.
- **reported**: `recovery:failed` events, by code, over all clients.

{lines}

Each replica also has to end with status 0 and without an error in its log, and no client may reconnect without being
recovered or getting `recovery:failed`.
"""
