"""One request on its way through the door, and what is answered to it."""

from __future__ import annotations

import random
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from multidict import CIMultiDictProxy, istr

from gateway.domain.dedup import DedupKey
from gateway.domain.ingest_keys import IngestKey
from gateway.domain.messages import PublishResult
from gateway.domain.traces import Trace

OK: Final = "ok"
JSON: Final = "application/json"
REQUEST_ID_HEADER: Final = istr("X-Request-Id")
TRACE_HEADER: Final = istr("traceparent")
_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})

_random_bits: Final = random.Random().getrandbits  # noqa: S311  # told apart, not guarded: no request is let in by it
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


class BodyStream(Protocol):
    """A body that may still be on its way."""

    async def read(self, *, max_bytes: int, timeout_seconds: float) -> bytes:
        """All of it, as it was sent. Raises Problem when it is too large, too slow or cut short."""
        ...


@dataclass(slots=True)
class Request:
    """A request and what is known of it so far; the line of log about it is written from this.

    ``target`` is as in the request line; ``path`` the path in it, still percent-encoded; ``user`` the decoded id in
    that, if the route has one. ``key_id`` is that of a key that there is, ``is_signed`` tells whether that key signed
    the request. ``answer_headers`` go out with whatever is answered. ``trace`` is the one that this is a part of,
    ``receipt`` what the broker said of what was pushed.
    """

    method: str
    target: str
    headers: CIMultiDictProxy[str]
    body: bytes | BodyStream
    request_id: str
    trace: Trace | None = None
    template: str = "unmatched"
    path: str = ""
    user: str | None = None
    key_id: str | None = None
    is_signed: bool = False
    body_bytes: int = 0
    response_headers: Mapping[str, str] | None = None
    publish_result: PublishResult | None = None


class AuthenticatedRequest(NamedTuple):
    """A call whose signature is good: whose key it is, what it may do once, and the signed body."""

    request: Request
    key: IngestKey
    dedup_key: DedupKey
    body: bytes


class Response(NamedTuple):
    """What is answered; ``code`` is that of the problem, or ok."""

    body: bytes
    status: int = HTTPStatus.OK
    code: str = OK
    content_type: str = JSON
    headers: Mapping[str, str] = _NO_HEADERS


Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """One call of the API. ``{id}`` may end the template: one path segment, the id of a user."""

    method: str
    template: str
    handle: Handler


def find_request_id(given: Sequence[str]) -> str:
    """The one of the caller if it is fit to be logged, else a new one."""
    if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
        return given[0]
    return f"{_random_bits(128):032x}"
