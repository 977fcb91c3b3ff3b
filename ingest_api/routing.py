"""Which call a path means. aiohttp hands over every path; the table here decides.

What the request line asks for, read from its own characters.

aiohttp's view of the path has been decoded and requoted; the signature covers it as it was sent, and ``%2F`` is part
of an id while ``/`` is not.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Final, NoReturn
from urllib.parse import unquote_to_bytes

from aiohttp import web
from aiohttp.web_urldispatcher import ResourceRoute, UrlMappingMatchInfo, _InfoDict

from gateway.domain.errors import InvalidName
from gateway.domain.names import MAX_USER_CHARACTERS, check_user
from ingest_api.errors import Problem
from ingest_api.request import Request, Route

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


_ID: Final = "{id}"


class Routes:
    """The calls of this door; each path has one method."""

    def __init__(self, routes: Iterable[Route]) -> None:
        by_template = {route.template: route for route in routes}
        self.templates = tuple(by_template)
        self._prefixes = tuple(path.removesuffix(_ID) for path in by_template if path.endswith(_ID))
        self._exact = {path: route for path, route in by_template.items() if not path.endswith(_ID)}
        self._with_id = {
            path.removesuffix(_ID): route for path, route in by_template.items() if path.endswith(_ID)
        }

    def knows(self, target: str) -> bool:
        """Whether a request target looks like one of these calls."""
        return target.startswith(self._prefixes) or target.partition("?")[0] in self._exact

    def find(self, request: Request) -> Route:
        """The route of a call; notes its path and user there. Raises Problem when there is none."""
        request.path = path_of(origin_form(request.target))
        route = self._exact.get(request.path)
        if route is None:
            route, segment = self._find_with_id(request.path)
            request.template = route.template
            request.user = user_in(segment)
        request.template = route.template
        if request.method != route.method:
            allow = {"Allow": route.method}
            raise Problem("method_not_allowed", f"this path is for {route.method}", headers=allow)
        return route

    def _find_with_id(self, path: str) -> tuple[Route, str]:
        before, slash, segment = path.rpartition("/")
        route = self._with_id.get(before + slash)
        if route is None:
            raise Problem("not_found", "there is no such path; /openapi.yaml lists those there are")
        return route, segment


class CatchAll(web.AbstractResource):
    """An aiohttp resource that takes whatever no other resource of its application takes."""

    def __init__(self, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> None:
        super().__init__()
        self._route = ResourceRoute("*", handler, self, expect_handler=_leave_expectation)

    @property
    def canonical(self) -> str:
        return "/"

    async def resolve(self, _: web.Request) -> tuple[UrlMappingMatchInfo, set[str]]:
        return UrlMappingMatchInfo({}, self._route), set()

    def add_prefix(self, prefix: str) -> None:
        """Called when the application is mounted; signatures cover the whole path, so only the root will do."""
        if prefix:
            raise ValueError("the REST door stands at the root; see path_prefix for what a proxy strips")

    def raw_match(self, path: str) -> bool:
        return path == "/"

    def url_for(self, **_: str) -> NoReturn:
        raise NotImplementedError("a door has no address of its own")

    def get_info(self) -> _InfoDict:
        return {"path": "/"}

    def __iter__(self) -> Iterator[ResourceRoute]:
        return iter((self._route,))

    def __len__(self) -> int:
        return 1


async def _leave_expectation(_: web.Request) -> None:
    """``100 Continue`` is sent once the head of the request has passed its checks, not before."""
