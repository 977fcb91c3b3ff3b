"""Engine.IO 4, §Handshake: what opens a session, and how everything else is rejected."""

from __future__ import annotations

import json

import aiohttp
import pytest

from tests.conformance.client import Client
from tests.conformance.conftest import PING_TIMEOUT_SECONDS
from tests.conformance.server import ConformanceServer

MEMBERS = {"sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"}


async def test_get_opens_a_session_on_polling_and_offers_the_websocket(engine: Client) -> None:
    opened = await engine.handshake()

    assert set(opened) == MEMBERS
    assert (opened["upgrades"], opened["pingInterval"], opened["pingTimeout"], opened["maxPayload"]) == (
        ["websocket"],
        300,
        PING_TIMEOUT_SECONDS * 1000,
        1_000_000,
    )


async def test_websocket_opens_a_session_without_further_upgrades(engine: Client) -> None:
    _, opened = await engine.open_websocket()

    assert set(opened) == MEMBERS
    assert opened["upgrades"] == []


async def test_sid_names_its_replica_and_cannot_be_guessed(engine: Client) -> None:
    sids = {await engine.open_polling() for _ in range(10)}

    assert len(sids) == 10
    for sid in sids:
        replica, _, secret = sid.partition(".")
        assert replica == "conformance"
        assert len(secret) * 6 >= 120


VERSION = (5, "Unsupported protocol version")
TRANSPORT = (0, "Transport unknown")
SID = (1, "Session ID unknown")
METHOD = (2, "Bad handshake method")
REQUEST = (3, "Bad request")
REJECTIONS = [
    ("GET", {"transport": "polling"}, VERSION),
    ("GET", {"EIO": "abc", "transport": "polling"}, VERSION),
    ("GET", {"EIO": "3", "transport": "polling"}, VERSION),
    ("GET", {"EIO": "4"}, TRANSPORT),
    ("GET", {"EIO": "4", "transport": "abc"}, TRANSPORT),
    ("GET", {"EIO": "4", "transport": "polling", "sid": "abc"}, SID),
    ("POST", {"EIO": "4", "transport": "polling", "sid": "abc"}, SID),
    ("POST", {"EIO": "4", "transport": "polling"}, METHOD),
    ("PUT", {"EIO": "4", "transport": "polling"}, METHOD),
    ("GET", {"EIO": "4", "transport": "websocket"}, REQUEST),
]


@pytest.mark.parametrize(("method", "query", "rejection"), REJECTIONS)
async def test_bad_request_is_rejected_as_by_the_reference_server(
    engine: Client,
    engine_server: ConformanceServer,
    method: str,
    query: dict[str, str],
    rejection: tuple[int, str],
) -> None:
    status, body = await engine.request(method, **query)

    assert (status, json.loads(body)) == (400, dict(zip(("code", "message"), rejection, strict=True)))
    assert engine_server.engine.sessions == {}


@pytest.mark.parametrize(
    "query", [{}, {"EIO": "abc"}, {"EIO": "4", "transport": "abc"}, {"EIO": "4", "sid": "x"}]
)
async def test_bad_websocket_request_is_rejected_before_the_upgrade(
    engine: Client, engine_server: ConformanceServer, query: dict[str, str]
) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as rejected:
        await engine.websocket(**query)

    assert rejected.value.status == 400
    assert engine_server.engine.sessions == {}


async def test_websocket_handshake_that_rfc_6455_forbids_is_a_bad_request(engine: Client) -> None:
    async with (
        aiohttp.ClientSession(headers={"Upgrade": "websocket", "Connection": "Upgrade"}) as http,
        http.get(engine.url, params={"EIO": "4", "transport": "websocket"}) as answer,
    ):
        assert (answer.status, (await answer.json())["code"]) == (400, 3)


async def test_open_session_accepts_no_other_method(engine: Client) -> None:
    sid = await engine.open_polling()

    status, body = await engine.request("PUT", EIO="4", transport="polling", sid=sid)

    assert (status, json.loads(body)["code"]) == (400, 3)


async def test_first_offered_subprotocol_is_selected(engine: Client) -> None:
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(
            engine.url, params={"EIO": "4", "transport": "websocket"}, protocols=["one", "two"]
        ) as socket,
    ):
        assert socket.protocol == "one"


async def test_page_may_read_answers_and_rejections_and_send_a_preflight(engine: Client) -> None:
    page = {"Origin": "https://app.example"}
    async with aiohttp.ClientSession(headers=page) as http:
        for method, query, status in (
            ("GET", {"EIO": "4", "transport": "polling"}, 200),
            ("GET", {"EIO": "3", "transport": "polling"}, 400),
            ("OPTIONS", {}, 204),
        ):
            async with http.request(method, engine.url, params=query) as answer:
                assert answer.status == status
                assert answer.headers["Access-Control-Allow-Origin"] == page["Origin"]


async def test_draining_replica_answers_503_with_a_retry_time(
    engine: Client, engine_server: ConformanceServer
) -> None:
    engine_server.admission.draining = True

    async with (
        aiohttp.ClientSession() as http,
        http.get(engine.url, params={"EIO": "4", "transport": "polling"}) as answer,
    ):
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert set(await answer.json()) == {"code", "message"}
