"""``POST /batch``: several messages in one request, accepted in their order, all or none.

The body is cut into its messages without decoding any, then each message is read by itself. ``fast_message`` reads the
usual ones in one step; all others, valid or not, go through the schema. Both return the same.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, Final

import orjson

from gateway.domain.ingest_keys import BROADCAST
from gateway.domain.messages import Message, PublishResult, keyed_id, new_id
from gateway.domain.names import (
    MAIN_NAMESPACE,
    MAX_EVENT_CHARACTERS,
    MAX_ROOM_CHARACTERS,
    MAX_USER_CHARACTERS,
    RESERVED_EVENTS,
    user_room,
)
from ingest_api.batch_schemas import EVERYONE, MAX_ADDRESSES, BatchMessageSchema, BatchSchema
from ingest_api.errors import Problem
from ingest_api.handlers import Handlers, check_former_sids, check_target
from ingest_api.idempotency import REPLAYED_HEADER
from ingest_api.interfaces import EventSchemas
from ingest_api.json_body import InvalidJson, is_plain_json, scan
from ingest_api.large_body import LARGE_BYTES, Steps, in_slices, large_elements
from ingest_api.push import (
    MAX_FIELD_ERRORS,
    SPACE,
    Push,
    attach_buffers,
    check_media_type,
    check_push,
    load,
    member_pattern,
    parse_large_body,
    parse_push,
    read_large_push,
)
from ingest_api.request import AuthenticatedRequest, Response

_EVENT: Final = member_pattern("event", MAX_EVENT_CHARACTERS)
_USER: Final = member_pattern("user", MAX_USER_CHARACTERS)
_ROOM: Final = member_pattern("room", MAX_ROOM_CHARACTERS)
_TO: Final = rf'{SPACE}"to"{SPACE}:{SPACE}(?:"({EVERYONE})"|\{{(?:{_USER}|{_ROOM})\}}){SPACE}'
_HEAD: Final = re.compile(rf'\{{(?:{_TO},{_EVENT}|{_EVENT},{_TO}),{SPACE}"data"{SPACE}:{SPACE}')
_TAIL: Final = re.compile(rf"{SPACE}\}}")
_BATCH: Final = BatchSchema()
_NOTHING: Final[frozenset[str]] = frozenset()


def fast_message(text: str) -> Push | None:
    """Return a message of a batch, or None for one that ``read_batch`` must read with the schema.

    ``text`` is a JSON value without white space around it.
    """
    head = _HEAD.match(text)
    if head is None or not is_plain_json(text):
        return None
    start = head.end()
    try:
        _, end = scan(text, start)
    except InvalidJson:
        return None
    if _TAIL.fullmatch(text, end) is None:
        return None
    first_everyone, first_user, first_room, second_event, event, everyone, user, room = head.groups()
    event, user, room = event or second_event, first_user or user, first_room or room
    everyone = first_everyone or everyone
    if event in RESERVED_EVENTS or (user or room) in {".", ".."}:
        return None
    rooms = () if everyone is not None else (user_room(user) if user is not None else room,)
    return Push(event, MAIN_NAMESPACE, (text[start:end],), _NOTHING, False, None, rooms)


def read_batch(
    schema: BatchMessageSchema, body: bytes, *, now: float, event_schemas: EventSchemas | None
) -> Steps[list[Push]]:
    """Return the messages of a batch, in slices, checked with the event catalogue.

    ``now`` is the time for ``timestamp``, in seconds since 1970.

    Raises:
        Problem: The body is not valid JSON (``invalid_json``), breaks the schema (``invalid_body``), or has an event
            that the catalogue rejects (``unknown_event``).
    """
    parsed = yield from parse_large_body(body)
    load(_BATCH, parsed)
    yield
    has_fast_form = MAIN_NAMESPACE in schema.namespaces
    pushes: list[Push] = []
    errors: dict[str, list[str]] = {}
    for number, text in enumerate(large_elements(parsed.raw["messages"])):
        push = fast_message(text) if has_fast_form and len(text) <= LARGE_BYTES else None
        try:
            if push is None:
                push = yield from _read_message(schema, text.encode(), now)
            if event_schemas is not None:
                check_push(event_schemas, push)
            if push.binary:
                push = yield from attach_buffers(push)
            pushes.append(push)
        except Problem as problem:
            errors |= _errors_of(problem, number)
            if len(errors) >= MAX_FIELD_ERRORS:
                break
        yield
    if not errors and sum([len(push.rooms) or 1 for push in pushes]) > MAX_ADDRESSES:
        errors["messages"] = [f"More than {MAX_ADDRESSES} users, rooms and {EVERYONE} in all."]
    if errors:
        found = dict(islice(errors.items(), MAX_FIELD_ERRORS))
        raise Problem("invalid_body", f"the body breaks the rules: {', '.join(found)}", errors=found)
    return pushes


def _read_message(schema: BatchMessageSchema, text: bytes, now: float) -> Steps[Push]:
    if len(text) <= LARGE_BYTES:
        return parse_push(schema, text, now=now)
    return (yield from read_large_push(schema, text, now=now))


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
        with self._in_flight.lock(authenticated.dedup_key):
            results = await self._publisher.publish_all(messages, authenticated.dedup_key)
        request = authenticated.request
        request.messages = len(results)
        request.publish_result = results[0]._replace(connections=sum([each.connections for each in results]))
        headers = {REPLAYED_HEADER: "true"} if results[0].replayed else {}
        return Response(orjson.dumps({"results": list(map(_content, results))}), headers=headers)

    async def _read_batch(self, body: bytes) -> list[Push]:
        steps = read_batch(self._message, body, now=self._clock.now(), event_schemas=self._event_schemas())
        if len(body) <= LARGE_BYTES:
            return await in_slices(steps)
        async with self._large_body:
            return await in_slices(steps)

    async def _check_targets(self, authenticated: AuthenticatedRequest, pushes: Collection[Push]) -> None:
        """Check that the key may emit to everything that the messages are addressed to.

        Raises:
            Problem: It may not; ``detail`` names the first such message.
        """
        key = authenticated.key
        for number, push in enumerate(pushes):
            with _naming_message(number):
                if not push.rooms and not key.has_scope(BROADCAST):
                    raise Problem("missing_scope", f"{EVERYONE} needs a key with the scope {BROADCAST}")
                check_target(key, push.rooms)
                if not key.can_emit_to_every_user:
                    await check_former_sids(self._presence, push.rooms)


@contextmanager
def _naming_message(number: int) -> Iterator[None]:
    """Name the message in the detail of a problem."""
    try:
        yield
    except Problem as problem:
        raise Problem(problem.code, f"messages.{number}: {problem.detail}") from None


def _messages(authenticated: AuthenticatedRequest, pushes: Collection[Push]) -> list[Message]:
    key, trace = authenticated.dedup_key, authenticated.request.trace
    return [
        # Positional arguments: keywords cost as much again as the tuple itself.
        Message(
            new_id()
            if key.idempotency_key is None
            # Each message has an id of its own that a repeat has, too.
            else keyed_id(key.scope, key.idempotency_key, f"{key.fingerprint}\n{number}"),
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
        )
        for number, push in enumerate(pushes)
    ]


def _content(result: PublishResult) -> dict[str, object]:
    content = {
        "id": result.id,
        "online": result.connections > 0,
        "connections": result.connections,
        "recoverable": result.recoverable,
    }
    return content if result.exact else content | {"exact": False}
