"""Recorded entries in order; tests wait for them with a time limit and never sleep."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from tests.support.waiter import TIMEOUT_SECONDS

SHOWN = 40

Entry = dict[str, Any]


class Journal:
    """Entries that a thread adds and a test reads; ``what`` names the source in a failure."""

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
        """Declare that no entry follows."""
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
        """Wait for the first entry from index ``after`` on that is ``wanted``, and return it.

        Raises:
            AssertionError: there was none; the message has the last entries: of the client with the id ``of``, or of
                all.
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
                        f"{self._what}: the awaited entry did not come ({why}); the last entries:\n{last}"
                    )
                self._changed.wait(left)
