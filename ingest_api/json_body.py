"""JSON bodies, checked whole and kept as they were written.

The members of a body are decoded for the schema; what a client will be sent is cut out of the text and stays as the
backend wrote it. The scanner is that of ``json``; what it lets pass although RFC 8259 or I-JSON (RFC 7493) do not is
refused here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import accumulate
from json import JSONDecodeError, JSONDecoder
from typing import Final, NamedTuple

MAX_DEPTH: Final = 64
MAX_MEMBERS: Final = 32
"""No call knows as many; what has more is not read to its end."""
TIMESTAMP: Final = "timestamp"

_OPENING: Final = b"[{"
_CLOSING: Final = b"]}"
_STEPS: Final = bytes.maketrans(_OPENING + _CLOSING, b"\x01\x01\xff\xff")
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(_OPENING + _CLOSING))
# A string, or as much of one as there is: this never fails, so that no quote is looked at twice.
_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?'
_STRINGS: Final = re.compile(_STRING, re.DOTALL)
_CONSTANT: Final = re.compile(_STRING.decode() + "|(-?Infinity|NaN)", re.DOTALL)
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_LONE_SURROGATE: Final = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_SPACE: Final = re.compile(r"[ \t\n\r]*")


class InvalidJson(ValueError):
    """Not JSON as this door takes it; the text says what is wrong, and where."""


class NotAnObject(ValueError):
    """JSON, but nothing that any call could mean; the text says why."""


class Slice(NamedTuple):
    """A value and where it stands in its text: the value from ``start`` to ``end``; its member, with key and white
    space, from ``after`` the delimiter before it up to the delimiter ``before`` what follows."""

    key: str
    value: object
    start: int
    end: int
    after: int
    before: int


class Envelope(NamedTuple):
    """A body: ``values`` are its members decoded (of numbers only that they are some), ``raw`` the same as text."""

    values: dict[str, object]
    raw: dict[str, str]


def parse(body: bytes) -> Envelope:
    """The members of a body. Raises InvalidJson, and NoEnvelope."""
    text = _decode(body)
    _check_depth(body)
    start = _skip(text, 0)
    if start == len(text):
        raise InvalidJson("the body is empty")
    is_object = text[start] == "{"
    members, end = (
        _children(text, start, "}", max_count=MAX_MEMBERS) if is_object else ([], scan(text, start)[1])
    )
    _expect_end(text, end)
    _check_surrogates(text)
    if not is_object:
        raise NotAnObject("the body is JSON, but no object")
    values = {member.key: member.value for member in members}
    if len(values) < len(members):
        raise _doubled(text, members)
    return Envelope(values, {member.key: text[member.start : member.end] for member in members})


def is_plain_json(text: str) -> bool:
    """Whether depth and surrogates of a text need no closer look."""
    return text.count("[") + text.count("{") <= MAX_DEPTH and not _SURROGATE.search(text)


def elements(array: str) -> tuple[str, ...]:
    """The elements of a valid JSON array, each as it was written."""
    return tuple(array[element.start : element.end] for element in _children(array, 0, "]")[0])


def with_timestamp(data: str, decoded: Mapping[str, object], timestamp: str) -> str:
    """A valid JSON object with its member ``timestamp`` replaced, or added; every other byte as it was.

    ``decoded`` is what the object says.
    """
    if TIMESTAMP not in decoded:
        return f'{data[:-1]}{"," if decoded else ""}"{TIMESTAMP}":"{timestamp}"}}'
    members, _ = _children(data, 0, "}")
    kept = [data[member.after : member.before] for member in members if member.key != TIMESTAMP]
    kept.append(f'"{TIMESTAMP}":"{timestamp}"')
    return "{" + ",".join(kept) + "}"


def _decode(body: bytes) -> str:
    if body.startswith(b"\xef\xbb\xbf"):
        raise InvalidJson("the body starts with a byte order mark")
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise InvalidJson(f"the body is not UTF-8: byte {error.start}") from None


def _check_depth(body: bytes) -> None:
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return
    steps = memoryview(_STRINGS.sub(b"", body).translate(_STEPS, _NOT_BRACKETS)).cast("b")
    if max(accumulate(steps), default=0) > MAX_DEPTH:
        raise InvalidJson(f"the body is nested more than {MAX_DEPTH} deep")


def _children(
    text: str, start: int, closing: str, *, max_count: int | None = None
) -> tuple[list[Slice], int]:
    """What is in the object or array that starts there, and where that ends."""
    children: list[Slice] = []
    after = start + 1
    position = _skip(text, after)
    if text[position : position + 1] == closing:
        return children, position + 1
    while len(children) != max_count:
        key = ""
        if closing == "}":
            key, position = _key(text, position)
        value, end = scan(text, position)
        before = _skip(text, end)
        children.append(Slice(key, value, position, end, after, before))
        delimiter = text[before : before + 1]
        after = before + 1
        if delimiter == closing:
            return children, after
        if delimiter != ",":
            raise InvalidJson(f"a comma or {closing} is missing{_at(text, before)}")
        position = _skip(text, after)
    raise NotAnObject(f"the body has more than {max_count} members")


def _key(text: str, position: int) -> tuple[str, int]:
    if text[position : position + 1] != '"':
        raise InvalidJson(f"the name of a member is missing{_at(text, position)}")
    key, end = scan(text, position)
    colon = _skip(text, end)
    if text[colon : colon + 1] != ":":
        raise InvalidJson(f"a colon is missing{_at(text, colon)}")
    return str(key), _skip(text, colon + 1)


def scan(text: str, start: int) -> tuple[object, int]:
    """The value that starts there, and where it ends. Raises InvalidJson."""
    try:
        return _DECODER.raw_decode(text, start)
    except JSONDecodeError as error:
        raise InvalidJson(f"{error.msg[:1].lower()}{error.msg[1:]}{_at(text, error.pos)}") from None
    except _Constant as constant:
        found = next(match for match in _CONSTANT.finditer(text, start) if match[1])
        raise InvalidJson(f"{constant} is no JSON value{_at(text, found.start())}") from None


def _doubled(text: str, members: list[Slice]) -> InvalidJson:
    seen: set[str] = set()
    for member in members:
        if member.key in seen:
            return InvalidJson(f"a member is there twice, again{_at(text, member.start)}")
        seen.add(member.key)
    raise AssertionError("asked without a doubled member")


def _expect_end(text: str, position: int) -> None:
    position = _skip(text, position)
    if position != len(text):
        raise InvalidJson(f"something follows the value{_at(text, position)}")


def _check_surrogates(text: str) -> None:
    if not _SURROGATE.search(text):
        return
    for escape in _LONE_SURROGATE.finditer(text):
        if escape[1]:
            raise InvalidJson(f"\\{escape[1]} is half of a surrogate pair{_at(text, escape.start())}")


def _skip(text: str, position: int) -> int:
    space = _SPACE.match(text, position)
    return space.end() if space else position


def _at(text: str, position: int) -> str:
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    return f": line {line}, column {column}"


class _Constant(Exception):
    """NaN, Infinity or -Infinity, which Python takes for JSON."""


def _reject_constant(constant: str) -> object:
    raise _Constant(constant)


# No member of a body is a number, and numbers in payloads stay text: `len` is the cheapest way not to convert them
# (and int() refuses more than 4300 digits).
_DECODER: Final = JSONDecoder(parse_int=len, parse_float=len, parse_constant=_reject_constant)
