"""The body that nearly every push has, recognised without the schema.

A push of an event with ``data``, perhaps to a room, and nothing else is told apart by a handful of comparisons; every
other body, good or bad, is the schema's to judge. A property test holds that both say the same of what passes here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from gateway.domain.names import MAX_EVENT_CHARACTERS, MAX_ROOM_CHARACTERS, RESERVED_EVENTS

_DEFAULTS: Final[Mapping[str, Any]] = {"namespace": "/", "except_": (), "volatile": False, "timestamp": False}
_TO_NO_ROOM: Final = frozenset({"event", "data"})
_TO_ONE_ROOM: Final = frozenset({"event", "data", "room"})


def load_plain(
    values: Mapping[str, object], *, with_room: bool, namespaces: Collection[str]
) -> dict[str, Any] | None:
    """What ``schema.load`` answers for these members, or None: ask it."""
    if values.keys() != (_TO_ONE_ROOM if with_room else _TO_NO_ROOM) or "/" not in namespaces:
        return None
    if not _is_plain(values["event"], MAX_EVENT_CHARACTERS) or values["event"] in RESERVED_EVENTS:
        return None
    if with_room and (not _is_plain(values["room"], MAX_ROOM_CHARACTERS) or values["room"] in {".", ".."}):
        return None
    return {**_DEFAULTS, **values}


def _is_plain(text: object, max_characters: int) -> bool:
    """A short, non-empty text of printable ASCII."""
    return isinstance(text, str) and 0 < len(text) <= max_characters and text.isascii() and text.isprintable()
