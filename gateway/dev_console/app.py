"""The routes of the development page: the page, its documents, a token for its user, and a push to its user."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn, Protocol

from aiohttp import web

from gateway.dev_console.guard import Forbidden, Guard
from gateway.dev_console.page import SECURITY_HEADERS, content_security_policy, render
from gateway.domain.bounded_body import BodyTooLarge, read_bounded
from gateway.domain.errors import GatewayError, InvalidName
from gateway.domain.messages import Message, PublishResult, new_id
from gateway.domain.names import check_event, check_user, user_room

MAX_BODY_BYTES: Final = 64 * 1024
BODY_TIMEOUT_SECONDS: Final = 10.0
PAGE_HEADER: Final = "X-Dev-Page"

TokenIssuer = Callable[[str], str]
"""Return a token for a user id. Raises: ValueError if no token can be signed."""


class Publisher(Protocol):
    """The part of the publish service that this package needs."""

    async def publish(self, message: Message, dedup_key: None = None) -> PublishResult:
        """Publish a message and return once the broker has it.

        Raises: the errors of ``gateway.interfaces.Broker.append``.
        """
        ...


@dataclass(slots=True)
class Development:
    """The additions of development mode: tokens for any user, and commands to paste.

    ``commands_for`` returns the commands by title for a gateway at the given URL. ``url`` is the address of this
    gateway: empty until its ports are open, then set by ``gateway.runtime``.
    """

    issue_token: TokenIssuer
    commands_for: Callable[[str], Mapping[str, str]]
    url: str = ""

    def commands(self) -> Mapping[str, str]:
        """Return the commands by title for this gateway. The ports are open, as ``url`` is set."""
        return self.commands_for(self.url)


def create_app(
    *,
    publisher: Publisher,
    issue_token: TokenIssuer,
    hosts: Collection[str] = (),
    default_user: str = "alice",
    namespace: str = "/",
    socketio_path: str = "/socket.io/",
    commands: Callable[[], Mapping[str, str]] = dict,
    documents: Callable[[], Mapping[str, str]] = dict,
) -> web.Application:
    """Return the application to mount under ``/dev``, in development mode only.

    ``hosts`` are host names under which the page may be opened, in addition to those of the loopback address.
    ``commands`` returns the commands that the page shows, by title. ``documents`` returns the documents that it links
    to, by file name.
    """
    console = _Console(
        guard=Guard(hosts=hosts),
        publisher=publisher,
        issue_token=issue_token,
        default_user=default_user,
        namespace=namespace,
        socketio_path=socketio_path,
        commands=commands,
        documents=documents,
    )
    app = web.Application(middlewares=[_handle_errors])
    app.router.add_get("", console.show_page)
    app.router.add_get("/", console.show_page)
    app.router.add_get("/documents/{name}", console.show_document)
    app.router.add_post("/token", console.issue)
    app.router.add_post("/push", console.push)
    return app


@dataclass(frozen=True, slots=True, kw_only=True)
class _Console:
    guard: Guard
    publisher: Publisher
    issue_token: TokenIssuer
    default_user: str
    namespace: str
    socketio_path: str
    commands: Callable[[], Mapping[str, str]]
    documents: Callable[[], Mapping[str, str]]

    async def show_page(self, request: web.Request) -> web.Response:
        """Return the page of the user in ``?user=``."""
        host = self._check_browser(request)
        user = check_user(request.query.get("user") or self.default_user)
        text = render(
            user=user,
            secret=self.guard.page_secret(user),
            namespace=self.namespace,
            socketio_path=self.socketio_path,
            commands=self.commands(),
            documents=list(self.documents()),
        )
        headers = {"Content-Security-Policy": content_security_policy(host)}
        return web.Response(text=text, content_type="text/html", headers=headers)

    async def show_document(self, request: web.Request) -> web.Response:
        """Return a document as text."""
        self._check_browser(request)
        text = self.documents().get(request.match_info["name"])
        if text is None:
            raise _Problem(404, "not_found", "there is no such document")
        return web.Response(text=text, content_type="text/plain")

    async def issue(self, request: web.Request) -> web.Response:
        """Issue a token: ``{"user"}`` → ``{"token"}``."""
        user, _ = await self._read_request(request)
        try:
            token = self.issue_token(user)
        except ValueError as error:
            raise _Problem(409, "cannot_sign", str(error)) from error
        return web.json_response({"token": token})

    async def push(self, request: web.Request) -> web.Response:
        """Push an event: ``{"user","event","data"?}`` → the response of the REST API."""
        user, body = await self._read_request(request)
        event = body.get("event")
        if not isinstance(event, str):
            raise InvalidName("an event name is a string")
        message = Message(
            id=new_id(),
            namespace=self.namespace,
            rooms=(user_room(user),),
            event=check_event(event),
            arguments=(json.dumps(body["data"], ensure_ascii=False),) if "data" in body else (),
        )
        result = await self.publisher.publish(message)
        return web.json_response(
            {
                "id": result.id,
                "room": user_room(user),
                "online": result.connections > 0,
                "connections": result.connections,
                "recoverable": result.recoverable,
            }
        )

    def _check_browser(self, request: web.Request) -> str:
        """Return the host of the request.

        Raises: Forbidden unless the request comes directly from a browser on this machine, under one of its names.
        """
        self.guard.check_peer(request.remote)
        self.guard.check_direct(request.headers, (request.version.major, request.version.minor))
        host = _single(request, "Host") or ""
        self.guard.check_host(host)
        return host

    async def _read_request(self, request: web.Request) -> tuple[str, dict[str, Any]]:
        """Return the user of the page and the body of its request.

        Raises: the errors that ``_handle_errors`` handles.
        """
        host = self._check_browser(request)
        self.guard.check_origin(_single(request, "Origin"), host)
        body = await _read_object(request)
        user = body.get("user")
        if not isinstance(user, str):
            raise InvalidName("a user id is a string")
        self.guard.check_secret(_single(request, PAGE_HEADER), check_user(user))
        return user, body


class _Problem(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


@web.middleware
async def _handle_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        response = await handler(request)
    except Forbidden as error:
        response = _problem(403, error.code, error.message)
    except InvalidName as error:
        response = _problem(422, error.code, error.message)
    except _Problem as error:
        response = _problem(error.status, error.code, error.message)
    except GatewayError as error:
        response = _problem(503 if error.temporary else 500, error.code, error.message)
    response.headers.update(SECURITY_HEADERS)
    return response


def _problem(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"code": code, "message": message}, status=status)


def _single(request: web.Request, name: str) -> str | None:
    """Return a header that occurs exactly once, else None."""
    values = request.headers.getall(name, [])
    return values[0] if len(values) == 1 else None


async def _read_object(request: web.Request) -> dict[str, Any]:
    if request.content_type != "application/json" or "Content-Encoding" in request.headers:
        raise _Problem(415, "unsupported_media_type", "the body must be application/json, not compressed")
    try:
        async with asyncio.timeout(BODY_TIMEOUT_SECONDS):
            # Not request.read(): it has the limit of the parent application.
            text = await read_bounded(request.content.readany, MAX_BODY_BYTES)
    except BodyTooLarge as error:
        raise _Problem(413, "body_too_large", f"a body has at most {MAX_BODY_BYTES} bytes") from error
    except TimeoutError as error:
        raise _Problem(408, "body_timeout", "the body did not arrive in time") from error
    try:
        body = json.loads(text, parse_constant=_reject_constant)
        # Rejects what clients cannot read: lone surrogates, and nesting deeper than Python can write.
        json.dumps(body, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise _Problem(400, "invalid_json", "the body is not JSON") from error
    if not isinstance(body, dict):
        raise _Problem(422, "invalid_body", "the body is not a JSON object")
    return body


def _reject_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
