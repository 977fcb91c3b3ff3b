"""The body that nearly every push has, read in one step.

A push of an event with ``data``, perhaps to a room, and nothing else is told apart by its text; every other body, good
or bad, is for the envelope and the schema to judge. A property test holds that they say the same of what passes here.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from gateway.domain.names import MAX_EVENT_CHARACTERS, MAX_ROOM_CHARACTERS, RESERVED_EVENTS
from ingest_api.envelope import InvalidJson, is_plain_json, scan


class Plain(NamedTuple):
    """What such a body says; ``data`` is JSON text as it was written."""

    event: str
    room: str | None
    data: str


_SPACE: Final = r"[ \t\n\r]*+"


def _member(name: str, max_characters: int) -> str:
    """A member whose value is a short text of printable ASCII without escapes, and the white space around it."""
    return rf'{_SPACE}"{name}"{_SPACE}:{_SPACE}"([ !#-\[\]-~]{{1,{max_characters}}})"{_SPACE}'


_EVENT: Final = _member("event", MAX_EVENT_CHARACTERS)
_ROOM: Final = _member("room", MAX_ROOM_CHARACTERS)
_HEAD: Final = re.compile(rf'{_SPACE}\{{(?:{_ROOM},)?{_EVENT},(?:{_ROOM},)?{_SPACE}"data"{_SPACE}:{_SPACE}')
_TAIL: Final = re.compile(rf"{_SPACE}(?:,{_ROOM})?\}}{_SPACE}")
_NO_ROOMS: Final = (["."], [".."])


def read_plain(body: bytes, *, with_room: bool) -> Plain | None:
    """The push in a body; None: read it the long way."""
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
    rooms = [room for room in (first_room, second_room, tail[1]) if room is not None]
    if len(rooms) != with_room or event in RESERVED_EVENTS or rooms in _NO_ROOMS:
        return None
    return Plain(event, rooms[0] if rooms else None, text[start:end])
