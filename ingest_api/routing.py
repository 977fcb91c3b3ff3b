"""Find the route of a request target, and read the id from its path.

The target is parsed from the request line as it was sent, because the signature covers these bytes, and because
``%2F`` is part of an id while ``/`` is not. aiohttp's path is decoded and requoted, so aiohttp's router is not used:
``CatchAll`` passes every path to the table of ``Routes``.
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

_ID: Final = "{id}"
# RFC 9112 §3.2.2: clients send the absolute form to a proxy, and a server must accept it.
_AUTHORITY: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*", re.ASCII)
# RFC 3986 §3.3: pchar, percent-encodings included.
_SEGMENT: Final = re.compile(
    r"[A-Za-z0-9._~!$&'()*+,;=:@-]*(?:%[0-9A-Fa-f]{2}[A-Za-z0-9._~!$&'()*+,;=:@-]*)*"
)

# An id without percent-encoding that is within the rules, except for . and ..
_PLAIN_ID: Final = re.compile(rf"[A-Za-z0-9._~@:-]{{1,{MAX_USER_CHARACTERS}}}")


def origin_form(target: str) -> str:
    """Return path and query of a request target, without scheme and authority of the absolute form."""
    if target.startswith("/"):
        return target
    authority = _AUTHORITY.match(target)
    return target[authority.end() :] if authority else target


def path_of(target: str) -> str:
    """Return the path of an origin-form target, still percent-encoded.

    Raises:
        Problem: The target has characters that RFC 9112 forbids (``invalid_path``).
    """
    if not target.isascii():
        raise Problem(
            "invalid_path", "a request target is ASCII; percent-encode the UTF-8 of everything else"
        )
    if "#" in target:
        raise Problem("invalid_path", "a request target has no fragment; write # as %23")
    return target.partition("?")[0]


def decode_id(segment: str) -> str:
    """Return the id in a path segment, which is percent-encoded UTF-8. All ids follow the rules for user ids.

    Raises:
        Problem: The segment is not correctly encoded, or is not a valid id (``invalid_path``).
    """
    if _PLAIN_ID.fullmatch(segment) and segment not in {".", ".."}:
        return segment
    if not _SEGMENT.fullmatch(segment):
        raise Problem("invalid_path", "the id in the path is not percent-encoded as RFC 3986 has it")
    try:
        return check_user(unquote_to_bytes(segment).decode())
    except UnicodeDecodeError as error:
        raise Problem("invalid_path", f"the id in the path is not UTF-8: byte {error.start}") from None
    except InvalidName as error:
        raise Problem("invalid_path", f"in the path: {error.message}") from None


class Routes:
    """The routes of the REST API. Each path has one method."""

    def __init__(self, routes: Iterable[Route]) -> None:
        by_template = {route.template: route for route in routes}
        self.templates = tuple(by_template)
        """The templates of all routes."""
        self._exact = {path: route for path, route in by_template.items() if _ID not in path}
        self._with_id: dict[tuple[str, str], Route] = {}
        for path, route in by_template.items():
            if _ID in path:
                before, _, behind = path.partition(_ID)
                self._with_id[before, behind] = route
        self._prefixes = tuple({before for before, _ in self._with_id})

    def may_match(self, target: str) -> bool:
        """Return whether a target in origin form may match a route. ``find`` also accepts the absolute form."""
        return target.startswith(self._prefixes) or target.partition("?")[0] in self._exact

    def find(self, request: Request) -> Route:
        """Return the route of a request, and set ``path``, ``template`` and the id in the path of the request.

        Raises:
            Problem: No route has this path or method, or the id in the path is invalid.
        """
        request.path = path_of(origin_form(request.target))
        route = self._exact.get(request.path)
        if route is None:
            route, segment = self._find_with_id(request.path)
            request.template = route.template
            setattr(request, route.id_of, decode_id(segment))
        request.template = route.template
        if request.method != route.method:
            allow = {"Allow": route.method}
            raise Problem("method_not_allowed", f"this path is for {route.method}", headers=allow)
        return route

    def _find_with_id(self, path: str) -> tuple[Route, str]:
        before, slash, segment = path.rpartition("/")
        route = self._with_id.get((before + slash, ""))
        if route is None:
            behind = slash + segment
            before, slash, segment = before.rpartition("/")
            route = self._with_id.get((before + slash, behind))
        if route is None:
            raise Problem("not_found", "there is no such path; /openapi.yaml lists those there are")
        return route, segment


class CatchAll(web.AbstractResource):
    """An aiohttp resource that matches every path which no other resource of its application matches."""

    def __init__(self, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> None:
        super().__init__()
        self._route = ResourceRoute("*", handler, self, expect_handler=_defer_continue)

    @property
    def canonical(self) -> str:
        return "/"

    async def resolve(self, _: web.Request) -> tuple[UrlMappingMatchInfo, set[str]]:
        return UrlMappingMatchInfo({}, self._route), set()

    def add_prefix(self, prefix: str) -> None:
        """Reject any prefix: aiohttp calls this for a subapplication, and signatures cover the whole path.

        Raises:
            ValueError: The prefix is not empty.
        """
        if prefix:
            raise ValueError(
                "the REST API is mounted at the root; path_prefix is the part that a proxy strips"
            )

    def raw_match(self, path: str) -> bool:
        return path == "/"

    def url_for(self, **_: str) -> NoReturn:
        raise NotImplementedError("a resource for every path has no URL of its own")

    def get_info(self) -> _InfoDict:
        return {"path": "/"}

    def __iter__(self) -> Iterator[ResourceRoute]:
        return iter((self._route,))

    def __len__(self) -> int:
        return 1


async def _defer_continue(_: web.Request) -> None:
    """Do nothing: ``StreamedBody`` sends ``100 Continue`` after the checks of the request's head have passed."""
