"""A process that is told something while it still starts: nothing of it is lost."""

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

SETTINGS = f"host: 127.0.0.1\nport: 0\njwt_secret: {JWT_SECRET}\ningest_keys: [{{id: shop, secrets: [{'s' * 32}]}}]\n"


class Starting:
    """A gateway that reads its settings from a pipe, and so stands in the middle of its start until somebody writes."""

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

    def go_on(self) -> None:
        """Let it have its settings, which are in a file from now on."""
        file = self._pipe.with_suffix(".yaml")
        file.write_text(SETTINGS)
        file.replace(self._pipe)
        with self._settings as settings:
            settings.write(SETTINGS)

    def events(self) -> list[str]:
        """Everything that it says until it has ended."""
        return [json.loads(line)["event"] for line in self.process.communicate(timeout=30)[1].splitlines()]


@pytest.fixture
def starting(tmp_path: Path) -> Iterator[Starting]:
    starting = Starting(tmp_path / "settings")
    yield starting
    starting.process.kill()
    starting.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_that_is_told_to_stop_before_it_serves_never_does_and_ends_well(
    starting: Starting, number: signal.Signals
) -> None:
    starting.process.send_signal(number)

    starting.go_on()

    said = starting.events()
    assert "gateway.listening" not in said
    assert said[-1] == "gateway.stopped"
    assert starting.process.returncode == 0


def test_one_that_is_told_to_read_its_settings_again_does_so_once_it_can(starting: Starting) -> None:
    starting.process.send_signal(signal.SIGHUP)

    starting.go_on()

    assert starting.process.stderr is not None
    said = (json.loads(line)["event"] for line in starting.process.stderr)
    assert "settings.reloaded" in said
    starting.process.send_signal(signal.SIGTERM)
    assert list(said)[-1] == "gateway.stopped"
    assert starting.process.wait(10) == 0
