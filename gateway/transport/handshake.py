"""The handshake of Engine.IO 4: what is kept of the request, and the packet that answers it."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from gateway.transport import packets
from gateway.transport.packets import Frames


@dataclass(frozen=True, slots=True)
class Handshake:
    """What is kept of the request that opened a session."""

    authorization: str | None
    query_token: str | None
    address: str
    """Of the client, as far as it is known."""
    declines_recovery: bool = False
    """Asked by the query not to be given positions."""


def open_packet(
    sid: str,
    *,
    upgrades: list[str],
    ping_interval_seconds: float,
    ping_timeout_seconds: float,
    max_payload_bytes: int,
) -> Frames:
    """§Handshake: the sid, what the session may upgrade to, and the limits; times go out in milliseconds."""
    body = {
        "sid": sid,
        "upgrades": upgrades,
        "pingInterval": round(ping_interval_seconds * 1000),
        "pingTimeout": round(ping_timeout_seconds * 1000),
        "maxPayload": max_payload_bytes,
    }
    return Frames(packets.OPEN + orjson.dumps(body).decode())
