"""One request on its way through the door, and what is answered to it."""

from __future__ import annotations

import random
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from aiohttp import web

from gateway.domain.claims import Claim
from gateway.domain.keys import IngestKey

OK: Final = "ok"
JSON: Final = "application/json"
REQUEST_ID_HEADER: Final = "X-Request-Id"

_random_bits: Final = random.Random().getrandbits  # noqa: S311  # told apart, not guarded: no request is let in by it
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


@dataclass(slots=True)
class Call:
    """A request and what is known of it so far; the line of log about it is written from this.

    ``path`` is the path as it was sent, still percent-encoded; ``user`` the decoded id in it, if the route has one.
    ``headers`` go out with whatever is answered.
    """

    request: web.Request
    request_id: str
    template: str = "unmatched"
    path: str = ""
    user: str | None = None
    key_id: str | None = None
    body_bytes: int = 0
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Admitted:
    """A call whose signature is good: whose key it is, what it may do once, and the signed body."""

    call: Call
    key: IngestKey
    claim: Claim
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered; ``code`` is that of the problem, or ok."""

    body: bytes
    status: HTTPStatus = HTTPStatus.OK
    code: str = OK
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[Call], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Route:
    """One call of the API. ``{id}`` may end the template: one path segment, the id of a user."""

    method: str
    template: str
    handle: Handler


def request_id_of(request: web.Request) -> str:
    """The caller's X-Request-Id if it is fit to be logged, else a new one."""
    return request_id_among(request.headers.getall(REQUEST_ID_HEADER, ()))


def request_id_among(given: Sequence[str]) -> str:
    """The one of the caller if it is fit to be logged, else a new one."""
    if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
        return given[0]
    return f"{_random_bits(128):032x}"
