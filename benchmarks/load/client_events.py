"""Clients that emit events: at most ``window`` without their delivery or acknowledgement, or at a given rate."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.load import frames
from benchmarks.load.clients import Client, Loop
from benchmarks.load.deliveries import FIRST, DeliveryRecorder

STALLED_SECONDS = 3.0


def room_of(number: int, per_room: int) -> str:
    """Return the room of a client; clients with neighbouring numbers share one."""
    return f"room-{number // per_room}"


@dataclass(frozen=True)
class Emits:
    """The events of one run. The clients emit in turn, and no room twice in succession."""

    event: str
    count: int
    size: int
    per_room: int
    ack: bool

    def prepare(self, clients: Sequence[Client]) -> list[tuple[Client, bytes]]:
        """Encode whole frames, each with the client that sends it."""
        order = [client for start in range(self.per_room) for client in clients[start :: self.per_room]]
        text = "x" * self.size
        prepared = []
        for index in range(self.count):
            client = order[index % len(order)]
            data = {"room": room_of(client.number, self.per_room), "seq": FIRST + index, "text": text}
            frame = (
                frames.event_with_ack(index, self.event, data) if self.ack else frames.event(self.event, data)
            )
            prepared.append((client, frame))
        return prepared


def emit(
    loop: Loop,
    recorder: DeliveryRecorder,
    prepared: Sequence[tuple[Client, bytes]],
    *,
    window: int,
    rate: float,
    pause_seconds: float,
) -> dict[str, object]:
    """Send the events; return when each had its deliveries, or nothing was received for STALLED_SECONDS.

    ``rate``: events each second, 0 for no limit. ``pause_seconds`` as in ``backends.publish``.
    """
    sent, count = 0, len(prepared)
    began_at, began_cpu = time.monotonic(), time.process_time()
    progress, progress_at = -1, began_at
    while sent < count or recorder.outstanding > 0:
        now = time.monotonic()
        while sent < count and recorder.outstanding < window and (not rate or now >= began_at + sent / rate):
            client, frame = prepared[sent]
            recorder.sent_at[sent] = time.monotonic()
            recorder.outstanding += 1
            client.socket.send(frame)
            sent += 1
        if sent + recorder.deliveries != progress:
            progress, progress_at = sent + recorder.deliveries, now
        if now - progress_at > STALLED_SECONDS:
            break
        loop.turn(0.001 if rate else 0.05)
        if pause_seconds:
            time.sleep(pause_seconds)
    return {
        "events_per_second": count / (recorder.last_at - began_at),
        "cpu_share": (time.process_time() - began_cpu) / (time.monotonic() - began_at),
        "undelivered": recorder.outstanding + count - sent,
        "latency": recorder.percentiles(),
    }
