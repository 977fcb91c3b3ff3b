"""``python -m tests.load.batches``: 10 000 random audiences, and 200 kills. The tests run a short form of both."""

from __future__ import annotations

import argparse
import sys

from tests.load.batches import audiences, kills
from tests.support.redis_server import shared_server


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.load.batches", description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000, help="messages to random audiences (10 000)")
    parser.add_argument("--kills", type=int, default=200, help="kills of a replica or of Redis (200)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    wrong: list[str] = []
    if options.cases:
        pushed = audiences.run(shared_server().url, options.cases, options.seed)
        print(pushed.cases, "cases,", pushed.deliveries, "deliveries,", pushed.recovered, "of them recovered")
        wrong += pushed.wrong
    if options.kills:
        killed = kills.run(options.kills, options.seed)
        print(killed)
        wrong += killed.wrong
    print(*wrong[:20], sep="\n")
    if wrong:
        sys.exit(f"{len(wrong)} errors")


if __name__ == "__main__":
    main()
