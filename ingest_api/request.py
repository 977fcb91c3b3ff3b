"""The request, the response and the route of one call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, Protocol

from multidict import CIMultiDictProxy, istr

from gateway.domain.acks import AckResult
from gateway.domain.dedup import DedupKey
from gateway.domain.ingest_keys import IngestKey
from gateway.domain.messages import PublishResult
from gateway.domain.traces import Trace
from ingest_api.interfaces import Caller

OK: Final = "ok"
JSON: Final = "application/json"
REQUEST_ID_HEADER: Final = istr("X-Request-Id")
TRACE_HEADER: Final = istr("traceparent")
UNMATCHED: Final = "unmatched"
"""The template of a request that matches no route, in logs and metrics."""
_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


class BodyStream(Protocol):
    """A body that may not have arrived completely."""

    async def read(self, *, max_bytes: int, timeout_seconds: float) -> bytes:
        """Return the whole body as it was sent.

        Raises:
            Problem: The body is too large, too slow or incomplete.
        """
        ...


@dataclass(slots=True)
class Request:
    """A request, and what the steps of its handling have found out. The access log reads its fields from here.

    - ``target``: as in the request line.
    - ``trace``: the trace that the request belongs to, if any.
    - ``template``: the template of its route. ``path``: the path in ``target``, still percent-encoded.
    - ``user``, ``webhook``, ``room``, ``sid``: the decoded id in the path, if the route has one of that kind.
    - ``key_id``: the id of its ingest key, if that key exists. ``is_signed``: whether that key signed the request.
    - ``response_headers``: headers of the response, whatever it is.
    - ``publish_result``: the result from the broker, if the request published something. ``is_repeat``: whether the
      response is that of an earlier request. ``messages``: how many messages a batch has; ``publish_result`` is that of
      the first one then, with the connections of all.
    - ``remote``: the address of the peer, a client or a proxy. ``caller``: its connection, if known.
    - ``ack_result``: what clients acknowledged, if the request waited for that.
    """

    method: str
    target: str
    headers: CIMultiDictProxy[str]
    body: bytes | BodyStream
    request_id: str
    trace: Trace | None = None
    template: str = UNMATCHED
    path: str = ""
    user: str | None = None
    key_id: str | None = None
    is_signed: bool = False
    body_bytes: int = 0
    response_headers: Mapping[str, str] | None = None
    publish_result: PublishResult | None = None
    is_repeat: bool = False
    messages: int | None = None
    webhook: str | None = None
    room: str | None = None
    sid: str | None = None
    remote: str | None = None
    caller: Caller | None = None
    ack_result: AckResult | None = None


class AuthenticatedRequest(NamedTuple):
    """A request with a valid signature: its ingest key, its dedup key and the signed body."""

    request: Request
    key: IngestKey
    dedup_key: DedupKey
    body: bytes


class Response(NamedTuple):
    """A response. ``code`` is that of the problem, or ``ok``."""

    body: bytes
    status: int = HTTPStatus.OK
    code: str = OK
    content_type: str = JSON
    headers: Mapping[str, str] = _NO_HEADERS


Handler = Callable[[Request], Awaitable[Response]]


SignedHandler = Callable[[AuthenticatedRequest], Awaitable[Response]]


class Require(Protocol):
    """Returns a handler that authenticates a request first."""

    def __call__(
        self, actions: tuple[str, ...], handle: SignedHandler, *, has_query: bool = False
    ) -> Handler:
        """The key needs a scope for one of the actions. ``has_query`` is whether ``handle`` reads the query."""
        ...


@dataclass(frozen=True, slots=True)
class Route:
    """One call of the REST API. A template may have ``{id}``: one path segment, an id of the kind ``id_of``."""

    method: str
    template: str
    handle: Handler
    id_of: Literal["user", "webhook", "room", "sid"] = "user"


Group = Callable[[Require], Sequence[Route]]
"""Returns the routes of the calls of one topic."""
