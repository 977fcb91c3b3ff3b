"""Stock clients as pages of browsers, each of a user of its own (pages.mjs)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final, Self

from tests.support.gateway_process import GatewayProcess
from tests.support.journal import Journal
from tests.support.node_script import NodeScript

SCRIPT: Final = Path(__file__).with_name("pages.mjs")
DONE_SECONDS: Final = 240.0


class Pages:
    """Pages of users, by name of the user; used as a context."""

    def __init__(self) -> None:
        self._journal = Journal("the pages")
        self._script = NodeScript(SCRIPT, self._journal)
        self.client_version = str(self._script.ready()["client"])
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._script.stop()

    def open(
        self, replica: GatewayProcess, users: Collection[str], *, elsewhere: GatewayProcess | None = None
    ) -> None:
        """Load a page for each user. With ``elsewhere`` a page that loses its connection reconnects there."""
        url = elsewhere.url if elsewhere is not None else None
        self._execute(
            "open",
            pages=[
                {"id": user, "token": replica.token(user), "url": replica.url, "elsewhere": url}
                for user in users
            ],
        )

    def reload(self, users: Collection[str], *, times: int, away_seconds: float) -> None:
        """Reload the page of each user, which is without a connection for ``away_seconds`` at most."""
        self._execute("reload", ids=list(users), times=times, awayMs=away_seconds * 1000)

    def close(self, users: Collection[str]) -> None:
        """Close the pages of users."""
        self._execute("close", ids=list(users))

    def load(self, users: Collection[str], replica: GatewayProcess | None = None) -> None:
        """Load closed pages again, from ``replica`` if it is given."""
        self._execute("load", ids=list(users), url=replica.url if replica is not None else None)

    def wait_until_connected(self, users: Collection[str]) -> None:
        """Wait until the pages of users are connected."""
        self._execute("awaitConnected", ids=list(users))

    def start(self, do: str, **command: Any) -> Callable[[], None]:
        """Begin a command; return a function that waits until it is done."""
        number = next(self._numbers)
        self._script.send({"do": do, "number": number} | command)

        def wait() -> None:
            found = self._journal.wait(
                lambda entry: entry["type"] == "failed" or entry.get("number") == number, timeout=DONE_SECONDS
            )
            assert found["type"] == "done", found

        return wait

    def _execute(self, do: str, **command: Any) -> None:
        self.start(do, **command)()
