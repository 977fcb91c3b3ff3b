"""What becomes of lines while the stream takes none: nobody waits, order is kept, what is lost is told."""

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
from tests.unit.logs.test_lines import crash, only

PATIENCE_SECONDS = 10.0


class Pipe:
    """An output into a pipe that is read when the test says so."""

    def __init__(self) -> None:
        self.reading, writing = os.pipe()
        self.stream: TextIO = os.fdopen(writing, "w")
        self.output = Output(lambda lines: f"lost {lines}\n")
        self.output.use(self.stream)

    def fill(self) -> int:
        """Write numbered lines until the pipe is full and one waits; how many."""
        number = 0
        while not self.output._waiting_lines:
            self.output.write(f"{number}\n")
            number += 1
        return number

    def read_until(self, last: str) -> list[str]:
        """The lines up to this one."""
        text = b""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not text.endswith(f"{last}\n".encode()):
            assert select.select([self.reading], [], [], deadline - time.monotonic())[0], text[-200:]
            text += os.read(self.reading, 65536)
        return text.decode().splitlines()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    os.close(pipe.reading)  # which also ends what the thread still writes
    pipe.output._finish()
    pipe.stream.close()


def test_while_there_is_room_a_line_is_there_at_once_and_no_thread_is_started(pipe: Pipe) -> None:
    before = threading.active_count()
    pipe.output.write("a\n")

    assert os.read(pipe.reading, 100) == b"a\n"
    assert threading.active_count() == before


def test_what_did_not_find_room_comes_later_and_in_order(pipe: Pipe) -> None:
    count = pipe.fill()
    for number in range(count, count + 1000):
        pipe.output.write(f"{number}\n")

    assert pipe.read_until(f"{count + 999}") == [str(number) for number in range(count + 1000)]
    assert pipe.output.dropped == 0


def test_a_line_that_is_longer_than_a_pipe_promises_room_for_comes_whole_and_in_order(pipe: Pipe) -> None:
    written = ["a", "b" * 200_000, "c", "d" * select.PIPE_BUF, "e"]
    for line in written:
        pipe.output.write(line + "\n")

    assert pipe.read_until("e") == written


def test_what_waits_has_a_limit_and_what_is_lost_is_told_in_its_place(pipe: Pipe) -> None:
    count = pipe.fill()
    long = "x" * 9_999
    for _ in range(WAITING_BYTES // 10_000 + 100):
        pipe.output.write(long + "\n")
    lost = pipe.output.dropped
    assert 100 <= lost <= 110
    assert pipe.output._waiting_bytes <= WAITING_BYTES
    pipe.output.write("short, and there would be room for it\n")

    read = pipe.read_until(f"lost {lost + 1}")

    assert read[:count] == [str(number) for number in range(count)]
    assert set(read[count:-1]) == {long}
    pipe.output.write("again\n")
    assert pipe.read_until("again") == ["again"]


def test_a_line_that_is_larger_than_all_that_may_wait_is_lost_alone(pipe: Pipe) -> None:
    pipe.output.write("z" * WAITING_BYTES + "\n")
    pipe.output.write("a\n")

    assert pipe.read_until("a") == ["lost 1", "a"]


def test_a_terminal_that_was_told_to_wait_holds_up_nobody() -> None:
    ours, theirs = pty.openpty()
    output = Output(lambda lines: f"lost {lines}\n")
    with os.fdopen(theirs, "w") as terminal:
        output.use(terminal)
        termios.tcflow(theirs, termios.TCOOFF)
        output.write("a\n")
        assert select.select([ours], [], [], 0.1)[0] == []
        termios.tcflow(theirs, termios.TCOON)
        assert os.read(ours, 100) == b"a\r\n"
        output._finish()
    os.close(ours)


def test_a_pipe_that_others_made_non_blocking_loses_nothing(pipe: Pipe) -> None:
    os.set_blocking(pipe.stream.fileno(), False)
    count = pipe.fill()
    pipe.output.write("y" * 300_000 + "\n")
    pipe.output.write("end\n")

    assert pipe.read_until("end") == [*(str(number) for number in range(count)), "y" * 300_000, "end"]


def test_what_is_said_while_a_line_is_written_comes_after_it(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Collecting:
        """Where garbage is collected just then, with a destructor that has something to say."""

        def poll(self, _: int) -> list[int]:
            pipe.output.write("b\n")
            return [1]

    monkeypatch.setattr(pipe.output, "_poll", Collecting())
    pipe.output.write("a\n")

    assert pipe.read_until("b") == ["a", "b"]


def test_lines_of_many_threads_come_whole(pipe: Pipe) -> None:
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


# --- a process with such a stream ---


def test_libraries_and_what_nobody_caught_wait_for_nobody_either() -> None:
    code = (
        "import os, threading; reading, writing = os.pipe()\n"
        "configure_logging(level, format, stream=os.fdopen(writing, 'w'))\n"
        "for _ in range(2000):\n    logging.getLogger('x').warning('y' * 100)\n"
        "thread = threading.Thread(target=lambda: 1 / 0); thread.start(); thread.join()\n"
        "1 / 0"
    )

    assert crash(code) == (1, [])


def test_the_end_of_the_process_waits_for_lines_but_not_for_long() -> None:
    began = time.monotonic()
    code = (
        "import os; reading, writing = os.pipe(); "
        "configure_logging(level, format, stream=os.fdopen(writing, 'w')); log.info('a' * 99999)"
    )

    assert crash(code) == (0, [])
    assert time.monotonic() - began < END_SECONDS + 5


def test_a_long_line_is_written_before_the_process_ends() -> None:
    assert only("log.info('a' * 300_000)")["event"] == "a" * 300_000
