"""The calls: what is done for a request that was admitted.

Which idempotency keys are being worked on at this replica.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import MappingProxyType
from typing import Any, Final

import orjson

from gateway.domain.claims import Claim
from gateway.domain.keys import IngestKey
from gateway.domain.messages import Message, Receipt, new_id
from gateway.domain.names import user_room
from gateway.domain.presence import PresentConnection
from gateway.domain.times import instant
from ingest_api.bodies import check_media_type
from ingest_api.calls import Admitted, Answer
from ingest_api.errors import Problem
from ingest_api.interfaces import Claims, Clock, PresenceReader, Publisher
from ingest_api.pushes import Push, read_disconnect, read_push
from ingest_api.schemas import DisconnectSchema, EmitSchema, EmitToRoomSchema

_NOTHING: Final = nullcontext()


class InFlight:
    """One request at a time for each idempotency key. Over replicas the claim itself decides."""

    def __init__(self) -> None:
        self._held: set[tuple[str, str]] = set()

    def hold(self, claim: Claim) -> AbstractContextManager[None]:
        """Keep others of the same scope and idempotency key out meanwhile; raises Problem when one is in."""
        if claim.idempotency_key is None:
            return _NOTHING
        return self._hold((claim.scope, claim.idempotency_key))

    @contextmanager
    def _hold(self, name: tuple[str, str]) -> Iterator[None]:
        if name in self._held:
            raise Problem(
                "idempotency_conflict",
                "a request with this Idempotency-Key is being worked on right now",
                headers={"Retry-After": "1"},
            )
        self._held.add(name)
        try:
            yield
        finally:
            self._held.discard(name)


REPLAYED_HEADER: Final = "Idempotency-Replayed"
_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


class Handlers:
    """One method for each call of the API."""

    def __init__(
        self,
        *,
        publisher: Publisher,
        presence: PresenceReader,
        claims: Claims,
        clock: Clock,
        namespaces: Collection[str],
    ) -> None:
        self._publisher = publisher
        self._presence = presence
        self._claims = claims
        self._clock = clock
        self._emit = EmitSchema(namespaces=namespaces)
        self._emit_to_room = EmitToRoomSchema(namespaces=namespaces)
        self._disconnect = DisconnectSchema(namespaces=namespaces)
        self._in_flight = InFlight()

    async def emit_to_user(self, admitted: Admitted) -> Answer:
        """An event for every connection of one user."""
        push = self._read_push(self._emit, admitted)
        room = user_room(_user(admitted))
        _check_target(admitted.key, (room,))
        return await self._publish(admitted, push, (room,), {"room": room})

    async def emit_to_room(self, admitted: Admitted) -> Answer:
        """An event for everyone in one room, or in several."""
        push = self._read_push(self._emit_to_room, admitted)
        rooms = push.rooms if push.room is None else (push.room,)
        _check_target(admitted.key, rooms)
        address: dict[str, Any] = {"rooms": rooms} if push.room is None else {"room": push.room}
        return await self._publish(admitted, push, rooms, address)

    async def broadcast(self, admitted: Admitted) -> Answer:
        """An event for everyone in a namespace."""
        return await self._publish(admitted, self._read_push(self._emit, admitted), (), {})

    async def presence(self, admitted: Admitted) -> Answer:
        """Where a user is connected."""
        await self._claims.spend(admitted.claim)
        found = await self._presence.of_user(_user(admitted))
        return _json(
            {
                "user": found.user,
                "online": found.online,
                "connections": [_connection(connection) for connection in found.connections],
                "last_seen": None if found.last_seen is None else instant(found.last_seen),
            }
        )

    async def disconnect(self, admitted: Admitted) -> Answer:
        """End connections of a user."""
        check_media_type(admitted.call, admitted.body)
        order = read_disconnect(self._disconnect, admitted.body)
        with self._in_flight.hold(admitted.claim):
            receipt = await self._publisher.kick(
                _user(admitted),
                namespace=order.namespace,
                exclude=order.exclude,
                revoke=order.revoke,
                claim=admitted.claim,
            )
        admitted.call.receipt = receipt
        return _receipt_answer({"disconnected": receipt.connections}, receipt)

    def _read_push(self, schema: EmitSchema, admitted: Admitted) -> Push:
        check_media_type(admitted.call, admitted.body)
        return read_push(schema, admitted.body, now=self._clock.now())

    async def _publish(
        self, admitted: Admitted, push: Push, rooms: tuple[str, ...], address: dict[str, Any]
    ) -> Answer:
        # By position: names cost as much again as the tuple, for every push.
        message = Message(
            new_id(),
            push.namespace,
            rooms,
            push.event,
            push.arguments,
            push.exclude,
            push.volatile,
            admitted.call.trace,
        )
        with self._in_flight.hold(admitted.claim):
            receipt = await self._publisher.publish(message, admitted.claim)
        admitted.call.receipt = receipt
        online = receipt.connections > 0
        content = {"id": receipt.id, **address, "online": online, "connections": receipt.connections}
        return _receipt_answer(content, receipt)


def _user(admitted: Admitted) -> str:
    user = admitted.call.user
    if user is None:
        raise AssertionError("this route has no id in its path")
    return user


def _check_target(key: IngestKey, rooms: Collection[str]) -> None:
    for room in rooms:
        if not key.may_emit_to(room):
            raise Problem("missing_scope", f"no scope of this key reaches the room {room!r}")


def _connection(connection: PresentConnection) -> dict[str, str]:
    return {
        "sid": connection.sid,
        "namespace": connection.namespace,
        "replica": connection.replica,
        "transport": connection.transport,
        "connected_at": instant(connection.connected_at),
    }


def _receipt_answer(content: dict[str, Any], receipt: Receipt) -> Answer:
    if not receipt.exact:
        content["exact"] = False
    return _json(content, headers={REPLAYED_HEADER: "true"} if receipt.replayed else None)


def _json(content: dict[str, Any], *, headers: dict[str, str] | None = None) -> Answer:
    return Answer(orjson.dumps(content), headers=headers or _NO_HEADERS)
