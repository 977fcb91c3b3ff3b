"""Read the query of a request target, and the opaque cursors of pages (pure)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Mapping
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

import orjson

from ingest_api.errors import Problem

MAX_PAGE: Final = 100
_MAX_CURSOR_CHARACTERS: Final = 5_000
"""A prefix and a name of 300 characters and a namespace of 200, of four bytes each, are 4 300 characters of base64."""


class Page(NamedTuple):
    """Which part of a list is asked for. ``cursor`` is the decoded one; None means from the beginning."""

    limit: int
    cursor: tuple[object, ...] | None


def read_query(target: str, allowed: Collection[str]) -> Mapping[str, str]:
    """Return the parameters in the query of a request target, decoded.

    Raises:
        Problem: The query has another parameter than the allowed ones, one of them twice, or is not percent-encoded
            UTF-8 (``invalid_query``).
    """
    query = target.partition("?")[2]
    try:
        given = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), errors="strict")
    except ValueError:
        raise invalid_query("the query is not name=value, percent-encoded UTF-8") from None
    values = dict(given)
    if len(values) < len(given) or not values.keys() <= set(allowed):
        if not allowed:
            raise invalid_query("this call has no query")
        names = " and ".join(allowed) if len(allowed) < 3 else ", ".join(allowed)
        raise invalid_query(f"the query has {names} at most, each once")
    return values


def read_page(values: Mapping[str, str]) -> Page:
    """Return the page that the parameters ``limit`` and ``cursor`` ask for.

    Raises:
        Problem: One of them has no allowed value (``invalid_query``).
    """
    limit = values.get("limit", str(MAX_PAGE))
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 3 and 1 <= int(limit) <= MAX_PAGE):
        raise invalid_query(f"limit is a number from 1 to {MAX_PAGE}")
    cursor = values.get("cursor")
    return Page(int(limit), None if cursor is None else _decode_cursor(cursor))


def encode_cursor(*members: object) -> str:
    """Return a cursor for JSON values, which ``read_page`` returns of it."""
    return base64.urlsafe_b64encode(orjson.dumps(members)).decode().rstrip("=")


def invalid_query(detail: str) -> Problem:
    """Return the problem of a query that is not allowed."""
    return Problem("invalid_query", detail)


def invalid_cursor() -> Problem:
    """Return the problem of a cursor that no page had."""
    return invalid_query("cursor is the next of an earlier page")


def _decode_cursor(cursor: str) -> tuple[object, ...]:
    try:
        if len(cursor) > _MAX_CURSOR_CHARACTERS:
            raise ValueError("the cursor is too long")
        padded = cursor + "=" * (-len(cursor) % 4)
        members = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        if not isinstance(members, list):
            raise ValueError("the cursor is no list")
    except (ValueError, binascii.Error):
        raise invalid_cursor() from None
    return tuple(members)
