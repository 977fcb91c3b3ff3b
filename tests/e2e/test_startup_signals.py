"""Signals that a process gets while it still starts: none is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateway_process import JWT_SECRET
from tests.support.waiter import TIMEOUT_SECONDS

SETTINGS = f"host: 127.0.0.1\nport: 0\njwt_secret: {JWT_SECRET}\ningest_keys: [{{id: shop, secrets: [{'s' * 32}]}}]\n"


class StartingGateway:
    """A gateway that reads its settings from a pipe: it waits in the middle of its start for ``write_settings``."""

    def __init__(self, pipe: Path) -> None:
        os.mkfifo(pipe)
        self._pipe = pipe
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "serve"],
            env=inherited | {"GATEWAY_CONFIG": str(pipe), "GATEWAY_LOG_FORMAT": "json"},
            stderr=subprocess.PIPE,
            text=True,
        )
        # Returns once the gateway opens its end.
        self._settings = pipe.open("w")

    def write_settings(self) -> None:
        """Write the settings to the pipe, and replace the pipe by a file with the same settings."""
        file = self._pipe.with_suffix(".yaml")
        file.write_text(SETTINGS)
        file.replace(self._pipe)
        with self._settings as settings:
            settings.write(SETTINGS)

    def events(self) -> list[str]:
        """The names of all log events until the process has ended."""
        return [
            json.loads(line)["event"]
            for line in self.process.communicate(timeout=TIMEOUT_SECONDS)[1].splitlines()
        ]


@pytest.fixture
def starting(tmp_path: Path) -> Iterator[StartingGateway]:
    starting = StartingGateway(tmp_path / "settings")
    yield starting
    starting.process.kill()
    starting.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_gateway_that_gets_a_stop_signal_while_it_starts_never_listens_and_exits_with_0(
    starting: StartingGateway, number: signal.Signals
) -> None:
    starting.process.send_signal(number)

    starting.write_settings()

    events = starting.events()
    assert "gateway.listening" not in events
    assert events[-1] == "gateway.stopped"
    assert starting.process.returncode == 0


def test_gateway_that_gets_sighup_while_it_starts_reloads_its_settings_afterwards(
    starting: StartingGateway,
) -> None:
    starting.process.send_signal(signal.SIGHUP)

    starting.write_settings()

    assert starting.process.stderr is not None
    events = (json.loads(line)["event"] for line in starting.process.stderr)
    assert "settings.reloaded" in events
    starting.process.send_signal(signal.SIGTERM)
    assert list(events)[-1] == "gateway.stopped"
    assert starting.process.wait(TIMEOUT_SECONDS) == 0
