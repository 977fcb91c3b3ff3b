"""The servers under test: each is a process on a core of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.machine import ROOT, cores, node_command, on_cores
from tests.support.ports import free_port

JWT_SECRET = "a secret of the benchmark, thirty-two bytes and more"  # noqa: S105  # of a server that lives for seconds
KEY = ("benchmark", "an ingest secret of the benchmark and long enough too")
START_SECONDS = 20.0
IDLE_SECONDS = 0.25
IDLE_SHARE = 0.04
_GATEWAY_SETTINGS = {
    "HOST": "127.0.0.1",
    "JWT_SECRET": JWT_SECRET,
    "INGEST_KEYS": ":".join(KEY),
    # The peer logs nothing, so the gateway writes no line for each connection and request either.
    "LOG_LEVEL": "warning",
    "CONNECT_RATE": "100000",
}


class Server:
    """A running server; ``jwt_secret`` and ``ingest_key`` are None where nothing is checked."""

    def __init__(
        self,
        name: str,
        command: list[str],
        environment: dict[str, str],
        *,
        checks: bool,
        port: int,
        core: int | None = None,
    ) -> None:
        """``core``: where it runs; None is that of the server under test."""
        self.name = name
        self.port = port
        self.jwt_secret = JWT_SECRET if checks else None
        self.ingest_key = KEY if checks else None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed by stop
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        with on_cores({cores()[0] if core is None else core}):
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=inherited | environment, stdout=self._log, stderr=self._log
            )
        self._await_port()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cpu_seconds(self) -> float:
        """Return the CPU time in seconds of all threads of the server so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text("ascii").rpartition(") ")[2].split()
        ticks = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return max(ticks, self._scheduled_seconds())

    def rss_bytes(self) -> int:
        """Return the resident memory of the server in bytes."""
        pages = Path(f"/proc/{self._process.pid}/statm").read_text("ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def waited_seconds(self) -> float:
        """Return for how many seconds the server was ready to run while another program had its core."""
        return int(Path(f"/proc/{self._process.pid}/schedstat").read_text("ascii").split()[1]) / 1e9

    def idle_cpu_seconds(self) -> float:
        """Return the CPU time once the server is idle: it used less than IDLE_SHARE of a core for IDLE_SECONDS."""
        before, now = float("-inf"), self.cpu_seconds()
        deadline = time.monotonic() + 40
        while now - before >= IDLE_SHARE * IDLE_SECONDS and time.monotonic() < deadline:
            time.sleep(IDLE_SECONDS)
            before, now = now, self.cpu_seconds()
        return now

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._log.close()

    def _scheduled_seconds(self) -> float:
        """Return the CPU time to the nanosecond, or 0.0 if the kernel does not keep it for each thread."""
        try:
            return (
                sum(
                    int(path.read_text("ascii").split()[0])
                    for path in Path(f"/proc/{self._process.pid}/task").glob("*/schedstat")
                )
                / 1e9
            )
        except OSError:
            return 0.0

    def _await_port(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 0.2).close()
            except OSError:
                time.sleep(0.05)
            else:
                time.sleep(0.3)
                return
        self._log.seek(0)
        written = self._log.read().decode(errors="replace")
        self.stop()
        raise RuntimeError(f"{self.name} did not start:\n{written[-2000:]}")


def gateway(**settings: Any) -> Server:
    """Start the gateway; ``settings`` are GATEWAY_ settings in lower case without prefix."""
    port = free_port()
    chosen = _GATEWAY_SETTINGS | {name.upper(): str(value) for name, value in settings.items()}
    environment = {f"GATEWAY_{name}": value for name, value in (chosen | {"PORT": str(port)}).items()}
    return Server("gateway", [sys.executable, "-m", "gateway", "serve"], environment, checks=True, port=port)


def node(*, webhook_url: str = "", redis_url: str = "") -> Server:
    """Start Node's Socket.IO with the two REST calls and the handlers that are measured; it checks nothing.

    ``redis_url``: join the other replicas there with the Redis adapter.
    """
    port = free_port()
    command = [*node_command(), str(ROOT / "benchmarks" / "socketio_peer.mjs"), str(port)]
    environment = {"NODE_ENV": "production", "WEBHOOK_URL": webhook_url, "REDIS_URL": redis_url}
    return Server("node", command, environment, checks=False, port=port)


def bare_sender() -> Server:
    """Start the bare sender: the most that one Python process can send over the loopback of this machine."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.bare_sender", str(port)]
    return Server("bare sender", command, {}, checks=False, port=port)


def webhook_receiver() -> Server:
    """Start the webhook that both servers call, on a core of the load."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.webhook_receiver", str(port)]
    return Server("webhook receiver", command, {}, checks=False, port=port, core=cores()[1][-1])
