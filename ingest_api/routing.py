"""Which call a path means. aiohttp hands over every path; the table here decides."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Final, NoReturn

from aiohttp import web
from aiohttp.web_urldispatcher import ResourceRoute, UrlMappingMatchInfo, _InfoDict

from ingest_api.calls import Call, Route
from ingest_api.errors import Problem
from ingest_api.paths import origin_form, path_of, user_in

_ID: Final = "{id}"


class Routes:
    """The calls of this door; each path has one method."""

    def __init__(self, routes: Iterable[Route]) -> None:
        by_template = {route.template: route for route in routes}
        self.templates = tuple(by_template)
        self._beginnings = tuple(path.removesuffix(_ID) for path in by_template if path.endswith(_ID))
        self._exact = {path: route for path, route in by_template.items() if not path.endswith(_ID)}
        self._with_id = {
            path.removesuffix(_ID): route for path, route in by_template.items() if path.endswith(_ID)
        }

    def knows(self, target: str) -> bool:
        """Whether a request target looks like one of these calls."""
        return target.startswith(self._beginnings) or target.partition("?")[0] in self._exact

    def find(self, call: Call) -> Route:
        """The route of a call; notes its path and user there. Raises Problem when there is none."""
        call.path = path_of(origin_form(call.target))
        route = self._exact.get(call.path)
        if route is None:
            route, segment = self._find_with_id(call.path)
            call.template = route.template
            call.user = user_in(segment)
        call.template = route.template
        if call.method != route.method:
            allow = {"Allow": route.method}
            raise Problem("method_not_allowed", f"this path is for {route.method}", headers=allow)
        return route

    def _find_with_id(self, path: str) -> tuple[Route, str]:
        before, slash, segment = path.rpartition("/")
        route = self._with_id.get(before + slash)
        if route is None:
            raise Problem("not_found", "there is no such path; /openapi.yaml lists those there are")
        return route, segment


class EveryPath(web.AbstractResource):
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
