"""The figures of all scenes, and their place in docs/explanation/guarantees.md."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Final

from tests.load.presence.everyone import LAG_SECONDS, Figures
from tests.load.soak import report
from tests.support.paths import ROOT

PAGE: Final = ROOT / "docs" / "explanation" / "guarantees.md"
HEADING: Final = "Presence under each fault"
HEADER: Final = ("what happens", "promised", "measured")
Rows = Sequence[Sequence[str]]


def reloads(found: Mapping[str, float]) -> list[str]:
    measured = (
        f"{found['online']:.0f} `user.online` before, {found['offline']:.0f} `user.offline`, "
        f"{found['repeats']:.0f} repeats"
    )
    return [
        f"{found['online']:.0f} pages reload, {found['reloads']:.0f} times together",
        "no change",
        measured,
    ]


def killed(found: Mapping[str, float], *, count: int, reconnecting: int) -> list[str]:
    happens = (
        f"a replica with {count} users is killed (`kill -9`), {reconnecting} of them reconnect to another one"
    )
    others = count - reconnecting
    promised = f"`user.offline` once for each of the other {others}, within {found['at most seconds']:.0f} s"
    measured = (
        f"{found['offline']:.0f} of {found['offline users']:.0f} users, {found['offline of the others']:.0f} of those "
        f"who reconnected; after {found['first seconds']:.1f} to {found['last seconds']:.1f} s"
    )
    return [happens, promised, measured]


def lost(kind: str, found: Mapping[str, float]) -> list[str]:
    measured = (
        f"the truth of {found['users']:.0f} users after {found['right seconds']:.1f} s; {found['changes']:.0f} "
        f"changes, {found['repeats']:.0f} repeats, {found['stale']:.0f} with an older version"
    )
    promised = "the newest version of each user is the truth within 120 s"
    return [f"Redis {kind} while users leave and connect", promised, measured]


def flapping(found: Mapping[str, float]) -> list[str]:
    measured = (
        f"{found['changes after']:.0f} changes of {found['users after']:.0f} users, {found['repeats']:.0f} repeats, "
        f"{found['stale']:.0f} with an older version"
    )
    return [
        "users leave and connect while the webhook is down",
        "the newest change of each user, once",
        measured,
    ]


def everyone(found: Figures) -> list[str]:
    milliseconds = f"{LAG_SECONDS * 1e3:.0f} ms"
    connections = f"{found.connections:,}".replace(",", " ")
    due = f"{found.deliveries + found.missing:,}".replace(",", " ")
    measured = (
        f"{found.announcements} announcements ({found.announcements / found.seconds:.1f} a second), {found.lists} "
        f"lists; {found.missing} of {due} deliveries of announcements missing; {1 - found.late_share:.1%} of the "
        f"measurements of the event loop within {milliseconds}, with its core for {found.cpu_share:.0%} of the time "
        f"and without it for {found.waited_share:.0%}"
    )
    happens = f"{connections} connections of one replica; {found.came} users connect and leave in {found.seconds:.0f} s"
    promised = (
        f"at most 20 announcements and one list a second; the event loop is late by less than {milliseconds}"
    )
    return [happens, promised, measured]


def write(rows: Rows, client_version: str) -> None:
    """Replace the section of the page."""
    report.replace_section(PAGE, HEADING, section(rows, client_version, dt.datetime.now(dt.UTC).date()))


def section(rows: Rows, client_version: str, day: dt.date) -> str:
    """Return the text of the section."""
    lines = "\n".join(f"| {' | '.join(cells)} |" for cells in [HEADER, ["---"] * len(HEADER), *rows])
    return f"""
`python -m tests.load.presence --write` lets pages of stock clients (socket.io-client {client_version}) load, reload and
end on two replicas, compares their users with the changes that the webhook received, and writes this table. It ran on
{day.isoformat()}. The last row has raw clients.

{lines}
"""
