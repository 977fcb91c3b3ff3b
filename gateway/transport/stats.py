"""What all transport sessions hold at one moment: looked up when somebody asks, counted by nobody while they send."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from gateway.transport.session import EngineSession

_STEP: Final = 512
"""Sessions between two turns of the event loop: a walk over 20 000 would hold everybody up for some milliseconds."""


@dataclass(slots=True)
class SessionStats:
    """``by_transport`` counts sessions; bytes wait in this process, beside what the kernel has taken over."""

    by_transport: dict[str, int] = field(default_factory=lambda: {"polling": 0, "websocket": 0})
    waiting_bytes: int = 0
    largest_bytes: int = 0
    waiting_sessions: int = 0


async def collect_stats(sessions: Collection[EngineSession]) -> SessionStats:
    """Look at each of them once; who comes or goes meanwhile may be in it or not."""
    found, everybody = SessionStats(), list(sessions)
    for start in range(0, len(everybody), _STEP):
        for session in everybody[start : start + _STEP]:
            _add(session, found)
        await asyncio.sleep(0)
    return found


def _add(session: EngineSession, found: SessionStats) -> None:
    if session.closed:
        return
    found.by_transport[session.transport] += 1
    waiting = session.bytes_waiting
    if waiting:
        found.waiting_bytes += waiting
        found.waiting_sessions += 1
        found.largest_bytes = max(found.largest_bytes, waiting)
