"""Write docs/explanation/soak.md, and format the same figures for the terminal."""

from __future__ import annotations

import datetime as dt
import math
import os
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks.machine import cpu_model
from tests.load.soak import runner
from tests.load.soak.chaos import Fault
from tests.load.soak.comparison import Comparison, per_second
from tests.load.soak.runner import Run
from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "explanation" / "soak.md"
LIBRARIES = ("aiohttp", "python-socketio", "uvloop", "redis")
ROW_SECONDS = 10

Table = list[list[str]]
"""Rows of cells, the header first."""


@dataclass(frozen=True)
class Results:
    """The runs. ``broken``: connections dropped, replicas killed and rolled. ``rolled``: a rolling restart.
    ``declined``: connections dropped, without recovery."""

    broken: Run
    rolled: Run
    declined: Run
    other_cores: float
    """How many cores other programs used during the runs."""

    @property
    def wrong(self) -> list[str]:
        return [*self.broken.comparison.wrong, *self.rolled.comparison.wrong]


def write(found: Results) -> None:
    PAGE.write_text(page(found), encoding="utf-8")


def replace_section(page: Path, heading: str, text: str) -> None:
    """Replace what follows a heading of the second level, up to the next one."""
    before, found, rest = page.read_text(encoding="utf-8").partition(f"## {heading}\n")
    assert found, heading
    _, following, after = rest.partition("\n## ")
    page.write_text(f"{before}{found}{text}{following}{after}", encoding="utf-8")


def page(found: Results) -> str:
    """Format the whole page."""
    broken, rolled, declined = found.broken, found.rolled, found.declined
    offline = sorted(broken.comparison.offline)
    return f"""# Soak

What clients receive while their connections break and replicas are killed and rolled under load. Every message that
was pushed to a client must be delivered once and in order; this page counts.

`make soak` writes this page. It takes about 4 minutes and puts its own figures here. The machine, on
{dt.datetime.now(dt.UTC).date().isoformat()}:

{machine_of(broken)}

Other programs used {found.other_cores:.2f} of its cores on average during the runs.

## Dropped, killed and rolled

- {len(runner.NAMES)} replicas on one Redis, and {broken.plan.clients} stock clients: two for each user, one on \
polling and one on WebSocket.
- {broken.plan.per_second:.0f} signed pushes a second for {broken.seconds:.0f} s through any replica: to users, to a \
room, to several
  rooms with exceptions, to everyone. A push that got a 503, or no answer, is repeated with its `Idempotency-Key` until
  it is accepted.
- Each client stays connected for {_between(broken.plan.behaviour.up_seconds)} s and is dropped. Seven times of ten \
the client closes its engine.
  Twice the network breaks so that the client notices and the server does not (torn). Once the network drops all
  packets, so that neither notices until a ping fails (silent). The client reconnects 2 s later, to any replica: median
  {broken.comparison.median_offline:.1f} s, longest {offline[-1] if offline else 0.0:.1f} s.
- Every 10 s a replica is killed (`kill -9`) and started again, at once or after its lease of \
{runner.LEASE_SECONDS:.0f} s has ended, or rolled
  (`SIGTERM`, then started again). Clients and backends continue to choose it until it has ended.

**{_sum(broken.comparison)}**

{_markdown(figures(broken.comparison))}

{_listed("How connections were dropped", broken.comparison.dropped)}
{_listed("Reasons of `disconnect` in the clients", broken.comparison.disconnects)}
{_listed("Errors of `connect_error` while reconnecting", broken.comparison.errors)}

Reconnects in each second; the header has the last digit of the second.

{_markdown(reconnects(broken))}

## A rolling restart

The same load; no client is dropped, and clients have their default options (`reconnectionDelay` 1 s, plus or minus a
half). One replica after the other gets `SIGTERM` and is started again.

**{_sum(rolled.comparison)}**

{_markdown(figures(rolled.comparison))}

{_markdown(each_second(rolled))}

## For comparison

- The same clients with `auth.recovery: false`, only dropped, for {declined.seconds:.0f} s:
  {declined.comparison.percent:.1f} % delivered. That is what this program counts where nothing is recovered.

## What counts

Each client keeps the numbers of the messages that it got, and their positions.

- **Due** to a client is every push that was accepted and addressed to it: each client is connected before the first
  push, and never disconnected for longer than `RECOVERY_SECONDS`. A volatile push is due to no client, but must not be
  delivered twice.
- **Out of order** is a message that was delivered after one whose push began only when its own had been answered, and
  any position that goes backwards.
- **Recovered**: a client that reconnects without `socket.recovered` counts as an error.
- At the end presence must show every client once, under the `sid` of its first connection.
- Every replica must have ended with status 0 after SIGTERM, and have no error in its log.

The program is `tests/load/soak`; its short form is a test.

The network of each client is a relay of its own (`tests/load/soak/soak.mjs`) that leads to one replica until the client
reconnects. So the clients are the stock ones with documented options and one address, as behind a load balancer. Torn
and silent connections are held open: what either side still sends is read and dropped.
{_wrong(found.wrong)}"""


def figures(comparison: Comparison) -> Table:
    """Make the table of the counts of a run."""
    rows: Sequence[tuple[str, float]] = (
        ("Pushes", comparison.pushes),
        ("accepted", comparison.accepted),
        ("accepted after a repeat", comparison.repeated),
        ("volatile", comparison.volatile),
        ("Deliveries due", comparison.due),
        ("delivered", comparison.delivered),
        ("missing", comparison.missing),
        ("doubled", comparison.doubled),
        ("out of order", comparison.out_of_order),
        ("delivered to the wrong client", comparison.misdelivered),
        ("Reconnects", comparison.reconnects),
        ("recovered", comparison.recovered),
        ("neither recovered nor `recovery:failed`", comparison.unexplained),
        ("with `recovery:failed`", comparison.failed.total()),
        *((f"with `{code}`", count) for code, count in comparison.failed.items()),
    )
    return [["", "number"], *([what, _number(count)] for what, count in rows)]


def _sum(comparison: Comparison) -> str:
    # Rounded down: 100 % appears only where nothing is missing.
    percent = math.floor(comparison.percent * 1000) / 1000
    return f"{percent:g} % delivered, {comparison.doubled} doubled, {comparison.out_of_order} out of order."


def reconnects(run: Run) -> Table:
    """Make a table with a row for ten seconds and a column for each second."""
    counts = per_second(run.results.values(), since=run.began_at, seconds=_whole_rows(run))
    table = [["from", *map(str, range(ROW_SECONDS)), "what happened"]]
    for start in range(0, len(counts), ROW_SECONDS):
        faults = [fault for fault in run.faults if start <= fault.at - run.began_at < start + ROW_SECONDS]
        row = map(str, counts[start : start + ROW_SECONDS])
        table.append([f"{start} s", *row, "; ".join(_describe(fault, run) for fault in faults)])
    return table


def each_second(run: Run) -> Table:
    """Make a table with a row for each second."""
    counts = per_second(run.results.values(), since=run.began_at, seconds=int(run.seconds) + 1)
    return [
        ["second", "reconnects", "what happened"],
        *(
            [
                str(second),
                str(count),
                "; ".join(
                    _describe(fault, run) for fault in run.faults if int(fault.at - run.began_at) == second
                ),
            ]
            for second, count in enumerate(counts)
        ),
    ]


def text(table: Table) -> str:
    """Format for the terminal."""
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    )


def _markdown(table: Table) -> str:
    head, *rows = table
    ruler = ["---" if name in {"", "what happened"} else "---:" for name in head]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ruler, *rows])


def _describe(fault: Fault, run: Run) -> str:
    return f"{fault.replica} {fault.kind} at {fault.at - run.began_at:.1f} s, ready after {fault.down_seconds:.1f} s"


def _between(bounds: tuple[float, float] | None) -> str:
    return "all" if bounds is None else f"{bounds[0]:.0f} to {bounds[1]:.0f}"


def _whole_rows(run: Run) -> int:
    return -(-int(run.seconds + 3) // ROW_SECONDS) * ROW_SECONDS


def _listed(what: str, counts: Mapping[str, int]) -> str:
    named = ", ".join(f"{name} {_number(count)}" for name, count in Counter(counts).most_common())
    return f"- {what}: {named or 'none'}."


def _number(value: float) -> str:
    return f"{value:,}".replace(",", " ")


def machine_of(run: Run) -> str:
    lines = {
        "CPU": f"{cpu_model()}, {len(os.sched_getaffinity(0))} cores",
        "System": f"{platform.system()} {platform.release().split('-')[0]}",
        "Python": platform.python_version(),
        "Libraries": ", ".join(f"{name} {version(name)}" for name in LIBRARIES),
        "Redis": run.versions["redis"],
        "Node": run.versions["node"],
        "socket.io-client": run.versions["client"],
    }
    return "\n".join(f"- {name}: {value}" for name, value in lines.items())


def _wrong(sentences: Iterable[str]) -> str:
    shown = [f"- {sentence}" for sentence in sentences]
    return "\n".join(["\n## Errors\n", *shown[:50], ""]) if shown else ""
