"""The calls that read, as the OpenAPI document describes them."""

from __future__ import annotations

from typing import Final

from ingest_api import answers
from ingest_api.history import HistoryAnswer
from ingest_api.openapi_calls import STATUSES_OF_GET, Operation

HISTORIES: Final = (
    ("Room", "/history/room/{id}", ("RoomName",), "a room"),
    ("User", "/history/user/{id}", ("UserId",), "a user"),
    ("Broadcast", "/history/broadcast", (), "everyone in a namespace"),
)
"""The calls about the history: the end of the operation id, path, parameters, and to whom the messages were sent."""


def _read_history(name: str, path: str, parameters: tuple[str, ...], recipient: str) -> Operation:
    return Operation(
        id=f"history{name}",
        method="get",
        path=path,
        parameters=(*parameters, "Namespace", "After", "Limit", "Newest"),
        tag="history",
        summary=f"Read the messages to {recipient}",
        description="Returns messages, oldest first, as long as they are held for clients that reconnect; `gap` says"
        " whether others are missing. Volatile messages and those with `ack` are never held. Scope `history`, for the"
        " room of the messages; broadcasts and rooms of sids need it without a glob.",
        response=HistoryAnswer,
        response_description="A page of the messages.",
        response_examples={
            "one": {
                "messages": [
                    {
                        "position": "1795262400123-417",
                        "id": "kf3l2Yq0T8m3c9kQ-1f",
                        "event": "notification:new",
                        "data": {"title": "hi"},
                        "at": "2026-11-21T12:00:00.123Z",
                    }
                ],
                "next": None,
                "gap": None,
            },
            "trimmed": {"messages": [], "next": None, "gap": "history_trimmed"},
        },
        statuses=STATUSES_OF_GET,
    )


READS: Final = (
    *(_read_history(*each) for each in HISTORIES),
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
        statuses=STATUSES_OF_GET,
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
        statuses=STATUSES_OF_GET,
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
        statuses=STATUSES_OF_GET,
    ),
)
