"""Handle authenticated requests: one method for each call of the REST API."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Final

import orjson

from gateway.domain.ingest_keys import IngestKey
from gateway.domain.messages import Message, PublishResult, keyed_id, new_id
from gateway.domain.names import FORMER_SID_FORM, USER_PREFIX, user_room
from gateway.domain.presence import PresentConnection
from gateway.domain.times import iso_timestamp
from ingest_api.acks import ack_members, publish_and_wait
from ingest_api.errors import Problem
from ingest_api.idempotency import REPLAYED_HEADER, InFlight
from ingest_api.interfaces import AckWaits, Clock, DedupStore, EventSchemas, PresenceReader, Publisher
from ingest_api.large_body import BodyReader
from ingest_api.offline_queue import check_kept_sizes
from ingest_api.push import (
    Push,
    attach_buffers,
    check_media_type,
    check_push,
    fast_push,
    read_disconnect,
    read_push,
)
from ingest_api.request import AuthenticatedRequest, Response
from ingest_api.schemas import (
    BroadcastSchema,
    DisconnectSchema,
    EmitSchema,
    EmitToRoomSchema,
    EmitToUsersSchema,
)

_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


class Handlers:
    """One method for each call of the REST API."""

    def __init__(
        self,
        *,
        publisher: Publisher,
        presence: PresenceReader,
        dedup: DedupStore,
        clock: Clock,
        namespaces: Collection[str],
        ack_waits: AckWaits,
        event_schemas: Callable[[], EventSchemas | None] = lambda: None,
    ) -> None:
        """``event_schemas`` returns None while there is no event catalogue: then every event may be pushed."""
        self._event_schemas = event_schemas
        self._publisher = publisher
        self._ack_waits = ack_waits
        self._presence = presence
        self._dedup = dedup
        self._clock = clock
        self._emit = EmitSchema(namespaces=namespaces)
        self._broadcast = BroadcastSchema(namespaces=namespaces)
        self._emit_to_room = EmitToRoomSchema(namespaces=namespaces)
        self._emit_to_users = EmitToUsersSchema(namespaces=namespaces)
        self._disconnect = DisconnectSchema(namespaces=namespaces)
        self._in_flight = InFlight()
        self._bodies = BodyReader()

    async def emit_to_user(self, authenticated: AuthenticatedRequest) -> Response:
        """Push an event to every connection of one user."""
        push = await self._read_push(self._emit, authenticated)
        room = USER_PREFIX + _user(authenticated)
        check_target(authenticated.key, (room,))
        return await self._publish(authenticated, push, (room,), {"room": room})

    async def emit_to_room(self, authenticated: AuthenticatedRequest) -> Response:
        """Push an event to every connection in one room or in several."""
        push = await self._read_push(self._emit_to_room, authenticated)
        rooms = push.rooms if push.room is None else (push.room,)
        check_target(authenticated.key, rooms)
        if not authenticated.key.can_emit_to_every_user:
            await check_former_sids(self._presence, rooms)
        address: dict[str, Any] = {"rooms": rooms} if push.room is None else {"room": push.room}
        return await self._publish(authenticated, push, rooms, address)

    async def emit_to_users(self, authenticated: AuthenticatedRequest) -> Response:
        """Push an event to every connection of several users, and return the number of each user."""
        push = await self._read_push(self._emit_to_users, authenticated)
        rooms = tuple(map(user_room, push.users))
        check_target(authenticated.key, rooms)
        return await self._publish(authenticated, push, rooms, {}, users=push.users)

    async def broadcast(self, authenticated: AuthenticatedRequest) -> Response:
        """Push an event to every connection in a namespace."""
        push = await self._read_push(self._broadcast, authenticated)
        return await self._publish(authenticated, push, (), {})

    async def presence(self, authenticated: AuthenticatedRequest) -> Response:
        """Return the connections of a user."""
        await self._dedup.consume_nonce(authenticated.dedup_key)
        found = await self._presence.of_user(_user(authenticated))
        return _json(
            {
                "user": found.user,
                "online": found.is_online,
                "recoverable": found.recoverable,
                "connections": [_connection(connection) for connection in found.connections],
                "last_seen": None if found.last_seen is None else iso_timestamp(found.last_seen),
            }
        )

    async def disconnect(self, authenticated: AuthenticatedRequest) -> Response:
        """Disconnect connections of a user."""
        check_media_type(authenticated.request, authenticated.body)
        body = authenticated.body
        disconnect = await self._bodies.read(body, read_disconnect(self._disconnect, body))
        with self._in_flight.lock(authenticated.dedup_key):
            result = await self._publisher.disconnect_user(
                _user(authenticated),
                namespace=disconnect.namespace,
                exclude=disconnect.exclude,
                revoke=disconnect.revoke,
                dedup_key=authenticated.dedup_key,
            )
        authenticated.request.publish_result = result
        return result_response({"disconnected": result.connections}, result)

    async def _read_push(self, schema: EmitSchema, authenticated: AuthenticatedRequest) -> Push:
        body = authenticated.body
        check_media_type(authenticated.request, body)
        push = fast_push(schema, body)
        if push is None:
            push = await self._bodies.read(body, read_push(schema, body, now=self._clock.now()))
        event_schemas = self._event_schemas()
        if event_schemas is not None:
            check_push(event_schemas, push)
        if push.binary:
            push = await self._bodies.run_alone(attach_buffers(push))
        return push

    async def _publish(
        self,
        authenticated: AuthenticatedRequest,
        push: Push,
        rooms: tuple[str, ...],
        address: dict[str, Any],
        *,
        users: tuple[str, ...] = (),
    ) -> Response:
        key = authenticated.dedup_key
        # Positional arguments: keywords cost as much again as the tuple itself, for every push.
        message = Message(
            new_id()
            if key.idempotency_key is None
            else keyed_id(key.scope, key.idempotency_key, key.fingerprint),
            push.namespace,
            rooms,
            push.event,
            push.arguments,
            push.exclude,
            push.volatile,
            authenticated.request.trace,
            push.all_of,
            "",
            push.attachments,
            None,
            push.ttl,
        )
        check_kept_sizes((message,), "ttl")
        request = authenticated.request
        append = partial(self._append, authenticated, with_counts=bool(users))
        if push.ack is None:
            result = await append(message)
        else:
            result, request.ack_result = await publish_and_wait(
                self._ack_waits, message, push.ack, append, request
            )
        if users:
            address = {"users": dict(zip(users, result.counts, strict=True))}
        more: dict[str, Any] = {"stored": True} if push.ttl else {}
        if request.ack_result is not None:
            more |= ack_members(request.ack_result)
        return push_response(address, result, **more)

    async def _append(
        self, authenticated: AuthenticatedRequest, message: Message, *, with_counts: bool
    ) -> PublishResult:
        with self._in_flight.lock(authenticated.dedup_key):
            result = await self._publisher.publish(message, authenticated.dedup_key, with_counts=with_counts)
        authenticated.request.publish_result = result
        return result


def _user(authenticated: AuthenticatedRequest) -> str:
    user = authenticated.request.user
    if user is None:
        raise AssertionError("the template of this route has no {id}")
    return user


async def check_former_sids(presence: PresenceReader, rooms: Collection[str]) -> None:
    """Check that no room is that of a sid of the previous release, which has the form of other rooms.

    Raises:
        Problem: A room is.
    """
    for room in rooms:
        if FORMER_SID_FORM.fullmatch(room) and await presence.has_sid(room):
            raise _out_of_scope(room)


def check_target(key: IngestKey, rooms: Collection[str]) -> None:
    """Check that a key may emit to each of the rooms.

    Raises:
        Problem: It may not.
    """
    for room in rooms:
        if not key.can_emit_to(room):
            raise _out_of_scope(room)


def _out_of_scope(room: str) -> Problem:
    return Problem("missing_scope", f"no scope of this key reaches the room {room!r}")


def _connection(connection: PresentConnection) -> dict[str, str]:
    return {
        "sid": connection.sid,
        "namespace": connection.namespace,
        "replica": connection.replica,
        "transport": connection.transport,
        "connected_at": iso_timestamp(connection.connected_at),
    }


def push_response(address: Mapping[str, Any], result: PublishResult, **more: Any) -> Response:
    """Return the response to a push. ``address`` and ``more`` are further members of the body."""
    content = {
        "id": result.id,
        **address,
        "online": result.connections > 0,
        "connections": result.connections,
        "recoverable": result.recoverable,
        **more,
    }
    return result_response(content, result)


def result_response(content: dict[str, Any], result: PublishResult) -> Response:
    """Return a response with the counts of a result of the broker, which may be upper bounds."""
    if not result.exact:
        content["exact"] = False
    return _json(content, headers={REPLAYED_HEADER: "true"} if result.replayed else None)


def _json(content: dict[str, Any], *, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), headers=headers or _NO_HEADERS)
