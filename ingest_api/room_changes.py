"""Handle authenticated requests that change the rooms of connections, or disconnect those in a room."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from marshmallow import Schema, fields

from gateway.domain.ingest_keys import ADMIN, JOIN, IngestKey
from gateway.domain.messages import RoomChange, keyed_id, new_id
from gateway.domain.names import (
    GRANTED_PREFIXES,
    USER_PREFIX,
    check_room,
    is_sid_room,
)
from ingest_api.batch_schemas import Target
from ingest_api.errors import Problem
from ingest_api.handlers import result_response
from ingest_api.idempotency import InFlight
from ingest_api.interfaces import Publisher, RoomChanger
from ingest_api.json_body import ParsedBody
from ingest_api.large_body import BodyReader, Steps
from ingest_api.push import check_media_type, load, parse_any_body
from ingest_api.request import AuthenticatedRequest, Require, Response, Route
from ingest_api.schemas import MAX_ROOMS, Addressed, NameList, room_name


class RoomChangeSchema(Addressed):
    """Which connections join or leave which rooms."""

    who = Target(
        "The connections, and the sessions that may be resumed: one of `user`, `users`, `room` and `rooms`, or"
        " `everyone` in the namespace. A sid is a room."
    )
    rooms = NameList(
        room_name(),
        check_room,
        is_set=True,
        required=True,
        min_items=1,
        max_items=MAX_ROOMS,
        metadata={
            "description": "The rooms to join or to leave; none of a user or of a sid.",
            "examples": [["match:9"]],
        },
    )
    namespace = fields.String(
        load_default="/",
        metadata={
            "description": "A namespace that this gateway serves.",
            "pattern": "^/[^,?]*$",
            "examples": ["/"],
        },
    )


class DisconnectRoomSchema(Addressed):
    """Which connections in a room are closed."""

    room = room_name(required=True, description="The room, or a sid.", examples=["match:9"])
    namespace = fields.String(
        metadata={
            "description": "Only connections in this namespace; in all namespaces if absent.",
            "pattern": "^/[^,?]*$",
            "examples": ["/"],
        },
    )


class RoomChangeAnswer(Schema):
    """The replicas have applied the change."""

    connections = fields.Integer(
        required=True,
        metadata={
            "description": "Connections that were addressed when the change was accepted.",
            "minimum": 0,
            "examples": [2],
        },
    )
    recoverable = fields.Integer(
        required=True,
        metadata={
            "description": "Further connections that were lost. Their clients find the change when they reconnect.",
            "minimum": 0,
            "examples": [0],
        },
    )
    rejected = fields.Integer(
        metadata={
            "description": "Present if connections did not join, because they would be in too many rooms.",
            "minimum": 1,
            "examples": [1],
        },
    )
    exact = fields.Boolean(
        metadata={"description": "Present, and false, only if the counts are upper bounds.", "const": False}
    )


class RoomChangeHandlers:
    """One method for each call that changes who is in rooms."""

    def __init__(
        self,
        *,
        changer: RoomChanger,
        publisher: Publisher,
        namespaces: Collection[str],
        granted_prefixes: Callable[[], Collection[str]] = lambda: GRANTED_PREFIXES,
    ) -> None:
        """``granted_prefixes`` returns those of rooms that only tokens grant, by the settings in effect."""
        self._changer = changer
        self._publisher = publisher
        self._schema = RoomChangeSchema(namespaces=namespaces)
        self._disconnect_schema = DisconnectRoomSchema(namespaces=namespaces)
        self._granted_prefixes = granted_prefixes
        self._in_flight = InFlight()
        self._bodies = BodyReader()

    def routes(self, require: Require) -> tuple[Route, ...]:
        """Return the routes of these calls."""
        return (
            Route("POST", "/join", require((JOIN,), self.join)),
            Route("POST", "/leave", require((JOIN,), self.leave)),
            Route("POST", "/disconnect/room", require((ADMIN,), self.disconnect)),
        )

    async def join(self, authenticated: AuthenticatedRequest) -> Response:
        """Have connections join rooms."""
        return await self._change(authenticated, is_join=True)

    async def leave(self, authenticated: AuthenticatedRequest) -> Response:
        """Have connections leave rooms."""
        return await self._change(authenticated, is_join=False)

    async def disconnect(self, authenticated: AuthenticatedRequest) -> Response:
        """Disconnect the connections in a room."""
        check_media_type(authenticated.request, authenticated.body)
        body = authenticated.body
        loaded = await self._bodies.read(body, _read(self._disconnect_schema, body))
        with self._in_flight.lock(authenticated.dedup_key):
            result = await self._publisher.disconnect_room(
                loaded["room"],
                namespace=loaded.get("namespace"),
                exclude=frozenset(loaded["except_"]),
                dedup_key=authenticated.dedup_key,
            )
        authenticated.request.publish_result = result
        return result_response({"disconnected": result.connections}, result)

    async def _change(self, authenticated: AuthenticatedRequest, *, is_join: bool) -> Response:
        check_media_type(authenticated.request, authenticated.body)
        body = authenticated.body
        loaded = await self._bodies.read(body, _read(self._schema, body))
        rooms = tuple(loaded["rooms"])
        self._check_scope(authenticated.key, rooms)
        key = authenticated.dedup_key
        change = RoomChange(
            id=new_id()
            if key.idempotency_key is None
            else keyed_id(key.scope, key.idempotency_key, key.fingerprint),
            namespace=loaded["namespace"],
            rooms=loaded["who"],
            changed=rooms,
            is_join=is_join,
            exclude=frozenset(loaded["except_"]),
        )
        with self._in_flight.lock(key):
            result, rejected = await self._changer.change_rooms(change, key)
        authenticated.request.publish_result = result
        content: dict[str, object] = {"connections": result.connections, "recoverable": result.recoverable}
        if rejected:
            content["rejected"] = rejected
        return result_response(content, result)

    def _check_scope(self, key: IngestKey, rooms: Collection[str]) -> None:
        granted_prefixes = self._granted_prefixes()
        for room in rooms:
            if room.startswith(USER_PREFIX) or is_sid_room(room):
                raise Problem(
                    "missing_scope", f"the room {room!r} of a user or a sid is never joined or left"
                )
            if not key.can_join(room, granted_prefixes):
                raise Problem(
                    "missing_scope", f"no scope of this key lets connections join or leave {room!r}"
                )


def _read(schema: Schema, body: bytes) -> Steps[dict[str, Any]]:
    parsed = yield from parse_any_body(body)
    who = _object_of(parsed)
    if who is not None:
        try:
            parsed = _with_who(parsed, (yield from parse_any_body(who)))
        except Problem as problem:
            errors = problem.errors and {f"who.{path}": found for path, found in problem.errors.items()}
            raise Problem(problem.code, problem.detail, errors=errors) from None
    return load(schema, parsed)


def _object_of(parsed: ParsedBody) -> bytes | None:
    """Return the text of ``who`` if it is an object. It is parsed as a body is, so that no member is repeated."""
    text = parsed.raw.get("who", "")
    return text.encode() if text.startswith("{") else None


def _with_who(parsed: ParsedBody, who: ParsedBody) -> ParsedBody:
    values: Mapping[str, Any] = parsed.values
    return ParsedBody({**values, "who": dict(who.values)}, parsed.raw, parsed.value_count)
