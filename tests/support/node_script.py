"""A script that runs under Node: it reads commands and writes entries, both as JSON lines."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.journal import Entry, Journal
from tests.support.paths import ROOT
from tests.support.waiter import TIMEOUT_SECONDS

END_SECONDS = 20.0


class NodeScript:
    """One Node process; each entry that it writes has a ``type`` and is added to ``journal``."""

    def __init__(
        self, script: Path, journal: Journal, *, on_entry: Callable[[Entry], None] | None = None
    ) -> None:
        """``on_entry`` is called in a thread with each entry, before the journal has it."""
        self.journal = journal
        self._on_entry = on_entry
        self._process = subprocess.Popen(
            [sys.executable, str(ROOT / "tools" / "node.py"), str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._writing = threading.Lock()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def ready(self) -> Entry:
        """Wait for the entry ``ready`` and return it; fail if Node or a package is missing."""
        try:
            return self.journal.wait(lambda entry: entry["type"] == "ready")
        except AssertionError as error:
            raise AssertionError("Node or socket.io-client is missing: run `make install-dev`") from error

    def send(self, command: Any) -> None:
        """Send a command."""
        with self._writing:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()

    def expect(self, kind: str, *, seconds: float = TIMEOUT_SECONDS, after: int = 0) -> Entry:
        """Wait for the first entry of a kind from index ``after`` of the journal on; fail if it is ``failed``."""
        found = self.journal.wait(
            lambda entry: entry["type"] in {kind, "failed"}, timeout=seconds, after=after
        )
        assert found["type"] == kind, found["message"]
        return found

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, seconds: float) -> None:
        """Wait until it has ended by itself."""
        self._process.wait(seconds)

    def stop(self) -> None:
        """Close its stdin, after which it ends; kill it if it does not."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout:
            for line in self._process.stdout:
                # A process that is killed may leave half a line behind.
                if not line.endswith("\n"):
                    break
                entry = json.loads(line)
                if self._on_entry is not None:
                    self._on_entry(entry)
                self.journal.add(entry)
        self.journal.end()
