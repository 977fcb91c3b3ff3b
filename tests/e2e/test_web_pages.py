"""Web pages: which origins may connect, over which transports, at which path, and with which client bundle."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from itertools import chain
from typing import Any

import aiohttp
import pytest
from multidict import CIMultiDictProxy

from tests.support.clients import Clients, NodeClients, StockClient
from tests.support.gateway_process import GatewayProcess
from tests.support.paths import ROOT
from tests.support.raw_clients import RawPolling, RawSocket, raw_connection

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


@pytest.fixture
def logging_site() -> Iterator[GatewayProcess]:
    """The same, which has written no line yet: a flood of rejections is not logged whole."""
    process = GatewayProcess(cors_origins=f"{APP},{ADMIN}", socketio_path=PATH)
    yield process
    assert process.stop() == 0


@pytest.fixture(scope="module")
def websocket_only() -> Iterator[GatewayProcess]:
    process = GatewayProcess(transports="websocket", serve_client="false", cors_same_host="false")
    yield process
    assert process.stop() == 0
    assert process.failures() == []


@pytest.fixture(scope="module")
def behind_proxy() -> Iterator[GatewayProcess]:
    """A gateway behind a proxy on this machine, for previews and for an Electron app."""
    process = GatewayProcess(
        trusted_proxies="127.0.0.0/8", cors_origins="https://*.preview.example.com,file://"
    )
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


OWN = ["http://{}", "http://{}/", "ws://{}", "WS://{}/"]


async def opens(http: aiohttp.ClientSession, url: str, path: str = PATH, **headers: str) -> bool:
    """Whether a handshake, a preflight and a WebSocket with these headers are accepted; all or none of them are."""
    address = f"{url}{path}?EIO=4&transport="
    async with http.options(f"{address}polling", headers=headers) as preflight:
        accepted = [preflight.status == 204]
    async with http.get(f"{address}polling", headers=headers) as handshake:
        accepted.append(handshake.status == 200)
        assert cors(handshake.headers) == (allowed(headers["Origin"]) if handshake.status == 200 else {})
        if handshake.status == 200:
            sid = json.loads((await handshake.text())[1:])["sid"]
            async with http.post(f"{address}polling&sid={sid}", data="1", headers=headers) as left:
                assert left.status == 200
    try:
        await (await http.ws_connect(f"{address}websocket", headers=headers)).close()
        accepted.append(True)
    except aiohttp.WSServerHandshakeError as rejection:
        accepted.append(rejection.status != 403)
    assert len(set(accepted)) == 1, accepted
    return accepted[0]


@pytest.mark.parametrize("spelling", OWN)
async def test_app_that_sends_the_address_of_the_gateway_as_its_origin_is_accepted(
    site: GatewayProcess, http: aiohttp.ClientSession, spelling: str
) -> None:
    assert await opens(http, site.url, Origin=spelling.format(site.url.removeprefix("http://")))


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("push.example.com", "https://push.example.com"),
        ("push.example.com", "https://push.example.com:443"),
        ("push.example.com:443", "wss://push.example.com/"),
        ("[::1]:8080", "http://[::1]:8080"),
    ],
)
async def test_own_host_is_the_one_that_the_request_names(
    site: GatewayProcess, http: aiohttp.ClientSession, host: str, origin: str
) -> None:
    assert await opens(http, site.url, Host=host, Origin=origin)


@pytest.mark.parametrize(
    "origin",
    [
        "https://evilpush.example.com",
        "https://push.example.com.evil",
        "https://push.example.com.",
        "https://push.example.com@evil",
        "https://push.example.com:8443",
        "https://a.push.example.com",
        "file://",
    ],
)
async def test_page_of_a_host_that_looks_alike_is_rejected_and_logged_with_both_names(
    logging_site: GatewayProcess, http: aiohttp.ClientSession, origin: str
) -> None:
    assert not await opens(http, logging_site.url, Host="push.example.com", Origin=origin)
    line = logging_site.log.wait(
        lambda line: line.get("event") == "handshake.rejected" and line["origin"] == origin, timeout=5
    )
    assert line["host"] == "push.example.com"


async def test_forwarded_host_is_ignored_unless_its_sender_is_a_trusted_proxy(
    site: GatewayProcess, behind_proxy: GatewayProcess, http: aiohttp.ClientSession
) -> None:
    forwarded = {"X-Forwarded-Host": "push.example.com", "X-Forwarded-Proto": "https"}
    page = {"Origin": "https://push.example.com"}

    assert not await opens(http, site.url, **page, **forwarded)
    assert await opens(http, behind_proxy.url, "/socket.io/", **page, **forwarded)
    assert not await opens(
        http, behind_proxy.url, "/socket.io/", Origin="http://push.example.com", **forwarded
    )


async def test_own_host_is_rejected_when_that_is_switched_off(
    websocket_only: GatewayProcess, http: aiohttp.ClientSession
) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await http.ws_connect(
            f"{websocket_only.url}/socket.io/?EIO=4&transport=websocket", origin=websocket_only.url
        )
    assert caught.value.status == 403


async def test_previews_and_electron_pages_are_accepted_when_they_are_listed(
    behind_proxy: GatewayProcess, http: aiohttp.ClientSession
) -> None:
    url = behind_proxy.url

    assert await opens(http, url, "/socket.io/", Origin="https://pr-7.preview.example.com")
    assert await opens(http, url, "/socket.io/", Origin="file://")
    assert not await opens(http, url, "/socket.io/", Origin="https://a.b.preview.example.com")
    assert not await opens(http, url, "/socket.io/", Origin="https://evilpreview.example.com")
    assert not await opens(http, url, "/socket.io/", Origin="null")


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


SLASHES = pytest.mark.parametrize("path", [PATH, PATH.rstrip("/")], ids=["slash", "no slash"])


@pytest.mark.parametrize(
    ("method", "query", "status"),
    [
        ("GET", "EIO=4&transport=polling", 200),
        ("GET", "EIO=3&transport=polling", 400),
        ("GET", "EIO=4&transport=polling&sid=unknown", 400),
        ("GET", "EIO=4&transport=websocket", 400),
        ("GET", "", 400),
        ("HEAD", "EIO=4&transport=polling", 400),
        ("POST", "EIO=4&transport=polling", 400),
        ("PUT", "EIO=4&transport=polling", 400),
        ("OPTIONS", "EIO=4&transport=polling", 204),
    ],
)
async def test_path_without_its_last_slash_gets_the_same_answers(
    site: GatewayProcess, http: aiohttp.ClientSession, method: str, query: str, status: int
) -> None:
    answers = []
    for path in (PATH, PATH.rstrip("/")):
        async with http.request(
            method, f"{site.url}{path}?{query}", headers={"Origin": APP}, allow_redirects=False
        ) as answer:
            text = await answer.text()
            headers = {
                name: value for name, value in answer.headers.items() if name not in {"Date", "Server"}
            }
        if text.startswith("0"):
            sid = json.loads(text[1:])["sid"]
            text = text.replace(sid, "SID")
            await (await http.post(f"{site.url}{path}?{query}&sid={sid}", data="1")).read()
        answers.append((answer.status, headers, text))
    assert answers[0] == answers[1]
    assert answers[0][0] == status


@SLASHES
async def test_session_may_change_between_both_paths(
    site: GatewayProcess, http: aiohttp.ClientSession, path: str, user: str
) -> None:
    other = PATH if path != PATH else PATH.rstrip("/")
    polling = await RawPolling(http, site.url, path=path).open()
    await polling.join(site.token(user))

    async with http.ws_connect(
        f"{site.url.replace('http', 'ws')}{other}?EIO=4&transport=websocket&sid={polling.sid}"
    ) as socket:
        await socket.send_str("2probe")
        assert (await socket.receive_str()) == "3probe"
        await socket.send_str("5")
        site.push_user(user, "note", 1)
        assert (await socket.receive_str()).startswith('42["note",1')


@SLASHES
async def test_path_is_served_on_a_connection_whose_requests_take_the_fast_path(
    site: GatewayProcess, path: str, user: str
) -> None:
    """Between two pushes on one connection, whole and split into two pieces."""
    handshake = f"GET {path}?EIO=4&transport=polling HTTP/1.1\r\nHost: push.example\r\n\r\n".encode()

    def push() -> bytes:
        body = b'{"event":"note"}'
        headers = site.backend.sign("POST", f"/emit/user/{user}", body) | {
            "Host": "push.example",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"POST /emit/user/{user} HTTP/1.1\r\n{lines}\r\n".encode() + body

    async with raw_connection(site.ports[0]) as connection:
        for requests in ([push()], [handshake], [push()], [push(), handshake], [handshake, push()]):
            connection.send(b"".join(requests))
            for request in requests:
                answer = await connection.read_response()
                assert (answer.status, answer.body[:5]) == (
                    200,
                    b'0{"si' if request == handshake else b'{"id"',
                )


@pytest.mark.parametrize(
    "transports", [["polling"], ["websocket"], None], ids=["polling", "websocket", "upgrade"]
)
def test_stock_client_connects_without_the_last_slash(
    site: GatewayProcess, node: NodeClients, transports: list[str] | None, user: str
) -> None:
    client = node.open(
        site.url, token=site.token(user), transports=transports, path=PATH, addTrailingSlash=False
    ).connected()

    site.push_user(user, "note", 1)

    assert client.event("note") == [1]
    client.disconnect()


async def test_default_path_is_not_served_when_another_one_is_configured(
    site: GatewayProcess, http: aiohttp.ClientSession
) -> None:
    for path in ("/socket.io/", "/socket.io", "/live/", "/live/event", "/live/eventsx", "/live/events/x"):
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
        ("socket.io.esm.min.js", "text/javascript"),
        ("socket.io.js.map", "application/json"),
        ("socket.io.min.js.map", "application/json"),
        ("socket.io.esm.min.js.map", "application/json"),
    ],
)
async def test_client_bundle_is_served_under_the_configured_path(
    site: GatewayProcess, http: aiohttp.ClientSession, name: str, content_type: str
) -> None:
    async with http.get(f"{site.url}{PATH}{name}") as answer:
        assert (answer.status, answer.content_type, answer.charset) == (200, content_type, "utf-8")
        assert await answer.read() == (BUNDLES / name).read_bytes()
        assert answer.headers["Access-Control-Allow-Origin"] == "*"


GZIP = pytest.mark.parametrize(
    "accepted",
    [
        "gzip",
        "gzip, deflate, br, zstd",
        "GZIP;q=0.5",
        "x-gzip",
        "*",
        "*;q=0.1",
        "identity;q=0.5, gzip;q=0.5",
        "gzip, identity;q=0",
        "br, *;q=0.2",
        "deflate , gzip ; q=1.000",
    ],
)
PLAIN = pytest.mark.parametrize(
    "accepted",
    [
        "",
        "br",
        "identity",
        "gzip;q=0",
        "gzip;q=0.0, *",
        "identity, gzip;q=0.9",
        "identity;q=0.6, *;q=0.5",
        "gzip;q=2",
        "gzip;q=x",
        "gzipped",
        "notgzip, gzip2",
    ],
)
BOTH_METHODS = pytest.mark.parametrize("method", ["GET", "HEAD"])


async def request_file(
    site: GatewayProcess, method: str, **headers: str
) -> tuple[int, CIMultiDictProxy[str], bytes]:
    """Request the client as it is on the wire: aiohttp's client would inflate it and send a header of its own."""
    async with (
        aiohttp.ClientSession(auto_decompress=False, skip_auto_headers=["Accept-Encoding"]) as http,
        http.request(method, f"{site.url}{PATH}socket.io.min.js", headers=headers) as answer,
    ):
        return answer.status, answer.headers, await answer.read()


@BOTH_METHODS
@GZIP
async def test_client_bundle_is_sent_compressed_to_clients_that_accept_it(
    site: GatewayProcess, method: str, accepted: str
) -> None:
    status, headers, body = await request_file(site, method, **{"Accept-Encoding": accepted})

    compressed = (BUNDLES / "socket.io.min.js.gz").read_bytes()
    assert (status, headers["Content-Encoding"], headers["Vary"]) == (200, "gzip", "Accept-Encoding")
    assert int(headers["Content-Length"]) == len(compressed) < 16_000
    if method == "GET":
        assert body == compressed
        assert gzip.decompress(body) == (BUNDLES / "socket.io.min.js").read_bytes()


@BOTH_METHODS
@PLAIN
async def test_client_bundle_is_sent_as_it_is_to_clients_that_do_not_accept_gzip(
    site: GatewayProcess, method: str, accepted: str
) -> None:
    status, headers, body = await request_file(site, method, **{"Accept-Encoding": accepted})

    plain = (BUNDLES / "socket.io.min.js").read_bytes()
    assert (status, "Content-Encoding" in headers, headers["Vary"]) == (200, False, "Accept-Encoding")
    assert int(headers["Content-Length"]) == len(plain)
    assert body == (plain if method == "GET" else b"")


@pytest.mark.parametrize("accepted", ["identity;q=0", "*;q=0", "gzip;q=0, identity;q=0", "br, identity;q=0"])
async def test_client_bundle_is_not_acceptable_when_both_forms_are_excluded(
    site: GatewayProcess, accepted: str
) -> None:
    assert (await request_file(site, "GET", **{"Accept-Encoding": accepted}))[0] == 406


async def test_each_form_of_the_client_bundle_has_an_etag_of_its_own(
    site: GatewayProcess, behind_proxy: GatewayProcess, http: aiohttp.ClientSession
) -> None:
    tags = {}
    for accepted in ("gzip", "identity"):
        _, headers, _ = await request_file(site, "GET", **{"Accept-Encoding": accepted})
        tags[accepted] = headers["ETag"]
    assert len(set(tags.values())) == 2
    for accepted, tag in tags.items():
        for sent in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            conditions = {"Accept-Encoding": accepted, "If-None-Match": sent}
            status, headers, body = await request_file(site, "GET", **conditions)
            assert (status, body, headers["ETag"], headers["Vary"]) == (304, b"", tag, "Accept-Encoding")
    status, _, _ = await request_file(
        site, "GET", **{"Accept-Encoding": "gzip", "If-None-Match": tags["identity"]}
    )
    assert status == 200
    # Another replica has the same tags.
    async with http.head(
        f"{behind_proxy.url}/socket.io/socket.io.min.js", headers={"Accept-Encoding": "gzip"}
    ) as other:
        assert other.headers["ETag"] == tags["gzip"]


@pytest.mark.parametrize(
    "name",
    ["socket.io.js", "socket.io.min.js", "socket.io.esm.min.js", "socket.io.js.map", "version.txt", "../x"],
)
async def test_client_bundle_is_not_served_when_it_is_switched_off(
    websocket_only: GatewayProcess, http: aiohttp.ClientSession, name: str
) -> None:
    async with http.get(f"{websocket_only.url}/socket.io/{name}") as answer:
        assert (answer.status, answer.content_type) == (404, "application/problem+json")
        assert (await answer.json(content_type=None))["code"] == "not_found"


@pytest.fixture(scope="module")
def with_cookie() -> Iterator[GatewayProcess]:
    """A gateway that takes the token from a cookie, for pages of one origin."""
    process = GatewayProcess(jwt_cookie="__Host-sio", cors_origins=APP)
    yield process
    assert process.stop() == 0
    assert process.failures() == []


@pytest.mark.parametrize("transports", [["polling"], ["websocket"], None])
def test_token_of_the_cookie_is_read_after_the_other_places(
    with_cookie: GatewayProcess, node: NodeClients, transports: list[str] | None, user: str
) -> None:
    good, other = with_cookie.token(user), with_cookie.token(f"{user}-other")

    def open_client(cookie: str, **options: Any) -> StockClient:
        headers = {"Cookie": f"a=1; {cookie}; b=2", "Origin": APP}
        return node.open(with_cookie.url, transports=transports, extraHeaders=headers, **options)

    accepted = {
        f"{user}": [
            open_client(f"__Host-sio={good}"),
            open_client(f'__Host-sio="Bearer%20{good}"; __Host-sio={other}'),
        ],
        f"{user}-other": [
            open_client(f"__Host-sio={good}", auth={"token": other}),
            open_client(f"__Host-sio={good}", query={"token": other}),
        ],
    }
    rejected = {
        "token_missing": [open_client("__Host-sio="), open_client(f"sio={good}")],
        "token_malformed": [
            open_client("__Host-sio=s%3Ax.y"),
            open_client(f"__Host-sio={good}", auth={"token": "bad"}),
        ],
    }

    for name, clients in accepted.items():
        assert [client.event("authenticated")[0]["userId"] for client in clients] == [name] * 2
    for code, clients in rejected.items():
        assert [client.wait("connect_error")["data"] for client in clients] == [{"code": code}] * 2
    for client in (*chain(*accepted.values()), *chain(*rejected.values())):
        client.disconnect()


async def test_page_of_another_origin_cannot_connect_with_the_cookie_of_its_visitor(
    with_cookie: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    headers = {"Cookie": f"__Host-sio={with_cookie.token(user)}"}
    socket = await RawSocket.open(http, with_cookie.url, headers={**headers, "Origin": APP})
    await socket.send("40")
    assert (await socket.frame()).startswith("40{")

    for origin in ("https://evil.example", "null", f"{APP}.evil.example"):
        with pytest.raises(aiohttp.WSServerHandshakeError) as rejected:
            await RawSocket.open(http, with_cookie.url, headers={**headers, "Origin": origin})
        assert rejected.value.status == 403
