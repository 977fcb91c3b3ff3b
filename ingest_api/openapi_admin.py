"""The calls that change connections and webhooks, as the OpenAPI document describes them."""

from __future__ import annotations

from typing import Final

from ingest_api import answers
from ingest_api.history import ErasureAnswer
from ingest_api.openapi_calls import STATUSES_OF_GET, Operation
from ingest_api.openapi_reads import HISTORIES
from ingest_api.room_changes import RoomChangeAnswer


def _erase(name: str, path: str, parameters: tuple[str, ...], recipient: str) -> Operation:
    return Operation(
        id=f"erase{name}",
        method="delete",
        path=path,
        parameters=(*parameters, "Namespace", "Upto"),
        tag="history",
        summary=f"Erase the messages to {recipient}",
        description="Erases the messages up to a position: they are neither read nor recovered any more, and clients"
        " that missed one get no gap. A message to several rooms or users is erased for all of them. Scope `admin`.",
        response=ErasureAnswer,
        response_description="The messages are erased. A repeat erases nothing more.",
        response_examples={"three": {"removed": 3}},
        statuses=(*STATUSES_OF_GET, 409),
    )


def _room_change(id_: str, summary: str, effect: str) -> Operation:
    return Operation(
        id=id_,
        method="post",
        path=f"/{id_}",
        tag="rooms",
        summary=summary,
        description="Changes the rooms of connections, and of sessions that are resumed later, on every replica."
        f" {effect} Scope `join` for each of the rooms.",
        response=RoomChangeAnswer,
        response_description="The broker has the change. The replicas with these connections have applied it; one that"
        " does not reply within two seconds applies it before any later message.",
        response_examples={
            "all": {"connections": 2, "recoverable": 0},
            "some": {"connections": 3, "recoverable": 1, "rejected": 1, "exact": False},
        },
        body="RoomChange",
        body_examples={
            "user": {"who": {"user": "42"}, "rooms": ["match:9"]},
            "everyone": {"who": "everyone", "rooms": ["news"], "except": ["role:bot"]},
        },
    )


CHANGES: Final = (
    *(_erase(*each) for each in HISTORIES),
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
        id="disconnectRoom",
        method="post",
        path="/disconnect/room",
        tag="rooms",
        summary="Disconnect the connections in a room",
        description="Closes the connections in a room, in one namespace or in all. The stock client does not reconnect"
        " by itself. Scope `admin`.",
        response=answers.DisconnectAnswer,
        response_description="The broker has the disconnect command. The response does not wait for any client.",
        response_examples={"two": {"disconnected": 2}},
        body="DisconnectRoom",
        body_examples={"room": {"room": "match:9"}},
    ),
    _room_change("join", "Have connections join rooms", "Each later push to the rooms reaches them."),
    _room_change("leave", "Have connections leave rooms", "Rooms that a token grants stay."),
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
