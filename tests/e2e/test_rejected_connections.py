"""Rejected connections: the error that the client gets, and that it does not reconnect."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from tests.support.clients import Clients, NodeClients
from tests.support.gateway_process import JWT_SECRET, GatewayProcess
from tests.support.raw_clients import RawPolling, RawSocket, connect_packet
from tests.support.tokens import sign, token

AUDIENCE, ISSUER = "the-app", "https://issuer.example"
TRANSPORTS = pytest.mark.parametrize(
    "transports", [["polling"], ["websocket"], None], ids=["polling", "websocket", "upgrade"]
)


@pytest.fixture(scope="module")
def strict() -> Iterator[GatewayProcess]:
    """A gateway that checks every claim of a token that it can check."""
    process = GatewayProcess(
        namespaces="/,/events", jwt_audience=AUDIENCE, jwt_issuer=ISSUER, max_connections_per_user=2
    )
    yield process
    assert process.stop() == 0
    assert process.failures() == []


def valid_token(sub: Any, **claims: Any) -> str:
    """A token that ``strict`` accepts, unless ``claims`` make it a bad one."""
    return token(sub, JWT_SECRET, **({"aud": AUDIENCE, "iss": ISSUER} | claims))


def _with_header(**header: Any) -> str:
    """A token with these fields in its header."""
    now = int(time.time())
    payload = {"sub": "x", "iat": now, "exp": now + 60, "aud": AUDIENCE, "iss": ISSUER}
    return sign({"alg": "HS256"} | header, payload, JWT_SECRET)


DAY = 86_400
"""Seconds. Tokens are created when the tests are collected, and used after many other tests have run."""
BAD_TOKENS: dict[str, tuple[Any, str]] = {
    "no token": (None, "token_missing"),
    "empty": ("", "token_missing"),
    "a word": ("word", "token_malformed"),
    "three words": ("a.b.c", "token_malformed"),
    "a number": (42, "token_malformed"),
    "an object": ({"token": "x"}, "token_malformed"),
    "a list": ([], "token_malformed"),
    "false": (False, "token_malformed"),
    "encrypted": ("a.b.c.d.e", "token_malformed"),
    "another secret": (
        token("x", "another secret, as long as it has to be, really"),
        "token_signature_invalid",
    ),
    "cut": (valid_token("x")[:-3], "token_signature_invalid"),
    "no algorithm": (_with_header(alg="none"), "token_algorithm_refused"),
    "another algorithm": (_with_header(alg="HS512"), "token_algorithm_refused"),
    "an asymmetric algorithm": (_with_header(alg="RS256"), "token_algorithm_refused"),
    "extensions": (_with_header(crit=["exp"]), "token_invalid"),
    "expired": (valid_token("x", lifetime_seconds=-1), "token_expired"),
    "another audience": (valid_token("x", aud=["another-app"]), "token_audience_invalid"),
    "another issuer": (valid_token("x", iss="https://else.example"), "token_issuer_invalid"),
    "no audience": (valid_token("x", aud=None), "token_claim_missing"),
    "no issuer": (valid_token("x", iss=None), "token_claim_missing"),
    "no expiry": (valid_token("x", lifetime_seconds=None), "token_claim_missing"),
    "no subject": (valid_token(None), "token_claim_missing"),
    "an empty subject": (valid_token(""), "token_invalid"),
    "a fractional number": (valid_token(1.5), "token_invalid"),
    "a list of users": (valid_token(["x"]), "token_invalid"),
    "two dots": (valid_token(".."), "token_invalid"),
    "control characters": (valid_token("a\nb"), "token_invalid"),
    "another Unicode form": (valid_token("e\u0301"), "token_invalid"),
    "256 characters": (valid_token("x" * 256), "token_invalid"),
    "milliseconds": (valid_token("x", exp=int(time.time() * 1000)), "token_invalid"),
    "too many rooms": (valid_token("x", rooms=[str(n) for n in range(300)]), "token_invalid"),
}


@pytest.mark.parametrize(("bad", "code"), BAD_TOKENS.values(), ids=BAD_TOKENS.keys())
def test_client_with_a_bad_token_gets_its_code_and_does_not_reconnect(
    strict: GatewayProcess, node: NodeClients, bad: Any, code: str
) -> None:
    client = node.open(strict.url, auth={} if bad is None else {"token": bad}, transports=["websocket"])

    error = client.wait("connect_error")

    assert (error["message"], error["data"]) == ("Authentication error", {"code": code})
    assert error["active"] is False
    client.disconnect()


@pytest.mark.parametrize("claim", ["nbf", "iat"])
def test_client_of_a_backend_whose_clock_is_ahead_is_accepted_or_gets_the_time_to_retry(
    strict: GatewayProcess, node: NodeClients, claim: str, user: str
) -> None:
    now = time.time()
    clients = {
        ahead: node.open(strict.url, token=valid_token(user, **{claim: now + ahead}), transports=[transport])
        for ahead, transport in ((2, "websocket"), (8, "polling"), (90, "websocket"))
    }

    for ahead in (2, 8):
        assert clients[ahead].event("authenticated")[0]["userId"] == user
    error = clients[90].wait("connect_error")
    assert (error["message"], error["data"]["code"]) == ("Authentication error", "token_not_active")
    assert 80 <= error["data"]["retryAfter"] <= 85
    assert error["active"] is False
    for client in clients.values():
        client.disconnect()


@TRANSPORTS
def test_both_clients_get_connect_error_over_every_transport(
    strict: GatewayProcess, clients: Clients, transports: list[str] | None
) -> None:
    client = clients.open(strict.url, token=valid_token("x", lifetime_seconds=-1), transports=transports)

    error = client.wait("connect_error")

    assert (error["message"], error["data"]) == ("Authentication error", {"code": "token_expired"})
    client.disconnect()


@TRANSPORTS
def test_unknown_namespace_is_rejected_as_the_node_server_does_it(
    strict: GatewayProcess, clients: Clients, transports: list[str] | None, user: str
) -> None:
    client = clients.open(strict.url, token=valid_token(user), namespace="/nowhere", transports=transports)

    error = client.wait("connect_error")

    assert (error["message"], error.get("data")) == ("Invalid namespace", None)
    assert error.get("active") in (False, None)
    client.disconnect()


async def test_connect_error_packets_have_exactly_these_bytes(
    strict: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    socket = await RawSocket.open(http, strict.url)
    await socket.send("40", connect_packet(valid_token(user), "/nowhere"), connect_packet("bad", "/events"))

    assert await socket.frame() == '44{"message":"Authentication error","data":{"code":"token_missing"}}'
    assert await socket.frame() == '44/nowhere,{"message":"Invalid namespace"}'
    assert (
        await socket.frame()
        == '44/events,{"message":"Authentication error","data":{"code":"token_malformed"}}'
    )


@TRANSPORTS
@pytest.mark.parametrize(
    "options_with",
    [
        lambda token: {"auth": {"token": token}},
        lambda token: {"extraHeaders": {"Authorization": f"Bearer {token}"}},
        lambda token: {"extraHeaders": {"authorization": f"bearer {token}"}},
        lambda token: {"query": {"token": token}},
        lambda token: {"auth": {"token": None, "other": 1}, "query": {"token": token}},
        lambda token: {"auth": {"token": ""}, "query": {"token": token}},
        lambda token: {"auth": {"token": token}, "extraHeaders": {"Authorization": "Bearer bad"}},
        lambda token: {"extraHeaders": {"Authorization": f"Bearer {token}"}, "query": {"token": "bad"}},
        lambda token: {"auth": {"token": f"Bearer {token}"}},
        lambda token: {"extraHeaders": {"Authorization": token}},
        lambda token: {"query": {"token": f"Bearer {token}"}},
        lambda token: {"extraHeaders": {"Authorization": "Basic eDp5"}, "query": {"token": token}},
    ],
    ids=[
        "auth",
        "header",
        "header in lower case",
        "query",
        "null is no token",
        "an empty text is no token",
        "auth is first",
        "header is second",
        "Bearer in auth",
        "header without Bearer",
        "Bearer in the query",
        "Basic of a proxy beside the query",
    ],
)
def test_token_is_read_from_auth_then_header_then_query(
    strict: GatewayProcess, clients: Clients, transports: list[str] | None, options_with: Any, user: str
) -> None:
    client = clients.open(strict.url, transports=transports, **options_with(valid_token(user)))

    assert client.event("authenticated")[0]["userId"] == user
    client.disconnect()


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"auth": {"token": "bad"}, "extraHeaders": {"Authorization": "Bearer GOOD"}}, "token_malformed"),
        ({"auth": {"token": 0}, "query": {"token": "GOOD"}}, "token_malformed"),
        ({"extraHeaders": {"Authorization": "Bearer bad"}, "query": {"token": "GOOD"}}, "token_malformed"),
        ({"extraHeaders": {"Authorization": "Basic eDp5"}}, "token_missing"),
        ({"extraHeaders": {"x-access-token": "GOOD"}}, "token_missing"),
        ({"extraHeaders": {"Cookie": "token=GOOD"}}, "token_missing"),
        ({"auth": {"authorization": "Bearer GOOD"}}, "token_missing"),
        ({"auth": {"token": ""}, "query": {"token": ""}}, "token_missing"),
    ],
)
def test_bad_token_is_rejected_although_a_later_place_has_a_good_one(
    strict: GatewayProcess, node: NodeClients, options: dict[str, Any], code: str, user: str
) -> None:
    options = json.loads(json.dumps(options).replace("GOOD", valid_token(user)))
    client = node.open(strict.url, transports=["polling"], **options)

    assert client.wait("connect_error")["data"] == {"code": code}
    client.disconnect()


def test_user_at_the_connection_limit_connects_again_only_after_a_disconnect(
    strict: GatewayProcess, clients: Clients, node: NodeClients, user: str
) -> None:
    first, second = (clients.open(strict.url, token=valid_token(user)).connected() for _ in range(2))
    third = clients.open(strict.url, token=valid_token(user), namespace="/events")

    assert third.wait("connect_error")["data"] == {"code": "too_many_connections"}
    first.disconnect()
    strict.log.wait(lambda line: line.get("event") == "connection.closed" and line["sid"] == first.sid)
    third.disconnect()
    fourth = clients.open(strict.url, token=valid_token(user), namespace="/events").connected()
    second.disconnect()
    fourth.disconnect()


def test_revoked_token_is_disconnected_and_rejected_from_then_on(
    strict: GatewayProcess, clients: Clients, user: str
) -> None:
    old = valid_token(user)
    client = clients.open(strict.url, token=old).connected()

    assert strict.backend.disconnect(user, revoke=True).body == {"disconnected": 1}

    assert client.event("error")[0]["code"] == "token_revoked"
    assert client.wait("disconnect")["reason"] == "io server disconnect"
    same_token = clients.open(strict.url, token=old)
    assert same_token.wait("connect_error")["data"] == {"code": "token_revoked"}
    without_iat = clients.open(strict.url, token=valid_token(user, iat=None))
    assert without_iat.wait("connect_error")["data"] == {"code": "token_revoked"}
    renewed = clients.open(strict.url, token=valid_token(user, iat=time.time())).connected()
    for each in (same_token, without_iat, renewed):
        each.disconnect()


async def test_transport_without_a_namespace_is_closed_five_seconds_after_connect_error(
    strict: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    rejected = await RawSocket.open(http, strict.url)
    polling = await RawPolling(http, strict.url).open()
    retries = await RawSocket.open(http, strict.url)
    joined = await RawSocket.open(http, strict.url)
    await joined.join(valid_token(user))
    started = time.monotonic()
    for each in (rejected, polling, retries, joined):
        await (each.post if isinstance(each, RawPolling) else each.send)(connect_packet("bad", "/events"))
    assert [packet[:11] for packet in await polling.packets()] == ["44/events,{"]
    assert (await retries.frame())[:11] == "44/events,{"
    await retries.join(valid_token(user))
    assert (await joined.frame())[:11] == "44/events,{"

    (code, _), (status, text) = await asyncio.gather(rejected.closed(), polling.poll())

    assert (code, status, text) == (1000, 200, "1")
    assert time.monotonic() - started > 4
    strict.push_user(user, "still", "here")
    for each in (retries, joined):
        assert await each.frame() == '42["still","here"]'
