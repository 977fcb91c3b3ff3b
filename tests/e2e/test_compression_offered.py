"""Browsers offer permessage-deflate (RFC 7692), which is off by default, and accept gzip, which is on."""

from __future__ import annotations

import gzip
import json
from typing import Any

import aiohttp
import pytest
from multidict import CIMultiDictProxy

from tests.support.clients import NodeClients
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_clients import RawPolling, RawSocket


async def test_compression_offer_is_not_accepted_and_large_messages_arrive_uncompressed(
    gateway_process: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    client = await RawSocket.open(http, gateway_process.url, compress=15)
    await client.join(gateway_process.token(user))

    gateway_process.push_user(user, "note", "x" * 100_000)

    assert json.loads((await client.frame())[2:])[:2] == ["note", "x" * 100_000]
    assert client.socket.compress == 0
    assert "Sec-WebSocket-Extensions" not in client.socket._response.headers
    await client.socket.close()


async def poll_on_the_wire(
    gateway: GatewayProcess, user: str, data: str, accepts: str | None
) -> tuple[CIMultiDictProxy[str], bytes]:
    """Return headers and body of the answer to the poll that gets a push, as they are on the wire."""
    headers = {} if accepts is None else {"Accept-Encoding": accepts}
    async with aiohttp.ClientSession(auto_decompress=False, skip_auto_headers=["Accept-Encoding"]) as http:
        client = await RawPolling(http, gateway.url).open(headers=headers)
        await client.join(gateway.token(user))
        gateway.push_user(user, "note", data)
        async with http.get(client.address, headers=headers) as answer:
            body = await answer.read()
        await client.close()
        assert answer.status == 200
        return answer.headers, body


@pytest.mark.parametrize("size", [2_000, 200_000])
async def test_answer_to_a_poll_is_compressed_for_clients_that_accept_it(
    gateway_process: GatewayProcess, user: str, size: int
) -> None:
    text = "0123456789" * (size // 10)

    plain_headers, plain = await poll_on_the_wire(gateway_process, user, text, None)
    headers, body = await poll_on_the_wire(gateway_process, user, text, "gzip, deflate")

    assert "Content-Encoding" not in plain_headers
    assert headers["Content-Encoding"] == "gzip"
    assert int(headers["Content-Length"]) == len(body) < size / 4
    assert json.loads(gzip.decompress(body)[2:])[:2] == json.loads(plain[2:])[:2] == ["note", text]


async def test_small_answers_are_not_compressed(gateway_process: GatewayProcess, user: str) -> None:
    headers, body = await poll_on_the_wire(gateway_process, user, "x" * 500, "gzip")

    assert ("Content-Encoding" in headers, json.loads(body[2:])[1]) == (False, "x" * 500)


async def test_threshold_and_the_switch_are_settings(user: str) -> None:
    cases: list[tuple[dict[str, Any], bool]] = [
        ({"http_compression": "off"}, False),
        ({"http_compression_threshold_bytes": "5000"}, False),
        ({"http_compression_threshold_bytes": "100"}, True),
    ]
    for settings, compressed in cases:
        gateway = GatewayProcess(**settings)
        try:
            headers, _ = await poll_on_the_wire(gateway, user, "x" * 2000, "gzip")
        finally:
            assert gateway.stop() == 0
        assert ("Content-Encoding" in headers) is compressed
        assert gateway.failures() == []


def test_stock_client_receives_compressed_answers_in_order(
    gateway_process: GatewayProcess, node: NodeClients, user: str
) -> None:
    client = node.open(
        gateway_process.url, token=gateway_process.token(user), transports=["fetch"]
    ).connected()

    sizes = [10, 3_000, 300_000, 1, 50_000, 2_000, 500_000, 30]
    for number, size in enumerate(sizes):
        gateway_process.push_user(user, "note", {"number": number, "text": "word " * (size // 5)})
    gateway_process.wait_until_delivered(client)

    notes = [args[0] for args in client.events("note")]
    assert [(note["number"], len(note["text"])) for note in notes] == [
        (number, size // 5 * 5) for number, size in enumerate(sizes)
    ]
    client.disconnect()
