"""Raw clients that each send an event, and pushes and events for another webhook beside them."""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.load import frames
from benchmarks.load.backends import Connection, Pushes
from benchmarks.load.clients import Client, Counts, Loop
from benchmarks.load.deliveries import FIRST, DeliveryRecorder
from benchmarks.servers import Server
from tests.support.metrics import read_metrics
from tests.support.tokens import token

OK: Final = "ok"
AT_ONCE: Final = 300
BACKENDS: Final = 16
PUSHED_USERS: Final = 1000
PUSH_BYTES: Final = 64
SLICE_SECONDS: Final = 0.5
LIMIT_SECONDS: Final = 240.0
"""Only a run that fails waits so long."""
OnAck = Callable[[int, Any], None]


class StormClient(Client):
    """A raw client whose acknowledgements are read."""

    __slots__ = ("_on_ack",)

    def __init__(
        self, loop: Loop, counts: Counts, on_ack: OnAck, *, number: int, port: int, token: str
    ) -> None:
        self._on_ack = on_ack
        super().__init__(loop, counts, number=number, port=port, token=token, deflate=False)

    def _handle_packet(self, data: bytes, start: int, stop: int) -> None:
        if data.startswith(b"43", start, stop):
            arguments = data.index(b"[", start)
            self._on_ack(int(data[start + 2 : arguments]), json.loads(data[arguments:stop]))
        else:
            super()._handle_packet(data, start, stop)


@dataclass
class Round:
    """What came of one event of each client. Times are in seconds."""

    sent_at: dict[int, float] = field(default_factory=dict)
    """When each event was sent, by the number of its acknowledgement."""
    answered: dict[str, list[float]] = field(default_factory=dict)
    """The times until the answers, by their code."""
    others: list[float] = field(default_factory=list)
    """The times until the answers of the other webhook."""
    wrong: list[Any] = field(default_factory=list)
    """Answers of the other webhook that are errors."""
    pushes: list[float] = field(default_factory=list)
    """The times from a push to its delivery."""

    @property
    def codes(self) -> Counter[str]:
        """How many answers there are of each code."""
        return Counter({code: len(times) for code, times in self.answered.items()})

    def percentile(self, code: str, share: float) -> float:
        return percentile(self.answered[code], share)


class PushRecorder(DeliveryRecorder):
    """Records the latency of each push in the round during which it was sent."""

    __slots__ = ("rounds",)

    def __init__(self, messages: int) -> None:
        super().__init__(messages, 1)  # one client gets each
        self.rounds: list[Round] = []

    def record(self, seq: int, now: float) -> None:
        super().record(seq, now)
        index = seq - FIRST
        if 0 <= index < len(self.rounds):
            self.rounds[index].pushes.append(now - self.sent_at[index])


class Storm:
    """The clients ``u0`` and up of one gateway; used by one thread, which runs ``loop`` too."""

    def __init__(self, server: Server, loop: Loop) -> None:
        self._server = server
        self._loop = loop
        self._counts = Counts()
        self._clients: list[StormClient] = []
        self._numbers = itertools.count(1)
        self._rounds: dict[int, Round] = {}
        self._other_sent_at: dict[int, tuple[Round, float]] = {}
        self.repeated: list[int] = []
        """Numbers of acknowledgements that nothing, or nothing any more, waits for."""

        self.peak_rss_bytes = 0
        """The most memory that the gateway had while the loop ran."""

    @property
    def disconnected(self) -> int:
        return self._counts.disconnected + self._counts.failed

    def connect(self, count: int) -> None:
        """Connect clients; return once all are connected."""
        for number in range(count):
            self.turn_until(lambda: len(self._clients) - self._counts.connected < AT_ONCE, "clients connect")
            signed = token(f"u{number}", self._server.jwt_secret or "")
            client = StormClient(
                self._loop, self._counts, self._on_ack, number=number, port=self._server.port, token=signed
            )
            self._clients.append(client)
        self.turn_until(lambda: self._counts.connected == count, "all clients are connected")

    def send(self, event: str, *, clients: int | None = None) -> Round:
        """Send one event of each client, all at once."""
        done = Round()
        for client in self._clients[:clients]:
            self._send(done, client, event)
        return done

    def send_into(self, into: Round, event: str) -> None:
        """Send one event more, of another client each time."""
        self._send(into, self._clients[len(into.sent_at) % len(self._clients)], event)

    def pace(
        self,
        *events: str,
        clients: int | None = None,
        per_second: float,
        pushes_per_second: float,
        window: int = sys.maxsize,
    ) -> list[Round]:
        """Send one event of each client at a rate, beside it pushes and events for the other webhook.

        The events take turns of SLICE_SECONDS; at most ``window`` of them are unanswered. Return a round for each,
        once everything is answered and delivered.
        """
        senders = self._clients[:clients]
        rounds = [Round() for _ in events]
        seconds = len(senders) / per_second
        requests = Pushes(
            int(seconds * pushes_per_second), PUSH_BYTES, range(PUSHED_USERS), self._server.ingest_key
        ).prepare(self._server.port)
        recorder = self._counts.recorder = PushRecorder(len(requests))
        backends = [Connection(self._loop, self._server.port) for _ in range(BACKENDS)]
        others = senders[: len(requests) // 10]
        sent = asked = 0
        began_at = time.monotonic()

        def step() -> bool:
            nonlocal sent, asked
            passed = time.monotonic() - began_at
            turn = int(passed / SLICE_SECONDS) % len(events)
            answers = sum(sum(each.codes.values()) for each in rounds)
            while sent < min(len(senders), passed * per_second, answers + window):
                self._send(rounds[turn], senders[sent], events[turn])
                sent += 1
            while asked < min(len(others), passed * pushes_per_second / 10):
                self._send_other(rounds[turn], others[asked])
                asked += 1
            _push(backends, requests, recorder, passed * pushes_per_second, rounds[turn])
            return (
                answers == len(senders)
                and sum(len(each.others) for each in rounds) == len(others)
                and len(recorder.rounds) == len(requests)
                and recorder.outstanding <= 0
            )

        self.turn_until(step, "events are answered and pushes are delivered", wait_seconds=0.001)
        assert [answer for backend in backends for answer in backend.bad] == []
        for backend in backends:
            backend.close()
        return rounds

    def turn_until(self, holds: Callable[[], bool], description: str, *, wait_seconds: float = 0.02) -> float:
        """Run the loop until the condition holds; return the seconds that it took."""
        began_at = time.monotonic()
        while not holds():
            self.peak_rss_bytes = max(self.peak_rss_bytes, self._server.rss_bytes())
            passed = time.monotonic() - began_at
            assert passed < LIMIT_SECONDS, f"not within {LIMIT_SECONDS:.0f} s: {description}"
            self._loop.turn(wait_seconds)
        return time.monotonic() - began_at

    def metric(self, name: str, webhook: str) -> float:
        """Read one sample of the page of metrics that has the label of a webhook."""
        page = read_metrics(self._server.url)
        (line,) = [each for each in page.splitlines() if f'{name}{{webhook="{webhook}"}}' in each]
        return float(line.rpartition(" ")[2])

    def close(self) -> None:
        for client in self._clients:
            client.close()

    def _send(self, into: Round, client: StormClient, event: str) -> None:
        number = next(self._numbers)
        self._rounds[number] = into
        into.sent_at[number] = time.monotonic()
        client.socket.send(frames.event_with_ack(number, event))

    def _send_other(self, into: Round, client: StormClient) -> None:
        number = next(self._numbers)
        self._other_sent_at[number] = (into, time.monotonic())
        client.socket.send(frames.event_with_ack(number, "other"))

    def _on_ack(self, number: int, arguments: Any) -> None:
        now = time.monotonic()
        (answer,) = arguments
        if number in self._other_sent_at:
            into, sent_at = self._other_sent_at.pop(number)
            into.others.append(now - sent_at)
            if "error" in answer:
                into.wrong.append(answer)
            return
        round_ = self._rounds.pop(number, None)
        if round_ is None:
            self.repeated.append(number)
            return
        code = answer["error"]["code"] if "error" in answer else OK
        round_.answered.setdefault(code, []).append(now - round_.sent_at[number])


def _push(
    backends: Sequence[Connection],
    requests: Sequence[bytes],
    recorder: PushRecorder,
    due: float,
    into: Round,
) -> None:
    """Send the requests that are due, on connections that are idle."""
    for backend in backends:
        number = len(recorder.rounds)
        if number >= min(len(requests), due):
            break
        if not backend.busy:
            recorder.sent_at[number] = time.monotonic()
            recorder.outstanding += 1
            recorder.rounds.append(into)
            backend.send(requests[number])


def percentile(times: Sequence[float], share: float) -> float:
    """Return the time within which this share of all is; 0.0 of nothing."""
    ordered = sorted(times) or [0.0]
    return ordered[round(share * (len(ordered) - 1))]
