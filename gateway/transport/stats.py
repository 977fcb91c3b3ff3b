"""What all Engine.IO sessions hold at one moment, and the gauges that show it.

Nothing is counted while sessions send: all sessions are read once before each scrape.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.metrics import MetricFactory
from gateway.transport.session import EngineSession

_STEP: Final = 512
"""Sessions between two turns of the event loop: a loop over 20 000 would block it for some milliseconds."""


@dataclass(slots=True)
class SessionStats:
    """``by_transport`` counts sessions. Waiting bytes are those in this process, without those that the kernel took."""

    by_transport: dict[str, int] = field(default_factory=lambda: {"polling": 0, "websocket": 0})
    waiting_bytes: int = 0
    largest_bytes: int = 0
    waiting_sessions: int = 0


async def collect_stats(sessions: Collection[EngineSession]) -> SessionStats:
    """Read each session once. A session that is opened or closed meanwhile may be counted or not."""
    found, all_sessions = SessionStats(), list(sessions)
    for start in range(0, len(all_sessions), _STEP):
        for session in all_sessions[start : start + _STEP]:
            _add(session, found)
        await asyncio.sleep(0)
    return found


def _add(session: EngineSession, found: SessionStats) -> None:
    if session.is_closed:
        return
    found.by_transport[session.transport] += 1
    waiting = session.bytes_waiting
    if waiting:
        found.waiting_bytes += waiting
        found.waiting_sessions += 1
        found.largest_bytes = max(found.largest_bytes, waiting)


def create_stats_metrics(sessions: Mapping[str, EngineSession], metrics: MetricFactory) -> None:
    """Create the gauges of SessionStats. They have no series before the first scrape has collected one."""
    found: SessionStats | None = None

    async def update() -> None:
        nonlocal found
        found = await collect_stats(sessions.values())

    metrics.before_scrape.append(update)
    metrics.callback_gauge(
        "engineio_sessions",
        "Open Engine.IO sessions, by transport.",
        ("transport",),
        read=lambda: (
            {} if found is None else {(name,): number for name, number in found.by_transport.items()}
        ),
    )
    metrics.callback_gauge(
        "send_buffer_bytes",
        "Bytes that wait in this process to be sent to clients, in total.",
        read=lambda: {} if found is None else found.waiting_bytes,
    )
    metrics.callback_gauge(
        "send_buffer_largest_bytes",
        "Bytes that wait for the one client with the most waiting bytes.",
        read=lambda: {} if found is None else found.largest_bytes,
    )
    metrics.callback_gauge(
        "send_buffer_waiting_sessions",
        "Engine.IO sessions with waiting bytes.",
        read=lambda: {} if found is None else found.waiting_sessions,
    )
