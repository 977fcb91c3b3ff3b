"""The one stream that lines are written to, and the queue of lines that it does not accept.

The event loop writes lines itself, because that costs least, but it never waits. Otherwise a full pipe without a reader
would block pushes, probes and signals. A system call costs more than all else about a line, so the routine lines of one
turn of the event loop are written together at its end.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import select
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Final, NamedTuple, TextIO

WAITING_BYTES: Final = 4 * 1024 * 1024
"""Limit of the waiting lines. When it is reached, new lines are dropped until all waiting ones are written."""
COLLECTED_BYTES: Final = 64 * 1024
"""So many bytes of collected lines are written at once, before the turn of the event loop ends."""
END_SECONDS: Final = 1.0
"""How long the process waits for them at its end."""


class _QueuedLine(NamedTuple):
    data: bytes
    reports_drop: int | None = None
    """None for a line of a logger. Else the line reports drops: the number of lines dropped since the start."""


class Output:
    """Writes whole lines in order: a logger for structlog, and a stream for the standard library.

    It may be called from every thread and never waits for the stream. A line that cannot be written (without a reader
    and with a full queue, to a closed pipe, to a full disk) is dropped and counted, so that no push fails because of a
    line. ``dropped_line`` renders the line that reports how many were dropped. It is written once the stream accepts
    lines.
    """

    def __init__(self, dropped_line: Callable[[int], str]) -> None:
        self.dropped = 0
        """Number of dropped lines since the process started."""
        self._reported = 0
        """How many of them were reported by a line that was written."""
        self._dropped_line = dropped_line
        # Reentrant: a destructor that runs while a line is written may log.
        self._lock = threading.RLock()
        self._busy = False
        """A line is being written, or lines wait: new ones are queued."""
        self._waiting: SimpleQueue[_QueuedLine | None] = SimpleQueue()
        self._waiting_lines = self._waiting_bytes = 0
        self._full = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        """The event loop whose routine lines are collected, and its thread."""
        self._loop_thread = 0
        self._collected: list[bytes] = []
        self._collected_bytes = 0
        self.use(sys.stderr)

    def use(self, stream: TextIO) -> None:
        """Write to this stream from now on."""
        with self._lock:
            if self._collected:
                self._write_collected()
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

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Collect the routine lines of the running event loop, and write them once in each turn of it."""
        self._loop, self._loop_thread = asyncio.get_running_loop(), threading.get_ident()
        try:
            yield
        finally:
            with self._lock:
                self._loop = None
                if self._collected:
                    self._write_collected()

    def write(self, text: str) -> None:
        """Write text that ends with a line feed, after the lines that are collected."""
        with self._lock:
            self._collected.append(text.encode(self._encoding, "backslashreplace"))
            self._write_collected()

    def flush(self) -> None:
        """Do nothing: waiting lines are not written faster."""

    def _write_line(self, line: str) -> None:
        self.write(line + "\n")

    warning = error = critical = _write_line

    def _collect_line(self, line: str) -> None:
        """Write a routine line with the others of this turn of the event loop; outside of it, at once."""
        loop = self._loop
        if loop is None or threading.get_ident() != self._loop_thread or loop.is_closed():
            self.write(line + "\n")
            return
        encoded = (line + "\n").encode(self._encoding, "backslashreplace")
        with self._lock:
            if not self._collected:
                loop.call_soon(self._end_turn)
            self._collected.append(encoded)
            self._collected_bytes += len(encoded)
            if self._collected_bytes >= COLLECTED_BYTES:
                self._write_collected()

    debug = info = _collect_line

    def _end_turn(self) -> None:
        with self._lock:
            if self._collected:
                self._write_collected()

    def _write_collected(self) -> None:
        """Write the collected lines, or queue them behind those that wait."""
        if self._busy:
            # Also while a line is being written: a destructor that runs then may log.
            self._take_collected(self._enqueue)
            return
        self._busy = True
        try:
            if self._waiting_lines:
                self._take_collected(self._enqueue)
            elif self.dropped > self._reported:
                self._append(self._dropped_note())
                self._take_collected(self._enqueue)
            else:
                lines, self._collected, self._collected_bytes = self._collected, [], 0
                self._write_nonblocking(lines)
        finally:
            self._start_thread()

    def _take_collected(self, take: Callable[[bytes], None]) -> None:
        lines, self._collected, self._collected_bytes = self._collected, [], 0
        for line in lines:
            take(line)

    def _write_nonblocking(self, lines: list[bytes]) -> None:
        """Write as much as the stream accepts without waiting, and queue the rest."""
        start = 0
        while start < len(lines):
            end = self._end_of_piece(lines, start)
            piece = lines[start] if end == start + 1 else b"".join(lines[start:end])
            if not (self._is_regular_file or self._has_room(len(piece))):
                break
            try:
                written = self._write(piece)
            except BlockingIOError:  # another process may have made the pipe non-blocking
                break
            except (OSError, ValueError):  # ValueError: it was closed
                self.dropped += end - start
                start = end
                continue
            if written < len(piece):
                start = self._queue_cut_line(lines, start, written)
                break
            start = end
        for line in lines[start:]:
            self._enqueue(line)

    def _end_of_piece(self, lines: list[bytes], start: int) -> int:
        """Return the end of the lines that one write takes: a pipe takes PIPE_BUF bytes in one piece, or one line."""
        if self._is_regular_file:
            return len(lines)
        size, end = len(lines[start]), start + 1
        while end < len(lines) and size + len(lines[end]) <= select.PIPE_BUF:
            size, end = size + len(lines[end]), end + 1
        return end

    def _queue_cut_line(self, lines: list[bytes], start: int, written: int) -> int:
        """Queue the rest of the line that was written in part; return the first line of which nothing was written."""
        while written >= len(lines[start]):
            written, start = written - len(lines[start]), start + 1
        if not written:
            return start
        self._append(_QueuedLine(lines[start][written:]))
        return start + 1

    def _has_room(self, size: int) -> bool:
        """Return whether a pipe accepts this many bytes without waiting and in one piece: poll(2), pipe(7)."""
        return size <= select.PIPE_BUF and bool(self._poll.poll(0))

    def _write(self, data: bytes) -> int:
        if self._file is not None:
            return os.write(self._file, data)
        self._stream.write(data.decode(self._encoding))
        self._stream.flush()
        return len(data)

    # the queue, and the thread that writes it

    def _enqueue(self, line: bytes) -> None:
        if self._full or self._waiting_bytes + len(line) > WAITING_BYTES:
            # Until all are written: otherwise a slow reader would get a gap after each line that fitted.
            self._full = True
            self.dropped += 1
        else:
            self._append(_QueuedLine(line))

    def _append(self, line: _QueuedLine) -> None:
        self._waiting_lines += 1
        self._waiting_bytes += len(line.data)
        self._waiting.put(line)

    def _dropped_note(self) -> _QueuedLine:
        return _QueuedLine(
            self._dropped_line(self.dropped - self._reported).encode(self._encoding),
            reports_drop=self.dropped,
        )

    def _start_thread(self) -> None:
        """Let the thread write the waiting lines, if there are any."""
        self._busy = self._waiting_lines > 0
        self._full = self._full and self._busy
        if not self._busy or self._thread is not None:
            return
        self._thread = threading.Thread(target=self._write_queue, name="log", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no thread is left, or Python is about to end: the next line tries again
            self._thread = None
            self._busy = False
        else:
            atexit.register(self._finish)

    def _write_queue(self) -> None:
        while (line := self._waiting.get()) is not None:
            written = self._write_blocking(line.data)
            with self._lock:
                self._waiting_lines -= 1
                self._waiting_bytes -= len(line.data)
                if not written:
                    self.dropped += line.reports_drop is None
                elif line.reports_drop is not None:
                    self._reported = line.reports_drop
                if self._waiting_lines:
                    continue
                self._full = False
                if written and self.dropped > self._reported:
                    self._append(self._dropped_note())
                self._busy = self._waiting_lines > 0

    def _write_blocking(self, data: bytes) -> bool:
        """Write everything; return whether that succeeded."""
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
        """Wait for the waiting lines, but not for long: the process also ends if its log has no reader."""
        self._waiting.put(None)
        if self._thread is not None:
            self._thread.join(END_SECONDS)
