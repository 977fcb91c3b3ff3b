"""Binary arguments of client events: which are accepted, and how messages hold them. Pure.

A packet whose attachments have arrived has ``bytes`` in the place of its placeholders. Messages have placeholders of
their own, numbered anew, and only the attachments that they use.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from typing import NoReturn

import orjson

from gateway.domain.attachments import MAX_ATTACHMENTS, PLACEHOLDER, holds_placeholder
from gateway.domain.errors import ClientEventRejected
from gateway.domain.strict_json import MAX_DEPTH


def check_buffers(values: Sequence[object], buffers: Sequence[bytes]) -> None:
    """Check values that hold these buffers.

    A packet may refer to one attachment many times, and clients take each object with the member ``_placeholder`` for
    an attachment, so neither is accepted.

    Raises: ClientEventRejected (``invalid_payload``).
    """
    if len(buffers) > MAX_ATTACHMENTS:
        _invalid(f"the event holds more than {MAX_ATTACHMENTS} buffers")
    # Python has one object for all buffers of up to one byte with the same content.
    longer = [id(each) for each in buffers if len(each) > 1]
    if len(set(longer)) < len(longer):
        _invalid("the event holds an attachment twice")
    if holds_placeholder(values):
        _invalid(f"a member {PLACEHOLDER!r} stands beside buffers")


def encode_arguments(values: Sequence[object]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the JSON texts of values, with placeholders for buffers, and the buffers as base64.

    Raises: ClientEventRejected (``invalid_payload``) for too many buffers, and for what clients take for a placeholder
        beside buffers.
    """
    try:
        return tuple([encode(value) for value in values]), ()
    except TypeError:  # one holds a buffer
        buffers: list[bytes] = []
        replaced = [_with_placeholders(value, buffers, 0) for value in values]
    return tuple([encode(value) for value in replaced]), tuple([b64encode(each).decode() for each in buffers])


def encode(value: object) -> str:
    """Return the JSON text of a value.

    Raises: TypeError for one that holds a buffer.
    """
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        # A claim of a token may hold half of a surrogate pair, which orjson rejects.
        return json.dumps(value, separators=(",", ":"))


def _with_placeholders(value: object, buffers: list[bytes], depth: int) -> object:
    if depth > MAX_DEPTH:
        _invalid(f"it is nested deeper than {MAX_DEPTH}")
    if isinstance(value, bytes | bytearray):
        if len(buffers) == MAX_ATTACHMENTS:
            _invalid(f"the message holds more than {MAX_ATTACHMENTS} buffers")
        buffers.append(bytes(value))
        return {PLACEHOLDER: True, "num": len(buffers) - 1}
    if isinstance(value, dict):
        if PLACEHOLDER in value:
            _invalid(f"a member {PLACEHOLDER!r} stands beside buffers")
        return {name: _with_placeholders(each, buffers, depth + 1) for name, each in value.items()}
    if isinstance(value, list):
        return [_with_placeholders(each, buffers, depth + 1) for each in value]
    return value


def _invalid(message: str) -> NoReturn:
    raise ClientEventRejected("invalid_payload", message)
