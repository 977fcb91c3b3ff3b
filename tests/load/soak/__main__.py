"""``python -m tests.load.soak`` or ``make soak``: run the long form, print, and write docs/explanation/soak.md."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from benchmarks import machine
from tests.load.soak import report
from tests.load.soak.chaos import KILL, KILL_FOR_LONG, ROLL
from tests.load.soak.clients import Manner
from tests.load.soak.runner import Plan, Run, run

CLIENTS, PER_SECOND, SECONDS = 200, 200.0, 120.0
BLOWS = (KILL, ROLL, KILL_FOR_LONG, ROLL)
EVERY_SECONDS = 10.0
DECLINED_SECONDS = 20.0
PAUSE_SECONDS = 5.0


def main() -> None:
    options = _options()
    clients, pace, seconds = options.clients, options.per_second, options.seconds
    began, busy, own = time.monotonic(), machine.busy_seconds(), machine.children_seconds()
    print(
        f"{clients} clients under {pace:.0f} pushes a second, replicas killed and rolled, for {seconds:.0f} s"
    )
    broken = run(Plan(clients, pace), lambda it: it.go_on(BLOWS, every=EVERY_SECONDS, seconds=seconds))
    _show(broken)
    print(report.text(report.reconnects(broken)))
    print("\na rolling restart")
    rolled = run(
        Plan(clients, pace, Manner(options={}, up_seconds=None)), lambda it: it.roll_all(pause=PAUSE_SECONDS)
    )
    _show(rolled)
    print(report.text(report.each_second(rolled)))
    declining = Plan(clients, pace, Manner(auth={"recovery": False}), with_sids=False)
    declined = run(declining, lambda it: it.rest(DECLINED_SECONDS))
    print(f"\nwith recovery declined, only dropped: {declined.verdict.percent:.1f} % delivered")
    others = machine.busy_seconds() - busy - machine.children_seconds() + own
    found = report.Found(broken, rolled, declined, max(0.0, others / (time.monotonic() - began)))
    if (clients, pace, seconds) == (CLIENTS, PER_SECOND, SECONDS):
        report.write(found)
        print(f"written: {report.PAGE.relative_to(machine.ROOT)}")
    if found.wrong:
        broken.keep(options.keep / "broken")
        rolled.keep(options.keep / "rolled")
        sys.exit(f"{len(found.wrong)} errors; pushes, deliveries and logs are in {options.keep}")


def _show(done: Run) -> None:
    print(report.text(report.figures(done.verdict)))
    print("\n".join(done.verdict.wrong[:20]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make soak", description="Break connections and replicas under load, and count what is lost."
    )
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--per-second", type=float, default=PER_SECOND)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument(
        "--keep",
        type=Path,
        default=Path("build/soak"),
        help="folder for pushes, deliveries and logs of a run with errors",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
