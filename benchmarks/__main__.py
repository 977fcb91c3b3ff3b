"""``python -m benchmarks`` or ``make bench``: measure, print, and write docs/reference/benchmarks.md."""

from __future__ import annotations

import argparse
import datetime as dt
import sys
import time
from typing import Any

from benchmarks import (
    batches,
    broadcast_latency,
    client_events,
    compression,
    document,
    machine,
    notifications,
    resumption,
    scaling,
    stalled_client,
    tables,
)
from benchmarks.comparison import compare

PARTS = tuple(document.SECTIONS)
SOCKETS = 19_000


def main() -> None:
    options = _options()
    if not sys.platform.startswith("linux"):
        sys.exit("The benchmark reads /proc and pins processes to cores: it needs Linux.")
    if machine.allow_many_sockets() < SOCKETS:
        sys.exit(f"The benchmark opens {SOCKETS} sockets in one process: raise the hard limit (ulimit -Hn).")
    began_at, busy, own = time.monotonic(), machine.busy_seconds(), machine.children_seconds()
    found = {part: _run(part, options.rounds) for part in options.only}
    seconds = time.monotonic() - began_at
    others = max(0.0, (machine.busy_seconds() - busy - machine.children_seconds() + own) / seconds)
    for part in options.only:
        for table in _tables(part, found[part]):
            print(f"\n{part}\n{tables.text(table)}")
    if "compare" in found:
        print(f"\nshare of a core that the load used\n{tables.text(tables.load(found['compare']))}")
    if "events" in found:
        load = tables.load(found["events"], client_events.LOAD)
        print(f"\nshare of a core that the load of events used\n{tables.text(load)}")
    print(f"\n{seconds / 60:.1f} minutes; other programs used {others:.2f} cores meanwhile")
    run = document.Run(
        date=dt.datetime.now(dt.UTC).date().isoformat(),
        machine=machine.describe(),
        minutes=seconds / 60,
        others=others,
        found=found,
    )
    if set(options.only) == set(PARTS):
        document.write(run)
    elif options.write:
        document.write_parts(run)
    else:
        return
    print(f"written: {document.PAGE.relative_to(machine.ROOT)}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description="Measure the gateway on this machine.")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the comparisons (3)")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=PARTS,
        default=list(PARTS),
        help="parts to measure; the whole page is written only after a run of all parts",
    )
    parser.add_argument(
        "--write", action="store_true", help="with --only: replace the sections of these parts in the page"
    )
    return parser.parse_args()


def _run(part: str, rounds: int) -> Any:
    print(f"\n{part} …", flush=True)
    match part:
        case "compare":
            return compare(rounds, _report)
        case "scale":
            return scaling.measure(_report)
        case "resume":
            return resumption.measure(_report)
        case "stall":
            return stalled_client.measure(_report)
        case "events" | "batch":
            return (batches if part == "batch" else client_events).measure(rounds, _report)
        case "notify":
            return notifications.measure(_report)
        case "latency":
            return broadcast_latency.measure(_report)
        case _:
            return compression.measure(_report)


def _report(line: str) -> None:
    print(f"  {line}", flush=True)


def _tables(part: str, found: Any) -> list[tables.Table]:
    match part:
        case "compare":
            return [tables.comparison(found)]
        case "events":
            return [tables.comparison(found, client_events.ROWS)]
        case "batch":
            return [tables.comparison(found, batches.ROWS)]
        case "notify":
            return [tables.kinds(found.delivered), tables.kinds(found.connections)]
        case "scale":
            return [tables.scale(found)]
        case _:
            return [tables.kinds(found)]


if __name__ == "__main__":
    main()
