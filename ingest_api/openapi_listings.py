"""The calls about users, rooms, connections and replicas and their answers, as the OpenAPI document describes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from marshmallow import Schema, fields

from ingest_api.answers import count, text
from ingest_api.openapi_calls import STATUSES_OF_GET, Operation

_COMPLETE: Final = {
    "description": "Present, and false, only while a replica of the previous release lives: what is there may be"
    " missing.",
    "const": False,
}
_NEXT: Final = {
    "description": "The `cursor` of the next page; null at the end. A page that has less than `limit` may not be the"
    " last one.",
    "examples": ["WyJyb29tcyIsIi8iLCIiLCJvcmc6NyJd"],
}


def _next() -> fields.String:
    return fields.String(required=True, allow_none=True, metadata=_NEXT)


class UserStateAnswer(Schema):
    """Whether one user is connected."""

    online = fields.Boolean(required=True, metadata={"description": "Whether the user has a connection."})
    connections = count("The user's connections, in all namespaces.", 2)
    recoverable = count(
        "Further connections that were lost and may be resumed within the recovery window.", 0
    )
    last_seen = fields.String(
        required=True,
        allow_none=True,
        metadata={
            "description": "When the last connection was closed, in UTC; null while the user has a connection, and"
            " if the time is not known.",
            "format": "date-time",
        },
    )
    version = fields.Integer(
        metadata={
            "description": "The version of the newest change, as webhooks get it with `user.online` and"
            " `user.offline`; absent if none is recorded.",
            "examples": [1795262400000],
        }
    )


class UserStatesAnswer(Schema):
    """The presence of several users, in one read."""

    users = fields.Dict(
        keys=fields.String(),
        values=fields.Nested(UserStateAnswer),
        required=True,
        metadata={"description": "The users by id, each of the request."},
    )


class NamespaceStatsAnswer(Schema):
    """How much there is in one namespace."""

    connections = count("Connections.", 5120)
    rooms = count("Rooms with a connection, without those of sids.", 6100)
    users = count("Users with a connection.", 4000)


class ReplicaAnswer(Schema):
    """A living replica."""

    id = text("The name of the replica.", "gateway-0")
    connections = count("Its connections.", 2560)
    version = fields.String(
        required=True,
        allow_none=True,
        metadata={
            "description": "The version that it runs; null for the previous release.",
            "examples": ["1.0.0"],
        },
    )
    since = text("When its process started, in UTC.", "2026-11-21T09:58:00.123Z", format="date-time")


class StatsAnswer(Schema):
    """How much there is on all replicas."""

    users = count("Users with a connection, each counted once.", 4000)
    connections = count("Connections in all namespaces.", 5120)
    rooms = count("Rooms in all namespaces.", 6100)
    namespaces = fields.Dict(
        keys=fields.String(),
        values=fields.Nested(NamespaceStatsAnswer),
        required=True,
        metadata={"description": "The same for each namespace that the gateway serves."},
    )
    replicas = fields.List(
        fields.Nested(ReplicaAnswer), required=True, metadata={"description": "The living replicas, by name."}
    )
    complete = fields.Boolean(metadata=_COMPLETE)


class ListedNameAnswer(Schema):
    """A user or a room."""

    name = text("The id of the user, or the name of the room.", "org:7")
    connections = count("The connections there.", 12)


class UsersAnswer(Schema):
    """A page of users."""

    users = fields.List(
        fields.Nested(ListedNameAnswer),
        required=True,
        metadata={"description": "The users, ordered by code points."},
    )
    next = _next()
    complete = fields.Boolean(metadata=_COMPLETE)


class RoomsAnswer(Schema):
    """A page of rooms."""

    rooms = fields.List(
        fields.Nested(ListedNameAnswer),
        required=True,
        metadata={"description": "The rooms, ordered by code points."},
    )
    next = _next()
    complete = fields.Boolean(metadata=_COMPLETE)


class RoomAnswer(Schema):
    """What is in a room."""

    room = text("The name of the room.", "org:7")
    connections = count("The connections in the room.", 12)
    users = fields.Integer(
        required=True,
        allow_none=True,
        metadata={
            "description": "How many different users they are; null if the rule of the room in the event catalogue"
            " has no `list_members: true`.",
            "minimum": 0,
            "examples": [9],
        },
    )
    recoverable = count(
        "Further connections that were lost and may be resumed within the recovery window.", 1
    )
    complete = fields.Boolean(metadata=_COMPLETE)


class ConnectionDetailsAnswer(Schema):
    """A connection."""

    sid = text("The Socket.IO session id.", "~Ni9nOpTmRZ8wVwLqAAAB")
    user = text("The id of the user.", "42")
    namespace = text("The namespace of the connection.", "/")
    rooms = fields.List(
        fields.String(),
        required=True,
        metadata={"description": "Its rooms, without that of the sid.", "examples": [["org:7", "user:42"]]},
    )
    data = fields.Dict(
        required=True, metadata={"description": "Its socket data.", "examples": [{"cart": {"items": 3}}]}
    )
    replica = text("The replica that serves the connection.", "gateway-0")
    transport = text("The Engine.IO transport.", "websocket", enum=["polling", "websocket"])
    connected_at = text("The time of the connect, in UTC.", "2026-11-21T09:58:00.123Z", format="date-time")


class ConnectionsAnswer(Schema):
    """A page of connections."""

    connections = fields.List(
        fields.Nested(ConnectionDetailsAnswer),
        required=True,
        metadata={"description": "The connections, in the order of their sids."},
    )
    next = _next()
    complete = fields.Boolean(metadata=_COMPLETE)


class SocketDataAnswer(Schema):
    """The socket data is changed."""

    data = fields.Dict(
        required=True,
        metadata={"description": "All of the socket data.", "examples": [{"cart": {"items": 3}}]},
    )


NESTED: Final[Mapping[str, type[Schema]]] = {
    "UserState": UserStateAnswer,
    "NamespaceStats": NamespaceStatsAnswer,
    "Replica": ReplicaAnswer,
    "ListedName": ListedNameAnswer,
    "ConnectionDetailsAnswer": ConnectionDetailsAnswer,
}
"""Schemas that others contain, by their names in the document."""

_USER: Final = {"online": True, "connections": 2, "recoverable": 0, "last_seen": None}
_CONNECTION: Final = {
    "sid": "~Ni9nOpTmRZ8wVwLqAAAB",
    "user": "42",
    "namespace": "/",
    "rooms": ["org:7", "user:42"],
    "data": {"cart": {"items": 3}},
    "replica": "gateway-0",
    "transport": "websocket",
    "connected_at": "2026-11-21T09:58:00.123Z",
}

LISTINGS: Final = (
    Operation(
        id="presenceOfUsers",
        method="post",
        path="/presence",
        tag="users",
        summary="Query the presence of several users",
        description="Returns whether each of the users is connected, in all namespaces and on all replicas, in one"
        " read. Scope `presence`. An Idempotency-Key has no effect.",
        response=UserStatesAnswer,
        response_description="The users. An unknown user has no connection.",
        response_examples={"one": {"users": {"42": _USER}}},
        body="PresenceOfUsers",
        body_examples={"two": {"users": ["42", "43"]}},
    ),
    Operation(
        id="stats",
        method="get",
        path="/stats",
        tag="connections",
        summary="Count users, connections and rooms",
        description="Returns how much there is on all replicas, and the replicas. Scope `presence`.",
        response=StatsAnswer,
        response_description="The numbers.",
        response_examples={
            "one": {
                "users": 2,
                "connections": 3,
                "rooms": 4,
                "namespaces": {"/": {"connections": 3, "rooms": 4, "users": 2}},
                "replicas": [
                    {
                        "id": "gateway-0",
                        "connections": 3,
                        "version": "1.0.0",
                        "since": "2026-11-21T09:58:00.123Z",
                    }
                ],
            }
        },
        statuses=STATUSES_OF_GET,
    ),
    Operation(
        id="users",
        method="get",
        path="/users",
        parameters=("NamespaceOrAll", "Prefix", "Limit", "Cursor"),
        tag="connections",
        summary="List users",
        description="Returns the users with a connection, in a namespace or in all. A walk over the pages has every"
        " user who was there throughout. Scope `presence`.",
        response=UsersAnswer,
        response_description="A page of the users.",
        response_examples={"one": {"users": [{"name": "42", "connections": 2}], "next": None}},
        statuses=STATUSES_OF_GET,
    ),
    Operation(
        id="rooms",
        method="get",
        path="/rooms",
        parameters=("Namespace", "Prefix", "Limit", "Cursor"),
        tag="connections",
        summary="List rooms",
        description="Returns the rooms of a namespace (`/` if absent) with a connection, without those of sids. A walk"
        " over the pages has every room that was there throughout. Scope `presence`.",
        response=RoomsAnswer,
        response_description="A page of the rooms.",
        response_examples={"one": {"rooms": [{"name": "org:7", "connections": 12}], "next": None}},
        statuses=STATUSES_OF_GET,
    ),
    Operation(
        id="room",
        method="get",
        path="/rooms/{id}",
        parameters=("RoomName", "Namespace"),
        tag="connections",
        summary="Count what is in a room",
        description="Returns the connections in a room of a namespace (`/` if absent). Scope `presence`.",
        response=RoomAnswer,
        response_description="The numbers. An unknown room is empty.",
        response_examples={"one": {"room": "org:7", "connections": 12, "users": None, "recoverable": 1}},
        statuses=STATUSES_OF_GET,
    ),
    Operation(
        id="connections",
        method="get",
        path="/connections",
        parameters=("NamespaceOrAll", "User", "RoomOfConnections", "Limit", "Cursor"),
        tag="connections",
        summary="List connections",
        description="Returns the connections of a user, in a namespace or in all, or those in a room of a namespace"
        " (`/` if absent): one of `user` and `room` is required. A room needs `list_members: true` in its rule of the"
        " event catalogue. Scope `presence`.",
        response=ConnectionsAnswer,
        response_description="A page of the connections.",
        response_examples={"one": {"connections": [_CONNECTION], "next": None}},
        statuses=tuple(sorted((*STATUSES_OF_GET, 422))),
    ),
    Operation(
        id="connection",
        method="get",
        path="/connections/{id}",
        parameters=("Sid",),
        tag="connections",
        summary="Get a connection",
        description="Returns a connection on any replica. Scope `presence`.",
        response=ConnectionDetailsAnswer,
        response_description="The connection.",
        response_examples={"one": _CONNECTION},
        statuses=STATUSES_OF_GET,
    ),
    Operation(
        id="changeSocketData",
        method="patch",
        path="/connections/{id}",
        parameters=("Sid",),
        tag="connections",
        summary="Change the socket data of a connection",
        description="Applies a JSON merge patch to the data of a connection on any replica, as webhooks get it in"
        " `connection.data` and the event catalogue reads it as `$data`. It is kept when the client resumes the"
        " connection, and ends with it. Scope `admin`.",
        response=SocketDataAnswer,
        response_description="The data is stored. Its replica gets it through the broker, within milliseconds.",
        response_examples={"one": {"data": {"cart": {"items": 3}}}},
        body="SocketData",
        body_examples={"one": {"data": {"cart": {"items": 3}, "seat": None}}},
    ),
)
