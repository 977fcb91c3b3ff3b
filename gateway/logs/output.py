"""The one stream that lines go to."""

from __future__ import annotations

import sys
from typing import TextIO


class Output:
    """Writes whole lines; what structlog calls a logger, and what the standard library calls a stream.

    A stream that cannot be written to (a closed pipe, a full disk) loses lines and nothing else: there is nowhere left
    to tell it, and no push fails for the want of a line.
    """

    def __init__(self) -> None:
        self.stream: TextIO = sys.stderr

    def write(self, text: str) -> None:
        """Text with the end of its line."""
        try:
            self.stream.write(text)
            self.stream.flush()
        except (OSError, ValueError):  # ValueError: it was closed
            return

    def flush(self) -> None:
        """Nothing waits here."""

    def _write_line(self, line: str) -> None:
        self.write(line + "\n")

    debug = info = warning = error = critical = _write_line
