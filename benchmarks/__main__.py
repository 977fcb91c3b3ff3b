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
    curves,
    document,
    floors,
    machine,
    notifications,
    resumption,
    stalled_client,
    tables,
)

PARTS = tuple(document.SECTIONS)
SOCKETS = 19_000


def main() -> None:
    options = _options()
    if not sys.platform.startswith("linux"):
        sys.exit("The benchmark reads /proc and pins processes to cores: it needs Linux.")
    if machine.allow_many_sockets() < SOCKETS:
        sys.exit(f"The benchmark opens {SOCKETS} sockets in one process: raise the hard limit (ulimit -Hn).")
    # Before anything is measured: this fails without Node, the packages of the peer or Redis.
    described = machine.describe()
    began_at, busy, own = time.monotonic(), machine.busy_seconds(), machine.children_seconds()
    found = {part: _run(part, options.rounds) for part in options.only}
    seconds = time.monotonic() - began_at
    others = max(0.0, (machine.busy_seconds() - busy - machine.children_seconds() + own) / seconds)
    for part in options.only:
        for table in _tables(part, found[part]):
            print(f"\n{part}\n{tables.text(table)}")
    if "floors" in found:
        print(f"\n{floors.summary(found['floors'])}")
        print(f"\nshare of a core that the load used\n{tables.text(tables.load(found['floors']))}")
    if "curves" in found:
        print(f"\n{curves.summary(found['curves'])}")
    if "events" in found:
        load = tables.load(found["events"], client_events.LOAD)
        print(f"\nshare of a core that the load of events used\n{tables.text(load)}")
    print(f"\n{seconds / 60:.1f} minutes; other programs used {others:.2f} cores meanwhile")
    run = document.Run(
        date=dt.datetime.now(dt.UTC).date().isoformat(),
        machine=described,
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
        type=_parts,
        default=list(PARTS),
        metavar="PART[,PART…]",
        help=f"parts to measure, of {', '.join(PARTS)}; the whole page is written only after a run of all parts",
    )
    parser.add_argument(
        "--write", action="store_true", help="with --only: replace the sections of these parts in the page"
    )
    return parser.parse_args()


def _parts(text: str) -> list[str]:
    """Return the parts that a list names, in the order of the page."""
    named = text.split(",")
    if unknown := set(named) - set(PARTS):
        raise argparse.ArgumentTypeError(f"no part is called {', '.join(sorted(unknown))}")
    return [part for part in PARTS if part in named]


def _run(part: str, rounds: int) -> Any:
    print(f"\n{part} …", flush=True)
    match part:
        case "floors":
            return floors.measure(rounds, _report)
        case "curves":
            return curves.measure(_report)
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
        case "floors":
            return [tables.evaluated(found)]
        case "events":
            return [tables.comparison(found, client_events.ROWS)]
        case "batch":
            return [tables.comparison(found, batches.ROWS)]
        case "notify":
            return [tables.kinds(found.delivered), tables.kinds(found.connections)]
        case "curves":
            return [*map(tables.curve, found.curves()), tables.kinds(found.kinds)]
        case _:
            return [tables.kinds(found)]


if __name__ == "__main__":
    main()
