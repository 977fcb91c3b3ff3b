"""Handle authenticated requests about the history: read the messages of one address, erase them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

import orjson
import structlog
from marshmallow import Schema, fields

from gateway.domain import positions
from gateway.domain.attachments import detach
from gateway.domain.errors import MalformedPosition
from gateway.domain.ingest_keys import ADMIN, HISTORY
from gateway.domain.messages import Address, Message, MessagePage
from gateway.domain.names import FORMER_SID_FORM, MAIN_NAMESPACE, user_room
from gateway.domain.positions import Position
from gateway.domain.times import iso_timestamp
from ingest_api.errors import Problem
from ingest_api.idempotency import StoredAnswers
from ingest_api.interfaces import AnswerStore, DedupStore, MessageHistory, PresenceReader
from ingest_api.query import invalid_query, read_page, read_query
from ingest_api.request import AuthenticatedRequest, Require, Response, Route

_FLAGS: Final = {"true": True, "false": False}

log = structlog.get_logger(__name__)


class _Query(NamedTuple):
    """What is asked of the history: the oldest messages, or the newest. ``after`` None: of all that are held."""

    address: Address
    limit: int
    after: Position | None
    newest: bool


class HistoryHandlers:
    """Reads and erases the messages for a room, for a user, or for everyone in a namespace."""

    def __init__(
        self,
        *,
        history: MessageHistory,
        presence: PresenceReader,
        answers: AnswerStore,
        dedup: DedupStore,
        namespaces: Collection[str],
    ) -> None:
        self._history = history
        self._presence = presence
        self._dedup = dedup
        self._stored = StoredAnswers("history", answers=answers, dedup=dedup)
        self._namespaces = namespaces

    def routes(self, require: Require) -> tuple[Route, ...]:
        """Return the routes of these calls."""
        read = require((HISTORY,), self.read, has_query=True)
        erase = require((ADMIN,), self.erase, has_query=True)
        return (
            Route("GET", "/history/room/{id}", read, "room"),
            Route("DELETE", "/history/room/{id}", erase, "room"),
            Route("GET", "/history/user/{id}", read),
            Route("DELETE", "/history/user/{id}", erase),
            Route("GET", "/history/broadcast", read),
            Route("DELETE", "/history/broadcast", erase),
        )

    async def read(self, authenticated: AuthenticatedRequest) -> Response:
        """Return a page of the messages, oldest first."""
        query = self._read_query(authenticated)
        await self._check_scope(authenticated, query.address.room)
        await self._dedup.consume_nonce(authenticated.dedup_key)
        read = self._history.newest if query.newest else self._history.read
        page = await read(query.address, after=query.after, limit=query.limit)
        return Response(_encode(page))

    async def erase(self, authenticated: AuthenticatedRequest) -> Response:
        """Erase the messages up to a position."""
        values = read_query(authenticated.request.target, ("namespace", "upto"))
        if "upto" not in values:
            raise invalid_query("upto is missing: the position of the newest message to erase")
        address, upto = self._address(authenticated, values), _position("upto", values["upto"])
        request, key = authenticated.request, authenticated.dedup_key
        # The query decides what is erased, and the fingerprint of a request is that of its body alone.
        fingerprint = f"{key.fingerprint} {address.namespace} {upto}"

        async def apply() -> bytes:
            # A repeat without a stored answer erases nothing more.
            removed = await self._history.erase(address, upto=upto)
            log.info("history.erased", request_id=request.request_id, key_id=request.key_id, messages=removed)
            return orjson.dumps({"removed": removed})

        return await self._stored.apply(
            authenticated._replace(dedup_key=key._replace(fingerprint=fingerprint)), apply
        )

    async def _check_scope(self, authenticated: AuthenticatedRequest, room: str | None) -> None:
        """Raises: Problem (``missing_scope``) if the key may not read what was sent to a room, or to everyone (None).

        During an update from a release whose sids have the form of other rooms, such a room needs what a sid needs.
        """
        key = authenticated.key
        reached = key.can_read_history(room)
        if room is not None and reached and FORMER_SID_FORM.fullmatch(room):
            reached = key.can_read_history(None) or not await self._presence.has_sid(room)
        if not reached:
            what = "broadcasts" if room is None else f"the room {room!r}"
            raise Problem("missing_scope", f"no scope history of this key reaches {what}")

    def _read_query(self, authenticated: AuthenticatedRequest) -> _Query:
        values = read_query(authenticated.request.target, ("namespace", "after", "limit", "newest"))
        newest = _FLAGS.get(values.get("newest", "false"))
        if newest is None:
            raise invalid_query("newest is true or false")
        after = values.get("after")
        return _Query(
            self._address(authenticated, values),
            read_page(values).limit,
            None if after is None else _position("after", after),
            newest,
        )

    def _address(self, authenticated: AuthenticatedRequest, values: Mapping[str, str]) -> Address:
        namespace = values.get("namespace", MAIN_NAMESPACE)
        if namespace not in self._namespaces:
            raise invalid_query("namespace is none of GATEWAY_NAMESPACES")
        request = authenticated.request
        room = request.room if request.user is None else user_room(request.user)
        return Address(namespace, room)


def _position(name: str, text: str) -> Position:
    try:
        return positions.parse(text)
    except MalformedPosition as error:
        raise invalid_query(f"{name} is {error.message}") from None


def _encode(page: MessagePage) -> bytes:
    messages = [_message(position, message) for position, message in page.messages]
    return orjson.dumps({"messages": messages, "next": page.next, "gap": page.gap})


def _message(position: Position, message: Message) -> dict[str, Any]:
    """Return a message as it is listed: ``data`` for one argument, else ``args``, with the JSON as it was pushed."""
    texts, binary = detach(message.arguments, message.attachments)
    arguments = [orjson.Fragment(each) for each in texts]
    payload: dict[str, Any] = {"data": arguments[0]} if len(arguments) == 1 else {"args": arguments}
    if binary:
        payload["binary"] = binary
    at = iso_timestamp(positions.milliseconds(position) / 1000)
    return {"position": position, "id": message.id, "event": message.event, **payload, "at": at}


class HistoryMessageAnswer(Schema):
    """A message that was pushed. `data` or `args` is present: `data` if the event has exactly one argument."""

    position = fields.String(
        required=True,
        metadata={
            "description": "Its position: opaque, for `after` and `upto`.",
            "examples": ["1795262400123-417"],
        },
    )
    id = fields.String(
        required=True, metadata={"description": "The id of the message.", "examples": ["kf3l2Yq0T8m3c9kQ-1f"]}
    )
    event = fields.String(
        required=True, metadata={"description": "The event name.", "examples": ["notification:new"]}
    )
    data = fields.Raw(
        metadata={
            "description": "The only argument of the event: any JSON, as it was pushed.",
            "examples": [{"title": "hi"}],
        }
    )
    args = fields.List(
        fields.Raw(metadata={"description": "Any JSON."}),
        metadata={
            "description": "The arguments of the event, if there is not exactly one.",
            "examples": [[3, 4]],
        },
    )
    binary = fields.List(
        fields.String(),
        metadata={
            "description": "JSON pointers to the base64 strings that clients got as buffers; absent if there are none.",
            "examples": [["/data/image"]],
        },
    )
    at = fields.String(
        required=True,
        metadata={
            "description": "When the gateway accepted it, in UTC.",
            "format": "date-time",
            "examples": ["2026-11-21T12:00:00.123Z"],
        },
    )


class HistoryAnswer(Schema):
    """A page of the messages that are held, the oldest first."""

    messages = fields.List(
        fields.Nested(HistoryMessageAnswer), required=True, metadata={"description": "The messages."}
    )
    next = fields.String(
        required=True,
        allow_none=True,
        metadata={
            "description": "The `after` of the next page; null at the end. A page before the end may have fewer"
            " messages than `limit`, even none.",
            "examples": ["1795262400123-417"],
        },
    )
    gap = fields.String(
        required=True,
        allow_none=True,
        metadata={
            "description": "Null if no message after `after` is missing; without `after`, none of the recovery window."
            " `history_trimmed`: older messages are no longer held. `data_lost`: Redis lost some.",
            "enum": [None, "history_trimmed", "data_lost"],
            "examples": [None],
        },
    )


class ErasureAnswer(Schema):
    """The messages are erased."""

    removed = fields.Integer(
        required=True,
        metadata={"description": "Messages that were erased by this request.", "minimum": 0, "examples": [3]},
    )
