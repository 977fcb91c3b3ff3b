"""Buffers in pushes: the stock clients get equal bytes on each transport, live and from the history."""

from __future__ import annotations

import base64
import json
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
from tests.support.waiter import wait_until
from tests.support.webhook_server import SECRET, WebhookServer

ALL = {"want": "all", "timeout_seconds": 25}
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
def impatient() -> Iterator[GatewayProcess]:
    """A gateway that waits one second for an attachment."""
    process = GatewayProcess(request_timeout_seconds=1)
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
    client.answer_all({"$bytes": list(IMAGE)})
    file = {"event": "file", "data": encoded(IMAGE), "binary": ["/data"]}

    acked = gateway.backend.post(f"/emit/user/{user}", file | {"ack": ALL}).body
    batched = gateway.backend.post("/batch", {"messages": [file | {"to": {"user": user}}] * 2}).body

    assert (acked["complete"], acked["asked"], acked["connections"]) == (True, 1, 1)
    assert [(ack["data"], ack["binary"]) for ack in acked["acks"]] == [(encoded(IMAGE), ["/data"])]
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


ANSWERS: list[tuple[list[Any], dict[str, Any]]] = [
    ([{"$bytes": [0, 1]}], {"data": "AAE=", "binary": ["/data"]}),
    (
        [{"ok": True, "files": [{"a/b": {"$bytes": [255]}}, "text", {"$bytes": []}]}],
        {
            "data": {"ok": True, "files": [{"a/b": "/w=="}, "text", ""]},
            "binary": ["/data/files/0/a~1b", "/data/files/2"],
        },
    ),
    ([1, {"$bytes": [7]}, "é"], {"args": [1, "Bw==", "é"], "binary": ["/args/1"]}),
    ([{"_placeholder": "text"}], {"data": {"_placeholder": "text"}}),
]
"""What clients answer, and what the backend gets."""


@pytest.mark.parametrize("is_base64", [False, True], ids=["binary", "forceBase64"])
def test_backend_gets_buffers_of_acknowledgements_as_base64_with_pointers(
    gateway: GatewayProcess,
    node: NodeClients,
    user: str,
    transports: list[str] | None,
    is_base64: bool,
) -> None:
    client = node.open(
        gateway.url, token=gateway.token(user), transports=transports, forceBase64=is_base64
    ).connected()
    if transports is None:
        client.wait("upgrade")

    for arguments, members in ANSWERS:
        client.answer_all(*arguments)
        body = gateway.push_user(user, "ask", 1, ack=ALL)
        assert (body["complete"], body["asked"], body["acked"], body["silent"]) == (True, 1, 1, 0)
        [ack] = body["acks"]
        assert {name: ack[name] for name in ("data", "args", "binary") if name in ack} == members
    client.disconnect()


def test_python_client_acknowledges_with_buffers(
    gateway: GatewayProcess, python_clients: Any, user: str, transports: list[str] | None
) -> None:
    client = python_clients.open(gateway.url, token=gateway.token(user), transports=transports).connected()
    client.answer_all({"hash": b"\x00\x01"})

    body = gateway.push_user(user, "ask", 1, ack=ALL)

    assert [(ack["data"], ack["binary"]) for ack in body["acks"]] == [({"hash": "AAE="}, ["/data/hash"])]
    client.disconnect()


def test_buffers_of_acknowledgements_cross_replicas_and_are_bounded(
    redis_server: RedisServer, node: NodeClients, user: str
) -> None:
    room = f"org:{user}"
    with ExitStack() as stack:
        replicas = [
            GatewayProcess(replica_id=f"r{number}", redis_url=redis_server.url) for number in range(3)
        ]
        for replica in replicas:
            stack.callback(replica.stop)
        clients = [
            node.open(
                replicas[number % 3].url,
                token=replicas[0].token(f"{user}-{number}", rooms=[room]),
                transports=[["websocket"], ["polling"]][number % 2],
            )
            for number in range(24)
        ]
        for number, client in enumerate(clients):
            client.connected().answer_all({"n": number, "file": {"$bytes": [number] * 100}})

        small = replicas[1].backend.push_room(room, "ask", ack=ALL).body
        for client in clients:
            client.answer_all({"$zeros": 60_000})
        large = replicas[2].backend.push_room(room, "ask", ack=ALL)
        clients[0].answer_all({"$zeros": 60_000}, {"$zeros": 60_000})
        alone = replicas[1].backend.push_user(f"{user}-0", "ask", ack=ALL).body

        assert (small["complete"], small["asked"], small["acked"]) == (True, 24, 24)
        assert {ack["data"]["n"]: ack["data"]["file"] for ack in small["acks"]} == {
            number: encoded(bytes([number] * 100)) for number in range(24)
        }
        assert {tuple(ack["binary"]) for ack in small["acks"]} == {("/data/file",)}
        assert (large.body["complete"], large.body["acked"], large.body["truncated"]) == (True, 24, True)
        assert 1 < len(large.body["acks"]) <= 1024 * 1024 // 80_000
        assert len(large.text) <= 1024 * 1024
        assert (alone["complete"], alone["acked"], alone["gone"]) == (False, 0, 1)
        clients[0].wait("disconnect")
        for client in clients:
            client.disconnect()
        assert [replica.failures() for replica in replicas] == [[], [], []]


PLACEHOLDERS = ",".join(f'{{"_placeholder":true,"num":{number}}}' for number in range(2))


@pytest.mark.parametrize("kind", ["event", "acknowledgement"])
@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_client_that_leaves_out_attachments_is_closed_in_time_and_holds_no_memory(
    impatient: GatewayProcess, http: aiohttp.ClientSession, user: str, transport: str, kind: str
) -> None:
    seen = len(impatient.log.entries)
    packet = f'453-["share",{PLACEHOLDERS}]' if kind == "event" else f"463-7[{PLACEHOLDERS}]"

    if transport == "websocket":
        client = await RawSocket.open(http, impatient.url)
        await client.join(impatient.token(user))
        await client.send(packet, b"1")
        assert await client.closed() == (1002, [])
    else:
        polling = await RawPolling(http, impatient.url).open()
        await polling.join(impatient.token(user))
        assert await polling.post(packet, "b" + encoded(b"1")) == (200, "ok")

    line = impatient.log.wait(lambda entry: entry["event"] == "packet.malformed", after=seen)
    assert (line["error"], line["users"]) == ("AttachmentsOverdue", [user])
    impatient.log.wait(
        lambda entry: entry["event"] == "connection.closed" and entry["reason"] == "protocol_error",
        after=seen,
    )
    wait_until(
        lambda: "\nsio_gateway_arriving_body_bytes 0.0\n" in read_metrics(impatient.url), "nothing is held"
    )


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param([f"462-7[{PLACEHOLDERS}]", b"1", '42["x"]'], id="event in between"),
        pytest.param([f"462-7[{PLACEHOLDERS}]", b"1", f"462-8[{PLACEHOLDERS}]"], id="packet in between"),
        pytest.param([f"462-7[{PLACEHOLDERS}]", b"1", b"2", b"3"], id="more than announced"),
        pytest.param([f"4611-7[{PLACEHOLDERS}]"], id="more than allowed"),
        pytest.param(["461-7["], id="no JSON"),
        pytest.param(["461-/nowhere,7[]"], id="no connection"),
    ],
)
async def test_incomplete_binary_acknowledgement_closes_the_transport_as_on_the_stock_server(
    gateway: GatewayProcess, http: aiohttp.ClientSession, user: str, frames: list[str | bytes]
) -> None:
    client = await RawSocket.open(http, gateway.url)
    await client.join(gateway.token(user))

    await client.send(*frames)

    assert await client.closed() == (1002, [])


async def test_engine_packets_between_attachments_are_no_part_of_the_packet(
    gateway: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    client = await RawSocket.open(http, gateway.url)
    await client.join(gateway.token(user))

    await client.send('452-7["x",{"_placeholder":true,"num":0}]', "3", b"1", "3", b"2")

    assert (await client.frame()).startswith("437[")
    await client.socket.close()


async def test_attachments_may_be_in_other_requests_than_their_packet(
    gateway: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    client = await RawPolling(http, gateway.url).open()
    await client.join(gateway.token(user))

    for record in (f'452-7["x",{PLACEHOLDERS}]', "b" + encoded(b"1"), "b" + encoded(b"2")):
        assert await client.post(record) == (200, "ok")
    unread = await client.packets()

    assert [packet[:4] for packet in unread] == ["437["]
    await client.close()


CATALOGUE = """
version: 1
namespaces:
  /:
    broadcast: anyone
    client_events:
      share: {emit: [{to: everyone, event: shared, data: {from: $user, file: $0.file, other: $1}}], ack: $0.file}
      store: {call: app, dedupe: $0}
      keep: {notify: app, emit: [{to: self, event: kept, data: $0}], ack: {size: $1, same: $0}}
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


@pytest.mark.parametrize("batch", [1, 10])
@pytest.mark.parametrize("has_redis", [False, True], ids=["memory", "redis"])
def test_notifications_have_buffers_as_base64_with_pointers(  # noqa: PLR0917  # fixtures
    node: NodeClients, redis_server: RedisServer, tmp_path: Path, user: str, batch: int, has_redis: bool
) -> None:
    events_file = tmp_path / "events.yaml"
    events_file.write_text(CATALOGUE)
    webhook = WebhookServer()
    webhook.status_of = lambda _: 503
    settings = {"id": "app", "url": webhook.url, "secret": SECRET, "batch": batch}
    config = tmp_path / "gateway.yaml"
    config.write_text(json.dumps({"webhooks": [settings]}))
    process = GatewayProcess(
        events_file=events_file,
        config=config,
        redis_url=redis_server.url if has_redis else None,
        redis_prefix=user,
    )
    client = node.open(process.url, token=process.token(user)).connected()

    answers = [
        client.emit_with_ack("keep", {"a/b": [{"$bytes": [number, 255]}]}, number, {"$bytes": []})
        for number in range(5)
    ]
    wait_until(lambda: len(webhook.requests) > 0, "the first request failed")
    webhook.status_of = lambda _: None
    wait_until(lambda: len(delivered(webhook)) == 5, "all notifications arrived")

    buffers = [{"a/b": [received(bytes([number, 255]))]} for number in range(5)]
    assert answers == [{"size": number, "same": buffers[number]} for number in range(5)]
    client.wait("event", event="kept", count=5)
    assert client.events("kept") == [[each] for each in buffers]
    assert [(data["args"], data["binary"], data["mode"]) for data in delivered(webhook)] == [
        (
            [{"a/b": [encoded(bytes([number, 255]))]}, number, ""],
            ["/args/0/a~1b/0", "/args/2"],
            "notify",
        )
        for number in range(5)
    ]
    if batch > 1:
        assert any(body["type"] == "batch" and len(body["data"]) > 1 for _, body in webhook.requests)
    assert process.stop() == 0
    assert process.failures() == []
    webhook.stop()


def delivered(webhook: WebhookServer) -> list[dict[str, Any]]:
    """Return the data of each client event, once by its id, in the order of its first request."""
    events: dict[str, dict[str, Any]] = {}
    for event_id, body in list(webhook.requests):
        for each in body["data"] if body["type"] == "batch" else [{"id": event_id} | body]:
            events.setdefault(each["id"], each["data"])
    return list(events.values())


@pytest.mark.parametrize(
    "answer",
    [
        {"ack": {"a": "AAE=", "b": {"_placeholder": True, "num": 0}}, "binary": ["/ack/a"]},
        {"ack": "AAE", "binary": ["/ack"]},
        {"ack": "AAE=", "binary": ["/data"]},
        {
            "ack": 1,
            "emit": [{"event": "stored", "data": {"_placeholder": 1, "a": ""}, "binary": ["/data/a"]}],
        },
    ],
    ids=["look-alike in ack", "no base64", "pointer to nothing", "look-alike in emit"],
)
def test_answer_of_a_webhook_with_wrong_buffers_reaches_no_client(
    node: NodeClients, tmp_path: Path, user: str, answer: dict[str, Any]
) -> None:
    events_file = tmp_path / "events.yaml"
    events_file.write_text(CATALOGUE)
    webhook = WebhookServer()
    webhook.answers["store"] = (200, answer)
    process = GatewayProcess(
        events_file=events_file, webhooks=f"app={webhook.url}", webhook_secrets=f"app:{SECRET}"
    )
    client = node.open(process.url, token=process.token(user), transports=["websocket"]).connected()

    first = client.emit_with_ack("store", 1, {"$bytes": [1]})
    webhook.answers["store"] = (200, {"ack": "AAE=", "binary": ["/ack"]})
    second = client.emit_with_ack("store", 2, {"$bytes": [1]})

    assert first["error"]["code"] == "backend_error"
    assert second == received(b"\x00\x01")
    assert client.events("stored") == []
    assert process.stop() == 0
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
