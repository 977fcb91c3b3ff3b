"""Turn the body of a request into a Push, a Disconnect or other values of its schema.

Nearly every push has a body of only ``event`` and ``data``, and perhaps ``room``. ``fast_parse`` recognises these by
their text and reads them in one step. All other bodies, valid or not, go through ``json_body``, the large ones through
``large_body``, and the schema. Property tests hold that all paths return the same.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any, Final, NamedTuple

from aiohttp import hdrs
from marshmallow import Schema, ValidationError
from marshmallow.exceptions import SCHEMA

from gateway.domain.acks import AckTerms
from gateway.domain.attachments import attach
from gateway.domain.names import MAIN_NAMESPACE, MAX_EVENT_CHARACTERS, MAX_ROOM_CHARACTERS, RESERVED_EVENTS
from gateway.domain.times import iso_timestamp
from ingest_api import json_body
from ingest_api.errors import Problem
from ingest_api.interfaces import EventSchemas, UnknownEvent
from ingest_api.json_body import InvalidJson, NotAnObject, ParsedBody, is_plain_json, scan
from ingest_api.large_body import (
    LARGE_BYTES,
    Steps,
    UnknownMember,
    large_elements,
    parse_large,
    with_timestamp_in_large,
)
from ingest_api.request import JSON, Request
from ingest_api.schemas import DisconnectSchema, EmitSchema

MAX_FIELD_ERRORS: Final = 20
_MAX_FIELD_NAME_CHARACTERS: Final = 64
SPACE: Final = r"[ \t\n\r]*+"
_INVALID_ROOMS: Final = frozenset({".", ".."})
_NO_EXCLUSIONS: Final[frozenset[str]] = frozenset()
_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_QUOTED: Final = r'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[\t -~])*+"'
_PARAMETER: Final = rf"[ \t]*+;[ \t]*+(?:({_WORD})=({_WORD}|{_QUOTED}))?+"
_JSON: Final = re.compile(rf"application/json((?:{_PARAMETER})*+)[ \t]*+", re.ASCII | re.IGNORECASE)
"""JSON with parameters (RFC 9110 §5.6.6)."""
_PARAMETERS: Final = re.compile(_PARAMETER, re.ASCII)
_UTF_8: Final = frozenset({"utf-8", "utf8"})


class FastPush(NamedTuple):
    """The fields of a body that ``fast_parse`` accepts. ``data`` is JSON text as it was written."""

    event: str
    room: str | None
    data: str


# Without the constructor of NamedTuple, which runs in Python.
_fast_push: Final[Callable[[tuple[str, str | None, str]], FastPush]] = partial(tuple.__new__, FastPush)


def member_pattern(name: str, max_characters: int) -> str:
    """Return a pattern for a member with a short value of printable ASCII without escapes, and its white space."""
    return rf'{SPACE}"{name}"{SPACE}:{SPACE}"([ !#-\[\]-~]{{1,{max_characters}}})"{SPACE}'


_EVENT: Final = member_pattern("event", MAX_EVENT_CHARACTERS)
_ROOM: Final = member_pattern("room", MAX_ROOM_CHARACTERS)
_HEAD: Final = re.compile(rf'{SPACE}\{{(?:{_ROOM},)?{_EVENT},(?:{_ROOM},)?{SPACE}"data"{SPACE}:{SPACE}')
_TAIL: Final = re.compile(rf"{SPACE}(?:,{_ROOM})?\}}{SPACE}")


def fast_parse(body: bytes, *, with_room: bool) -> FastPush | None:
    """Return the push in a body, or None for a body that ``parse_push`` must read.

    ``with_room`` is whether the body, and not the path, names the room.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    head = _HEAD.match(text)
    if head is None or not is_plain_json(text):
        return None
    start = head.end()
    try:
        _, end = scan(text, start)
    except InvalidJson:
        return None
    tail = _TAIL.fullmatch(text, end)
    if tail is None:
        return None
    first_room, event, second_room = head.groups()
    room = first_room or second_room or tail[1]
    number = (first_room is not None) + (second_room is not None) + (tail[1] is not None)
    if number != with_room or event in RESERVED_EVENTS or room in _INVALID_ROOMS:
        return None
    # Events have few names: the history holds each once.
    return _fast_push((sys.intern(event), room, text[start:end]))


class Push(NamedTuple):
    """An event to push. ``arguments`` are JSON texts. ``room``, ``rooms``, ``users`` and ``binary`` are as in the body.

    ``rooms`` of a message of a batch are all that it is addressed to; none: everyone.

    ``has_args`` is whether the arguments are the elements of ``args``, and not the one in ``data``. ``value_count`` is
    how many values a large body holds at most. ``attachments`` is empty until ``attach_buffers``.
    """

    event: str
    namespace: str
    arguments: tuple[str, ...]
    exclude: frozenset[str]
    volatile: bool
    room: str | None
    rooms: tuple[str, ...]
    has_args: bool = False
    value_count: int = 0
    all_of: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    ack: AckTerms | None = None
    binary: tuple[str, ...] = ()
    attachments: tuple[str, ...] = ()
    ttl: int = 0


class Disconnect(NamedTuple):
    """The connections to close. ``namespace`` None means in all namespaces."""

    namespace: str | None
    exclude: frozenset[str]
    revoke: bool


def check_media_type(request: Request, body: bytes) -> None:
    """Check that Content-Type is JSON in UTF-8, whatever its other parameters. An empty body needs no Content-Type.

    Raises:
        Problem: The media type is missing, repeated or another one.
    """
    values = request.headers.getall(hdrs.CONTENT_TYPE, ())
    if len(values) == 1 and (values[0] == JSON or _is_json_in_utf_8(values[0])):
        return
    if body or values:
        raise Problem("unsupported_media_type", f"the body is JSON in UTF-8: send Content-Type: {JSON}")


def _is_json_in_utf_8(media_type: str) -> bool:
    found = _JSON.fullmatch(media_type)
    if found is None:
        return False
    parameters = _PARAMETERS.findall(found[1])
    return all(value.strip('"').lower() in _UTF_8 for name, value in parameters if name.lower() == "charset")


def fast_push(schema: EmitSchema, body: bytes) -> Push | None:
    """Return the push in a small body of the usual form; None for one that ``read_push`` must read."""
    has_fast_form = schema.has_fast_form and MAIN_NAMESPACE in schema.namespaces and len(body) <= LARGE_BYTES
    fast = fast_parse(body, with_room=schema.to_room) if has_fast_form else None
    if fast is None:
        return None
    return Push(fast.event, MAIN_NAMESPACE, (fast.data,), _NO_EXCLUSIONS, False, fast.room, ())


def read_push(schema: EmitSchema, body: bytes, *, now: float) -> Steps[Push]:
    """Return the push in any body. ``now`` is the time for ``timestamp``, in seconds since 1970.

    Raises:
        Problem: The body is not valid JSON (``invalid_json``) or breaks the schema (``invalid_body``).
    """
    if len(body) <= LARGE_BYTES:
        return parse_push(schema, body, now=now)
    return (yield from read_large_push(schema, body, now=now))


def parse_push(schema: EmitSchema, body: bytes, *, now: float) -> Push:
    """Return the push in a small body, read with the schema.

    Raises:
        Problem: The body is not valid JSON (``invalid_json``) or breaks the schema (``invalid_body``).
    """
    parsed = parse_body(body)
    if isinstance(parsed.values.get("to"), dict):
        # Again by itself: a repeated member is found in the outermost object alone.
        parsed.values["to"] = parse_body(parsed.raw["to"].encode()).values
    loaded = load(schema, parsed)
    return _push_of(parsed, loaded, _arguments(parsed, loaded, now))


def read_large_push(schema: EmitSchema, body: bytes, *, now: float) -> Steps[Push]:
    """Return the push in a large body, in slices.

    Raises:
        Problem: As ``parse_push``.
    """
    parsed = yield from parse_large_body(body)
    if isinstance(parsed.values.get("to"), dict):
        try:
            parsed.values["to"] = (yield from parse_large_body(parsed.raw["to"].encode())).values
        except Problem as problem:
            errors = problem.errors and {f"to.{path}": found for path, found in problem.errors.items()}
            raise Problem(problem.code, problem.detail, errors=errors) from None
    loaded = load(schema, parsed)
    yield
    data, args = parsed.raw.get("data"), parsed.raw.get("args")
    if data is not None and loaded["timestamp"]:
        arguments: tuple[str, ...] = ((yield from with_timestamp_in_large(data, iso_timestamp(now))),)
    elif data is not None:
        arguments = (data,)
    else:
        arguments = () if args is None else large_elements(args)
    return _push_of(parsed, loaded, arguments)


def _push_of(parsed: ParsedBody, loaded: Mapping[str, Any], arguments: tuple[str, ...]) -> Push:
    return Push(
        event=loaded["event"],
        namespace=loaded["namespace"],
        arguments=arguments,
        exclude=frozenset(loaded["except_"]),
        volatile=loaded["volatile"],
        room=loaded.get("room"),
        rooms=tuple(loaded.get("to", loaded.get("rooms", ()))),
        has_args="args" in loaded,
        value_count=parsed.value_count,
        all_of=tuple(loaded["all_"]),
        users=tuple(loaded.get("users", ())),
        ack=loaded.get("ack"),
        binary=tuple(loaded["binary"]),
        ttl=loaded.get("ttl", 0),
    )


def check_push(schemas: EventSchemas, push: Push) -> None:
    """Check a push with the event catalogue.

    Raises:
        Problem: The catalogue does not accept the arguments (``invalid_body``) or the event (``unknown_event``).
    """
    try:
        problems = schemas.check(push.namespace, push.event, push.arguments, value_count=push.value_count)
    except UnknownEvent:
        raise Problem(
            "unknown_event", f"the event catalogue describes no such event of the namespace {push.namespace}"
        ) from None
    if problems:
        found = islice(problems.items(), MAX_FIELD_ERRORS)
        errors = {_argument_path(path, has_args=push.has_args): [sentence] for path, sentence in found}
        raise Problem("invalid_body", f"the event catalogue rejects {', '.join(errors)}", errors=errors)


def attach_buffers(push: Push) -> Steps[Push]:
    """Return the push with its buffers as attachments, and placeholders for them in its arguments, in slices.

    Raises:
        Problem: A pointer leads to no base64 string, or an argument holds what clients take for a placeholder.
    """
    attached = yield from attach(push.arguments, push.binary, has_args=push.has_args)
    if attached.problems:
        errors = {path: [sentence] for path, sentence in attached.problems.items()}
        raise Problem("invalid_body", f"the body breaks the rules: {', '.join(errors)}", errors=errors)
    return push._replace(arguments=attached.arguments, attachments=attached.attachments)


def _argument_path(path: str, *, has_args: bool) -> str:
    """Return the path inside the body of a path that begins with the index of an argument."""
    field, more = ("args", path) if has_args else ("data", path.partition(".")[2])
    return f"{field}.{more}" if more else field


def read_values(schema: Schema, body: bytes, *, numbers: Collection[str] = ()) -> Steps[Mapping[str, Any]]:
    """Return the values in a body, as its schema loads them. ``numbers`` are the members that may be a number.

    Raises:
        Problem: The body is not valid JSON (``invalid_json``) or breaks the schema (``invalid_body``).
    """
    return load(schema, _with_numbers((yield from parse_any_body(body)), numbers))


def _with_numbers(parsed: ParsedBody, names: Collection[str]) -> ParsedBody:
    """Return a body in which these members have their value if it is a number; the parser leaves numbers out."""
    found = {
        name: float(parsed.raw[name])
        for name in names
        if isinstance(parsed.values.get(name), int) and not isinstance(parsed.values[name], bool)
    }
    return parsed._replace(values={**parsed.values, **found}) if found else parsed


def read_disconnect(schema: DisconnectSchema, body: bytes) -> Steps[Disconnect]:
    """Return the disconnect in a body. An empty body means the same as ``{}``.

    Raises:
        Problem: The body is not valid JSON (``invalid_json``) or breaks the schema (``invalid_body``).
    """
    loaded = load(schema, (yield from parse_any_body(body or b"{}")))
    return Disconnect(
        namespace=loaded.get("namespace"), exclude=frozenset(loaded["except_"]), revoke=loaded["revoke"]
    )


def parse_any_body(body: bytes) -> Steps[ParsedBody]:
    """Return the members of a body, in slices if it is large. Raises Problem as the parser of its size."""
    if len(body) <= LARGE_BYTES:
        return parse_body(body)
    return (yield from parse_large_body(body))


def parse_body(body: bytes) -> ParsedBody:
    """Return the members of a body. Raises Problem as ``parse_large_body``, but for unknown members."""
    try:
        return json_body.parse(body)
    except InvalidJson as error:
        raise Problem("invalid_json", str(error)) from None
    except NotAnObject as error:
        raise Problem("invalid_body", str(error), errors={}) from None


def parse_large_body(body: bytes) -> Steps[ParsedBody]:
    """Return the members of a body, in slices.

    Raises:
        Problem: The body is not valid JSON (``invalid_json``), no object, or has an unknown member (``invalid_body``).
    """
    try:
        return (yield from parse_large(body))
    except InvalidJson as error:
        raise Problem("invalid_json", str(error)) from None
    except NotAnObject as error:
        raise Problem("invalid_body", str(error), errors={}) from None
    except UnknownMember as error:
        name = str(error)[:_MAX_FIELD_NAME_CHARACTERS]
        raise Problem(
            "invalid_body", f"the body breaks the rules: {name}", errors={name: ["Unknown field."]}
        ) from None


def load(schema: Schema, parsed: ParsedBody) -> dict[str, Any]:
    """Return the values of a body as the schema loads them.

    Raises:
        Problem: The body breaks the schema (``invalid_body``).
    """
    try:
        loaded: dict[str, Any] = schema.load(parsed.values)
    except ValidationError as error:
        errors = dict(islice(_flatten(error.messages_dict, ""), MAX_FIELD_ERRORS))
        raise Problem(
            "invalid_body", f"the body breaks the rules: {', '.join(errors)}", errors=errors
        ) from None
    return loaded


def _arguments(parsed: ParsedBody, loaded: Mapping[str, Any], now: float) -> tuple[str, ...]:
    data = parsed.raw.get("data")
    if data is not None:
        return (
            json_body.with_timestamp(data, loaded["data"], iso_timestamp(now))
            if loaded["timestamp"]
            else data,
        )
    args = parsed.raw.get("args")
    return () if args is None else json_body.elements(args)


def _flatten(messages: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, list[str]]]:
    """Yield marshmallow's nested messages by the path of their field, such as ``rooms.3``."""
    for name, value in messages.items():
        path = f"{prefix}{str(name)[:_MAX_FIELD_NAME_CHARACTERS]}"
        if isinstance(value, Mapping):
            yield from _flatten(value, path + ".")
        elif name == SCHEMA and prefix:
            # What is wrong with the value itself, as one that is no object.
            yield prefix[:-1], [str(sentence) for sentence in value]
        else:
            yield path, [str(sentence) for sentence in value]
