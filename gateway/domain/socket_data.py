"""The socket data of a connection: a JSON object that backends set and change."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

MAX_DATA_BYTES: Final = 4 * 1024
"""Bytes of the JSON of the socket data of a connection."""

SocketData = Mapping[str, object]
ChangeData = Callable[[SocketData], SocketData]
"""Returns the data that a connection has after a change. It may be called again with newer data."""


class StoredData(NamedTuple):
    """The socket data of a connection as JSON text. ``version`` rises with each change; 0: it was never set."""

    version: int = 0
    text: str = "{}"

    @property
    def data(self) -> SocketData:
        """The data."""
        return decode_data(self.text)


class DataTooLarge(Exception):
    """The socket data would have more than MAX_DATA_BYTES."""


def encode_data(data: SocketData) -> str:
    """Return the JSON text of socket data.

    Raises: DataTooLarge; ValueError for an infinite number.
    """
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    try:
        size = len(text.encode())
    except UnicodeEncodeError:  # half of a surrogate pair
        text = json.dumps(data, separators=(",", ":"), allow_nan=False)
        size = len(text)
    if size > MAX_DATA_BYTES:
        raise DataTooLarge
    return text


def decode_data(text: str) -> SocketData:
    """Return the data of a JSON text that ``encode_data`` returned."""
    data: SocketData = json.loads(text)
    return data


def merge_members(data: SocketData, change: SocketData) -> SocketData:
    """Return the data with the members of a change; those that are null there are removed."""
    return {name: value for name, value in {**data, **change}.items() if value is not None}


def merge_patch(target: object, patch: object) -> object:
    """Apply a JSON merge patch (RFC 7396 §2) and return the result."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged
