"""The calls in the OpenAPI document, with their texts and examples."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from marshmallow import Schema

from ingest_api import answers

_EVENT: Final = {"event": "notification:new", "data": {"title": "hi"}}
_ID: Final = "kf3l2Yq0T8m3c9kQdR0uWA"


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


_STATUSES_OF_GET: Final = (400, 401, 403, 404, 405, 408, 413, 415, 417, 429, 431, 500, 501, 503, 505)
OPERATIONS: Final = (
    Operation(
        id="emitToUser",
        method="post",
        path="/emit/user/{id}",
        parameters=("UserId",),
        tag="push",
        summary="Push an event to one user",
        description="Pushes an event to every connection of the user in the namespace, on every device. Scope"
        " `emit:user`.\n\nFall back to e-mail if `connections` and `recoverable` are 0. They are read in the same step"
        " as the push, so there is no race, unlike with a query of the presence before the push.",
        response=answers.EmitToUserAnswer,
        response_examples={
            "online": {"id": _ID, "room": "user:42", "online": True, "connections": 2, "recoverable": 0},
            "offline": {"id": _ID, "room": "user:42", "online": False, "connections": 0, "recoverable": 0},
        },
        body="Emit",
        body_examples={"notification": _EVENT, "arguments": {"event": "moved", "args": [3, 4]}},
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
            "room": {"id": _ID, "room": "org:7", "online": True, "connections": 12, "recoverable": 1},
            "rooms": {
                "id": _ID,
                "rooms": ["org:7", "org:8"],
                "online": True,
                "connections": 30,
                "recoverable": 2,
                "exact": False,
            },
        },
        body="EmitToRoom",
        body_examples={"room": {"room": "org:7"} | _EVENT, "rooms": {"rooms": ["org:7", "org:8"]} | _EVENT},
    ),
    Operation(
        id="broadcast",
        method="post",
        path="/broadcast",
        tag="push",
        summary="Push an event to everyone",
        description="Pushes an event to every connection in the namespace. Scope `broadcast`.",
        response=answers.BroadcastAnswer,
        response_examples={"everyone": {"id": _ID, "online": True, "connections": 5120, "recoverable": 9}},
        body="Emit",
        body_examples={"notification": _EVENT},
    ),
    Operation(
        id="presence",
        method="get",
        path="/presence/{id}",
        parameters=("UserId",),
        tag="users",
        summary="Get the connections of a user",
        description="Returns the user's connections in all namespaces and on all replicas, in one read. Scope"
        " `presence`.",
        response=answers.PresenceAnswer,
        response_description="The user's connections. An unknown user has none.",
        response_examples={
            "offline": {
                "user": "42",
                "online": False,
                "connections": [],
                "last_seen": "2026-11-21T09:58:00.123Z",
                "recoverable": 0,
            }
        },
        statuses=_STATUSES_OF_GET,
    ),
    Operation(
        id="disconnectUser",
        method="post",
        path="/disconnect/user/{id}",
        parameters=("UserId",),
        tag="users",
        summary="Disconnect a user",
        description="Closes the user's connections in one namespace or in all. The stock client does not reconnect by"
        " itself. Scope `admin`.",
        response=answers.DisconnectAnswer,
        response_description="The broker has the disconnect command. The response does not wait for any client.",
        response_examples={"two": {"disconnected": 2}},
        body="Disconnect",
        body_required=False,
        body_examples={"everything": {}, "logout": {"revoke": True}},
    ),
    Operation(
        id="webhooks",
        method="get",
        path="/webhooks",
        tag="webhooks",
        summary="List the webhooks",
        description="Returns each configured webhook with what its queue holds, in one read. Scope `admin`.",
        response=answers.WebhooksAnswer,
        response_description="The configured webhooks.",
        response_examples={
            "waiting": {
                "webhooks": [
                    {
                        "id": "app",
                        "entries": 12,
                        "bytes": 4096,
                        "lag_seconds": 1.5,
                        "dead_letters": 1,
                        "partitions": 2,
                        "owners": {"gateway-0": [0], "gateway-1": [1]},
                        "circuit_open": False,
                    }
                ]
            }
        },
        statuses=_STATUSES_OF_GET,
    ),
    Operation(
        id="deadLetters",
        method="get",
        path="/webhooks/{id}/dead",
        parameters=("WebhookId", "Limit", "Cursor"),
        tag="webhooks",
        summary="List dead letters",
        description="Returns notifications that are not tried any more, the oldest first. Scope `admin`.",
        response=answers.DeadLettersAnswer,
        response_description="A page of the dead letters.",
        response_examples={
            "one": {
                "dead": [
                    {
                        "id": "p-42-1795262400000",
                        "user": "42",
                        "type": "user.online",
                        "timestamp": "2026-11-21T12:00:00.000Z",
                        "reason": "rejected",
                        "status": 422,
                        "dead_at": "2026-11-21T12:00:01.000Z",
                        "data": {"user": "42", "version": 1795262400000},
                    }
                ],
                "next": None,
            }
        },
        statuses=_STATUSES_OF_GET,
    ),
    Operation(
        id="replayDeadLetters",
        method="post",
        path="/webhooks/{id}/replay",
        parameters=("WebhookId",),
        tag="webhooks",
        summary="Send dead letters again",
        description="Puts dead letters at the end of the queue, with their ids, all or none. Scope `admin`.",
        response=answers.ReplayAnswer,
        response_description="The dead letters are in the queue. The response does not wait for the webhook.",
        response_examples={"one": {"replayed": 1}},
        body="DeadLetterIds",
        body_examples={"one": {"ids": ["p-42-1795262400000"]}},
    ),
    Operation(
        id="dropDeadLetters",
        method="post",
        path="/webhooks/{id}/drop",
        parameters=("WebhookId",),
        tag="webhooks",
        summary="Delete dead letters",
        description="Deletes dead letters. Scope `admin`.",
        response=answers.DropAnswer,
        response_description="The dead letters are deleted.",
        response_examples={"one": {"dropped": 1}},
        body="DeadLetterIds",
        body_examples={"one": {"ids": ["p-42-1795262400000"]}},
    ),
)
