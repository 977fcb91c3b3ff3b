"""Accept a plain push in one step.

Nearly every request is one: a push to a user, to one room or to everyone, of which only ``event`` and ``data`` are
given, from a key without a rate. ``PlainPushes`` checks everything that ``auth`` and ``handlers`` check, and accepts
the push or does nothing. What it does not accept, they handle: so they alone know why a request is rejected. Property
tests hold that both give the same answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Final, NamedTuple

from aiohttp import hdrs
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.domain.ingest_keys import BROADCAST, EMIT_ROOM, EMIT_USER, IngestKey
from gateway.domain.messages import Message, PublishResult, new_id
from gateway.domain.names import FORMER_SID_FORM, MAIN_NAMESPACE, USER_PREFIX
from ingest_api import signing
from ingest_api.access_log import find_request_id
from ingest_api.auth import Authenticator
from ingest_api.handlers import push_response
from ingest_api.interfaces import EventSchemas, Publisher, UnknownEvent
from ingest_api.large_body import LARGE_BYTES
from ingest_api.push import FastPush, fast_parse
from ingest_api.request import JSON, REQUEST_ID_HEADER, TRACE_HEADER, Request, Response
from ingest_api.routing import is_plain_id

_EMIT_TO_USER: Final = "/emit/user/"
_CONTENT_TYPE: Final = hdrs.CONTENT_TYPE.lower().encode()
_REQUEST_ID: Final = REQUEST_ID_HEADER.lower().encode()
_NOT_PLAIN: Final = frozenset(
    name.lower().encode()
    for name in (hdrs.CONTENT_ENCODING, hdrs.EXPECT, signing.IDEMPOTENCY_HEADER, TRACE_HEADER)
)
_PLAIN_TYPE: Final = JSON.encode()
_NO_NAMES: Final[frozenset[str]] = frozenset()
_NO_FIELDS: Final[CIMultiDictProxy[str]] = CIMultiDictProxy(CIMultiDict())
# Without the constructor of NamedTuple, which runs in Python and costs as much as a signature.
_message: Final[Callable[[tuple[object, ...]], Message]] = partial(tuple.__new__, Message)


class _Call(NamedTuple):
    """A call of the REST API: the template of its route, and the actions one of which its key needs."""

    template: str
    actions: tuple[str, ...]


_TO_USER: Final = _Call("/emit/user/{id}", (EMIT_USER,))
_TO_ROOM: Final = _Call("/emit/room", (EMIT_ROOM, EMIT_USER))
_TO_ALL: Final = _Call("/broadcast", (BROADCAST,))
_CALLS: Final = {call.template: call for call in (_TO_ROOM, _TO_ALL)}


class AcceptedPush(NamedTuple):
    """A push that the broker has, or is about to have: ``result`` may be a future."""

    request: Request
    """Without its headers, which only the log line of an error needs (``header_values``)."""
    fields: Mapping[bytes, bytes]
    room: str | None
    result: PublishResult | asyncio.Future[PublishResult]

    def response(self, result: PublishResult) -> Response:
        """Return the response to the push."""
        return push_response({} if self.room is None else {"room": self.room}, result)


_accepted: Final[Callable[[tuple[object, ...]], AcceptedPush]] = partial(tuple.__new__, AcceptedPush)


class PlainPushes:
    """Accepts plain pushes."""

    def __init__(
        self,
        authenticator: Authenticator,
        publisher: Publisher,
        *,
        namespaces: Collection[str],
        event_schemas: Callable[[], EventSchemas | None],
    ) -> None:
        """``event_schemas`` returns None while there is no event catalogue."""
        self._authenticator = authenticator
        self._publisher = publisher
        self._max_body_bytes = LARGE_BYTES if MAIN_NAMESPACE in namespaces else -1
        self._event_schemas = event_schemas

    def accept(
        self, target: str, fields: Mapping[bytes, bytes], body: bytes, remote: str | None
    ) -> AcceptedPush | None:
        """Accept the push in a POST request; return None if that is not plain, or not acceptable.

        ``fields`` are the headers by their name in lower case, none of them repeated; ``remote`` is the peer.
        """
        if not _NOT_PLAIN.isdisjoint(fields) or fields.get(_CONTENT_TYPE) != _PLAIN_TYPE:
            return None
        user = None
        call = _CALLS.get(target)
        if call is None:
            user, call = target[len(_EMIT_TO_USER) :], _TO_USER
            if not target.startswith(_EMIT_TO_USER) or not is_plain_id(user):
                return None
        if len(body) > self._max_body_bytes:
            return None
        signed = self._authenticator.authenticate_now(target, fields, body, call.actions)
        if signed is None:
            return None
        push = self._read(body, with_room=call is _TO_ROOM)
        if push is None:
            return None
        key, dedup_key = signed
        room = push.room if user is None else USER_PREFIX + user
        if room is not None and not _may_emit_to(key, room):
            return None
        rooms = () if room is None else (room,)
        message = _message(
            (
                new_id(),
                MAIN_NAMESPACE,
                rooms,
                push.event,
                (push.data,),
                _NO_NAMES,
                False,
                None,
                (),
                "",
                (),
                None,
                0,
            )
        )
        result = self._publisher.publish_now(message, dedup_key)
        if result is None:
            return None
        given = fields.get(_REQUEST_ID)
        request = Request(
            "POST", target, _NO_FIELDS, body, find_request_id(() if given is None else (given.decode(),))
        )
        request.template, request.path, request.user, request.remote = call.template, target, user, remote
        request.key_id, request.is_signed, request.body_bytes = key.id, True, len(body)
        return _accepted((request, fields, room, result))

    def _read(self, body: bytes, *, with_room: bool) -> FastPush | None:
        """Return the push in a body of the usual form, if the event catalogue accepts it."""
        push = fast_parse(body, with_room=with_room)
        schemas = None if push is None else self._event_schemas()
        if push is None or schemas is None:
            return push
        try:
            problems = schemas.check(MAIN_NAMESPACE, push.event, (push.data,), value_count=0)
        except UnknownEvent:
            return None
        return None if problems else push


def header_values(fields: Mapping[bytes, bytes]) -> CIMultiDictProxy[str]:
    """Return headers by name as aiohttp gives them. They are ASCII."""
    return CIMultiDictProxy(CIMultiDict((name.decode(), value.decode()) for name, value in fields.items()))


def _may_emit_to(key: IngestKey, room: str) -> bool:
    """Whether a key may emit to a room that is not possibly that of a sid of the previous release."""
    return key.can_emit_to(room) and (key.can_emit_to_every_user or not FORMER_SID_FORM.fullmatch(room))
