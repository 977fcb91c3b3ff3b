"""Frames that violate Engine.IO or Socket.IO: only the transport of the sender is closed."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from tests.support.gateway_process import GatewayProcess
from tests.support.raw_clients import RawPolling, RawSocket, connect_packet

UNKNOWN_SID = (400, '{"code":1,"message":"Session ID unknown"}')
BAD_REQUEST = (400, '{"code":3,"message":"Bad request"}')
BYTES = b"\x01\x02"
ATTACHMENT = '{"_placeholder":true,"num":0}'

INVALID_ENGINE_PACKETS = {
    "nothing": "",
    "no type": "x",
    "type 7": "7",
    "type 9": "9hello",
    "open": "0{}",
    "ping": "2",
    "probe": "2probe",
    "noop": "6",
    "upgrade": "5",
}

INVALID_SOCKET_PACKETS: dict[str, list[str | bytes]] = {
    "nothing": ["4"],
    "no type": ["4x"],
    "type 7": ["47"],
    "type 9": ["49"],
    "negative type": ["4-1"],
    "connect, cut": ["40{"],
    "event of nothing": ["42"],
    "event of an object": ["42{}"],
    "event of a string": ['42"x"'],
    "event of no name": ["42[]"],
    "event of an object's name": ["42[{}]"],
    "event of a null name": ["42[null]"],
    "event, cut": ['42["x"'],
    "event with a tail": ['42["x"]]'],
    "open arrays": ["42" + "[" * 90_000],
    "deep arrays": ['42["x",' + "[" * 45_000 + "]" * 45_000 + "]"],
    "deep objects": ['42["x",' + '{"":' * 15_000 + "1" + "}" * 15_000 + "]"],
    "deep auth": ["40" + "[" * 45_000 + "]" * 45_000],
    "a number of 5 000 digits": ['42["x",' + "9" * 5_000 + "]"],
    "an acknowledgement of 400 digits": ["42" + "9" * 400 + '["x"]'],
    "1 000 attachments": ['451000-["x"]'],
    "10^30 attachments": ["451" + "0" * 30 + '-["x"]'],
    "placeholder of nothing": ['451-["x",{"_placeholder":true,"num":5}]', BYTES],
    "placeholder of a word": ['451-["x",{"_placeholder":true,"num":"0"}]', BYTES],
    "text for an attachment": [f'451-["x",{ATTACHMENT}]', '42["x"]'],
    "connect for an attachment": [f'451-["x",{ATTACHMENT}]', "40"],
    "attachment of nothing": [BYTES],
    "attachment like an event": [b'2["x"]'],
    "binary event of nothing": ["45"],
    "binary event of nothing without attachments": ["450-"],
    "binary event without a name": ["450-[]"],
    "empty attachment of nothing": [b""],
    "connect error": ["44{}"],
}

HARMLESS: dict[str, tuple[list[str | bytes], str]] = {
    "a number that is no float": (['427["x",1e999]'], "437["),
    "half a surrogate": (['427["\\ud800"]'], "437["),
    "a reserved name": (['427["connect"]'], "437["),
    "a prototype": (['427["__proto__",{"__proto__":1}]'], "437["),
    "a number for a name": (["427[1]"], "437["),
    "an attachment": ([f'451-7["x",{ATTACHMENT}]', BYTES], "437["),
    "an attachment in base64 with a line break": ([f'451-7["x",{ATTACHMENT}]', "bAQIDBA==\n"], "437["),
    "an attachment in base64 without padding": ([f'451-7["x",{ATTACHMENT}]', "bAQIDBA"], "437["),
    "an attachment that is no base64": ([f'451-7["x",{ATTACHMENT}]', "b!é"], "437["),
    "no attachments": (['450-7["x"]'], "437["),
    "no count of attachments": (['457["x"]'], "437["),
    "a placeholder without attachments": ([f'450-7["x",{ATTACHMENT}]'], "437["),
    "a binary acknowledgement": (["461-1[" + ATTACHMENT + "]", BYTES, '427["x"]'], "437["),
    "a binary acknowledgement without attachments": (["460-1[]", "461[]", '427["x"]'], "437["),
    "an acknowledgement without a request": (["431[1]", '427["x"]'], "437["),
    "an event for an unknown namespace": (['42/nowhere,["x"]', '427["x"]'], "437["),
    "a disconnect from a namespace that was not joined": (["41/events,", '427["x"]'], "437["),
    "a pong without a ping": (["3", "3later", '427["x"]'], "437["),
}


@pytest.fixture(scope="module")
def gateway() -> Iterator[GatewayProcess]:
    """A gateway where unauthenticated clients may send large frames, so that theirs are decoded too."""
    process = GatewayProcess(
        namespaces="/,/events",
        connect_rate=2000,
        message_rate=1000,
        max_unauthenticated_frame_bytes=100_000,
    )
    yield process
    assert process.stop() == 0
    assert process.failures() == []
    assert not [line for line in process.log.entries if line.get("level") == "warning"]


@pytest.fixture(autouse=True)
async def bystander(gateway: GatewayProcess, http: aiohttp.ClientSession, user: str) -> AsyncIterator[None]:
    """Check that another client is served during the test and after it."""
    before = await RawSocket.open(http, gateway.url)
    await before.join(gateway.token(f"{user}-bystander"))
    yield
    after = await RawSocket.open(http, gateway.url)
    await after.join(gateway.token(f"{user}-bystander"))
    assert gateway.push_user(f"{user}-bystander", "note", 1)["connections"] == 2
    assert (await before.frame(), await after.frame()) == ('42["note",1]', '42["note",1]')
    assert gateway.failures() == []


async def websocket(gateway: GatewayProcess, http: aiohttp.ClientSession, user: str | None) -> RawSocket:
    socket = await RawSocket.open(http, gateway.url)
    if user is not None:
        await socket.join(gateway.token(user))
    return socket


async def polling(gateway: GatewayProcess, http: aiohttp.ClientSession, user: str | None) -> RawPolling:
    client = await RawPolling(http, gateway.url).open()
    if user is not None:
        await client.join(gateway.token(user))
    return client


@pytest.mark.parametrize("frame", INVALID_ENGINE_PACKETS.values(), ids=INVALID_ENGINE_PACKETS.keys())
async def test_invalid_engine_packet_closes_its_transport(
    gateway: GatewayProcess, http: aiohttp.ClientSession, frame: str, user: str
) -> None:
    for joined_as in (None, user):
        socket = await websocket(gateway, http, joined_as)
        await socket.send(frame)
        assert await socket.closed() == (1002, [])
        client = await polling(gateway, http, joined_as)
        # A packet that cannot be decoded is rejected; one that no client may POST is accepted and ends the session.
        expected = (200, "ok") if frame[:1] in {"0", "2", "5", "6"} else BAD_REQUEST
        assert await client.post(frame) == expected
        assert await client.poll() == UNKNOWN_SID
    assert gateway.backend.presence(user)["online"] is False


@pytest.mark.parametrize("body", [b"4\xff\xfe", b"3\x1e", b"\x1e", b"3\x1e\x1e3", b"\x00"])
async def test_payload_that_cannot_be_decoded_is_rejected_and_closes_the_session(
    gateway: GatewayProcess, http: aiohttp.ClientSession, body: bytes, user: str
) -> None:
    for joined_as in (None, user):
        client = await polling(gateway, http, joined_as)
        assert await client.post_bytes(body) == BAD_REQUEST
        assert await client.poll() == UNKNOWN_SID


@pytest.mark.parametrize("frames", INVALID_SOCKET_PACKETS.values(), ids=INVALID_SOCKET_PACKETS.keys())
async def test_invalid_socket_packet_closes_its_transport(
    gateway: GatewayProcess, http: aiohttp.ClientSession, frames: list[str | bytes], user: str
) -> None:
    for joined_as in (None, user):
        socket = await websocket(gateway, http, joined_as)
        await socket.send(*frames)
        assert await socket.closed() == (1002, [])
        client = await polling(gateway, http, joined_as)
        pending_poll = asyncio.create_task(client.poll())
        assert await client.post(*["bAQI=" if isinstance(each, bytes) else each for each in frames]) == (
            200,
            "ok",
        )
        assert await pending_poll in ((200, "1"), UNKNOWN_SID)
        assert await client.poll() == UNKNOWN_SID


@pytest.mark.parametrize(("frames", "answer"), HARMLESS.values(), ids=HARMLESS.keys())
async def test_unusual_but_harmless_packet_is_answered(
    gateway: GatewayProcess, http: aiohttp.ClientSession, frames: list[str | bytes], answer: str, user: str
) -> None:
    socket = await websocket(gateway, http, user)
    await socket.send(*frames)
    assert (await socket.frame()).startswith(answer)

    client = await polling(gateway, http, user)
    records = ["b" + base64.b64encode(each).decode() if isinstance(each, bytes) else each for each in frames]
    assert await client.post(*records) == (200, "ok")
    assert (await client.packets())[0].startswith(answer)
    await client.close()


@pytest.mark.parametrize("frame", ['42["x"]', '427["x"]', '42/events,["x"]', f'451-["x",{ATTACHMENT}]'])
async def test_event_before_a_namespace_is_joined_closes_the_transport(
    gateway: GatewayProcess, http: aiohttp.ClientSession, frame: str, user: str
) -> None:
    frames = [frame, BYTES] if frame.startswith("45") else [frame]
    socket = await websocket(gateway, http, None)

    await socket.send(*frames)

    assert await socket.closed() == (1002, [])


async def test_second_connect_to_a_joined_namespace_closes_the_transport(
    gateway: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    socket = await websocket(gateway, http, user)
    await socket.send(connect_packet(gateway.token(user)))
    assert await socket.closed() == (1002, [])

    both_at_once = await websocket(gateway, http, None)
    await both_at_once.send(connect_packet(gateway.token(user)), connect_packet(gateway.token(user)))
    code, frames = await both_at_once.closed()
    assert (code, [frame[:3] for frame in frames if frame[:2] == "40"]) == (1002, ["40{"])
    assert gateway.backend.presence(user)["online"] is False


@pytest.mark.parametrize("auth", ["[]", '"x"', "5", "null", "NaN", '["token"]', '{"token":{"token":1}}'])
async def test_auth_that_is_not_an_object_with_a_token_is_rejected_with_a_code(
    gateway: GatewayProcess, http: aiohttp.ClientSession, auth: str, user: str
) -> None:
    socket = await websocket(gateway, http, None)
    await socket.send("40" + auth)

    code = "token_malformed" if "{" in auth else "token_missing"
    assert await socket.frame() == f'44{{"message":"Authentication error","data":{{"code":"{code}"}}}}'
    assert (await socket.join(gateway.token(user)))["userId"] == user


async def test_client_may_disconnect_and_reconnect_on_one_transport(
    gateway: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    socket = await websocket(gateway, http, user)
    for _ in range(3):
        await socket.send("41")
        await socket.join(gateway.token(user))

    assert gateway.push_user(user, "note", 1)["connections"] == 1
    assert await socket.frame() == '42["note",1]'
