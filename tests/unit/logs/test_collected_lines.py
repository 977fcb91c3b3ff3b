"""Routine lines of one turn of the event loop are written together, in their order among all lines."""

from __future__ import annotations

import asyncio
import io
import json
import os
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from gateway.logs import rendering
from gateway.logs.output import COLLECTED_BYTES, Output
from gateway.logs.rendering import EventLogger


class Writes:
    """An output into a socket that keeps each write apart."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ours.setblocking(False)
        self.stream = os.fdopen(theirs.detach(), "w")
        self.output = Output(lambda lines: f"dropped {lines}\n")
        self.output.use(self.stream)

    def read(self) -> list[str]:
        """Return what was written since the last call, each write by itself."""
        writes = []
        while select.select([self._ours], [], [], 0)[0]:
            writes.append(self._ours.recv(1_000_000).decode())
        return writes

    def close(self) -> None:
        self._ours.close()
        self.stream.close()


@pytest.fixture
def writes() -> Iterator[Writes]:
    writes = Writes()
    yield writes
    writes.close()


async def test_routine_lines_of_a_turn_are_one_write(writes: Writes) -> None:
    with writes.output.collecting():
        writes.output.info("a")
        writes.output.debug("b")
        assert writes.read() == []
        await asyncio.sleep(0)
        assert writes.read() == ["a\nb\n"]
        writes.output.info("c")
        await asyncio.sleep(0)
        assert writes.read() == ["c\n"]


async def test_warning_is_written_at_once_behind_the_lines_before_it(writes: Writes) -> None:
    with writes.output.collecting():
        writes.output.info("a")
        writes.output.warning("b")
        assert writes.read() == ["a\nb\n"]
        await asyncio.sleep(0)
        assert writes.read() == []


async def test_line_of_another_thread_is_written_at_once_behind_the_lines_before_it(writes: Writes) -> None:
    with writes.output.collecting():
        writes.output.info("a")
        thread = threading.Thread(target=writes.output.info, args=("b",))
        thread.start()
        thread.join()
        assert writes.read() == ["a\nb\n"]


async def test_line_of_a_library_follows_the_lines_before_it(writes: Writes) -> None:
    with writes.output.collecting():
        writes.output.info("a")
        writes.output.write("of a library\n")
        assert writes.read() == ["a\nof a library\n"]


async def test_end_of_collecting_writes_what_was_collected(writes: Writes) -> None:
    with writes.output.collecting():
        writes.output.info("a")
    assert writes.read() == ["a\n"]
    writes.output.info("b")
    assert writes.read() == ["b\n"]


async def test_many_bytes_are_written_before_the_turn_ends(tmp_path: Path) -> None:
    line = "x" * 999
    with (tmp_path / "log").open("w") as stream:
        output = Output(lambda lines: f"dropped {lines}\n")
        output.use(stream)
        with output.collecting():
            for _ in range(COLLECTED_BYTES // 1000):
                output.info(line)
            assert (tmp_path / "log").stat().st_size == 0
            output.info(line)
            assert (tmp_path / "log").stat().st_size == 1000 * (COLLECTED_BYTES // 1000 + 1)


async def test_lines_are_never_cut_between_two_writes_to_a_pipe(writes: Writes) -> None:
    lines = [f"{number} " + "y" * 500 for number in range(30)]
    with writes.output.collecting():
        for line in lines:
            writes.output.info(line)
    written = writes.read()
    assert "".join(written).splitlines() == lines
    assert all(each.endswith("\n") for each in written)


async def test_lines_that_the_stream_does_not_accept_wait_in_order() -> None:
    reading, writing = os.pipe()
    stream = os.fdopen(writing, "w")
    output = Output(lambda lines: f"dropped {lines}\n")
    output.use(stream)
    number = 0
    with output.collecting():
        while not output._waiting_lines:
            for _ in range(50):
                output.info(f"{number}")
                number += 1
            await asyncio.sleep(0)
        output.info("end")
    text = b""
    while not text.endswith(b"end\n"):
        text += await asyncio.to_thread(os.read, reading, 65536)
    assert text.decode().splitlines() == [*map(str, range(number)), "end"]
    os.close(reading)
    output._finish()
    stream.close()


async def test_each_line_that_could_not_be_written_counts_as_dropped(writes: Writes) -> None:
    writes.close()
    with writes.output.collecting():
        writes.output.info("a")
        writes.output.info("b")
        await asyncio.sleep(0)
    assert writes.output.dropped == 2


class _Lines:
    """A stream that keeps the lines which a logger renders."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, line: str) -> None:
        self.lines.append(line)

    debug = warning = error = info


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_NAMES = st.sampled_from(["sid", "user", "token", "pid", "data", "level", "timestamp", "ü", "seconds"])


@given(
    bound=st.dictionaries(_NAMES, _VALUES, max_size=3), fields=st.dictionaries(_NAMES, _VALUES, max_size=6)
)
def test_line_is_that_of_the_processors(bound: dict[str, Any], fields: dict[str, Any]) -> None:
    quick, chained = _Lines(), _Lines()
    processors = [*rendering.SHARED, *rendering.renderers(as_json=True, colors=False)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rendering, "_timestamp", lambda: "2026-12-01T00:00:00.000000Z")
        EventLogger(quick, processors, dict(bound)).info("an.event", **fields)
        EventLogger(chained, processors, dict(bound))._proxy_to_logger("info", "an.event", **fields)
    assert quick.lines == chained.lines
    assert len(quick.lines) == 1


def test_exceptions_and_other_formats_are_rendered_by_the_processors() -> None:
    stream = _Lines()
    processors = [*rendering.SHARED, *rendering.renderers(as_json=True, colors=False)]
    EventLogger(stream, processors, {}).error("an.event", exc_info=ValueError("broken"))
    assert "ValueError: broken" in json.loads(stream.lines[0])["exception"]
    console = [*rendering.SHARED, *rendering.renderers(as_json=False, colors=False)]
    EventLogger(stream, console, {}).error("an.event", user="42")
    assert stream.lines[1].endswith("user=42")


def test_captured_logs_are_captured() -> None:
    structlog.configure(wrapper_class=EventLogger, logger_factory=lambda *_: io.StringIO())
    try:
        with structlog.testing.capture_logs() as captured:
            structlog.get_logger("tests").info("an.event", user="42")
    finally:
        structlog.reset_defaults()
    assert captured == [{"event": "an.event", "user": "42", "log_level": "info"}]
