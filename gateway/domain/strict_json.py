"""Decode JSON of backends strictly: what RFC 8259 and I-JSON (RFC 7493) forbid and ``json`` accepts is rejected."""

from __future__ import annotations

import json
import math
import re
from itertools import accumulate
from typing import Final

MAX_DEPTH: Final = 64
_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[{]}"))
STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?'
"""A string, or the rest of the text after an opening quote: it always matches, so no quote is scanned twice."""
_STRINGS: Final = re.compile(STRING, re.DOTALL)


def decode_strictly(text: bytes) -> object:
    """Return the value of a JSON text.

    Raises: ValueError with a sentence that quotes no value: for a byte order mark, bytes that are not UTF-8, NaN and
        infinite numbers, integers of more than 4 300 digits, a repeated member, half of a surrogate pair, or more than
        MAX_DEPTH levels.
    """
    if text.startswith(b"\xef\xbb\xbf"):
        raise ValueError("it starts with a byte order mark")
    if is_too_deep(text):
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
    try:
        value = json.loads(
            text.decode(), parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_members
        )
        if rb"\u" in text:
            # A lone surrogate cannot be encoded.
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except UnicodeEncodeError:
        raise ValueError("it holds half of a surrogate pair") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: line {error.lineno}, column {error.colno}") from None
    return value


def is_too_deep(text: bytes) -> bool:
    """Return whether a JSON text has more than MAX_DEPTH levels; it need not be valid."""
    if text.count(b"[") + text.count(b"{") <= MAX_DEPTH:
        return False
    steps = memoryview(_STRINGS.sub(b"", text).translate(_STEPS, _NOT_BRACKETS)).cast("b")
    return max(accumulate(steps), default=0) > MAX_DEPTH


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a member is repeated")
    return members


def _no_constant(_constant: str) -> object:
    raise ValueError("NaN and Infinity are no JSON values")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number
