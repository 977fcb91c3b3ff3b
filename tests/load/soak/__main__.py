"""``python -m tests.load.soak`` or ``make soak``: run the long form, print, and write docs/explanation/soak.md."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from benchmarks import machine
from tests.load.attacks import target, together
from tests.load.soak import report
from tests.load.soak.chaos import KILL, KILL_PAST_LEASE, ROLL
from tests.load.soak.clients import ClientBehaviour
from tests.load.soak.runner import Plan, Run, run

CLIENTS, PER_SECOND, SECONDS = 200, 200.0, 120.0
FAULTS = (KILL, ROLL, KILL_PAST_LEASE, ROLL)
EVERY_SECONDS = 10.0
DECLINED_SECONDS = 20.0
PAUSE_SECONDS = 5.0
ATTACKED_CLIENTS, ALONE_SECONDS, TOGETHER_SECONDS = 2_000, 15.0, 60.0


def main() -> None:
    options = _options()
    if options.attacks is not None:
        _attack(options.attacks)
        return
    clients, per_second, seconds = options.clients, options.per_second, options.seconds
    started, busy, own = time.monotonic(), machine.busy_seconds(), machine.children_seconds()
    print(
        f"{clients} clients under {per_second:.0f} pushes a second, replicas killed and rolled, for {seconds:.0f} s"
    )
    broken = run(
        Plan(clients, per_second),
        lambda injector: injector.inject_every(EVERY_SECONDS, FAULTS, seconds=seconds),
    )
    _show(broken)
    print(report.text(report.reconnects(broken)))
    print("\na rolling restart")
    rolled = run(
        Plan(clients, per_second, ClientBehaviour(options={}, up_seconds=None)),
        lambda injector: injector.roll_all(pause=PAUSE_SECONDS),
    )
    _show(rolled)
    print(report.text(report.each_second(rolled)))
    declining = Plan(clients, per_second, ClientBehaviour(auth={"recovery": False}), with_sids=False)
    declined = run(declining, lambda injector: injector.wait(DECLINED_SECONDS))
    print(f"\nwith recovery declined, only dropped: {declined.comparison.percent:.1f} % delivered")
    others = machine.busy_seconds() - busy - machine.children_seconds() + own
    found = report.Results(broken, rolled, declined, max(0.0, others / (time.monotonic() - started)))
    if (clients, per_second, seconds) == (CLIENTS, PER_SECOND, SECONDS):
        report.write(found)
        print(f"written: {report.PAGE.relative_to(machine.ROOT)}")
    if found.wrong:
        broken.keep(options.keep / "broken")
        rolled.keep(options.keep / "rolled")
        sys.exit(f"{len(found.wrong)} errors; pushes, deliveries and logs are in {options.keep}")


def _show(done: Run) -> None:
    print(report.text(report.figures(done.comparison)))
    print("\n".join(done.comparison.wrong[:20]))


def _attack(names: list[str]) -> None:
    """Attack a replica with these programs, all of them without names; end with status 1 if a bound was broken."""
    known = target.kinds()
    unknown = set(names) - set(known)
    if unknown:
        sys.exit(f"no attack is called {', '.join(sorted(unknown))}; known are {', '.join(known)}")
    siege = together.run(
        names or known,
        clients=ATTACKED_CLIENTS,
        alone_seconds=0.0 if len(names) == 1 else ALONE_SECONDS,
        together_seconds=TOGETHER_SECONDS,
    )
    if not names:
        together.write(siege)
        print(f"written: {together.PAGE.relative_to(machine.ROOT)}")
    found = siege.comparison
    print(
        f"{found.delivered} of {found.due} delivered; {found.reconnects} reconnects, {found.recovered} recovered; "
        f"recovery:failed {dict(found.failed)}; disconnects {dict(found.disconnects)}; errors {dict(found.errors)}"
    )
    if siege.wrong:
        print(*siege.wrong[:40], sep="\n")
        sys.exit(f"{len(siege.wrong)} errors")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make soak", description="Break connections and replicas under load, and count what is lost."
    )
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--per-second", type=float, default=PER_SECOND)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument(
        "--attacks",
        nargs="*",
        metavar="KIND",
        help="attack a replica with these programs of tests/load/attacks, or with all; writes the figures of all into "
        "docs/explanation/guarantees.md",
    )
    parser.add_argument(
        "--keep",
        type=Path,
        default=Path("build/soak"),
        help="folder for pushes, deliveries and logs of a run with errors",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
