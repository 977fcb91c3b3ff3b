"""The one stream that lines go to, and what becomes of lines while it takes none.

The event loop writes lines itself, since that is what they cost least, but never waits: a pipe that nobody reads would
hold up pushes, probes and signals for as long as it is full.
"""

from __future__ import annotations

import atexit
import os
import select
import stat
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final, NamedTuple, TextIO

WAITING_BYTES: Final = 4 * 1024 * 1024
"""Of lines that wait until the stream takes them. What comes once it is full is lost, until all of it is written."""
END_SECONDS: Final = 1.0
"""How long the end of the process waits for them."""


class _QueuedLine(NamedTuple):
    data: bytes
    reports_drop: int | None = None
    """Not a line of anybody's: it tells that so many were lost since the process began."""


class Output:
    """Writes whole lines in order; what structlog calls a logger, and what the standard library calls a stream.

    May be called from every thread, and never waits for the stream. A line that cannot be written (nobody reads and
    too much waits already, a closed pipe, a full disk) is lost and counted: no push fails for the want of a line.
    ``line_of_loss`` makes the line that tells how many are missing, which is written once there is room.
    """

    def __init__(self, dropped_line: Callable[[int], str]) -> None:
        self.dropped = 0
        """Lines, since the process began."""
        self._reported = 0
        """How many of them a line tells of that was written."""
        self._dropped_line = dropped_line
        # It may be the same thread that comes in again: with what a destructor has to say.
        self._lock = threading.RLock()
        self._busy = False
        """Somebody writes: what comes meanwhile has to wait for its turn."""
        self._waiting: SimpleQueue[_QueuedLine | None] = SimpleQueue()
        self._waiting_lines = self._waiting_bytes = 0
        self._full = False
        self._thread: threading.Thread | None = None
        self.use(sys.stderr)

    def use(self, stream: TextIO) -> None:
        """Write there from now on."""
        with self._lock:
            self._stream = stream
            self._encoding = stream.encoding or "utf-8"
            try:
                self._file: int | None = stream.fileno()
                self._is_regular_file = stat.S_ISREG(os.fstat(self._file).st_mode)
            except (OSError, ValueError):  # a stream in memory, or one that was closed
                self._file, self._is_regular_file = None, True
                return
            self._poll, self._drain_timeout = select.poll(), select.poll()  # one for each thread
            for poll in (self._poll, self._drain_timeout):
                poll.register(self._file, select.POLLOUT)

    def write(self, text: str) -> None:
        """Text with the end of its line."""
        with self._lock:
            line = text.encode(self._encoding, "backslashreplace")
            if self._busy:
                self._enqueue(line)
                return
            self._busy = True
            try:
                if self._waiting_lines:
                    self._enqueue(line)
                elif self.dropped > self._reported:
                    self._append(self._dropped_note())
                    self._enqueue(line)
                else:
                    self._write_nonblocking(line)
            finally:
                self._start_thread()

    def flush(self) -> None:
        """Nothing that waits here goes out faster for being asked."""

    def _write_line(self, line: str) -> None:
        self.write(line + "\n")

    debug = info = warning = error = critical = _write_line

    def _write_nonblocking(self, line: bytes) -> None:
        """Write what the stream takes without waiting; the rest of it waits."""
        if not (self._is_regular_file or self._has_room(len(line))):
            self._enqueue(line)
            return
        try:
            written = self._write(line)
        except BlockingIOError:  # others may have made it so
            written = 0
        except (OSError, ValueError):  # ValueError: it was closed
            self.dropped += 1
            return
        if written < len(line):
            self._append(_QueuedLine(line[written:]))

    def _has_room(self, size: int) -> bool:
        """A pipe that can be written to takes this much without waiting, and in one piece: poll(2), pipe(7)."""
        return size <= select.PIPE_BUF and bool(self._poll.poll(0))

    def _write(self, data: bytes) -> int:
        if self._file is not None:
            return os.write(self._file, data)
        self._stream.write(data.decode(self._encoding))
        self._stream.flush()
        return len(data)

    # what waits, and the thread that writes it

    def _enqueue(self, line: bytes) -> None:
        if self._full or self._waiting_bytes + len(line) > WAITING_BYTES:
            # Until all of it is written: else a slow reader would get a gap after each line that found room.
            self._full = True
            self.dropped += 1
        else:
            self._append(_QueuedLine(line))

    def _append(self, waiting: _QueuedLine) -> None:
        self._waiting_lines += 1
        self._waiting_bytes += len(waiting.data)
        self._waiting.put(waiting)

    def _dropped_note(self) -> _QueuedLine:
        return _QueuedLine(
            self._dropped_line(self.dropped - self._reported).encode(self._encoding),
            reports_drop=self.dropped,
        )

    def _start_thread(self) -> None:
        """If anything waits it is for the thread to go on."""
        self._busy = self._waiting_lines > 0
        self._full = self._full and self._busy
        if not self._busy or self._thread is not None:
            return
        self._thread = threading.Thread(target=self._write_queue, name="log", daemon=True)
        try:
            self._thread.start()
        except (
            RuntimeError
        ):  # There are no more threads, or Python is about to end: the next line tries again.
            self._thread = None
            self._busy = False
        else:
            atexit.register(self._finish)

    def _write_queue(self) -> None:
        while (waiting := self._waiting.get()) is not None:
            written = self._write_blocking(waiting.data)
            with self._lock:
                self._waiting_lines -= 1
                self._waiting_bytes -= len(waiting.data)
                if not written:
                    self.dropped += waiting.reports_drop is None
                elif waiting.reports_drop is not None:
                    self._reported = waiting.reports_drop
                if self._waiting_lines:
                    continue
                self._full = False
                if written and self.dropped > self._reported:
                    self._append(self._dropped_note())
                self._busy = self._waiting_lines > 0

    def _write_blocking(self, data: bytes) -> bool:
        """Whether all of it was written."""
        rest = data
        while rest:
            try:
                rest = rest[self._write(rest) :]
            except BlockingIOError:
                self._drain_timeout.poll()
            except (OSError, ValueError):
                return False
        return True

    def _finish(self) -> None:
        """Give what waits a little time; a process whose log nobody reads ends all the same."""
        self._waiting.put(None)
        if self._thread is not None:
            self._thread.join(END_SECONDS)
