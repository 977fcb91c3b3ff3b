"""The calls that read, as the OpenAPI document describes them."""

from __future__ import annotations

from typing import Final

from ingest_api import answers
from ingest_api.openapi_calls import STATUSES_OF_GET, Operation

READS: Final = (
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
