"""Thousands of raw clients in a process of their own: ``python -m tests.load.presence.crowd PORT SECRET``.

It reads commands and writes results, as JSON lines. The clients count the events that they get by name; the first one
also records when.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter, deque
from typing import Any, Final, Self

from benchmarks.load.clients import Client, Counts, Loop
from benchmarks.machine import ROOT, allow_many_sockets, cores, on_cores
from benchmarks.servers import Server
from tests.support.tokens import token

AT_ONCE: Final = 100
PER_USER: Final = 100
"""Connections of each user, so that 10 000 of them are 100 changes of presence and not 10 000."""
LIMIT_SECONDS: Final = 120.0
SILENT_SECONDS: Final = 20.0
LIST: Final = b"onlineUsers"


class CrowdProcess:
    """The clients as their parent uses them; a context manager. They run on a core of the load."""

    def __init__(self, server: Server) -> None:
        with on_cores(set(cores()[1])):
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "tests.load.presence.crowd",
                    str(server.port),
                    server.jwt_secret or "",
                ],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()

    def connect(self, count: int) -> None:
        """Connect clients, PER_USER of each user; return once all are connected."""
        self._execute("connect", count=count)

    def come_and_leave(self, *, seconds: float, per_second: float) -> dict[str, Any]:
        """Connect further users for some seconds, each for a short time; return what was counted meanwhile.

        ``events``: deliveries to the clients that stay, by name. ``times``: when the first client got each event of a
        name, in seconds. ``came``: how many users connected.
        """
        return self._execute("come_and_leave", seconds=seconds, per_second=per_second)

    def rest(self) -> dict[str, Any]:
        """Read until nothing was received for two seconds; return what was counted since users came and left.

        If a client got less than the first one, read until nothing was received for SILENT_SECONDS.
        """
        return self._execute("rest")

    def _execute(self, do: str, **command: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do} | command) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the clients ended"
        found: dict[str, Any] = json.loads(line)
        return found


class CrowdClient(Client):
    """A client that counts the events that it gets."""

    __slots__ = ("_crowd",)

    def __init__(self, crowd: Crowd, counts: Counts, *, number: int, user: str) -> None:
        self._crowd = crowd
        signed = token(user, crowd.secret)
        super().__init__(crowd.loop, counts, number=number, port=crowd.port, token=signed, deflate=False)

    def _handle_packet(self, data: bytes, start: int, stop: int) -> None:
        if self.number >= self._crowd.staying and data.startswith(b"42", start, stop):
            return
        if data.startswith(b'42["', start, stop):
            name = data[start + 4 : data.index(b'"', start + 4, stop)]
            self._crowd.events[name] += 1
            if self.number == 0:
                self._crowd.times.append((name, time.monotonic()))
            return
        try:
            super()._handle_packet(data, start, stop)
        except OSError:  # the gateway disconnected the client, which read too slowly
            if self.socket.fileno() >= 0:
                self._on_disconnect()


class Crowd:
    """All clients of this process."""

    def __init__(self, port: int, secret: str) -> None:
        self.port, self.secret = port, secret
        self.loop = Loop()
        self.events: Counter[bytes] = Counter()
        self.times: list[tuple[bytes, float]] = []
        self._clients: list[CrowdClient] = []
        self._counts, self._others = Counts(), Counts()
        self._came = 0
        self.staying = 0
        """How many clients stay connected: those with the numbers below."""

    def connect(self, count: int) -> dict[str, Any]:
        self.staying = count
        for number in range(count):
            self._turn_until(lambda: len(self._clients) - self._counts.connected < AT_ONCE)
            client = CrowdClient(self, self._counts, number=number, user=f"u{number // PER_USER}")
            self._clients.append(client)
        self._turn_until(lambda: self._counts.connected == count)
        self._read_until_silent(2.0)
        return self._result()

    def come_and_leave(self, seconds: float, per_second: float) -> dict[str, Any]:
        self._forget()
        began_at, first, others = time.monotonic(), self._came, deque[CrowdClient]()
        while (passed := time.monotonic() - began_at) < seconds:
            while self._came - first < passed * per_second:
                number = len(self._clients) + self._came
                others.append(CrowdClient(self, self._others, number=number, user=f"c{self._came}"))
                self._came += 1
            while len(others) > per_second:
                others.popleft().close()
            self.loop.turn(0.01)
        for each in others:
            each.close()
        return self._result() | {"came": self._came - first, "seconds": time.monotonic() - began_at}

    def rest(self) -> dict[str, Any]:
        self._read_until_silent(2.0)
        if not self._is_complete():
            self._read_until_silent(SILENT_SECONDS)
        return self._result()

    def _read_until_silent(self, seconds: float) -> None:
        """Read until nothing was received for some seconds."""
        last, changed_at = -1, time.monotonic()
        while time.monotonic() - changed_at < seconds:
            self.loop.turn(0.05)
            if (now := self.events.total()) != last:
                last, changed_at = now, time.monotonic()

    def _is_complete(self) -> bool:
        """Whether each client got as many announcements as the first one."""
        first = sum(name != LIST for name, _ in self.times)
        return self.events.total() - self.events[LIST] == self.staying * first

    def _forget(self) -> None:
        self.events.clear()
        self.times.clear()

    def _result(self) -> dict[str, Any]:
        times: dict[str, list[float]] = {}
        for name, at in self.times:
            times.setdefault(name.decode(), []).append(at)
        return {
            "events": {name.decode(): count for name, count in self.events.items()},
            "times": times,
            "disconnected": self._counts.disconnected + self._counts.failed,
        }

    def _turn_until(self, holds: Any) -> None:
        began_at = time.monotonic()
        while not holds():
            assert time.monotonic() - began_at < LIMIT_SECONDS, self._counts.as_dict()
            self.loop.turn(0.05)


def main() -> None:
    """Execute commands until stdin ends; read the clients meanwhile."""
    allow_many_sockets()
    crowd = Crowd(int(sys.argv[1]), sys.argv[2])
    commands: deque[str] = deque()
    ended = False

    def read() -> None:
        nonlocal ended
        data = os.read(sys.stdin.fileno(), 65536)
        ended = not data
        commands.extend(data.decode().splitlines())

    crowd.loop.watch(sys.stdin.fileno(), read)
    while not ended:
        crowd.loop.turn(1.0)
        while commands:
            command = json.loads(commands.popleft())
            sys.stdout.write(json.dumps(getattr(crowd, command.pop("do"))(**command)) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
