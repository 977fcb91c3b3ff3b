"""Whoever reads the log of a replica stops reading: the replica goes on, and tells later what is missing."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from tests.support.backend import Backend
from tests.support.journal import Journal
from tests.support.paths import ROOT
from tests.unit.cli.command_line import JWT_SECRET, environment

KEY_ID, KEY_SECRET = "tests", "an ingest secret of the tests and long enough too"
PIPE_BYTES, QUEUE_BYTES = 64 * 1024, 4 * 1024 * 1024
"""What a pipe holds on Linux, and ``WAITING_BYTES`` of the log."""
LINE_BYTES = 250
"""At least that many are in the lines of these tests."""
END_SECONDS = 10.0


class Unread:
    """A gateway of which nobody reads the log once it listens, until somebody asks for the rest."""

    def __init__(self) -> None:
        secrets = {"JWT_SECRET": JWT_SECRET, "INGEST_KEYS": f"{KEY_ID}:{KEY_SECRET}"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "serve"],
            cwd=ROOT,
            env=environment(HOST="127.0.0.1", PORT="0", **secrets),
            stderr=subprocess.PIPE,
        )
        self._entries = self._read()
        listening = next(entry for entry in self._entries if entry["event"] == "gateway.listening")
        self.port: int = listening["ports"][0]
        self.url = f"http://127.0.0.1:{self.port}"
        self.backend = Backend(self.url, KEY_ID, KEY_SECRET)

    def _read(self) -> Iterator[dict[str, Any]]:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            yield json.loads(line)

    def read_on(self) -> None:
        """Read to its end, beside the test."""

        def read() -> None:
            for entry in self._entries:
                self.log.add(entry)
            self.log.end()

        self.log = Journal("the log that is read again")
        self.reader = threading.Thread(target=read, daemon=True)
        self.reader.start()

    def is_alive(self) -> bool:
        with urllib.request.urlopen(f"{self.url}/health/live", timeout=5) as answer:
            return bool(answer.status == 200)

    def ask(self, numbers: Iterable[int]) -> None:
        """One request for each, which is its id in the log."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        for number in numbers:
            connection.request("GET", "/nowhere", headers={"X-Request-Id": f"{number:064}"})
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 404
        connection.close()

    def metrics(self) -> str:
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=5) as answer:
            return str(answer.read().decode())


@pytest.fixture
def unread() -> Iterator[Unread]:
    unread = Unread()
    yield unread
    unread.process.kill()
    unread.process.communicate()


def test_a_replica_whose_log_nobody_reads_serves_and_drains_as_ever(unread: Unread) -> None:
    for _ in range(2 * PIPE_BYTES // LINE_BYTES):
        assert unread.backend.push_user("ann", "note", 1).status == 200

    assert unread.is_alive()
    unread.process.send_signal(signal.SIGTERM)
    assert unread.process.wait(END_SECONDS) == 0


def test_once_it_is_read_again_the_log_tells_how_many_lines_are_missing_and_is_in_order(
    unread: Unread,
) -> None:
    asked = (PIPE_BYTES + QUEUE_BYTES) // LINE_BYTES + 1000
    unread.ask(range(asked))
    unread.read_on()
    told = unread.log.wait(lambda entry: entry.get("event") == "log.lines_dropped")
    unread.ask(range(asked, asked + 10))
    assert f"sio_gateway_log_lines_dropped_total {told['lines']}.0" in unread.metrics()
    unread.process.send_signal(signal.SIGTERM)
    assert unread.process.wait(END_SECONDS) == 0
    unread.reader.join(END_SECONDS)

    entries = unread.log.entries
    place = entries.index(told)
    before, after = (
        [int(entry["request_id"]) for entry in part if entry["event"] == "request.answered"]
        for part in (entries[:place], entries[place:])
    )
    assert before == list(range(asked - told["lines"]))
    assert after == list(range(asked, asked + 10))
    assert told["level"] == "error"
    assert entries[-1]["event"] == "gateway.stopped"
