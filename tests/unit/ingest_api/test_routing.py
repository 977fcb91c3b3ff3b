"""Paths and methods that are rejected, and the paths of the fast path."""

from __future__ import annotations

import pytest

from ingest_api.request import Request, Response, Route
from ingest_api.routing import Routes
from tests.unit.ingest_api.harness import RestApiServer

VALID = {"event": "e"}


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
        "/openapi.json",
        "/%zz",
    ],
)
async def test_unknown_path_is_not_found(server: RestApiServer, target: str) -> None:
    assert (await server.post(target, VALID)).problem == (404, "not_found")


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
        "x" * 256,
        "%F0%9F%98%80" * 256,
        "e%CC%81",
        '"',
        "a|b",
        "[1]",
        "a#b",
        "a#",
    ],
)
@pytest.mark.parametrize("path", ["/emit/user/", "/disconnect/user/"])
async def test_invalid_id_is_an_invalid_path(server: RestApiServer, path: str, segment: str) -> None:
    assert (await server.post(path + segment, VALID)).problem == (400, "invalid_path")


async def test_invalid_id_is_an_invalid_path_for_presence(server: RestApiServer) -> None:
    assert (await server.send_signed("GET", "/presence/%FF")).problem == (400, "invalid_path")
    response = await server.send_signed("GET", "/presence/e%CC%81")
    assert response.problem == (400, "invalid_path")
    assert response.json["detail"].endswith("in Unicode form NFC (é is one character, not e and an accent)")


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
        ("POST", "/webhooks", "GET"),
        ("POST", "/webhooks/app/dead", "GET"),
        ("GET", "/webhooks/app/replay", "POST"),
        ("DELETE", "/webhooks/a%2Fb/drop", "POST"),
    ],
)
async def test_other_method_is_rejected_with_the_allowed_one(
    server: RestApiServer, method: str, target: str, allow: str
) -> None:
    response = await server.send_request(method, target)

    assert (response.status, response.headers["allow"]) == (405, allow)
    assert method == "HEAD" or response.code == "method_not_allowed"


@pytest.mark.parametrize(
    "target",
    [
        "/webhooks/",
        "/webhooks/app",
        "/webhooks/app/",
        "/webhooks/app/live",
        "/webhooks/app/dead/",
        "/webhooks/a/b/dead",
        "/webhook/app/dead",
        "/emit/user/42/dead",
        "//dead",
        "/dead",
    ],
)
async def test_path_around_an_id_is_exact(server: RestApiServer, target: str) -> None:
    assert (await server.send_signed("GET", target)).problem == (404, "not_found")


@pytest.mark.parametrize("segment", ["", "%FF", "..", "e%CC%81"])
async def test_invalid_id_of_a_webhook_is_an_invalid_path(server: RestApiServer, segment: str) -> None:
    assert (await server.send_signed("GET", f"/webhooks/{segment}/dead")).problem == (400, "invalid_path")


async def test_asterisk_form_is_not_found(server: RestApiServer) -> None:
    assert (await server.send_request("OPTIONS", "*")).problem == (404, "not_found")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/broadcast", True),
        ("/broadcast?x=1", True),
        ("/broadcasting/", False),
        ("/broadcast/", False),
        ("/emit/user/42", True),
        ("/emit/room", True),
        ("/emit/rooms", False),
        ("/webhooks/app/dead?limit=1", True),
        ("/webhook", False),
        ("/socket.io/", False),
        ("/", False),
    ],
)
def test_only_paths_of_calls_match_the_fast_path(target: str, expected: bool) -> None:
    routes = Routes(
        Route("POST", template, unused)
        for template in ("/broadcast", "/emit/room", "/emit/user/{id}", "/webhooks/{id}/dead")
    )

    assert routes.may_match(target) is expected


async def unused(_: Request) -> Response:
    raise AssertionError("no handler is called in this test")
