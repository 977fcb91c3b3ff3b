"""``POST /batch``: several messages in one request, accepted in their order, all or none.

The body is cut into its messages without decoding any, then each message is read by itself. ``cut`` and
``fast_message`` read the usual ones in one step; all others, valid or not, go through the schemas. Both return the
same.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from itertools import islice
from typing import Any, Final, Literal

import msgspec
import orjson

from gateway.domain.ingest_keys import BROADCAST, IngestKey
from gateway.domain.messages import MAX_BATCH, Message, PublishResult, keyed_digest, new_id
from gateway.domain.names import (
    MAIN_NAMESPACE,
    MAX_EVENT_CHARACTERS,
    MAX_ROOM_CHARACTERS,
    MAX_USER_CHARACTERS,
    RESERVED_EVENTS,
    USER_PREFIX,
)
from gateway.domain.strict_json import MAX_DEPTH
from ingest_api.batch_schemas import EVERYONE, MAX_ADDRESSES, BatchMessageSchema, BatchSchema
from ingest_api.errors import Problem
from ingest_api.handlers import Handlers, check_former_sids, check_target
from ingest_api.idempotency import REPLAYED_HEADER
from ingest_api.interfaces import EventSchemas
from ingest_api.large_body import LARGE_BYTES, Steps, large_elements
from ingest_api.offline_queue import check_kept_sizes
from ingest_api.push import (
    MAX_FIELD_ERRORS,
    Push,
    attach_buffers,
    check_media_type,
    check_push,
    load,
    parse_large_body,
    read_push,
)
from ingest_api.request import AuthenticatedRequest, Response

_BATCH: Final = BatchSchema()
_NOTHING: Final[frozenset[str]] = frozenset()
_DOTS: Final = frozenset({".", ".."})
_START: Final = re.compile(rb'[ \t\n\r]*+\{[ \t\n\r]*+"messages"[ \t\n\r]*+:[ \t\n\r]*+(?=\[)')
_END: Final = re.compile(rb"(?<=\])[ \t\n\r]*+\}[ \t\n\r]*+\Z")
_END_BYTES: Final = 64
"""The end of a usual batch is looked for in so many bytes."""
_MESSAGE_DEPTH: Final = MAX_DEPTH - 2
_MEMBERS: Final = (b'"to"', b'"event"', b'"data"', b'"user"', b'"room"')
_LEAST_MEMBER: Final = len('"to":0,')
_LEAST: Final = len('{"to":{"user":""},"event":"","data":}')
"""The length of a message without its user or room, event and data; one to everyone is not longer."""
_SMALL_BYTES: Final = 1024
_TOGETHER: Final = 16
"""Small messages that are read in one slice."""


class _Target(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    user: str | msgspec.UnsetType = msgspec.UNSET
    room: str | msgspec.UnsetType = msgspec.UNSET


class _Message(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    to: _Target | Literal["everyone"]
    event: str
    data: msgspec.Raw


_split: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode: Final = msgspec.json.Decoder(_Message).decode


def cut(body: bytes) -> list[bytes] | None:
    """Return the messages of a body that is certainly valid, each as its JSON; None for any other body."""
    start, end = _START.match(body), _END.search(body, max(0, len(body) - _END_BYTES))
    if start is None or end is None:
        return None
    try:
        body.decode()
        messages = list(map(bytes, _split(body[start.end() : end.start()])))
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        return None
    if not 0 < len(messages) <= MAX_BATCH:
        return None
    too_deep = [each for each in messages if each.count(b"{") + each.count(b"[") > _MESSAGE_DEPTH]
    return None if too_deep else messages


def fast_message(text: bytes) -> Push | None:
    """Return a message of a batch, or None for one that ``read_batch`` must read with the schema.

    ``text`` is a valid JSON value without white space around it.
    """
    try:
        found = _decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None
    target, event, data = found.to, found.event, bytes(found.data)
    least = _LEAST + len(event) + len(data)
    if isinstance(target, str):
        rooms: tuple[str, ...] = ()
    else:
        user, room = target.user, target.room
        if isinstance(user, str):
            name, limit, rooms = user, MAX_USER_CHARACTERS, (USER_PREFIX + user,)
        elif isinstance(room, str):
            name, limit, rooms = room, MAX_ROOM_CHARACTERS, (room,)
        else:
            return None
        least += len(name)
        if not _is_plain(name, limit) or name in _DOTS:
            return None
    if not _is_plain(event, MAX_EVENT_CHARACTERS) or event in RESERVED_EVENTS:
        return None
    # msgspec accepts repeated members, and takes the last one.
    if len(text) - least >= _LEAST_MEMBER and not _has_members_once(text, data):
        return None
    return Push(event, MAIN_NAMESPACE, (data.decode(),), _NOTHING, False, None, rooms)


def _is_plain(name: str, max_characters: int) -> bool:
    return 0 < len(name) <= max_characters and name.isascii() and name.isprintable()


def _has_members_once(text: bytes, data: bytes) -> bool:
    """Whether a message with white space, beside its data, certainly repeats no member."""
    return text.count(b"\\") == data.count(b"\\") and all(
        text.count(name) - data.count(name) <= 1 for name in _MEMBERS
    )


def read_batch(
    schema: BatchMessageSchema, body: bytes, *, now: float, event_schemas: EventSchemas | None
) -> Steps[list[Push]]:
    """Return the messages of a batch, in slices, checked with the event catalogue.

    ``now`` is the time for ``timestamp``, in seconds since 1970.

    Raises:
        Problem: The body is not valid JSON (``invalid_json``), breaks the schema (``invalid_body``), or has an event
            that the catalogue rejects (``unknown_event``).
    """
    messages = yield from _cut_in_slices(body)
    has_fast_form = MAIN_NAMESPACE in schema.namespaces
    pushes: list[Push] = []
    errors: dict[str, list[str]] = {}
    for number, text in enumerate(messages):
        push = fast_message(text) if has_fast_form and len(text) <= LARGE_BYTES else None
        is_usual = push is not None
        try:
            if push is None:
                push = yield from read_push(schema, text, now=now)
            if event_schemas is not None:
                check_push(event_schemas, push)
            if push.binary:
                push = yield from attach_buffers(push)
            pushes.append(push)
        except Problem as problem:
            errors |= _errors_of(problem, number)
            if len(errors) >= MAX_FIELD_ERRORS:
                break
        if not is_usual or len(text) > _SMALL_BYTES or number % _TOGETHER == 0:
            yield
    if not errors and sum([len(push.rooms) or 1 for push in pushes]) > MAX_ADDRESSES:
        errors["messages"] = [f"More than {MAX_ADDRESSES} users, rooms and {EVERYONE} in all."]
    if errors:
        found = dict(islice(errors.items(), MAX_FIELD_ERRORS))
        raise Problem("invalid_body", f"the body breaks the rules: {', '.join(found)}", errors=found)
    return pushes


def _cut_in_slices(body: bytes) -> Steps[list[bytes]]:
    """Return the messages of a body, each as its JSON. Raises Problem as ``read_batch``."""
    messages = cut(body)
    yield
    if messages is None:
        parsed = yield from parse_large_body(body)
        load(_BATCH, parsed)
        yield
        messages = [text.encode() for text in large_elements(parsed.raw["messages"])]
    return messages


def _errors_of(problem: Problem, number: int) -> dict[str, list[str]]:
    """Return the errors of a message by their path in the body.

    Raises:
        Problem: It is none of single fields.
    """
    place = f"messages.{number}"
    if problem.errors is None:
        raise Problem(problem.code, f"{place}: {problem.detail}")
    if not problem.errors:
        return {place: ["Not an object with the fields of a message."]}
    return {f"{place}.{path}": list(sentences) for path, sentences in problem.errors.items()}


class BatchHandlers(Handlers):
    """The calls of ``Handlers``, and the one that accepts several messages."""

    def __init__(self, *, namespaces: Collection[str], **options: Any) -> None:
        """The arguments are those of ``Handlers``."""
        super().__init__(namespaces=namespaces, **options)
        self._message = BatchMessageSchema(namespaces=namespaces)

    async def batch(self, authenticated: AuthenticatedRequest) -> Response:
        """Push the messages in their order, all or none."""
        check_media_type(authenticated.request, authenticated.body)
        pushes = await self._read_batch(authenticated.body)
        await self._check_targets(authenticated, pushes)
        messages = _messages(authenticated, pushes)
        check_kept_sizes(messages, "messages.{}.ttl")
        with self._in_flight.lock(authenticated.dedup_key):
            results = await self._publisher.publish_all(messages, authenticated.dedup_key)
        request = authenticated.request
        request.messages = len(results)
        request.publish_result = results[0]._replace(connections=sum([each.connections for each in results]))
        headers = {REPLAYED_HEADER: "true"} if results[0].replayed else {}
        return Response(orjson.dumps({"results": _contents(results, pushes)}), headers=headers)

    async def _read_batch(self, body: bytes) -> list[Push]:
        steps = read_batch(self._message, body, now=self._clock.now(), event_schemas=self._event_schemas())
        return await self._bodies.read(body, steps)

    async def _check_targets(self, authenticated: AuthenticatedRequest, pushes: Collection[Push]) -> None:
        """Check that the key may emit to everything that the messages are addressed to.

        Raises:
            Problem: It may not; ``detail`` names the first such message.
        """
        key, checked = authenticated.key, 0
        try:
            for push in pushes:
                _check_target(key, push.rooms)
                if not key.can_emit_to_every_user:
                    await check_former_sids(self._presence, push.rooms)
                checked += 1
        except Problem as problem:
            raise Problem(problem.code, f"messages.{checked}: {problem.detail}") from None


def _check_target(key: IngestKey, rooms: Collection[str]) -> None:
    if not rooms and not key.has_scope(BROADCAST):
        raise Problem("missing_scope", f"{EVERYONE} needs a key with the scope {BROADCAST}")
    check_target(key, rooms)


def _messages(authenticated: AuthenticatedRequest, pushes: Sequence[Push]) -> list[Message]:
    key, trace = authenticated.dedup_key, authenticated.request.trace
    ids = [new_id() for _ in pushes]
    if key.idempotency_key is not None:
        # Each message has an id of its own whose end a repeat has, too.
        digest = keyed_digest(key.scope, key.idempotency_key, key.fingerprint)
        ids = [f"{id_}.{digest}{number}" for number, id_ in enumerate(ids)]
    return [
        # Positional arguments: keywords cost as much again as the tuple itself.
        Message(
            id_,
            push.namespace,
            push.rooms,
            push.event,
            push.arguments,
            push.exclude,
            push.volatile,
            trace,
            push.all_of,
            "",
            push.attachments,
            None,
            push.ttl,
        )
        for id_, push in zip(ids, pushes, strict=True)
    ]


def _contents(results: Sequence[PublishResult], pushes: Sequence[Push]) -> list[dict[str, object]]:
    contents: list[dict[str, object]] = [
        {"id": id_, "online": connections > 0, "connections": connections, "recoverable": recoverable}
        if exact
        else {
            "id": id_,
            "online": connections > 0,
            "connections": connections,
            "recoverable": recoverable,
            "exact": False,
        }
        for id_, _, connections, exact, _, recoverable, *_ in results
    ]
    for content, push in zip(contents, pushes, strict=True):
        if push.ttl:
            content["stored"] = True
    return contents
