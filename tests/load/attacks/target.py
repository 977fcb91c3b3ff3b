"""A gateway that another process started, and attack programs in processes of their own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.gateway_process import GatewayProcess
from tests.support.paths import ROOT

END_SECONDS = 60.0
FOLDER = Path(__file__).parent
NOT_RUNNING = -1


def kinds() -> list[str]:
    """Return the names of all attack programs."""
    return sorted(
        path.stem for path in FOLDER.glob("*.py") if "\nasync def attack(" in path.read_text(encoding="utf-8")
    )


class RunningGateway(GatewayProcess):
    """What an attack knows of a gateway: its addresses, its process id, a key and the secret of its tokens."""

    def __init__(
        self, *, ports: Sequence[int], pid: int, key_id: str, secret: str, jwt_secret: str, **settings: Any
    ) -> None:
        self._settings = {name.upper(): str(value) for name, value in settings.items()}
        self._pid = pid
        self.ports = list(ports)
        self.url = f"http://127.0.0.1:{self.ports[0]}"
        self.ingest_url = f"http://127.0.0.1:{self.ports[-1]}"
        self.key_id, self.secret, self.jwt_secret = key_id, secret, jwt_secret

    @property
    def pid(self) -> int:
        return self._pid


@contextmanager
def attacked(gateway: GatewayProcess, names: Sequence[str]) -> Iterator[dict[str, int]]:
    """Run attacks, each in a process of its own, while the context is open.

    The mapping has the exit status of each once the context has ended; -1: it ended before.
    """
    known = {
        "ports": gateway.ports,
        "pid": gateway.pid,
        "key_id": gateway.key_id,
        "secret": gateway.secret,
        "jwt_secret": gateway.jwt_secret,
    }
    processes = {
        name: subprocess.Popen(
            [sys.executable, "-m", "tests.load.attacks", name], cwd=ROOT, stdin=subprocess.PIPE, text=True
        )
        for name in names
    }
    statuses: dict[str, int] = {}
    try:
        for process in processes.values():
            assert process.stdin is not None
            process.stdin.write(json.dumps(known) + "\n")
            process.stdin.flush()
        yield statuses
    finally:
        for name, process in processes.items():
            statuses[name] = _end(process)


def _end(process: subprocess.Popen[str]) -> int:
    if process.poll() is not None:
        return NOT_RUNNING
    assert process.stdin is not None
    process.stdin.close()
    try:
        return process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        return process.wait()
