"""``python -m tests.load.presence``: run every scene in full; with ``--write`` write the figures into the page."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import Final

from tests.load.presence import everyone, scenes, table
from tests.load.presence.pages import Pages
from tests.load.soak import report

PAGES, RELOADS = 200, 20
USERS, RECONNECTING = 500, 100
LEASE_SECONDS, OFFLINE_AFTER_SECONDS = 15.0, 10.0
"""The defaults of the gateway."""
CONNECTIONS, SECONDS = 10_000, 30.0


def reloads() -> list[str]:
    found = scenes.reload_pages(
        count=PAGES, times=RELOADS, offline_after_seconds=OFFLINE_AFTER_SECONDS, away_seconds=3.0
    )
    assert (found["online"], found["offline"]) == (PAGES, 0), found
    return table.reloads(found)


def killed() -> list[str]:
    found = scenes.kill_replica(
        count=USERS,
        reconnecting=RECONNECTING,
        lease_seconds=LEASE_SECONDS,
        offline_after_seconds=OFFLINE_AFTER_SECONDS,
    )
    assert (found["offline"], found["offline users"]) == (USERS - RECONNECTING,) * 2, found
    assert found["offline of the others"] == 0, found
    assert found["last seconds"] <= found["at most seconds"], found
    return table.killed(found, count=USERS, reconnecting=RECONNECTING)


def emptied() -> list[str]:
    found = scenes.lose_data("emptied", count=PAGES, offline_after_seconds=OFFLINE_AFTER_SECONDS)
    return table.lost("is emptied (`FLUSHALL`)", found)


def rolled_back() -> list[str]:
    found = scenes.lose_data("older copy", count=PAGES, offline_after_seconds=OFFLINE_AFTER_SECONDS)
    return table.lost("returns to an older copy", found)


def flapping() -> list[str]:
    found = scenes.flap_while_down(count=PAGES, times=6, offline_after_seconds=2.0)
    assert found["changes after"] == found["users after"], found
    return table.flapping(found)


def crowd() -> list[str]:
    found = everyone.measure(connections=CONNECTIONS, seconds=SECONDS)
    assert found.announcements <= everyone.PER_SECOND * (SECONDS + 1), found
    assert found.lists <= SECONDS / everyone.EVERY_SECONDS + 1, found
    assert (found.missing, found.disconnected) == (0, 0), found
    if found.waited_share < 0.1:  # else those of two seconds arrive together
        assert found.busiest_announcements <= everyone.PER_SECOND + 1, found
        assert found.busiest_lists <= 2, found
    # A program that runs beside it may take the core of the gateway for a while.
    assert found.late_share <= found.waited_share + 0.02, found
    return table.everyone(found)


SCENES: Final[tuple[Callable[[], list[str]], ...]] = (reloads, killed, emptied, rolled_back, flapping, crowd)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.load.presence", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the table into the page of guarantees")
    parser.add_argument(
        "--only", default="", help="only the scenes whose names match this regular expression"
    )
    options = parser.parse_args()
    chosen = [each for each in SCENES if re.search(options.only, each.__name__)]
    rows = []
    for each in chosen:
        rows.append(each())
        print(each.__name__, " | ".join(rows[-1]), flush=True)
    print(report.text([list(table.HEADER), *rows]))
    if options.write:
        assert chosen == list(SCENES), "--write needs all scenes"
        with Pages() as pages:
            table.write(rows, pages.client_version)


if __name__ == "__main__":
    main()
