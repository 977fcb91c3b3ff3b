"""Parse large JSON bodies without decoding what is passed on, in slices between which the event loop runs other tasks.

Decoding takes up to 300 ms for each MiB, in one piece. msgspec checks a body and cuts out its members in 3 ms for each
MiB. It knows no limit of levels and accepts repeated members; both are checked here.

Every function that may take long is a generator: it yields between two slices and returns its result. ``BodyReader``
runs it. ``json_body`` parses small bodies, which the same rules apply to.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Generator
from itertools import accumulate
from typing import Any, Final, TypeVar

import msgspec

from gateway.domain.strict_json import MAX_DEPTH
from ingest_api.json_body import (
    TIMESTAMP,
    WITH_NUMBERS,
    InvalidJson,
    NotAnObject,
    ParsedBody,
    decode_small,
    decode_text,
    place,
    scan,
)

LARGE_BYTES: Final = 16 * 1024
"""Larger bodies are parsed here. The slowest one of this size takes 5 ms to decode."""
MAX_SLICE_SECONDS: Final = 0.004
MAX_ELEMENTS: Final = 201
"""More elements than any list of a request may have; further ones are not looked at."""
_BLOCK_BYTES: Final = 32 * 1024
_TOKENS_PER_STEP: Final = 2048

_NAMES: Final = (
    "event", "data", "args", "namespace", "volatile", "timestamp", "room", "rooms", "except", "revoke", "ids",
    "all", "users", "jti", "issuer", "expires_at", "ack", "user", "to", "messages", "who",
    "binary", "ttl",
)  # fmt: skip
"""The members that any call takes."""
_MARKS: Final = b'"[]{},'
_OTHERS: Final = bytes(set(range(256)) - set(_MARKS))
_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_SPACE: Final = re.compile(rb"[ \t\n\r]*+")
_KEY: Final = re.compile(rb'[ \t\n\r]*+("[^"\\]*+(?:\\.[^"\\]*+)*+")[ \t\n\r]*+:[ \t\n\r]*+', re.DOTALL)
_DELIMITER: Final = re.compile(rb"[ \t\n\r]*+([,}])")
_TOKEN: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{},]', re.DOTALL)
_MAY_HAVE_TIMESTAMP: Final = re.compile(rf'"{TIMESTAMP}"|\\u')
_EMPTY: Final = re.compile(r"\{[ \t\n\r]*+\}")
_REASON: Final = re.compile(r"JSON is malformed: (.*) \(byte (\d+)\)", re.DOTALL)
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)

_value: Final = msgspec.json.Decoder(msgspec.Raw)
_members: Final = msgspec.json.Decoder(
    msgspec.defstruct(
        "Members",
        [(f"{name}_", msgspec.Raw, msgspec.UNSET) for name in _NAMES],
        rename={f"{name}_": name for name in _NAMES},
        forbid_unknown_fields=True,
    )
)
_elements: Final = msgspec.json.Decoder(
    msgspec.defstruct(
        "Elements",
        [(f"element{number}", msgspec.Raw, msgspec.UNSET) for number in range(MAX_ELEMENTS)],
        array_like=True,
    )
)

Result = TypeVar("Result")
Steps = Generator[None, None, Result]
"""Work in slices: it yields between them."""


class UnknownMember(ValueError):
    """The body has a member that no call takes; the text is its name."""


async def in_slices(steps: Steps[Result]) -> Result:
    """Return what ``steps`` returns. Other tasks run after each MAX_SLICE_SECONDS."""
    began = time.perf_counter()
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result
        if time.perf_counter() - began >= MAX_SLICE_SECONDS:
            await asyncio.sleep(0)
            began = time.perf_counter()


class BodyReader:
    """Runs the steps that read bodies. Of the large ones it reads one at a time: one slice in each turn of the loop."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def read(self, body: bytes, steps: Steps[Result]) -> Result:
        """Return what ``steps`` read from ``body``, in slices. A small body waits for no other one."""
        if len(body) <= LARGE_BYTES:
            return await in_slices(steps)
        return await self.run_alone(steps)

    async def run_alone(self, steps: Steps[Result]) -> Result:
        """Return what ``steps`` return, in slices, once no large body is being read."""
        async with self._lock:
            return await in_slices(steps)


def parse_large(body: bytes) -> Steps[ParsedBody]:
    """Return the members of a body. Values that are only passed on are decoded to an empty value of their type.

    Raises:
        InvalidJson: The body is not JSON in the accepted form.
        NotAnObject: The body is not a JSON object.
        UnknownMember: The body has a member that no call takes.
    """
    decode_text(body)
    yield
    try:
        _value.decode(body)
    except RecursionError:
        raise _too_deep() from None
    except msgspec.DecodeError as error:
        raise InvalidJson(_describe(error, body)) from None
    yield
    value_count = yield from count_values(body)
    if body[_start(body) : _start(body) + 1] != b"{":
        raise NotAnObject("the body is JSON, but no object")
    try:
        found = _members.decode(body)
    except msgspec.ValidationError as error:
        unknown = _UNKNOWN.fullmatch(str(error))
        raise UnknownMember(unknown[1] if unknown else "") from None
    raw = {
        name: bytes(value) for name in _NAMES if (value := getattr(found, f"{name}_")) is not msgspec.UNSET
    }
    yield
    _check_repetitions(body, raw)
    yield
    values = {name: _decode_shallowly(name, value) for name, value in raw.items()}
    yield
    return ParsedBody(values, {name: value.decode() for name, value in raw.items()}, value_count)


def count_values(text: bytes) -> Steps[int]:
    """Return how many values a valid JSON text holds at most.

    Raises:
        InvalidJson: The text has more than MAX_DEPTH levels.
    """
    containers = text.count(b"[") + text.count(b"{")
    if containers <= MAX_DEPTH:
        return containers + text.count(b",") + 1
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
        yield
    # Two quotes side by side may be removed: what is around them stays inside of a string, or outside.
    marks = text.translate(None, _OTHERS).replace(b'""', b"")
    yield
    count, level, is_inside = 1, 0, 0
    for start in range(0, len(marks), _BLOCK_BYTES):
        parts = marks[start : start + _BLOCK_BYTES].split(b'"')
        outside = b"".join(parts[is_inside::2])
        is_inside = (is_inside + len(parts) - 1) % 2
        steps = outside.translate(_STEPS, b",")
        if steps:
            levels = list(accumulate(memoryview(steps).cast("b"), initial=level))
            level = levels[-1]
            if max(levels) > MAX_DEPTH:
                raise _too_deep()
        count += outside.count(b",") + outside.count(b"[") + outside.count(b"{")
        yield
    return count


def large_elements(array: str) -> tuple[str, ...]:
    """Return the first MAX_ELEMENTS elements of a valid JSON array, each as it was written."""
    found = _elements.decode(array)
    elements = (getattr(found, field) for field in found.__struct_fields__)
    return tuple(bytes(each).decode() for each in elements if each is not msgspec.UNSET)


def with_timestamp_in_large(data: str, timestamp: str) -> Steps[str]:
    """Return a valid JSON object with its member ``timestamp`` replaced or added, as ``json_body.with_timestamp``."""
    added = f'"{TIMESTAMP}":"{timestamp}"}}'
    if not _MAY_HAVE_TIMESTAMP.search(data):
        return f"{data[:-1]}{'' if _EMPTY.fullmatch(data) else ','}{added}"
    kept: list[str] = []
    level, member_start, name = 0, 1, None
    for number, token in enumerate(_TOKEN.finditer(data)):
        mark = data[token.start()]
        if mark in "[{":
            level += 1
        elif mark in "]}":
            level -= 1
        elif mark == '"' and level == 1 and name is None:
            name = scan(token[0], 0)[0]
        if name is not None and (level == 0 or (level == 1 and mark == ",")):
            if name != TIMESTAMP:
                kept.append(data[member_start : token.start()])
            member_start, name = token.end(), None
        if not number % _TOKENS_PER_STEP:
            yield
    return "{" + ",".join([*kept, added])


def _decode_shallowly(name: str, value: bytes) -> object:
    """Return a value as far as a schema looks at it."""
    if name in WITH_NUMBERS:
        return decode_small(value.decode())
    if name != "data" and value.startswith(b"["):
        elements = large_elements(value.decode())
        return (
            [None] * len(elements) if name == "args" else [_decode_scalar(each.encode()) for each in elements]
        )
    return None if name == "data" and not value.startswith(b"{") else _decode_scalar(value)


def _decode_scalar(value: bytes) -> Any:
    if value[:1] in {b"{", b"["}:
        return {} if value.startswith(b"{") else []
    return scan(value.decode(), 0)[0]


def _check_repetitions(body: bytes, raw: dict[str, bytes]) -> None:
    """Raise InvalidJson if a member is repeated. msgspec returned the last value of each in ``raw``."""
    position, seen = _start(body) + 1, set()
    while key := _KEY.match(body, position):
        name, value_start = str(scan(key[1].decode(), 0)[0]), key.end()
        value_end = value_start + len(raw[name])
        delimiter = _DELIMITER.match(body, value_end)
        if name in seen or delimiter is None or not body.startswith(raw[name], value_start):
            raise InvalidJson(f"a member is repeated{place(body.decode(), len(body[:value_start].decode()))}")
        seen.add(name)
        position = delimiter.end()


def _start(body: bytes) -> int:
    space = _SPACE.match(body)
    return space.end() if space else 0


def _too_deep() -> InvalidJson:
    return InvalidJson(f"the body is nested more than {MAX_DEPTH} deep")


def _describe(error: msgspec.DecodeError, body: bytes) -> str:
    """Return the reason of an error with its line and column."""
    found = _REASON.fullmatch(str(error))
    if found is None:
        return (
            "the body ends too early, or with half of a surrogate pair"
            if "truncated" in str(error)
            else "the body is not JSON"
        )
    before = body[: int(found[2])].decode(errors="replace")
    return f"{found[1]}{place(before, len(before))}"
