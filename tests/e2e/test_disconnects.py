"""How connections end: what the gateway sends, what a stock client reports, and whether it reconnects."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Iterator

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.clients import Clients, NodeClients
from tests.support.gateway_process import GatewayProcess
from tests.support.issuer import Issuer
from tests.support.python_clients import PythonClients
from tests.support.raw_clients import ENDED, SEPARATOR, RawPolling, RawSocket
from tests.unit.auth.issuer import ec_key, jwk, key_set, token

TRANSPORTS = pytest.mark.parametrize("transport", ["polling", "websocket"])


@pytest.fixture(scope="module")
def strict() -> Iterator[GatewayProcess]:
    """A gateway with a connect timeout of 1 s and a message rate of 10 a second."""
    process = GatewayProcess(namespaces="/,/events", connect_timeout_seconds=1, message_rate=10)
    yield process
    assert process.stop() == 0
    assert process.failures() == []


@pytest.fixture(scope="module")
def pinging() -> Iterator[GatewayProcess]:
    """A gateway that pings each client every 0.4 s and closes one that does not answer within 6 s."""
    process = GatewayProcess(ping_interval_seconds=0.4, ping_timeout_seconds=6)
    yield process
    assert process.stop() == 0
    assert process.failures() == []


def is_offline(gateway: GatewayProcess, user: str, reason: str) -> bool:
    """Wait until the connection of the user is closed for that reason; whether presence shows the user offline."""
    gateway.log.wait(
        lambda line: (
            (line.get("event"), line.get("user"), line.get("reason")) == ("connection.closed", user, reason)
        )
    )
    return gateway.backend.presence(user)["online"] is False


@TRANSPORTS
def test_client_disconnected_by_a_backend_gets_the_reason_and_does_not_reconnect(
    strict: GatewayProcess, clients: Clients, transport: str, user: str
) -> None:
    client = clients.open(strict.url, token=strict.token(user), transports=[transport]).connected()

    assert strict.backend.disconnect(user).body == {"disconnected": 1}

    assert client.event("error") == [{"code": "kicked", "message": "a backend ended this connection"}]
    disconnect = client.wait("disconnect")
    assert (disconnect["reason"], disconnect.get("active", False)) == ("io server disconnect", False)
    assert is_offline(strict, user, "disconnected_by_backend")


@TRANSPORTS
def test_client_whose_tokens_were_revoked_gets_the_reason_and_does_not_reconnect(
    strict: GatewayProcess, clients: Clients, transport: str, user: str
) -> None:
    client = clients.open(strict.url, token=strict.token(user), transports=[transport]).connected()

    assert strict.backend.disconnect(user, revoke=True).body == {"disconnected": 1}

    assert client.event("error") == [{"code": "token_revoked", "message": "the token was revoked"}]
    disconnect = client.wait("disconnect")
    assert (disconnect["reason"], disconnect.get("active", False)) == ("io server disconnect", False)
    assert is_offline(strict, user, "revoked")


@TRANSPORTS
def test_stock_client_that_stops_reading_is_disconnected_and_reconnects(transport: str, user: str) -> None:
    gateway = GatewayProcess(max_body_bytes=200_000, send_buffer_bytes=400_000)
    paused_clients = NodeClients()
    try:
        client = paused_clients.open(
            gateway.url, token=gateway.token(user), transports=[transport]
        ).connected()
        paused_clients.pause()
        pushes = itertools.count(1)
        while gateway.push_user(user, "much", [next(pushes), "x" * 190_000])["online"]:
            assert next(pushes) < 1_000
        assert is_offline(gateway, user, "slow_consumer")

        paused_clients.resume()

        disconnect = client.wait("disconnect")
        assert disconnect["reason"] in {"transport close", "transport error"}
        assert disconnect["active"] is True
        client.connected(count=2)
        client.disconnect()
    finally:
        paused_clients.resume()
        paused_clients.stop()
        assert gateway.stop() == 0
    assert gateway.failures() == []


async def test_disconnect_command_sends_error_and_disconnect_packet_in_its_namespace_only(
    strict: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    socket = await RawSocket.open(http, strict.url)
    await socket.join(strict.token(user), "/events")
    await socket.join(strict.token(user))

    assert strict.backend.disconnect(user, namespace="/events").body == {"disconnected": 1}
    strict.push_user(user, "still here")

    assert json.loads((await socket.frame()).removeprefix("42/events,"))[1]["code"] == "kicked"
    assert await socket.frame() == "41/events,"
    assert await socket.frame() == '42["still here",null]'


@TRANSPORTS
def test_client_whose_token_expires_gets_both_events_and_reconnects_once(
    strict: GatewayProcess, node: NodeClients, transport: str, user: str
) -> None:
    expires_at = time.time() + 6
    client = node.open(
        strict.url, token=strict.token(user, exp=expires_at), transports=[transport]
    ).connected()

    warning = client.event("auth:expiring")[0]
    assert warning["expiresAt"] == _iso(expires_at)
    assert 1 <= warning["expiresIn"] <= 6
    assert client.event("auth:expired") == [{}]
    disconnect = client.wait("disconnect")
    reason = "transport close" if transport == "websocket" else "transport error"
    assert (disconnect["reason"], disconnect["active"]) == (reason, True)
    error = client.wait("connect_error", message="Authentication error")
    assert (error["data"], error["active"]) == ({"code": "token_expired"}, False)
    assert len([entry for entry in client.entries if entry["type"] == "reconnect_attempt"]) == 1
    assert is_offline(strict, user, "token_expired")


async def test_token_expiry_closes_a_websocket_with_4401_and_ends_polling_with_an_error(
    strict: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    token = strict.token(user, exp=time.time() + 6)
    socket, polling = await RawSocket.open(http, strict.url), await RawPolling(http, strict.url).open()
    await socket.join(token)
    await polling.join(token)

    code, frames = await socket.closed()
    polls = [await polling.poll()]
    while polls[-1][0] == 200:
        polls.append(await polling.poll())

    assert code == 4401
    assert [json.loads(frame[2:])[0] for frame in frames] == ["auth:expiring", "auth:expired"]
    packets = [packet for _, text in polls[:-1] for packet in text.split(SEPARATOR) if packet[:2] == "42"]
    names = [json.loads(packet[2:])[0] for packet in packets]
    assert [name for name in names if name != "authenticated"] == ["auth:expiring", "auth:expired"]
    assert polls[-1] == await polling.poll() == ENDED


async def test_clients_get_503_with_retry_after_while_the_key_set_is_unavailable(
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
                message = "the keys to verify tokens are not available yet"
                assert await answer.json() == {"code": 4, "message": message}

        issuer.key_set = key_set(jwk(key, "ES256", kid="k"))

        for client in clients:
            await asyncio.to_thread(client.connected)
            client.disconnect()
    finally:
        issuer.stop()
        assert gateway.stop() == 0
    assert gateway.failures() == []


async def test_clients_with_a_new_key_connect_by_themselves_although_a_made_up_key_id_spent_the_fetch(
    http: aiohttp.ClientSession, node: NodeClients, user: str
) -> None:
    old, new, issuer = ec_key(), ec_key(ec.SECP256R1, "new"), Issuer()

    def signed(key: ec.EllipticCurvePrivateKey, kid: str) -> str:
        content = {"sub": user, "exp": time.time() + 300}
        return token(content, key=key, algorithm="ES256", headers={"kid": kid})

    issuer.key_set = key_set(jwk(old, "ES256", kid="old"))
    gateway = GatewayProcess(jwt_secret="", jwt_jwks_url=issuer.url)
    try:
        await asyncio.to_thread(node.open(gateway.url, token=signed(old, "old")).connected)
        made_up = node.open(gateway.url, token=signed(new, "made-up"), transports=["websocket"])
        error = await asyncio.to_thread(made_up.wait, "connect_error")
        assert (error["active"], error["data"]) == (False, {"code": "token_signature_invalid"})

        issuer.key_set = key_set(jwk(new, "ES256", kid="new"))
        clients = [
            node.open(gateway.url, token=signed(new, "new"), transports=transports)
            for transports in (["polling"], ["websocket"], None)
        ]

        for client in clients:
            await asyncio.to_thread(client.connected)
        errors = [entry for client in clients for entry in client.entries if entry["type"] == "connect_error"]
        assert [error["active"] for error in errors] == [True] * len(errors)
    finally:
        issuer.stop()
        assert gateway.stop() == 0
    assert gateway.failures() == []


@TRANSPORTS
def test_client_that_disconnects_is_offline_at_once(
    strict: GatewayProcess, clients: Clients, transport: str, user: str
) -> None:
    client = clients.open(strict.url, token=strict.token(user), transports=[transport]).connected()

    client.disconnect()

    disconnect = client.wait("disconnect")
    assert (disconnect["reason"], disconnect.get("active", False)) == ("io client disconnect", False)
    strict.log.wait(lambda line: line.get("event") == "connection.closed" and line["user"] == user)
    presence = strict.backend.presence(user)
    assert presence["online"] is False
    assert presence["last_seen"] is not None


@TRANSPORTS
def test_client_over_the_message_rate_gets_the_reason_and_does_not_reconnect(
    strict: GatewayProcess, clients: Clients, transport: str, user: str
) -> None:
    client = clients.open(strict.url, token=strict.token(user), transports=[transport]).connected()

    for number in range(40):
        client.emit("chatter", number)

    assert client.wait("disconnect")["reason"] == "io server disconnect"
    errors = [arguments[0]["code"] for arguments in client.events("error")]
    assert errors == ["unknown_event", "rate_limited"]
    assert is_offline(strict, user, "rate_limited")


async def test_client_that_joins_no_namespace_is_closed_after_the_connect_timeout(
    strict: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    socket, polling = await RawSocket.open(http, strict.url), await RawPolling(http, strict.url).open()
    joined = await RawSocket.open(http, strict.url)
    await joined.join(strict.token(user))

    assert await socket.closed() == (1000, [])
    assert await polling.packets() == ["1"]
    strict.push_user(user, "still here")
    assert await joined.frame() == '42["still here",null]'


async def test_client_that_does_not_answer_pings_is_disconnected(
    pinging: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    silent, polling = await RawSocket.open(http, pinging.url), await RawPolling(http, pinging.url).open()
    silent.answers_pings = False
    await silent.join(pinging.token(f"{user}-silent"))
    await polling.join(pinging.token(f"{user}-polls"))

    assert await polling.poll() == (200, "2")
    assert await silent.closed() == (1006, ["2"])
    assert await polling.poll() == (400, '{"code":1,"message":"Session ID unknown"}')
    assert await asyncio.to_thread(is_offline, pinging, f"{user}-silent", "ping_timeout")
    assert await asyncio.to_thread(is_offline, pinging, f"{user}-polls", "ping_timeout")


def test_client_that_answers_pings_stays_connected(
    pinging: GatewayProcess, node: NodeClients, python_clients: PythonClients, user: str
) -> None:
    all_clients = [
        clients.open(pinging.url, token=pinging.token(user), transports=transports)
        for clients in (node, python_clients)
        for transports in (["polling"], ["websocket"], None)
    ]
    for client in all_clients:
        client.connected()

    with pytest.raises(AssertionError, match=r"not within 7\.0 s"):
        all_clients[0].wait("disconnect", timeout=7.0)

    assert pinging.push_user(user, "still here")["connections"] == len(all_clients)
    pinging.wait_until_delivered(*all_clients)
    for client in all_clients:
        assert not [entry for entry in client.entries if entry["type"] == "disconnect"]
        client.disconnect()


async def test_client_whose_connection_is_aborted_is_offline_at_once(
    strict: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    socket, polling = await RawSocket.open(http, strict.url), await RawPolling(http, strict.url).open()
    await socket.join(strict.token(f"{user}-socket"))
    await polling.join(strict.token(f"{user}-polling"))

    socket.abort()
    with pytest.raises(TimeoutError):
        await polling.poll(0.2)

    assert await asyncio.to_thread(is_offline, strict, f"{user}-socket", "transport_close")
    assert await asyncio.to_thread(is_offline, strict, f"{user}-polling", "transport_error")


def _iso(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds * 1000) % 1000:03}Z"
