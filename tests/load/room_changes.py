"""Measure how late messages are while everyone joins a room: ``python -m tests.load.room_changes``.

One gateway with Redis, and 5 000 raw clients; with a number, so many. A backend sends a message to a further client
every few milliseconds: before, while everyone but that client joins a room, and while everyone leaves it again. Prints
how late the messages arrived (median, largest), and how long the requests took. Exit status 1 if a message or a client
is missing.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from benchmarks.load.clients import Client, Counts, Loop
from benchmarks.machine import allow_many_sockets
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer

CONNECTIONS = int(sys.argv[1]) if sys.argv[1:] else 5_000
PER_USER, AT_ONCE = 50, 100
EVERY_SECONDS, QUIET_SECONDS = 0.005, 2.0
ROOM, PROBE = "hall", "probe"


class ProbeClient(Client):
    """A client that records when it got each message."""

    __slots__ = ("arrived",)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.arrived: dict[int, float] = {}
        super().__init__(*arguments, **options)

    def _handle_packet(self, data: bytes, start: int, stop: int) -> None:
        if data.startswith(b'42["probe",', start, stop):
            self.arrived[int(data[start + 11 : stop].split(b",")[0].rstrip(b"]"))] = time.monotonic()
        else:
            super()._handle_packet(data, start, stop)


class Probe:
    """Sends messages to the probe client from a thread of its own, while a scene is played."""

    def __init__(self, gateway: GatewayProcess, client: ProbeClient) -> None:
        self._gateway, self._client = gateway, client
        self._sent: dict[int, float] = {}
        self._number = 0

    def play(self, name: str, scene: Callable[[], str], turn: Callable[[], None]) -> None:
        """Print how late the messages were during a scene."""
        first, found = self._number, list[str]()
        acting = threading.Thread(target=lambda: found.append(scene()))
        sending = threading.Thread(target=self._send, args=(acting,))
        acting.start()
        sending.start()
        while sending.is_alive() or len(self._client.arrived) < self._number:
            turn()
        late = [self._client.arrived[each] - self._sent[each] for each in range(first, self._number)]
        print(
            f"{name:8} {len(late):6} messages, median {statistics.median(late) * 1000:7.1f} ms,"
            f" largest {max(late) * 1000:7.1f} ms; {found[0]}",
            flush=True,
        )

    def _send(self, acting: threading.Thread) -> None:
        while acting.is_alive():
            number, self._sent[self._number] = self._number, time.monotonic()
            answer = self._gateway.backend.push_user(PROBE, "probe", number)
            assert answer.status == 200, answer
            self._number += 1
            time.sleep(EVERY_SECONDS)


def main() -> None:
    """Run it and print the table."""
    allow_many_sockets()
    server = RedisServer()
    gateway = GatewayProcess(
        redis_url=server.url, connect_rate=100_000, max_connections_per_user=2 * PER_USER
    )
    try:
        _run(gateway)
    finally:
        gateway.stop()
        server.stop()


def _run(gateway: GatewayProcess) -> None:
    loop, counts = Loop(), Counts()
    port = gateway.ports[0]

    def turn() -> None:
        loop.turn(0.01)

    def make(kind: type[Client], number: int, user: str) -> Client:
        return kind(loop, counts, number=number, port=port, token=gateway.token(user), deflate=False)

    probe = ProbeClient(
        loop, counts, number=CONNECTIONS, port=port, token=gateway.token(PROBE), deflate=False
    )
    clients = []
    for number in range(CONNECTIONS):
        clients.append(make(Client, number, f"u{number // PER_USER}"))
        while number + 2 - counts.connected > AT_ONCE:
            turn()
    while counts.connected <= CONNECTIONS:
        turn()

    def change(target: str) -> str:
        body = {"who": "everyone", "rooms": [ROOM], "except": [f"user:{PROBE}"]}
        began = time.perf_counter()
        answer = gateway.backend.post(target, body)
        took = time.perf_counter() - began
        assert answer.status == 200, answer
        time.sleep(QUIET_SECONDS)  # what the response did not wait for
        present = gateway.backend.push_room(ROOM, "there").body["connections"]
        assert present == (CONNECTIONS if target == "/join" else 0), present
        return f"{target} took {took:.2f} s, then {present} connections in the room"

    def wait() -> str:
        time.sleep(QUIET_SECONDS)
        return "no change"

    scenes = Probe(gateway, probe)
    scenes.play("before", wait, turn)
    scenes.play("join", lambda: change("/join"), turn)
    scenes.play("leave", lambda: change("/leave"), turn)
    assert not counts.disconnected, counts.disconnected


if __name__ == "__main__":
    main()
