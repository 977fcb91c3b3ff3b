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


class _Waiting(NamedTuple):
    data: bytes
    tells: int | None = None
    """Not a line of anybody's: it tells that so many were lost since the process began."""


class Output:
    """Writes whole lines in order; what structlog calls a logger, and what the standard library calls a stream.

    May be called from every thread, and never waits for the stream. A line that cannot be written (nobody reads and
    too much waits already, a closed pipe, a full disk) is lost and counted: no push fails for the want of a line.
    ``line_of_loss`` makes the line that tells how many are missing, which is written once there is room.
    """

    def __init__(self, line_of_loss: Callable[[int], str]) -> None:
        self.lost = 0
        """Lines, since the process began."""
        self._told = 0
        """How many of them a line tells of that was written."""
        self._line_of_loss = line_of_loss
        # It may be the same thread that comes in again: with what a destructor has to say.
        self._lock = threading.RLock()
        self._busy = False
        """Somebody writes: what comes meanwhile has to wait for its turn."""
        self._waiting: SimpleQueue[_Waiting | None] = SimpleQueue()
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
                self._never_waits = stat.S_ISREG(os.fstat(self._file).st_mode)
            except (OSError, ValueError):  # a stream in memory, or one that was closed
                self._file, self._never_waits = None, True
                return
            self._poll, self._patience = select.poll(), select.poll()  # one for each thread
            for poll in (self._poll, self._patience):
                poll.register(self._file, select.POLLOUT)

    def write(self, text: str) -> None:
        """Text with the end of its line."""
        with self._lock:
            line = text.encode(self._encoding, "backslashreplace")
            if self._busy:
                self._put_off(line)
                return
            self._busy = True
            try:
                if self._waiting_lines:
                    self._put_off(line)
                elif self.lost > self._told:
                    self._append(self._loss())
                    self._put_off(line)
                else:
                    self._write_at_once(line)
            finally:
                self._hand_over()

    def flush(self) -> None:
        """Nothing that waits here goes out faster for being asked."""

    def _write_line(self, line: str) -> None:
        self.write(line + "\n")

    debug = info = warning = error = critical = _write_line

    def _write_at_once(self, line: bytes) -> None:
        """Write what the stream takes without waiting; the rest of it waits."""
        if not (self._never_waits or self._has_room(len(line))):
            self._put_off(line)
            return
        try:
            written = self._write(line)
        except BlockingIOError:  # others may have made it so
            written = 0
        except (OSError, ValueError):  # ValueError: it was closed
            self.lost += 1
            return
        if written < len(line):
            self._append(_Waiting(line[written:]))

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

    def _put_off(self, line: bytes) -> None:
        if self._full or self._waiting_bytes + len(line) > WAITING_BYTES:
            # Until all of it is written: else a slow reader would get a gap after each line that found room.
            self._full = True
            self.lost += 1
        else:
            self._append(_Waiting(line))

    def _append(self, waiting: _Waiting) -> None:
        self._waiting_lines += 1
        self._waiting_bytes += len(waiting.data)
        self._waiting.put(waiting)

    def _loss(self) -> _Waiting:
        return _Waiting(self._line_of_loss(self.lost - self._told).encode(self._encoding), tells=self.lost)

    def _hand_over(self) -> None:
        """If anything waits it is for the thread to go on."""
        self._busy = self._waiting_lines > 0
        self._full = self._full and self._busy
        if not self._busy or self._thread is not None:
            return
        self._thread = threading.Thread(target=self._write_what_waits, name="log", daemon=True)
        try:
            self._thread.start()
        except (
            RuntimeError
        ):  # There are no more threads, or Python is about to end: the next line tries again.
            self._thread = None
            self._busy = False
        else:
            atexit.register(self._finish)

    def _write_what_waits(self) -> None:
        while (waiting := self._waiting.get()) is not None:
            written = self._write_patiently(waiting.data)
            with self._lock:
                self._waiting_lines -= 1
                self._waiting_bytes -= len(waiting.data)
                if not written:
                    self.lost += waiting.tells is None
                elif waiting.tells is not None:
                    self._told = waiting.tells
                if self._waiting_lines:
                    continue
                self._full = False
                if written and self.lost > self._told:
                    self._append(self._loss())
                self._busy = self._waiting_lines > 0

    def _write_patiently(self, data: bytes) -> bool:
        """Whether all of it was written."""
        rest = data
        while rest:
            try:
                rest = rest[self._write(rest) :]
            except BlockingIOError:
                self._patience.poll()
            except (OSError, ValueError):
                return False
        return True

    def _finish(self) -> None:
        """Give what waits a little time; a process whose log nobody reads ends all the same."""
        self._waiting.put(None)
        if self._thread is not None:
            self._thread.join(END_SECONDS)
