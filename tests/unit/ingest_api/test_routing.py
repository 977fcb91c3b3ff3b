"""Paths and methods that are refused."""

from __future__ import annotations

import pytest

from ingest_api.request import Request, Response, Route
from ingest_api.routing import Routes
from tests.unit.ingest_api.harness import Door

GOOD = {"event": "e"}


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/emit",
        "/emit/user",
        "/emit/user/a/b",
        "/emit/user/a/",
        "/emit/room/",
        "/emit/room/x",
        "/Emit/user/42",
        "/emit%2Fuser/42",
        "/emit/us%65r/42",
        "//emit/user/42",
        "/broadcast/",
        "/presence",
        "/openapi.json",
        "/%zz",
    ],
)
async def test_an_unknown_path_is_not_found(door: Door, target: str) -> None:
    assert (await door.post(target, GOOD)).refusal == (404, "not_found")


@pytest.mark.parametrize(
    "segment",
    [
        "",
        "%FF",
        "%C3",
        "%ED%A0%80",
        "%zz",
        "%",
        "%4",
        "a%2",
        "%00",
        "%0A",
        "%7F",
        "%C2%85",
        ".",
        "..",
        "%2E%2E",
        "x" * 129,
        "%F0%9F%98%80" * 129,
        '"',
        "a|b",
        "[1]",
        "a#b",
        "a#",
    ],
)
@pytest.mark.parametrize("path", ["/emit/user/", "/disconnect/user/"])
async def test_an_id_that_is_none_is_an_invalid_path(door: Door, path: str, segment: str) -> None:
    assert (await door.post(path + segment, GOOD)).refusal == (400, "invalid_path")


async def test_an_invalid_id_is_refused_for_presence_too(door: Door) -> None:
    assert (await door.call("GET", "/presence/%FF")).refusal == (400, "invalid_path")


@pytest.mark.parametrize(
    ("method", "target", "allow"),
    [
        ("GET", "/emit/user/42", "POST"),
        ("PUT", "/emit/room", "POST"),
        ("DELETE", "/broadcast", "POST"),
        ("POST", "/presence/42", "GET"),
        ("HEAD", "/presence/42", "GET"),
        ("OPTIONS", "/presence/42", "GET"),
        ("PATCH", "/disconnect/user/42", "POST"),
        ("POST", "/openapi.yaml", "GET"),
        ("HEAD", "/openapi.yaml", "GET"),
        ("QUERY", "/broadcast", "POST"),
    ],
)
async def test_another_method_is_refused_with_the_one_that_is_allowed(
    door: Door, method: str, target: str, allow: str
) -> None:
    reply = await door.ask(method, target)

    assert (reply.status, reply.headers["allow"]) == (405, allow)
    assert method == "HEAD" or reply.code == "method_not_allowed"


async def test_the_asterisk_form_is_answered_too(door: Door) -> None:
    assert (await door.ask("OPTIONS", "*")).refusal == (404, "not_found")


@pytest.mark.parametrize(
    ("target", "known"),
    [
        ("/broadcast", True),
        ("/broadcast?x=1", True),
        ("/broadcasting/", False),
        ("/broadcast/", False),
        ("/emit/user/42", True),
        ("/emit/room", True),
        ("/emit/rooms", False),
        ("/socket.io/", False),
        ("/", False),
    ],
)
def test_only_paths_of_calls_may_come_the_short_way(target: str, known: bool) -> None:
    routes = Routes(
        Route("POST", template, unused) for template in ("/broadcast", "/emit/room", "/emit/user/{id}")
    )

    assert routes.knows(target) is known


async def unused(_: Request) -> Response:
    raise AssertionError("nobody is called here")
