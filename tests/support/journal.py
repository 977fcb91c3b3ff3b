"""Things that happened, in order; tests wait for them with a time limit and never sleep."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from tests.support.waiter import TIMEOUT_SECONDS

SHOWN = 40

Entry = dict[str, Any]


class Journal:
    """Filled by a thread, read by a test."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._entries: list[Entry] = []
        self._changed = threading.Condition()
        self._ended = False

    def add(self, entry: Entry) -> None:
        with self._changed:
            self._entries.append(entry)
            self._changed.notify_all()

    def end(self) -> None:
        """Nothing more will come."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def entries(self) -> list[Entry]:
        with self._changed:
            return list(self._entries)

    def wait(
        self,
        wanted: Callable[[Entry], bool],
        *,
        timeout: float = TIMEOUT_SECONDS,
        after: int = 0,
        of: str | None = None,
    ) -> Entry:
        """The first entry from index ``after`` on that is wanted.

        Fails with the last there were if it does not come: those ``of`` the client of that id, or of all.
        """
        deadline = time.monotonic() + timeout
        seen = after
        with self._changed:
            while True:
                while seen < len(self._entries):
                    if wanted(self._entries[seen]):
                        return self._entries[seen]
                    seen += 1
                left = deadline - time.monotonic()
                if left <= 0 or self._ended:
                    why = "it ended" if self._ended else f"not within {timeout} s"
                    shown = [entry for entry in self._entries if of in (None, entry.get("id"))]
                    last = "\n".join(map(str, shown[-SHOWN:]))
                    raise AssertionError(
                        f"{self._what}: what was waited for did not come ({why}); the last entries:\n{last}"
                    )
                self._changed.wait(left)
