"""Web pages: which origins may connect, over which transports, at which path, and with which client bundle."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from tests.support.clients import Clients, NodeClients
from tests.support.gateway_process import GatewayProcess
from tests.support.paths import ROOT
from tests.support.raw_clients import RawPolling, RawSocket

APP, ADMIN, OTHER = "https://app.example", "https://admin.example:8443", "https://other.example"
PATH = "/live/events/"
BUNDLES = ROOT / "gateway" / "socketio_server" / "static"


@pytest.fixture(scope="module")
def site() -> Iterator[GatewayProcess]:
    """A gateway for the pages of two origins, at a path other than the default."""
    process = GatewayProcess(cors_origins=f"{APP},{ADMIN}", socketio_path=PATH)
    yield process
    assert process.stop() == 0
    assert process.failures() == []


@pytest.fixture(scope="module")
def websocket_only() -> Iterator[GatewayProcess]:
    process = GatewayProcess(transports="websocket", serve_client="false")
    yield process
    assert process.stop() == 0
    assert process.failures() == []


def cors(headers: Any) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.startswith("Access-Control-")}


def allowed(origin: str) -> dict[str, str]:
    return {"Access-Control-Allow-Origin": origin, "Access-Control-Allow-Credentials": "true"}


@pytest.mark.parametrize("origin", [APP, ADMIN])
async def test_pages_of_listed_origins_may_poll_and_read_the_answers(
    site: GatewayProcess, http: aiohttp.ClientSession, origin: str, user: str
) -> None:
    page = {"Origin": origin}
    polling = await RawPolling(http, site.url, path=PATH).open(headers=page)
    async with http.get(f"{site.url}{PATH}?EIO=4&transport=polling", headers=page) as handshake:
        assert cors(handshake.headers) == allowed(origin)
        assert handshake.headers["Vary"] == "Origin"
    async with http.post(polling.address, headers=page, data=f'40{{"token":"{site.token(user)}"}}') as post:
        assert (post.status, cors(post.headers)) == (200, allowed(origin))
    async with http.get(polling.address, headers=page) as poll:
        assert (poll.status, cors(poll.headers)) == (200, allowed(origin))
    async with http.get(f"{site.url}{PATH}?EIO=4&transport=polling&sid=unknown", headers=page) as rejection:
        assert (rejection.status, cors(rejection.headers)) == (400, allowed(origin))
    await polling.close()


@pytest.mark.parametrize(
    "origin", [OTHER, "null", "http://app.example", f"{APP}.other.example", f"{APP}:444"]
)
async def test_pages_of_other_origins_are_rejected_over_every_transport(
    site: GatewayProcess, http: aiohttp.ClientSession, origin: str, user: str
) -> None:
    page = {"Origin": origin}
    polling = await RawPolling(http, site.url, path=PATH).open()
    await polling.join(site.token(user))
    handshake = f"{site.url}{PATH}?EIO=4&transport=polling"
    for method, address in (
        ("GET", handshake),
        ("OPTIONS", handshake),
        ("GET", polling.address),
        ("POST", polling.address),
    ):
        async with http.request(method, address, headers=page) as rejection:
            assert (rejection.status, await rejection.json()) == (403, {"code": 4, "message": "Forbidden"})
            assert cors(rejection.headers) == {}
    for sid in ("", f"&sid={polling.sid}"):
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await http.ws_connect(f"{site.url}{PATH}?EIO=4&transport=websocket{sid}", headers=page)
        assert caught.value.status == 403
    await polling.close()


async def test_websocket_with_a_listed_origin_or_without_an_origin_is_accepted(
    site: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    for headers in ({"Origin": APP}, {"Origin": "HTTPS://App.Example"}, {}):
        socket = await RawSocket.open(http, site.url, path=PATH, headers=headers)
        assert (await socket.join(site.token(user)))["userId"] == user
        await socket.socket.close()


async def test_preflight_allows_what_the_client_sends(
    site: GatewayProcess, http: aiohttp.ClientSession
) -> None:
    headers = {
        "Origin": APP,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    async with http.options(f"{site.url}{PATH}?EIO=4&transport=polling", headers=headers) as answer:
        assert (answer.status, await answer.read()) == (204, b"")
        assert answer.headers["Access-Control-Allow-Headers"] == "authorization,content-type"
        methods = set(answer.headers["Access-Control-Allow-Methods"].split(", "))
        assert {"GET", "POST"} <= methods
        assert answer.headers["Access-Control-Allow-Origin"] == APP
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"


async def test_wildcard_echoes_every_origin_with_credentials(
    gateway_process: GatewayProcess, http: aiohttp.ClientSession
) -> None:
    for origin in (OTHER, "null", "http://localhost:5173"):
        async with http.get(
            f"{gateway_process.url}/socket.io/?EIO=4&transport=polling", headers={"Origin": origin}
        ) as opened:
            assert (opened.status, cors(opened.headers)) == (200, allowed(origin))
            sid = json.loads((await opened.text())[1:])["sid"]
        async with http.post(
            f"{gateway_process.url}/socket.io/?EIO=4&transport=polling&sid={sid}", data="1"
        ) as left:
            assert left.status == 200
        socket = await RawSocket.open(http, gateway_process.url, headers={"Origin": origin})
        await socket.socket.close()


@pytest.mark.parametrize(
    "transports", [["polling"], ["websocket"], None], ids=["polling", "websocket", "upgrade"]
)
def test_stock_client_connects_only_from_a_listed_origin_and_at_the_configured_path(
    site: GatewayProcess, node: NodeClients, transports: list[str] | None, user: str
) -> None:
    def page(origin: str, path: str) -> Any:
        return node.open(
            site.url,
            token=site.token(user),
            transports=transports,
            path=path,
            extraHeaders={"Origin": origin},
        )

    listed, other, default_path = page(APP, PATH), page(OTHER, PATH), page(APP, "/socket.io/")

    listed.connected()
    site.push_user(user, "note", 1)
    assert listed.event("note") == [1]
    for client in (other, default_path):
        assert client.wait("connect_error")["active"] is True
        assert not [entry for entry in client.entries if entry["type"] == "connect"]
    for client in (listed, other, default_path):
        client.disconnect()


async def test_default_path_is_not_served_when_another_one_is_configured(
    site: GatewayProcess, http: aiohttp.ClientSession
) -> None:
    for path in ("/socket.io/", "/live/", "/live/events", "/live/events/x"):
        async with http.get(f"{site.url}{path}?EIO=4&transport=polling") as answer:
            assert (answer.status, answer.content_type) == (404, "application/problem+json")
            assert (await answer.json(content_type=None))["code"] == "not_found"


async def test_polling_is_rejected_when_only_websocket_is_configured(
    websocket_only: GatewayProcess, http: aiohttp.ClientSession
) -> None:
    async with http.get(f"{websocket_only.url}/socket.io/?EIO=4&transport=polling") as rejection:
        assert (rejection.status, await rejection.json()) == (
            400,
            {"code": 0, "message": "Transport unknown"},
        )


def test_clients_connect_when_only_websocket_is_configured(
    websocket_only: GatewayProcess, clients: Clients, user: str
) -> None:
    client = clients.open(
        websocket_only.url, token=websocket_only.token(user), transports=["websocket"]
    ).connected()

    websocket_only.push_user(user, "note", 1)

    assert client.event("note") == [1]
    client.disconnect()


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("socket.io.js", "text/javascript"),
        ("socket.io.min.js", "text/javascript"),
        ("socket.io.js.map", "application/json"),
        ("socket.io.min.js.map", "application/json"),
    ],
)
async def test_client_bundle_is_served_under_the_configured_path(
    site: GatewayProcess, http: aiohttp.ClientSession, name: str, content_type: str
) -> None:
    async with http.get(f"{site.url}{PATH}{name}") as answer:
        assert (answer.status, answer.content_type, answer.charset) == (200, content_type, "utf-8")
        assert await answer.read() == (BUNDLES / name).read_bytes()
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        validators = {"If-Modified-Since": answer.headers["Last-Modified"]}
    async with http.get(f"{site.url}{PATH}{name}", headers=validators) as again:
        assert again.status == 304


@pytest.mark.parametrize(
    "name", ["socket.io.js", "socket.io.min.js", "socket.io.js.map", "version.txt", "../x"]
)
async def test_client_bundle_is_not_served_when_it_is_switched_off(
    websocket_only: GatewayProcess, http: aiohttp.ClientSession, name: str
) -> None:
    async with http.get(f"{websocket_only.url}/socket.io/{name}") as answer:
        assert (answer.status, answer.content_type) == (404, "application/problem+json")
        assert (await answer.json(content_type=None))["code"] == "not_found"
