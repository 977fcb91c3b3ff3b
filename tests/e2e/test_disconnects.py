"""How connections end: what the gateway sends, what the stock client sees, and whether it comes back."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Iterator

import aiohttp
import pytest

from tests.support.clients import Clients, NodeClients
from tests.support.gateway_process import GatewayProcess
from tests.support.issuer import Issuer
from tests.support.python_clients import PythonClients
from tests.support.raw_clients import RawPolling, RawSocket
from tests.unit.auth.issuer import ec_key, jwk, key_set, token

CARRIERS = pytest.mark.parametrize("carrier", ["polling", "websocket"])


@pytest.fixture(scope="module")
def quick() -> Iterator[GatewayProcess]:
    """A gateway with little patience."""
    process = GatewayProcess(namespaces="/,/events", connect_timeout_seconds=1, message_rate=10)
    yield process
    assert process.stop() == 0
    assert process.failures() == []


@pytest.fixture(scope="module")
def pinging() -> Iterator[GatewayProcess]:
    """A gateway that often asks for a sign of life."""
    process = GatewayProcess(ping_interval_seconds=0.4, ping_timeout_seconds=0.4)
    yield process
    assert process.stop() == 0
    assert process.failures() == []


def offline(gateway: GatewayProcess, user: str, reason: str) -> bool:
    """Whether the user's connection was closed for that reason, and presence knows."""
    gateway.log.wait(
        lambda line: (
            (line.get("event"), line.get("user"), line.get("reason")) == ("connection.closed", user, reason)
        )
    )
    return gateway.backend.presence(user)["online"] is False


@CARRIERS
def test_a_kicked_client_is_told_why_and_stays_away(
    quick: GatewayProcess, clients: Clients, carrier: str, user: str
) -> None:
    client = clients.open(quick.url, token=quick.token(user), transports=[carrier]).connected()

    assert quick.backend.disconnect(user).body == {"disconnected": 1}

    assert client.event("error") == [{"code": "kicked", "message": "a backend ended this connection"}]
    gone = client.wait("disconnect")
    assert (gone["reason"], gone.get("active", False)) == ("io server disconnect", False)
    assert offline(quick, user, "disconnected_by_backend")


@CARRIERS
def test_a_client_whose_tokens_were_revoked_is_told_why_and_stays_away(
    quick: GatewayProcess, clients: Clients, carrier: str, user: str
) -> None:
    client = clients.open(quick.url, token=quick.token(user), transports=[carrier]).connected()

    assert quick.backend.disconnect(user, revoke=True).body == {"disconnected": 1}

    assert client.event("error") == [{"code": "token_revoked", "message": "the token was revoked"}]
    gone = client.wait("disconnect")
    assert (gone["reason"], gone.get("active", False)) == ("io server disconnect", False)
    assert offline(quick, user, "revoked")


@CARRIERS
def test_a_stock_client_that_stands_still_is_cut_off_and_comes_back(carrier: str, user: str) -> None:
    gateway = GatewayProcess(max_body_bytes=200_000, send_buffer_bytes=400_000)
    standing = NodeClients()
    try:
        client = standing.open(gateway.url, token=gateway.token(user), transports=[carrier]).connected()
        standing.pause()
        pushes = itertools.count(1)
        while gateway.push_user(user, "much", [next(pushes), "x" * 190_000])["online"]:
            assert next(pushes) < 1_000
        assert offline(gateway, user, "slow_consumer")

        standing.resume()

        gone = client.wait("disconnect")
        assert gone["reason"] in {"transport close", "transport error"}
        assert gone["active"] is True
        client.connected(count=2)
        client.disconnect()
    finally:
        standing.resume()
        standing.stop()
        assert gateway.stop() == 0
    assert gateway.failures() == []


async def test_a_kick_is_an_error_event_and_a_disconnect_packet_and_leaves_other_namespaces_alone(
    quick: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    socket = await RawSocket.open(http, quick.url)
    await socket.join(quick.token(user), "/events")
    await socket.join(quick.token(user))

    assert quick.backend.disconnect(user, namespace="/events").body == {"disconnected": 1}
    quick.push_user(user, "still here")

    assert json.loads((await socket.frame()).removeprefix("42/events,"))[1]["code"] == "kicked"
    assert await socket.frame() == "41/events,"
    assert await socket.frame() == '42["still here",null]'


@CARRIERS
def test_a_client_whose_token_ran_out_is_warned_and_told_and_comes_back_once(
    quick: GatewayProcess, node: NodeClients, carrier: str, user: str
) -> None:
    ends_at = time.time() + 1.5
    client = node.open(quick.url, token=quick.token(user, exp=ends_at), transports=[carrier]).connected()

    warning = client.event("auth:expiring")[0]
    assert warning["expiresAt"] == _iso(ends_at)
    assert warning["expiresIn"] in (1, 2)
    assert client.event("auth:expired") == [{}]
    gone = client.wait("disconnect")
    assert (gone["reason"], gone["active"]) == ("transport close", True)
    again = client.wait("connect_error")
    assert (again["data"], again["active"]) == ({"code": "token_expired"}, False)
    assert len([entry for entry in client.entries if entry["type"] == "reconnect_attempt"]) == 1
    assert offline(quick, user, "token_expired")


async def test_a_token_that_ran_out_closes_the_websocket_with_4401_and_a_poll_with_a_close_packet_alone(
    quick: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    token = quick.token(user, exp=time.time() + 1.2)
    socket, polling = await RawSocket.open(http, quick.url), await RawPolling(http, quick.url).open()
    await socket.join(token)
    await polling.join(token)

    code, frames = await socket.closed()
    payloads = [await polling.packets()]
    while payloads[-1] != ["1"]:
        payloads.append(await polling.packets())

    assert code == 4401
    assert [json.loads(frame[2:])[0] for frame in frames] == ["auth:expiring", "auth:expired"]
    packets = list(itertools.chain(*payloads))
    assert [json.loads(packet[2:])[0] for packet in packets[:-1]] == ["auth:expiring", "auth:expired"]
    assert await polling.poll() == (400, '{"code":1,"message":"Session ID unknown"}')


async def test_clients_are_told_to_come_back_while_there_are_no_keys_to_check_tokens_with(
    http: aiohttp.ClientSession, node: NodeClients, user: str
) -> None:
    key, issuer = ec_key(), Issuer()
    signed = token({"sub": user, "exp": time.time() + 60}, key=key, algorithm="ES256", headers={"kid": "k"})
    gateway = GatewayProcess(jwt_secret="", jwt_jwks_url=issuer.url)
    try:
        clients = [
            node.open(gateway.url, token=signed, transports=transports)
            for transports in (["polling"], ["websocket"])
        ]
        for client in clients:
            error = await asyncio.to_thread(client.wait, "connect_error")
            assert (error["active"], error.get("data")) == (True, None)
        for transport, headers in (
            ("polling", {}),
            ("websocket", {"Upgrade": "websocket", "Connection": "Upgrade"}),
        ):
            address = f"{gateway.url}/socket.io/?EIO=4&transport={transport}"
            async with http.get(address, headers=headers) as answer:
                assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
                message = "the keys to check tokens with are not there yet"
                assert await answer.json() == {"code": 4, "message": message}

        issuer.key_set = key_set(jwk(key, "ES256", kid="k"))

        for client in clients:
            await asyncio.to_thread(client.connected)
            client.disconnect()
    finally:
        issuer.stop()
        assert gateway.stop() == 0
    assert gateway.failures() == []


@CARRIERS
def test_a_client_that_leaves_is_gone_at_once(
    quick: GatewayProcess, clients: Clients, carrier: str, user: str
) -> None:
    client = clients.open(quick.url, token=quick.token(user), transports=[carrier]).connected()

    client.disconnect()

    gone = client.wait("disconnect")
    assert (gone["reason"], gone.get("active", False)) == ("io client disconnect", False)
    quick.log.wait(lambda line: line.get("event") == "connection.closed" and line["user"] == user)
    presence = quick.backend.presence(user)
    assert presence["online"] is False
    assert presence["last_seen"] is not None


@CARRIERS
def test_a_client_that_floods_is_told_and_stays_away(
    quick: GatewayProcess, clients: Clients, carrier: str, user: str
) -> None:
    client = clients.open(quick.url, token=quick.token(user), transports=[carrier]).connected()

    for number in range(40):
        client.emit("chatter", number)

    assert client.wait("disconnect")["reason"] == "io server disconnect"
    errors = [arguments[0]["code"] for arguments in client.events("error")]
    assert errors == ["unknown_event", "rate_limited"]
    assert offline(quick, user, "rate_limited")


async def test_who_joins_nothing_is_closed_after_the_connect_timeout(
    quick: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    socket, polling = await RawSocket.open(http, quick.url), await RawPolling(http, quick.url).open()
    joined = await RawSocket.open(http, quick.url)
    await joined.join(quick.token(user))

    assert await socket.closed() == (1000, [])
    assert await polling.packets() == ["1"]
    quick.push_user(user, "still here")
    assert await joined.frame() == '42["still here",null]'


async def test_who_does_not_answer_pings_is_dropped(
    pinging: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    silent, polling = await RawSocket.open(http, pinging.url), await RawPolling(http, pinging.url).open()
    silent.answers_pings = False
    await silent.join(pinging.token(f"{user}-silent"))
    await polling.join(pinging.token(f"{user}-polls"))

    assert await polling.poll() == (200, "2")
    assert await silent.closed() == (1006, ["2"])
    assert await polling.poll() == (400, '{"code":1,"message":"Session ID unknown"}')
    assert await asyncio.to_thread(offline, pinging, f"{user}-silent", "ping_timeout")
    assert await asyncio.to_thread(offline, pinging, f"{user}-polls", "ping_timeout")


def test_who_answers_pings_stays(
    pinging: GatewayProcess, node: NodeClients, python_clients: PythonClients, user: str
) -> None:
    everybody = [
        clients.open(pinging.url, token=pinging.token(user), transports=transports)
        for clients in (node, python_clients)
        for transports in (["polling"], ["websocket"], None)
    ]
    for client in everybody:
        client.connected()

    with pytest.raises(AssertionError, match=r"not within 1\.3 s"):
        everybody[0].wait("disconnect", timeout=1.3)

    assert pinging.push_user(user, "still here")["connections"] == len(everybody)
    pinging.wait_until_delivered(*everybody)
    for client in everybody:
        assert not [entry for entry in client.entries if entry["type"] == "disconnect"]
        client.disconnect()


async def test_a_client_that_goes_away_without_a_word_is_gone_at_once(
    quick: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    socket, polling = await RawSocket.open(http, quick.url), await RawPolling(http, quick.url).open()
    await socket.join(quick.token(f"{user}-socket"))
    await polling.join(quick.token(f"{user}-polling"))

    socket.abort()
    with pytest.raises(TimeoutError):
        await polling.poll(0.2)

    assert await asyncio.to_thread(offline, quick, f"{user}-socket", "transport_close")
    assert await asyncio.to_thread(offline, quick, f"{user}-polling", "transport_error")


def _iso(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds * 1000) % 1000:03}Z"
