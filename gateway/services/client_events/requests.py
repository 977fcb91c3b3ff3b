"""What a webhook gets of a client event: neither the token nor its claims. Pure."""

from __future__ import annotations

import json

import orjson

from gateway.domain.attachments import with_base64
from gateway.domain.errors import ClientEventRejected
from gateway.domain.times import iso_timestamp
from gateway.services.client_events.queue import ReceivedEvent

CALL = "call"
NOTIFY = "notify"


def request_data(received: ReceivedEvent, *, replica: str) -> dict[str, object]:
    """Return the ``data`` of a call."""
    return _data(received, CALL, replica) | {"sequence": None}


def notification_data(received: ReceivedEvent, *, replica: str) -> str:
    """Return the ``data`` of a notification as JSON text, without ``sequence``: the queue numbers it.

    Raises: ClientEventRejected (``invalid_payload``) for what JSON in UTF-8 cannot hold.
    """
    data = _data(received, NOTIFY, replica)
    try:
        return orjson.dumps(data).decode()
    except TypeError:
        pass
    try:
        # Claims of a token may hold larger integers than orjson writes.
        text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError, RecursionError):
        raise ClientEventRejected(
            "invalid_payload",
            "the event holds what JSON in UTF-8 cannot: half a surrogate pair",
        ) from None
    return text


def _data(received: ReceivedEvent, mode: str, replica: str) -> dict[str, object]:
    connection = received.connection
    pointers: list[str] = []
    is_plain = received.are_plain  # Then there is no buffer to look for.
    arguments = list(received.arguments) if is_plain else with_base64(received.arguments, "/args", pointers)
    return {
        "namespace": connection.namespace,
        "event": received.name,
        "args": arguments,
        **({"binary": pointers} if pointers else {}),
        "wants_ack": received.acknowledge is not None,
        "mode": mode,
        "connection": {
            "sid": connection.sid,
            "user": connection.user,
            "rooms": sorted(connection.rooms - {connection.sid}),
            "data": connection.data,
            "connected_at": iso_timestamp(connection.connected_at),
            "replica": replica,
        },
    }
