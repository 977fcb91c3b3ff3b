"""The calls that push, as the OpenAPI document describes them; what all calls have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from marshmallow import Schema

from ingest_api import answers

EVENT: Final = {"event": "notification:new", "data": {"title": "hi"}}
ACKNOWLEDGED: Final = {
    "complete": True,
    "asked": 2,
    "acked": 1,
    "gone": 0,
    "silent": 1,
    "unheard": [],
    "acks": [{"sid": "~Ni9nOpTmRZ8wVwLqAAAB", "user": "42", "data": {"ok": True}, "seconds": 0.031}],
}
ID: Final = "kf3l2Yq0T8m3c9kQdR0uWA"


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One signed call, as described in the document."""

    id: str
    method: str
    path: str
    tag: str
    summary: str
    description: str
    response: type[Schema]
    response_description: str = "The broker has the message. The response does not wait for any client."
    response_examples: dict[str, Any]
    parameters: tuple[str, ...] = ()
    body: str | None = None
    body_required: bool = True
    body_examples: dict[str, Any] = field(default_factory=dict)
    statuses: tuple[int, ...] = (
        400, 401, 403, 404, 405, 408, 409, 413, 415, 417, 422, 429, 431, 500, 503, 501, 505
    )  # fmt: skip


STATUSES_OF_GET: Final = (400, 401, 403, 404, 405, 408, 413, 415, 417, 429, 431, 500, 501, 503, 505)
PUSHES: Final = (
    Operation(
        id="emitToUser",
        method="post",
        path="/emit/user/{id}",
        parameters=("UserId",),
        tag="push",
        summary="Push an event to one user",
        description="Pushes an event to every connection of the user in the namespace, on every device. Scope"
        " `emit:user`.\n\nFall back to e-mail if `connections` and `recoverable` are 0. They are read in the same step"
        " as the push, so there is no race, unlike with a query of the presence before the push.\n\nWith `ack` the"
        " response waits for acknowledgements of clients. It is 200 also if none came.",
        response=answers.EmitToUserAnswer,
        response_examples={
            "online": {"id": ID, "room": "user:42", "online": True, "connections": 2, "recoverable": 0},
            "offline": {"id": ID, "room": "user:42", "online": False, "connections": 0, "recoverable": 0},
            "acknowledged": {"id": ID, "room": "user:42", "online": True, "connections": 2, "recoverable": 0}
            | ACKNOWLEDGED,
        },
        body="Emit",
        body_examples={
            "notification": EVENT,
            "arguments": {"event": "moved", "args": [3, 4]},
            "acknowledged": EVENT | {"ack": {"want": "first", "timeout_seconds": 5}},
            "kept": EVENT | {"ttl": 3600},
        },
    ),
    Operation(
        id="emitToRoom",
        method="post",
        path="/emit/room",
        tag="push",
        summary="Push an event to rooms",
        description="Pushes an event to every connection in one room or in several. Scope `emit:room`; for rooms"
        " `user:…` scope `emit:user`; for the room of a sid `emit:user` without a glob.",
        response=answers.EmitToRoomAnswer,
        response_examples={
            "room": {"id": ID, "room": "org:7", "online": True, "connections": 12, "recoverable": 1},
            "rooms": {
                "id": ID,
                "rooms": ["org:7", "org:8"],
                "online": True,
                "connections": 30,
                "recoverable": 2,
                "exact": False,
            },
        },
        body="EmitToRoom",
        body_examples={"room": {"room": "org:7"} | EVENT, "rooms": {"rooms": ["org:7", "org:8"]} | EVENT},
    ),
    Operation(
        id="emitToUsers",
        method="post",
        path="/emit/users",
        tag="push",
        summary="Push an event to several users",
        description="Pushes an event to every connection of several users in the namespace, and returns the number of"
        " each user. Scope `emit:user` for each of them.",
        response=answers.EmitToUsersAnswer,
        response_examples={
            "users": {
                "id": ID,
                "users": {"42": 2, "43": 0},
                "online": True,
                "connections": 2,
                "recoverable": 0,
            },
        },
        body="EmitToUsers",
        body_examples={"users": {"users": ["42", "43"]} | EVENT},
    ),
    Operation(
        id="batch",
        method="post",
        path="/batch",
        tag="push",
        summary="Push several events",
        description="Pushes up to 100 messages in their order, all or none of them. Each needs the scope of its target:"
        " `emit:user`, `emit:room` or `broadcast`.",
        response=answers.BatchAnswer,
        response_examples={
            "results": {
                "results": [
                    {"id": ID, "online": True, "connections": 2, "recoverable": 0},
                    {"id": "kf3l2Yq0T8m3c9kQ-1", "online": False, "connections": 0, "recoverable": 0},
                ]
            }
        },
        body="Batch",
        body_examples={
            "messages": {
                "messages": [
                    {"to": {"user": "42"}} | EVENT,
                    {"to": {"rooms": ["org:7", "org:8"]}, "except": ["user:42"]} | EVENT,
                ]
            }
        },
    ),
    Operation(
        id="broadcast",
        method="post",
        path="/broadcast",
        tag="push",
        summary="Push an event to everyone",
        description="Pushes an event to every connection in the namespace. Scope `broadcast`.",
        response=answers.BroadcastAnswer,
        response_examples={"everyone": {"id": ID, "online": True, "connections": 5120, "recoverable": 9}},
        body="Broadcast",
        body_examples={"notification": EVENT},
    ),
)
