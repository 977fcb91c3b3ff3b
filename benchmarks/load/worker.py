"""The program of one load process: it reads commands and writes results, as JSON lines on stdin and stdout.

``benchmarks.load.generator`` starts it as ``python -m benchmarks.load.worker``; it is not meant to be started by hand.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from typing import Any

from benchmarks.load import client_events, frames
from benchmarks.load.backends import Pushes, publish
from benchmarks.load.clients import Client, Counts, Loop
from benchmarks.load.deliveries import DeliveryRecorder
from tests.support.tokens import token

TIMEOUT_SECONDS = 60.0


class Worker:
    """The clients of this process."""

    def __init__(self) -> None:
        self._loop = Loop()
        self._counts = Counts()
        self._clients: list[Client] = []
        self._commands: deque[dict[str, Any]] = deque()
        self._rest = b""
        self._stopped = False
        self._loop.watch(sys.stdin.fileno(), self._read_commands)

    def run(self) -> None:
        """Execute commands until stdin ends."""
        while not self._stopped:
            self._loop.turn(1.0)
            while self._commands:
                command = self._commands.popleft()
                answer = getattr(self, command.pop("do"))(**command)
                sys.stdout.write(json.dumps(answer) + "\n")
                sys.stdout.flush()

    # commands

    def connect(
        self,
        *,
        port: int,
        first: int,
        count: int,
        secret: str | None,
        at_once: int,
        deflate: bool,
        role: str | None,
        rooms: int = 0,
        stamped: bool = False,
    ) -> dict[str, Any]:
        """Connect users ``u<first>`` and up; return once all are connected or rejected.

        ``rooms``: how many rooms each token names besides; all tokens name the same ones.
        """
        users = range(first, first + count)
        tokens = [_token(user, secret, role, rooms) for user in users]
        counts, began_at = self._counts, time.monotonic()
        before = counts.connected + counts.failed
        for index, user in enumerate(users):
            while index - (counts.connected + counts.failed - before) >= at_once:
                self._wait(began_at)
            client = Client(
                self._loop,
                counts,
                number=user,
                port=port,
                token=tokens[index],
                deflate=deflate,
                stamped=stamped,
            )
            self._clients.append(client)
        while counts.connected + counts.failed - before < count:
            self._wait(began_at)
        return self.count() | {"seconds": time.monotonic() - began_at}

    def expect(self, messages: int, clients: int) -> dict[str, Any]:
        """Reset the recorder; ``clients`` of this process will receive each of ``messages`` messages."""
        self._counts.recorder = DeliveryRecorder(messages, clients)
        return self.count()

    def publish(
        self,
        *,
        port: int,
        count: int,
        size: int,
        users: list[int],
        key: list[str] | None,
        connections: int,
        window: int,
        rate: float,
        pause: float,
        together: int = 1,
        recipients: int = 1,
        rooms: bool = False,
    ) -> dict[str, Any]:
        """Push to users ``users[0]`` up to ``users[1]``, or broadcast; call ``expect`` before."""
        signing = (key[0], key[1]) if key else None
        requests = Pushes(count, size, range(*users), signing, together, recipients, rooms).prepare(port)
        done = publish(
            self._loop,
            port,
            self._counts.recorder,
            requests,
            connections=connections,
            window=window,
            rate=rate,
            pause_seconds=pause,
            together=together,
        )
        return done | self.count()

    def refresh(
        self, *, first: int, count: int, secret: str, role: str | None, at_once: int
    ) -> dict[str, Any]:
        """Refresh the tokens of the newest ``count`` clients; ``first`` is the user of the oldest of them."""
        clients = self._clients[-count:]
        events = [
            frames.event_with_ack(1, "auth:refresh", _token(first + index, secret, role))
            for index in range(count)
        ]
        before, began_at = self._counts.acks, time.monotonic()
        for index, client in enumerate(clients):
            while index - (self._counts.acks - before) >= at_once:
                self._wait(began_at)
            client.socket.send(events[index])
        while self._counts.acks - before < count:
            self._wait(began_at)
        return self.count()

    def join(self, *, per_room: int, at_once: int) -> dict[str, Any]:
        """Let each client join its room; return once all are acknowledged."""
        before, began_at = self._counts.acks, time.monotonic()
        for index, client in enumerate(self._clients):
            while index - (self._counts.acks - before) >= at_once:
                self._wait(began_at)
            room = client_events.room_of(client.number, per_room)
            client.socket.send(frames.event_with_ack(1, "joinRoom", room))
        while self._counts.acks - before < len(self._clients):
            self._wait(began_at)
        return self.count()

    def emit(
        self,
        *,
        event: str,
        count: int,
        size: int,
        per_room: int,
        ack: bool,
        window: int,
        rate: float,
        pause: float,
    ) -> dict[str, Any]:
        """Let the clients emit ``count`` events in turn; call ``expect`` before."""
        prepared = client_events.Emits(event, count, size, per_room, ack).prepare(self._clients)
        done = client_events.emit(
            self._loop, self._counts.recorder, prepared, window=window, rate=rate, pause_seconds=pause
        )
        return done | self.count()

    def disconnect(self, count: int) -> dict[str, Any]:
        """Close the newest ``count`` clients."""
        for client in self._clients[len(self._clients) - count :]:
            client.close()
        del self._clients[len(self._clients) - count :]
        return self.count()

    def count(self) -> dict[str, Any]:
        """Return the counters of the clients so far, and the CPU time of this process."""
        return self._counts.as_dict() | {"cpu_seconds": time.process_time(), "at": time.monotonic()}

    # the loop

    def _wait(self, since: float) -> None:
        self._loop.turn(0.05)
        if time.monotonic() - since > TIMEOUT_SECONDS:
            raise TimeoutError(f"a command was not executed within {TIMEOUT_SECONDS:.0f} s: {self.count()}")

    def _read_commands(self) -> None:
        data = os.read(sys.stdin.fileno(), 65536)
        self._stopped = not data
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._commands.extend(json.loads(line) for line in lines)


def _token(user: int, secret: str | None, role: str | None, rooms: int = 0) -> str:
    """Return a JSON Web Token, or the bare user name for a server that checks nothing."""
    if secret is None:
        return f"u{user}"
    named = [f"r{room}" for room in range(rooms)] or None
    return token(f"u{user}", secret, role=role and role.format(user // 10), rooms=named)


if __name__ == "__main__":
    Worker().run()
