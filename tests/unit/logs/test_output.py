"""Lines while the stream accepts none: no caller waits, the order is kept, drops are reported."""

from __future__ import annotations

import os
import pty
import select
import termios
import threading
import time
from collections.abc import Iterator
from typing import TextIO

import pytest

from gateway.logs.output import END_SECONDS, WAITING_BYTES, Output
from tests.support.waiter import TIMEOUT_SECONDS
from tests.unit.logs.test_lines import crash, only


class Pipe:
    """An output into a pipe that only the test reads."""

    def __init__(self) -> None:
        self.reading, writing = os.pipe()
        self.stream: TextIO = os.fdopen(writing, "w")
        self.output = Output(lambda lines: f"dropped {lines}\n")
        self.output.use(self.stream)

    def fill(self) -> int:
        """Write numbered lines until the pipe is full and one waits; return their number."""
        number = 0
        while not self.output._waiting_lines:
            self.output.write(f"{number}\n")
            number += 1
        return number

    def read_until(self, last: str) -> list[str]:
        """Read up to this line; return all lines."""
        text = b""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not text.endswith(f"{last}\n".encode()):
            assert select.select([self.reading], [], [], deadline - time.monotonic())[0], text[-200:]
            text += os.read(self.reading, 65536)
        return text.decode().splitlines()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    os.close(pipe.reading)  # so the thread stops writing
    pipe.output._finish()
    pipe.stream.close()


def test_line_is_written_at_once_without_a_thread_while_the_stream_accepts_it(pipe: Pipe) -> None:
    before = threading.active_count()
    pipe.output.write("a\n")

    assert os.read(pipe.reading, 100) == b"a\n"
    assert threading.active_count() == before


def test_lines_that_waited_are_written_in_order(pipe: Pipe) -> None:
    count = pipe.fill()
    for number in range(count, count + 1000):
        pipe.output.write(f"{number}\n")

    assert pipe.read_until(f"{count + 999}") == [str(number) for number in range(count + 1000)]
    assert pipe.output.dropped == 0


def test_line_longer_than_pipe_buf_is_written_whole_and_in_order(pipe: Pipe) -> None:
    written = ["a", "b" * 200_000, "c", "d" * select.PIPE_BUF, "e"]
    for line in written:
        pipe.output.write(line + "\n")

    assert pipe.read_until("e") == written


def test_waiting_lines_have_a_limit_and_drops_are_reported_in_their_place(pipe: Pipe) -> None:
    count = pipe.fill()
    long = "x" * 9_999
    for _ in range(WAITING_BYTES // 10_000 + 100):
        pipe.output.write(long + "\n")
    dropped = pipe.output.dropped
    assert 100 <= dropped <= 110
    assert pipe.output._waiting_bytes <= WAITING_BYTES
    pipe.output.write("short enough to fit\n")

    read = pipe.read_until(f"dropped {dropped + 1}")

    assert read[:count] == [str(number) for number in range(count)]
    assert set(read[count:-1]) == {long}
    pipe.output.write("again\n")
    assert pipe.read_until("again") == ["again"]


def test_line_larger_than_the_limit_is_dropped_alone(pipe: Pipe) -> None:
    pipe.output.write("z" * WAITING_BYTES + "\n")
    pipe.output.write("a\n")

    assert pipe.read_until("a") == ["dropped 1", "a"]


def test_stopped_terminal_does_not_block() -> None:
    ours, theirs = pty.openpty()
    output = Output(lambda lines: f"dropped {lines}\n")
    with os.fdopen(theirs, "w") as terminal:
        output.use(terminal)
        termios.tcflow(theirs, termios.TCOOFF)
        output.write("a\n")
        assert select.select([ours], [], [], 0.1)[0] == []
        termios.tcflow(theirs, termios.TCOON)
        assert os.read(ours, 100) == b"a\r\n"
        output._finish()
    os.close(ours)


def test_pipe_that_was_made_non_blocking_drops_no_line(pipe: Pipe) -> None:
    os.set_blocking(pipe.stream.fileno(), False)
    count = pipe.fill()
    pipe.output.write("y" * 300_000 + "\n")
    pipe.output.write("end\n")

    assert pipe.read_until("end") == [*(str(number) for number in range(count)), "y" * 300_000, "end"]


def test_line_logged_while_another_is_written_follows_it(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    class LoggingPoll:
        """Logs while it polls, as a destructor may that runs just then."""

        def poll(self, _: int) -> list[int]:
            pipe.output.write("b\n")
            return [1]

    monkeypatch.setattr(pipe.output, "_poll", LoggingPoll())
    pipe.output.write("a\n")

    assert pipe.read_until("b") == ["a", "b"]


def test_lines_of_many_threads_are_written_whole(pipe: Pipe) -> None:
    def write(name: str) -> None:
        for number in range(3000):
            pipe.output.write(f"{name} {number}\n")

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    read: list[str] = []
    while len(read) < 4 * 3000:
        read += pipe.read_until("")
    for name in "abcd":
        assert [line for line in read if line[0] == name] == [f"{name} {number}" for number in range(3000)]


# --- a process with a stream that accepts nothing ---


def test_libraries_and_uncaught_exceptions_do_not_wait_for_the_stream() -> None:
    code = (
        "import os, threading; reading, writing = os.pipe()\n"
        "configure_logging(level, format, stream=os.fdopen(writing, 'w'))\n"
        "for _ in range(2000):\n    logging.getLogger('x').warning('y' * 100)\n"
        "thread = threading.Thread(target=lambda: 1 / 0); thread.start(); thread.join()\n"
        "1 / 0"
    )

    assert crash(code) == (1, [])


def test_process_waits_briefly_for_lines_at_its_end() -> None:
    began = time.monotonic()
    code = (
        "import os; reading, writing = os.pipe(); "
        "configure_logging(level, format, stream=os.fdopen(writing, 'w')); log.info('a' * 99999)"
    )

    assert crash(code) == (0, [])
    assert time.monotonic() - began < END_SECONDS + TIMEOUT_SECONDS


def test_long_line_is_written_before_the_process_ends() -> None:
    assert only("log.info('a' * 300_000)")["event"] == "a" * 300_000
