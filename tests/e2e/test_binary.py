"""Buffers in pushes: the stock clients get equal bytes on each transport, live and from the history."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from tests.support.clients import NodeClients, StockClient
from tests.support.gateway_process import GatewayProcess
from tests.support.metrics import read_metrics
from tests.support.raw_clients import RawPolling, RawSocket
from tests.support.redis_server import RedisServer
from tests.support.webhook_server import SECRET, WebhookServer

IMAGE, NOISE = bytes(range(256)), os.urandom(20_000)


@pytest.fixture(scope="module")
def node() -> Iterator[NodeClients]:
    clients = NodeClients()
    yield clients
    clients.stop()


@pytest.fixture(scope="module")
def gateway() -> Iterator[GatewayProcess]:
    process = GatewayProcess()
    yield process
    assert process.failures() == []
    process.stop()


@pytest.fixture(scope="module")
def compressing() -> Iterator[GatewayProcess]:
    """A gateway that compresses messages."""
    process = GatewayProcess(ws_compression=True, ws_compression_threshold_bytes=500)
    yield process
    assert process.failures() == []
    process.stop()


def encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()


def received(value: bytes) -> dict[str, str]:
    """What the journal of a client has for bytes."""
    return {"$base64": encoded(value)}


def push(process: GatewayProcess, user: str, number: int, **more: Any) -> Any:
    """Push a number and two buffers, in ``data``."""
    data = {"n": number, "files": [{"image": encoded(IMAGE)}, encoded(NOISE)]}
    return process.push_user(user, "files", data, binary=["/data/files/1", "/data/files/0/image"], **more)


def expected(number: int) -> list[Any]:
    return [{"n": number, "files": [{"image": received(IMAGE)}, received(NOISE)]}]


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="binary"),
        pytest.param({"forceBase64": True}, id="forceBase64"),
        pytest.param({"query": {"recovery": "0"}}, id="without positions"),
    ],
)
def test_client_gets_equal_bytes_on_each_transport(
    gateway: GatewayProcess,
    node: NodeClients,
    user: str,
    transports: list[str] | None,
    options: dict[str, Any],
) -> None:
    client = node.open(gateway.url, token=gateway.token(user), transports=transports, **options).connected()
    if transports is None:
        client.wait("upgrade")

    for number in range(3):
        assert push(gateway, user, number)["connections"] == 1
        gateway.push_user(user, "plain", number)
    gateway.backend.post(
        f"/emit/user/{user}",
        {"event": "args", "args": ["", "AAE=", None], "binary": ["/args/1", "/args/0"]},
    )

    gateway.wait_until_delivered(client)
    assert client.events("files") == [expected(number) for number in range(3)]
    offsets = [entry for entry in client.entries if entry.get("event") == "files" and "offset" in entry]
    assert len(offsets) == (0 if "query" in options else 3)
    assert client.events("plain") == [[number] for number in range(3)]
    assert client.events("args") == [[received(b""), received(b"\x00\x01"), None]]
    client.disconnect()


@pytest.mark.parametrize("is_base64", [False, True], ids=["binary", "forceBase64"])
def test_client_with_compression_gets_equal_bytes(
    compressing: GatewayProcess, node: NodeClients, user: str, is_base64: bool
) -> None:
    client = node.open(
        compressing.url,
        token=compressing.token(user),
        transports=["websocket"],
        forceBase64=is_base64,
        perMessageDeflate={"threshold": 0},
    ).connected()

    push(compressing, user, 1)
    compressing.push_user(user, "zeros", encoded(bytes(10_000)), binary=["/data"])

    assert client.event("zeros") == [received(bytes(10_000))]
    assert client.events("files") == [expected(1)]
    client.disconnect()


def test_python_client_gets_equal_bytes(
    gateway: GatewayProcess, python_clients: Any, user: str, transports: list[str] | None
) -> None:
    client = python_clients.open(gateway.url, token=gateway.token(user), transports=transports).connected()

    push(gateway, user, 1)

    assert client.event("files")[0] == {"n": 1, "files": [{"image": IMAGE}, NOISE]}
    client.disconnect()


async def test_buffers_are_binary_frames_and_base64_texts_for_clients_that_ask_for_it(
    gateway: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    plain = await RawSocket.open(http, gateway.url)
    base64_client = await RawSocket.open(http, gateway.url, query="&b64=1")
    for client in (plain, base64_client):
        await client.join(gateway.token(user))

    gateway.push_user(user, "file", "AAE=", binary=["/data"], volatile=True)

    first, second = await plain.socket.receive(), await plain.socket.receive()
    assert str(first.data).startswith('451-["file",{"_placeholder":true,"num":0}')
    assert (second.type, second.data) == (aiohttp.WSMsgType.BINARY, b"\x00\x01")
    first, second = await base64_client.socket.receive(), await base64_client.socket.receive()
    assert str(first.data).startswith('451-["file",{"_placeholder":true,"num":0}')
    assert (second.type, second.data) == (aiohttp.WSMsgType.TEXT, "bAAE=")
    await plain.socket.close()
    await base64_client.socket.close()


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_buffers_reach_clients_that_acknowledge_them_and_those_of_a_batch(
    gateway: GatewayProcess, node: NodeClients, user: str, transport: str
) -> None:
    client = node.open(gateway.url, token=gateway.token(user), transports=[transport]).connected()
    file = {"event": "file", "data": encoded(IMAGE), "binary": ["/data"]}

    acked = gateway.backend.post(
        f"/emit/user/{user}", file | {"ack": {"want": "all", "timeout_seconds": 0.5}}
    ).body
    batched = gateway.backend.post("/batch", {"messages": [file | {"to": {"user": user}}] * 2}).body

    assert (acked["asked"], acked["connections"]) == (1, 1)
    assert [each["connections"] for each in batched["results"]] == [1, 1]
    client.wait("event", event="file", count=3)
    assert client.events("file") == [[received(IMAGE)]] * 3
    client.disconnect()


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_client_that_resumes_on_another_of_three_replicas_gets_the_buffers_that_it_missed(
    redis_server: RedisServer, node: NodeClients, user: str, transport: str
) -> None:
    with ExitStack() as stack:
        replicas = [
            GatewayProcess(redis_url=redis_server.url, replica_id=f"{transport}-{name}") for name in "abc"
        ]
        for replica in replicas:
            stack.callback(replica.stop)
        clients: list[StockClient] = [
            node.open(
                replica.url, token=replica.token(user), transports=[transport], reconnectionDelay=500
            ).connected()
            for replica in replicas
        ]
        assert push(replicas[0], user, 0)["connections"] == 3
        for client in clients:
            client.event("files")

        clients[1].close_engine(replicas[2].url)
        clients[1].wait("disconnect")
        push(replicas[0], user, 1)
        clients[1].wait("event", event="authenticated", count=2)
        push(replicas[1], user, 2)

        for client in clients:
            client.wait("event", event="files", count=3)
            assert client.events("files") == [expected(number) for number in range(3)]
        connects = [entry["recovered"] for entry in clients[1].entries if entry["type"] == "connect"]
        assert connects == [False, True]
        assert [replica.failures() for replica in replicas] == [[], [], []]
        for client in clients:
            client.disconnect()


CATALOGUE = """
version: 1
namespaces:
  /:
    broadcast: anyone
    client_events:
      share: {emit: [{to: everyone, event: shared, data: {from: $user, file: $0.file, other: $1}}], ack: $0.file}
      store: {call: app, dedupe: $0}
"""


@pytest.mark.parametrize("is_base64", [False, True], ids=["binary", "forceBase64"])
@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_buffers_of_a_client_reach_other_clients_webhooks_and_the_client_itself(
    node: NodeClients, tmp_path: Path, user: str, transport: str, is_base64: bool
) -> None:
    events_file = tmp_path / "events.yaml"
    events_file.write_text(CATALOGUE)
    webhook = WebhookServer()
    webhook.answers["store"] = (
        200,
        {
            "ack": {"hash": "AAE="},
            "binary": ["/ack/hash"],
            "emit": [{"event": "stored", "data": ["AAEC"], "binary": ["/data/0"]}],
        },
    )
    process = GatewayProcess(
        events_file=events_file, webhooks=f"app={webhook.url}", webhook_secrets=f"app:{SECRET}"
    )
    sender, other = [
        node.open(
            process.url, token=process.token(each), transports=[transport], forceBase64=is_base64
        ).connected()
        for each in (user, f"{user}-2")
    ]

    answer = sender.emit_with_acks(
        "share", {"file": {"$bytes": [0, 255]}, "unused": {"$bytes": [7]}}, {"$bytes": []}
    )
    stored = [sender.emit_with_acks("store", 1, {"image": {"$bytes": [1, 2]}}) for _ in range(2)]

    shared = [{"from": user, "file": received(b"\x00\xff"), "other": received(b"")}]
    assert [client.event("shared") for client in (sender, other)] == [shared, shared]
    assert answer == [received(b"\x00\xff")]
    assert sender.event("stored") == [[received(b"\x00\x01\x02")]]
    assert stored == [[{"hash": received(b"\x00\x01")}]] * 2
    ((_, request),) = webhook.requests
    assert (request["data"]["args"], request["data"]["binary"]) == ([1, {"image": "AQI="}], ["/args/1/image"])
    sender.emit("share", {"$bytes": [1, 2]}, {"_placeholder": "no"})
    assert sender.event("error")[0]["code"] == "invalid_payload"
    assert process.stop() == 0
    assert process.failures() == []
    webhook.stop()


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_client_with_the_msgpack_parser_is_disconnected_with_a_log_line_of_its_own(
    gateway: GatewayProcess, http: aiohttp.ClientSession, transport: str
) -> None:
    seen = len(gateway.log.entries)
    connect = msgspec.msgpack.encode({"type": 0, "data": {"token": gateway.token("42")}, "nsp": "/"})

    if transport == "websocket":
        client = await RawSocket.open(http, gateway.url)
        await client.socket.send_bytes(connect)
        assert (await client.socket.receive()).type == aiohttp.WSMsgType.CLOSE
        assert client.socket.close_code == 1003
    else:
        polling = await RawPolling(http, gateway.url).open()
        await polling.post("b" + encoded(connect))

    gateway.log.wait(lambda entry: entry["event"] == "connection.parser_mismatch", after=seen)
    assert not [each for each in gateway.log.entries[seen:] if each["event"] == "packet.malformed"]
    assert 'engineio_sessions_closed_total{reason="parser_mismatch"}' in read_metrics(gateway.url)
