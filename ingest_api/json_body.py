"""Parse JSON bodies strictly, and keep their values as they were written.

The members of a body are decoded for the schema. The values that clients receive are slices of the text, byte for byte
as the backend wrote them. The scanner is that of ``json``; this module rejects the inputs that ``json`` accepts and
RFC 8259 or I-JSON (RFC 7493) forbid.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from json import JSONDecodeError, JSONDecoder
from typing import Final, NamedTuple

from gateway.domain.strict_json import MAX_DEPTH, STRING, is_too_deep

MAX_MEMBERS: Final = 32
"""More members than any call has fields. A body with more is not read to its end."""
TIMESTAMP: Final = "timestamp"
WITH_NUMBERS: Final = frozenset({"ack", "ttl"})
"""Members whose numbers are decoded to their values: those that a schema looks at."""
MAX_SMALL_CHARACTERS: Final = 1_000
_MAX_DIGITS: Final = 18

_CONSTANT: Final = re.compile(STRING.decode() + "|(-?Infinity|NaN)", re.DOTALL)
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_LONE_SURROGATE: Final = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_SPACE: Final = re.compile(r"[ \t\n\r]*")


class InvalidJson(ValueError):
    """The body is not JSON in the accepted form. The text states the error and its place."""


class NotAnObject(ValueError):
    """The body is JSON, but no object that a call can have as its body. The text states why."""


class Slice(NamedTuple):
    """A value of an object or array, and its place in the text.

    The value is ``text[start:end]``. The whole member, with key and white space and without delimiters, is
    ``text[member_start:member_end]``. ``key`` is empty for elements of an array.
    """

    key: str
    value: object
    start: int
    end: int
    member_start: int
    member_end: int


class ParsedBody(NamedTuple):
    """The members of a body: ``values`` decoded, ``raw`` as their text.

    A number is decoded to some integer, not to its value, except in the members WITH_NUMBERS.
    """

    values: dict[str, object]
    raw: dict[str, str]
    value_count: int = 0
    """How many values a large body holds at most."""


def parse(body: bytes) -> ParsedBody:
    """Return the members of a body.

    Raises:
        InvalidJson: The body is not JSON in the accepted form.
        NotAnObject: The body is not a JSON object, or has more than ``MAX_MEMBERS`` members.
    """
    text = decode_text(body)
    if is_too_deep(body):
        raise InvalidJson(f"the body is nested more than {MAX_DEPTH} deep")
    start = _skip_space(text, 0)
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
    values = {
        member.key: decode_small(text[member.start : member.end])
        if member.key in WITH_NUMBERS
        else member.value
        for member in members
    }
    if len(values) < len(members):
        raise _duplicate_member(text, members)
    return ParsedBody(values, {member.key: text[member.start : member.end] for member in members})


def is_plain_json(text: str) -> bool:
    """Whether a text certainly is within the limit of depth and has no escaped surrogates."""
    return text.count("[") + text.count("{") <= MAX_DEPTH and not _SURROGATE.search(text)


def elements(array: str) -> tuple[str, ...]:
    """Return the elements of a valid JSON array, each as it was written."""
    return tuple(array[element.start : element.end] for element in _children(array, 0, "]")[0])


def with_timestamp(data: str, decoded: Mapping[str, object], timestamp: str) -> str:
    """Return a valid JSON object with its member ``timestamp`` replaced or added. Other members keep their bytes.

    ``data`` is the object as text, ``decoded`` the same decoded.
    """
    if TIMESTAMP not in decoded:
        return f'{data[:-1]}{"," if decoded else ""}"{TIMESTAMP}":"{timestamp}"}}'
    members, _ = _children(data, 0, "}")
    kept = [data[member.member_start : member.member_end] for member in members if member.key != TIMESTAMP]
    kept.append(f'"{TIMESTAMP}":"{timestamp}"')
    return "{" + ",".join(kept) + "}"


def decode_small(text: str) -> object:
    """Return the value of a valid JSON text with its numbers; an empty text for one that is too long.

    Raises:
        InvalidJson: An object in it has a member twice.
    """
    return _SMALL_DECODER.decode(text) if len(text) <= MAX_SMALL_CHARACTERS else ""


def decode_text(body: bytes) -> str:
    """Return the text of a body.

    Raises:
        InvalidJson: The body is not UTF-8, or begins with a byte order mark.
    """
    if body.startswith(b"\xef\xbb\xbf"):
        raise InvalidJson("the body starts with a byte order mark")
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise InvalidJson(f"the body is not UTF-8: byte {error.start}") from None


def _children(
    text: str, start: int, closing: str, *, max_count: int | None = None
) -> tuple[list[Slice], int]:
    """Return the members or elements of the object or array at ``start``, and the position of its end."""
    children: list[Slice] = []
    member_start = start + 1
    position = _skip_space(text, member_start)
    if text[position : position + 1] == closing:
        return children, position + 1
    while len(children) != max_count:
        key = ""
        if closing == "}":
            key, position = _read_key(text, position)
        value, end = scan(text, position)
        member_end = _skip_space(text, end)
        children.append(Slice(key, value, position, end, member_start, member_end))
        delimiter = text[member_end : member_end + 1]
        member_start = member_end + 1
        if delimiter == closing:
            return children, member_start
        if delimiter != ",":
            raise InvalidJson(f"a comma or {closing} is missing{place(text, member_end)}")
        position = _skip_space(text, member_start)
    raise NotAnObject(f"the body has more than {max_count} members")


def _read_key(text: str, position: int) -> tuple[str, int]:
    """Return the key of a member, and the position of its value."""
    if text[position : position + 1] != '"':
        raise InvalidJson(f"the name of a member is missing{place(text, position)}")
    key, end = scan(text, position)
    colon = _skip_space(text, end)
    if text[colon : colon + 1] != ":":
        raise InvalidJson(f"a colon is missing{place(text, colon)}")
    return str(key), _skip_space(text, colon + 1)


def scan(text: str, start: int) -> tuple[object, int]:
    """Return the value at ``start``, and the position of its end.

    Raises:
        InvalidJson: There is no valid JSON value at ``start``.
    """
    try:
        return _DECODER.raw_decode(text, start)
    except JSONDecodeError as error:
        raise InvalidJson(f"{error.msg[:1].lower()}{error.msg[1:]}{place(text, error.pos)}") from None
    except _Constant as constant:
        found = next(match for match in _CONSTANT.finditer(text, start) if match[1])
        raise InvalidJson(f"{constant} is no JSON value{place(text, found.start())}") from None


def _duplicate_member(text: str, members: list[Slice]) -> InvalidJson:
    seen: set[str] = set()
    for member in members:
        if member.key in seen:
            return InvalidJson(f"a member is repeated{place(text, member.start)}")
        seen.add(member.key)
    raise AssertionError("no member is repeated")


def _expect_end(text: str, position: int) -> None:
    position = _skip_space(text, position)
    if position != len(text):
        raise InvalidJson(f"something follows the value{place(text, position)}")


def _check_surrogates(text: str) -> None:
    if not _SURROGATE.search(text):
        return
    for escape in _LONE_SURROGATE.finditer(text):
        if escape[1]:
            raise InvalidJson(f"\\{escape[1]} is half of a surrogate pair{place(text, escape.start())}")


def _skip_space(text: str, position: int) -> int:
    space = _SPACE.match(text, position)
    return space.end() if space else position


def place(text: str, position: int) -> str:
    """Return line and column of a position, as they end a sentence."""
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    return f": line {line}, column {column}"


class _Constant(Exception):
    """NaN, Infinity or -Infinity, which Python's ``json`` accepts."""


def _reject_constant(constant: str) -> object:
    raise _Constant(constant)


def _small_integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_DIGITS else float(digits)


def _distinct(members: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(members)
    if len(found) < len(members):
        raise InvalidJson("a member is repeated")
    return found


_SMALL_DECODER: Final = JSONDecoder(parse_int=_small_integer, object_pairs_hook=_distinct)
# Few fields of a body are numbers, and numbers in payloads stay text. `len` is the cheapest function that does not
# convert them (and int() rejects more than 4300 digits).
_DECODER: Final = JSONDecoder(parse_int=len, parse_float=len, parse_constant=_reject_constant)
