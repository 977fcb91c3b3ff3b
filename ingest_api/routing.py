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
from gateway.domain.names import MAX_USER_CHARACTERS, check_room, check_user
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


def is_plain_id(segment: str) -> bool:
    """Whether a path segment is an id as it is written, without percent-encoding."""
    return _PLAIN_ID.fullmatch(segment) is not None and segment not in {".", ".."}


def decode_id(segment: str, check: Callable[[str], str] = check_user) -> str:
    """Return the id in a path segment, which is percent-encoded UTF-8. ``check`` has the rules for ids of its kind.

    Raises:
        Problem: The segment is not correctly encoded, or is not a valid id (``invalid_path``).
    """
    if is_plain_id(segment):
        return segment
    if not _SEGMENT.fullmatch(segment):
        raise Problem("invalid_path", "the id in the path is not percent-encoded as RFC 3986 has it")
    try:
        return check(unquote_to_bytes(segment).decode())
    except UnicodeDecodeError as error:
        raise Problem("invalid_path", f"the id in the path is not UTF-8: byte {error.start}") from None
    except InvalidName as error:
        raise Problem("invalid_path", f"in the path: {error.message}") from None


class Routes:
    """The routes of the REST API. A path has one route for each of its methods, whose ids are of one kind."""

    def __init__(self, routes: Iterable[Route]) -> None:
        by_template: dict[str, dict[str, Route]] = {}
        for route in routes:
            by_template.setdefault(route.template, {})[route.method] = route
        self.templates = tuple(by_template)
        """The templates of all routes."""
        self._exact = {path: methods for path, methods in by_template.items() if _ID not in path}
        self._with_id: dict[tuple[str, str], dict[str, Route]] = {}
        for path, methods in by_template.items():
            if _ID in path:
                before, _, behind = path.partition(_ID)
                self._with_id[before, behind] = methods
        self._prefixes = tuple({before for before, _ in self._with_id})
        self.beginnings = (*self._prefixes, *self._exact)
        """One of them is how the target of each request begins that matches a route."""

    def may_match(self, target: str) -> bool:
        """Return whether a target in origin form may match a route. ``find`` also accepts the absolute form."""
        return target.startswith(self._prefixes) or target.partition("?")[0] in self._exact

    def find(self, request: Request) -> Route:
        """Return the route of a request, and set ``path``, ``template`` and the id in the path of the request.

        Raises:
            Problem: No route has this path or method, or the id in the path is invalid.
        """
        request.path = path_of(origin_form(request.target))
        methods = self._exact.get(request.path)
        if methods is None:
            methods, segment = self._find_with_id(request.path)
            first = next(iter(methods.values()))
            request.template = first.template
            check = check_room if first.id_of in {"room", "sid"} else check_user
            setattr(request, first.id_of, decode_id(segment, check))
        route = methods.get(request.method)
        if route is None:
            allow = ", ".join(methods)
            request.template = next(iter(methods.values())).template
            raise Problem("method_not_allowed", f"this path is for {allow}", headers={"Allow": allow})
        request.template = route.template
        return route

    def _find_with_id(self, path: str) -> tuple[dict[str, Route], str]:
        before, slash, segment = path.rpartition("/")
        methods = self._with_id.get((before + slash, ""))
        if methods is None:
            behind = slash + segment
            before, slash, segment = before.rpartition("/")
            methods = self._with_id.get((before + slash, behind))
        if methods is None:
            raise Problem("not_found", "there is no such path; /openapi.yaml lists those there are")
        return methods, segment


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
