"""A log that is not read, or is closed: a replica serves and counts dropped lines. Without stderr it does not start."""

from __future__ import annotations

import http.client
import json
import re
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
from tests.support.metrics import read_metrics
from tests.support.paths import ROOT
from tests.support.waiter import TIMEOUT_SECONDS, wait_until
from tests.unit.cli.command_line import JWT_SECRET, environment

KEY_ID, KEY_SECRET = "tests", "an ingest secret of the tests and long enough too"
PIPE_BYTES, QUEUE_BYTES = 64 * 1024, 4 * 1024 * 1024
"""The capacity of a pipe on Linux, and ``WAITING_BYTES`` of the log."""
LINE_BYTES = 250
"""The least size of a line in these tests."""
TARGET, BODY = "/emit/user/ann", b'{"event":"note"}'


class UnreadLogGateway:
    """A gateway whose log is read until it listens, and then not before ``resume_reading``."""

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

    def resume_reading(self) -> None:
        """Read the log to its end, in a thread."""

        def read() -> None:
            for entry in self._entries:
                self.log.add(entry)
            self.log.end()

        self.log = Journal("the log after reading resumed")
        self.reader = threading.Thread(target=read, daemon=True)
        self.reader.start()

    def is_live(self) -> bool:
        with urllib.request.urlopen(f"{self.url}/health/live", timeout=TIMEOUT_SECONDS) as answer:
            return bool(answer.status == 200)

    def request(self, numbers: Iterable[int]) -> None:
        """Push one message for each number, which is its request id in the log."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS)
        for number in numbers:
            headers = {"Content-Type": "application/json", "X-Request-Id": f"{number:064}"}
            connection.request("POST", TARGET, BODY, self.backend.sign("POST", TARGET, BODY) | headers)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200
        connection.close()

    def metrics(self) -> str:
        return read_metrics(self.url)

    def dropped(self) -> float:
        """Return how many lines were dropped, by the metrics."""
        (dropped,) = re.findall(r"^sio_gateway_log_lines_dropped_total (\S+)$", self.metrics(), re.MULTILINE)
        return float(dropped)


@pytest.fixture
def gateway() -> Iterator[UnreadLogGateway]:
    gateway = UnreadLogGateway()
    yield gateway
    gateway.process.kill()
    gateway.process.wait()
    if gateway.process.stderr is not None:
        gateway.process.stderr.close()


def test_replica_whose_log_is_not_read_serves_and_drains_normally(gateway: UnreadLogGateway) -> None:
    for _ in range(2 * PIPE_BYTES // LINE_BYTES):
        assert gateway.backend.push_user("ann", "note", 1).status == 200

    assert gateway.is_live()
    gateway.process.send_signal(signal.SIGTERM)
    assert gateway.process.wait(TIMEOUT_SECONDS) == 0


def test_log_reports_the_number_of_dropped_lines_in_order_once_it_is_read_again(
    gateway: UnreadLogGateway,
) -> None:
    sent = (PIPE_BYTES + QUEUE_BYTES) // LINE_BYTES + 1000
    gateway.request(range(sent))
    gateway.resume_reading()
    dropped = gateway.log.wait(lambda entry: entry.get("event") == "log.lines_dropped")
    gateway.request(range(sent, sent + 10))
    assert f"sio_gateway_log_lines_dropped_total {dropped['lines']}.0" in gateway.metrics()
    gateway.process.send_signal(signal.SIGTERM)
    assert gateway.process.wait(TIMEOUT_SECONDS) == 0
    gateway.reader.join(TIMEOUT_SECONDS)

    entries = gateway.log.entries
    index = entries.index(dropped)
    before, after = (
        [int(entry["request_id"]) for entry in part if entry["event"] == "request.answered"]
        for part in (entries[:index], entries[index:])
    )
    assert before == list(range(sent - dropped["lines"]))
    assert after == list(range(sent, sent + 10))
    assert dropped["level"] == "error"
    assert entries[-1]["event"] == "gateway.stopped"


def test_replica_whose_log_was_closed_serves_counts_the_lines_and_stops_normally(
    gateway: UnreadLogGateway,
) -> None:
    assert gateway.process.stderr is not None
    gateway.process.stderr.close()

    gateway.request(range(50))

    assert gateway.backend.push_user("ann", "note", 1).status == 200
    # The thread that writes waiting lines counts the last ones.
    wait_until(lambda: gateway.dropped() >= 51, "each line is counted")
    gateway.process.send_signal(signal.SIGTERM)
    assert gateway.process.wait(TIMEOUT_SECONDS) == 0


def test_gateway_without_stderr_does_not_start_and_reports_that_on_stdout() -> None:
    ended = serve_without("2>&-")

    assert ended.returncode == 2
    assert ended.stdout.startswith("Error: stderr is closed, and the gateway writes its log there")


def test_gateway_without_stderr_and_stdout_does_not_start() -> None:
    assert serve_without(">&- 2>&-").returncode == 2


def serve_without(redirection: str) -> subprocess.CompletedProcess[str]:
    """Run ``serve`` with complete settings and a redirection of the shell; return when it has ended."""
    command = f'exec "{sys.executable}" -m gateway serve {redirection}'
    settings = environment(
        HOST="127.0.0.1", PORT="0", JWT_SECRET=JWT_SECRET, INGEST_KEYS=f"{KEY_ID}:{KEY_SECRET}"
    )
    return subprocess.run(
        ["sh", "-c", command],
        cwd=ROOT,
        env=settings,
        stdout=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
