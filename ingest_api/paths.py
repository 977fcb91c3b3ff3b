"""What the request line asks for, read from its own characters.

aiohttp's view of the path has been decoded and requoted; the signature covers it as it was sent, and ``%2F`` is part
of an id while ``/`` is not.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from gateway.domain.errors import InvalidName
from gateway.domain.names import MAX_USER_CHARACTERS, check_user
from ingest_api.errors import Problem

# RFC 9112 §3.2.2: a proxy is sent the absolute form, and a server must accept it.
_AUTHORITY: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*", re.ASCII)
# RFC 3986 §3.3: pchar without percent-encodings, and these.
_SEGMENT: Final = re.compile(
    r"[A-Za-z0-9._~!$&'()*+,;=:@-]*(?:%[0-9A-Fa-f]{2}[A-Za-z0-9._~!$&'()*+,;=:@-]*)*"
)

# An id that stands for itself and breaks no rule.
_PLAIN: Final = re.compile(rf"[A-Za-z0-9._~@:-]{{1,{MAX_USER_CHARACTERS}}}")


def origin_form(target: str) -> str:
    """Path and query of a request target; scheme and authority of the absolute form are dropped."""
    if target.startswith("/"):
        return target
    authority = _AUTHORITY.match(target)
    return target[authority.end() :] if authority else target


def path_of(target: str) -> str:
    """The path of an origin-form target, still percent-encoded. Raises Problem for what RFC 9112 forbids."""
    if not target.isascii():
        raise Problem(
            "invalid_path", "a request target is ASCII; percent-encode the UTF-8 of everything else"
        )
    if "#" in target:
        raise Problem("invalid_path", "a request target has no fragment; write # as %23")
    return target.partition("?")[0]


def user_in(segment: str) -> str:
    """The user id that a path segment stands for. Raises Problem unless it is one, percent-encoded UTF-8."""
    if _PLAIN.fullmatch(segment) and segment not in {".", ".."}:
        return segment
    if not _SEGMENT.fullmatch(segment):
        raise Problem("invalid_path", "the id in the path is not percent-encoded as RFC 3986 has it")
    try:
        return check_user(unquote_to_bytes(segment).decode())
    except UnicodeDecodeError as error:
        raise Problem("invalid_path", f"the id in the path is not UTF-8: byte {error.start}") from None
    except InvalidName as error:
        raise Problem("invalid_path", f"in the path: {error.message}") from None
