"""Who is not let in, what their client is told, and that it stays away then."""

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

pytestmark = pytest.mark.core

AUDIENCE, ISSUER = "the-app", "https://issuer.example"
TRANSPORTS = pytest.mark.parametrize(
    "transports", [["polling"], ["websocket"], None], ids=["polling", "websocket", "upgrade"]
)


@pytest.fixture(scope="module")
def strict() -> Iterator[GatewayProcess]:
    """A gateway that checks everything it can of a token."""
    process = GatewayProcess(
        namespaces="/,/events", jwt_audience=AUDIENCE, jwt_issuer=ISSUER, max_connections_per_user=2
    )
    yield process
    assert process.stop() == 0
    assert process.failures() == []


def good(sub: Any, **claims: Any) -> str:
    return token(sub, JWT_SECRET, **({"aud": AUDIENCE, "iss": ISSUER} | claims))


def _headed(**header: Any) -> str:
    now = int(time.time())
    payload = {"sub": "x", "iat": now, "exp": now + 60, "aud": AUDIENCE, "iss": ISSUER}
    return sign({"alg": "HS256"} | header, payload, JWT_SECRET)


DAY = 86_400
"""Tokens are made when tests are collected, and shown when many others have run."""
BAD_TOKENS: dict[str, tuple[Any, str]] = {
    "nothing": (None, "token_missing"),
    "empty": ("", "token_malformed"),
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
    "cut": (good("x")[:-3], "token_signature_invalid"),
    "no algorithm": (_headed(alg="none"), "token_algorithm_refused"),
    "another algorithm": (_headed(alg="HS512"), "token_algorithm_refused"),
    "an asymmetric algorithm": (_headed(alg="RS256"), "token_algorithm_refused"),
    "extensions": (_headed(crit=["exp"]), "token_invalid"),
    "expired": (good("x", lifetime_seconds=-1), "token_expired"),
    "not yet": (good("x", nbf=int(time.time()) + DAY), "token_not_active"),
    "from the future": (good("x", iat=int(time.time()) + DAY), "token_not_active"),
    "for others": (good("x", aud=["another-app"]), "token_audience_invalid"),
    "from others": (good("x", iss="https://else.example"), "token_issuer_invalid"),
    "no audience": (good("x", aud=None), "token_claim_missing"),
    "no issuer": (good("x", iss=None), "token_claim_missing"),
    "no end": (good("x", lifetime_seconds=None), "token_claim_missing"),
    "nobody": (good(None), "token_claim_missing"),
    "nobody's name": (good(""), "token_invalid"),
    "half a number": (good(1.5), "token_invalid"),
    "a list of users": (good(["x"]), "token_invalid"),
    "two dots": (good(".."), "token_invalid"),
    "control characters": (good("a\nb"), "token_invalid"),
    "milliseconds": (good("x", exp=int(time.time() * 1000)), "token_invalid"),
    "a room of no name": (good("x", rooms=[""]), "token_invalid"),
    "too many rooms": (good("x", rooms=[str(n) for n in range(300)]), "token_invalid"),
}


@pytest.mark.parametrize(("bad", "code"), BAD_TOKENS.values(), ids=BAD_TOKENS.keys())
def test_a_bad_token_is_refused_with_its_code_and_the_client_stays_away(
    strict: GatewayProcess, node: NodeClients, bad: Any, code: str
) -> None:
    client = node.open(strict.url, auth={} if bad is None else {"token": bad}, transports=["websocket"])

    error = client.wait("connect_error")

    assert (error["message"], error["data"]) == ("Authentication error", {"code": code})
    assert error["active"] is False
    client.disconnect()


@TRANSPORTS
def test_both_clients_hear_a_refusal_over_every_transport(
    strict: GatewayProcess, clients: Clients, transports: list[str] | None
) -> None:
    client = clients.open(strict.url, token=good("x", lifetime_seconds=-1), transports=transports)

    error = client.wait("connect_error")

    assert (error["message"], error["data"]) == ("Authentication error", {"code": "token_expired"})
    client.disconnect()


@TRANSPORTS
def test_a_namespace_that_is_not_served_is_refused_as_node_does_it(
    strict: GatewayProcess, clients: Clients, transports: list[str] | None, user: str
) -> None:
    client = clients.open(strict.url, token=good(user), namespace="/nowhere", transports=transports)

    error = client.wait("connect_error")

    assert (error["message"], error.get("data")) == ("Invalid namespace", None)
    assert error.get("active") in (False, None)
    client.disconnect()


async def test_refusals_have_exactly_these_bytes(
    strict: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    socket = await RawSocket.open(http, strict.url)
    await socket.send("40", connect_packet(good(user), "/nowhere"), connect_packet("bad", "/events"))

    assert await socket.frame() == '44{"message":"Authentication error","data":{"code":"token_missing"}}'
    assert await socket.frame() == '44/nowhere,{"message":"Invalid namespace"}'
    assert (
        await socket.frame()
        == '44/events,{"message":"Authentication error","data":{"code":"token_malformed"}}'
    )


@TRANSPORTS
@pytest.mark.parametrize(
    "place",
    [
        lambda token: {"auth": {"token": token}},
        lambda token: {"extraHeaders": {"Authorization": f"Bearer {token}"}},
        lambda token: {"extraHeaders": {"authorization": f"bearer {token}"}},
        lambda token: {"query": {"token": token}},
        lambda token: {"auth": {"token": None, "other": 1}, "query": {"token": token}},
        lambda token: {"auth": {"token": token}, "extraHeaders": {"Authorization": "Bearer bad"}},
        lambda token: {"extraHeaders": {"Authorization": f"Bearer {token}"}, "query": {"token": "bad"}},
    ],
    ids=[
        "auth",
        "header",
        "header in lower case",
        "query",
        "null is no token",
        "auth is first",
        "header is second",
    ],
)
def test_a_token_is_found_in_each_of_its_places(
    strict: GatewayProcess, clients: Clients, transports: list[str] | None, place: Any, user: str
) -> None:
    client = clients.open(strict.url, transports=transports, **place(good(user)))

    assert client.event("authenticated")[0]["userId"] == user
    client.disconnect()


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"auth": {"token": "bad"}, "extraHeaders": {"Authorization": "Bearer GOOD"}}, "token_malformed"),
        ({"auth": {"token": ""}, "query": {"token": "GOOD"}}, "token_malformed"),
        ({"auth": {"token": 0}, "query": {"token": "GOOD"}}, "token_malformed"),
        ({"extraHeaders": {"Authorization": "Bearer bad"}, "query": {"token": "GOOD"}}, "token_malformed"),
        ({"extraHeaders": {"Authorization": "Basic eDp5"}, "query": {"token": "GOOD"}}, "token_malformed"),
        ({"extraHeaders": {"Authorization": "Bearer"}, "query": {"token": "GOOD"}}, "token_malformed"),
        ({"query": {"token": ""}}, "token_malformed"),
    ],
)
def test_a_place_that_holds_a_bad_token_is_the_last_one_looked_at(
    strict: GatewayProcess, node: NodeClients, options: dict[str, Any], code: str, user: str
) -> None:
    options = json.loads(json.dumps(options).replace("GOOD", good(user)))
    client = node.open(strict.url, transports=["polling"], **options)

    assert client.wait("connect_error")["data"] == {"code": code}
    client.disconnect()


def test_a_user_may_have_so_many_connections_and_no_more(
    strict: GatewayProcess, clients: Clients, node: NodeClients, user: str
) -> None:
    first, second = (clients.open(strict.url, token=good(user)).connected() for _ in range(2))
    third = clients.open(strict.url, token=good(user), namespace="/events")

    assert third.wait("connect_error")["data"] == {"code": "too_many_connections"}
    first.disconnect()
    strict.log.wait(lambda line: line.get("event") == "connection.closed" and line["sid"] == first.sid)
    third.disconnect()
    fourth = clients.open(strict.url, token=good(user), namespace="/events").connected()
    second.disconnect()
    fourth.disconnect()


def test_a_revoked_token_is_put_out_and_never_let_in_again(
    strict: GatewayProcess, clients: Clients, user: str
) -> None:
    old = good(user)
    client = clients.open(strict.url, token=old).connected()

    assert strict.backend.disconnect(user, revoke=True).body == {"disconnected": 1}

    assert client.event("error")[0]["code"] == "token_revoked"
    assert client.wait("disconnect")["reason"] == "io server disconnect"
    again = clients.open(strict.url, token=old)
    assert again.wait("connect_error")["data"] == {"code": "token_revoked"}
    without_birth = clients.open(strict.url, token=good(user, iat=None))
    assert without_birth.wait("connect_error")["data"] == {"code": "token_revoked"}
    renewed = clients.open(strict.url, token=good(user, iat=time.time())).connected()
    for each in (again, without_birth, renewed):
        each.disconnect()


async def test_a_transport_that_joined_nothing_is_closed_five_seconds_after_its_refusal(
    strict: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    refused = await RawSocket.open(http, strict.url)
    polling = await RawPolling(http, strict.url).open()
    retries = await RawSocket.open(http, strict.url)
    joined = await RawSocket.open(http, strict.url)
    await joined.join(good(user))
    for each in (refused, polling, retries, joined):
        await (each.post if isinstance(each, RawPolling) else each.send)(connect_packet("bad", "/events"))
    assert [packet[:11] for packet in await polling.packets()] == ["44/events,{"]
    assert (await retries.frame())[:11] == "44/events,{"
    await retries.join(good(user))
    assert (await joined.frame())[:11] == "44/events,{"

    started = time.monotonic()
    (code, _), (status, text) = await asyncio.gather(refused.closed(8), polling.poll(8))

    assert (code, status, text) == (1000, 200, "1")
    assert 4 < time.monotonic() - started < 7
    strict.push_user(user, "still", "here")
    for each in (retries, joined):
        assert await each.frame() == '42["still","here"]'
