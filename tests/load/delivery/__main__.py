"""``python -m tests.load.delivery``: cause every fault and print the table; with ``--write`` also into the page."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from tests.load.delivery.faults import KINDS
from tests.load.delivery.stage import cause
from tests.load.delivery.table import HEADER, row, write
from tests.load.soak import report

KEPT = Path("build/delivery")
"""Folder for pushes, deliveries and logs of faults with errors."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.load.delivery", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the table into the page of guarantees")
    parser.add_argument(
        "--only", default="", help="only the faults whose names match this regular expression"
    )
    options = parser.parse_args()
    kinds = [kind for kind in KINDS if re.search(options.only, kind.name)]
    results, wrong = [], 0
    for kind in kinds:
        done = cause(kind)
        results.append((kind, done))
        errors = done.comparison.wrong
        print(" | ".join(row(kind, done.comparison)), f"({done.seconds:.0f} s)", flush=True)
        if errors:
            wrong += len(errors)
            done.keep(KEPT / str(KINDS.index(kind)))
            print(*errors[:6], sep="\n", flush=True)
    print(report.text([list(HEADER), *(row(kind, done.comparison) for kind, done in results)]))
    if options.write:
        assert kinds == list(KINDS), "--write needs all faults"
        write(results)
    if wrong:
        sys.exit(f"{wrong} errors; details are in {KEPT}")


if __name__ == "__main__":
    main()
