"""``python -m tests.load.notify``: cause every fault and print the table; with ``--write`` also into the page.

With ``--outages`` the backends fail for two minutes instead, each in another way.
"""

from __future__ import annotations

import argparse
import re
import sys

from tests.load.notify.faults import KINDS
from tests.load.notify.outages import cause_all
from tests.load.notify.stage import cause
from tests.load.notify.table import HEADER, row, write
from tests.load.soak import report
from tests.support.redis_server import RedisServer

NOTIFICATIONS, PER_SECOND = 50_000, 700.0
OUTAGE_SECONDS = 120.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.load.notify", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the table into the page of guarantees")
    parser.add_argument("--count", type=int, default=NOTIFICATIONS, help="notifications under each fault")
    parser.add_argument("--rate", type=float, default=PER_SECOND, help="notifications per second, at most")
    parser.add_argument(
        "--only", default="", help="only the faults whose names match this regular expression"
    )
    parser.add_argument("--outages", action="store_true", help="let backends fail for two minutes instead")
    options = parser.parse_args()
    if options.outages:
        _fail_backends()
        return
    kinds = [kind for kind in KINDS if re.search(options.only, kind.name)]
    results, wrong = [], 0
    for kind in kinds:
        done = cause(kind, notifications=options.count, per_second=options.rate)
        results.append((kind, done))
        print(" | ".join(row(kind, done)), f"({done.seconds:.0f} s)", flush=True)
        wrong += len(done.comparison.wrong)
        print(*done.comparison.wrong[:6], sep="\n", flush=True)
    print(report.text([list(HEADER), *(row(kind, done) for kind, done in results)]))
    if options.write:
        assert (kinds, options.count) == (list(KINDS), NOTIFICATIONS), "--write needs all faults in full"
        write(results)
    if wrong:
        sys.exit(f"{wrong} errors")


def _fail_backends() -> None:
    redis = RedisServer()
    try:
        results = cause_all(seconds=OUTAGE_SECONDS, redis_url=redis.url)
    finally:
        redis.stop()
    wrong = 0
    for each in results:
        found = each.comparison
        wrong += len(found.wrong) + len(each.early)
        print(
            f"{each.outage.name}: {found.acknowledged} acknowledged, {found.arrived} arrived, {found.doubled} doubled, "
            f"{found.out_of_order} out of order, {len(each.early)} during the outage, {len(each.tries)} failed tries"
        )
        print(*found.wrong[:6], sep="\n")
    if wrong:
        sys.exit(f"{wrong} errors")


if __name__ == "__main__":
    main()
