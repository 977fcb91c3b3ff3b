"""Socket.IO 5: connect, disconnect, events, acknowledgements, binary, each on a WebSocket and on polling."""

from __future__ import annotations

import json

import pytest

from tests.conformance.client import Client, Socket

AUTH = '42["auth",{}]'


async def join_main(socketio: Client) -> Socket:
    """Open a WebSocket and join the main namespace."""
    socket, _ = await socketio.open_websocket()
    await socket.send("40")
    await socket.next_message()
    assert await socket.next_message() == AUTH
    return socket


# connect


@pytest.mark.parametrize(
    ("connect", "answer", "auth"),
    [
        ("40", "40", '42["auth",{}]'),
        ('40{"token":"123"}', "40", '42["auth",{"token":"123"}]'),
        ("40/custom,", "40/custom,", '42/custom,["auth",{}]'),
        ("40/custom", "40/custom,", '42/custom,["auth",{}]'),
        ('40/custom,{"token":"abc"}', "40/custom,", '42/custom,["auth",{"token":"abc"}]'),
    ],
)
async def test_client_joins_a_namespace_and_gets_a_sid(
    socketio: Client, connect: str, answer: str, auth: str
) -> None:
    socket, opened = await socketio.open_websocket()

    await socket.send(connect)
    connected = await socket.next_message()

    assert isinstance(connected, str)
    assert connected.startswith(answer)
    body = json.loads(connected.removeprefix(answer))
    assert set(body) == {"sid"}
    assert body["sid"] != opened["sid"]
    assert await socket.next_message() == auth


async def test_client_joins_a_namespace_over_polling(socketio: Client) -> None:
    sid = await socketio.open_polling()

    await socketio.post(sid, '40{"token":"123"}')
    status, body = await socketio.poll(sid)

    assert status == 200
    assert body.startswith('40{"sid":')
    assert body.endswith('42["auth",{"token":"123"}]')


async def test_unknown_namespace_is_rejected_and_the_transport_stays_open(socketio: Client) -> None:
    socket, _ = await socketio.open_websocket()

    await socket.send("40/random")
    assert await socket.next_message() == '44/random,{"message":"Invalid namespace"}'
    await socket.send("40")

    assert str(await socket.next_message()).startswith('40{"sid":')


async def test_client_that_joins_nothing_in_time_is_closed(socketio: Client) -> None:
    socket, _ = await socketio.open_websocket()
    assert await socket.wait_closed() == 1000


# disconnect


async def test_transport_stays_open_after_leaving_the_last_namespace(socketio: Client) -> None:
    socket = await join_main(socketio)

    await socket.send("41")

    assert await socket.next() == "2"


async def test_other_namespaces_stay_joined_after_leaving_one(socketio: Client) -> None:
    socket = await join_main(socketio)
    await socket.send("40/custom")
    await socket.next_message()
    await socket.next_message()

    await socket.send("41/custom")
    await socket.send('42["message","to the main namespace"]')

    assert await socket.next_message() == '42["message-back","to the main namespace"]'


async def test_event_to_a_namespace_that_was_left_closes_the_transport(socketio: Client) -> None:
    socket = await join_main(socketio)

    await socket.send("41")
    await socket.send('42["message","too late"]')

    assert await socket.wait_closed() == 1002


# events


@pytest.mark.parametrize("arguments", ['1,"2",{"3":[true]}', '"é€😀"', "null", '{"a":{"b":[]}}'])
async def test_event_is_received_with_its_arguments(socketio: Client, arguments: str) -> None:
    socket = await join_main(socketio)

    await socket.send(f'42["message",{arguments}]')
    answer = await socket.next_message()

    assert isinstance(answer, str)
    assert json.loads(answer[2:]) == ["message-back", *json.loads(f"[{arguments}]")]


async def test_event_with_attachments_is_received_whole_and_sent_in_parts(socketio: Client) -> None:
    socket = await join_main(socketio)
    body = '["message{}",{{"_placeholder":true,"num":0}},{{"_placeholder":true,"num":1}}]'

    await socket.send("452-" + body.format(""))
    await socket.send(b"\x01\x02\x03")
    await socket.send(b"\x04\x05\x06")

    assert await socket.next_message() == "452-" + body.format("-back")
    assert await socket.next_message() == b"\x01\x02\x03"
    assert await socket.next_message() == b"\x04\x05\x06"


async def test_attachments_are_received_over_polling(socketio: Client) -> None:
    sid = await socketio.open_polling()
    await socketio.post(sid, "40")
    await socketio.poll(sid)

    await socketio.post(sid, '451-["message",{"_placeholder":true,"num":0}]', "bAQID")
    status, body = await socketio.poll(sid)

    assert (status, body.split("\x1e")) == (
        200,
        ['451-["message-back",{"_placeholder":true,"num":0}]', "bAQID"],
    )


# acknowledgements


async def test_acknowledgement_carries_the_id_of_its_event(socketio: Client) -> None:
    socket = await join_main(socketio)

    await socket.send('42456["message-with-ack",1,"2",{"3":[false]}]')

    assert await socket.next_message() == '43456[1,"2",{"3":[false]}]'


async def test_acknowledgement_in_a_namespace_names_it(socketio: Client) -> None:
    socket, _ = await socketio.open_websocket()
    await socket.send("40/custom,")
    await socket.next_message()
    await socket.next_message()

    await socket.send('42/custom,0["message-with-ack","x"]')

    assert await socket.next_message() == '43/custom,0["x"]'


async def test_acknowledgement_has_attachments_where_the_event_had_them(socketio: Client) -> None:
    socket = await join_main(socketio)

    await socket.send('451-789["message-with-ack",{"_placeholder":true,"num":0}]')
    await socket.send(b"\x01\x02\x03")

    assert await socket.next_message() == '461-789[{"_placeholder":true,"num":0}]'
    assert await socket.next_message() == b"\x01\x02\x03"


async def test_acknowledgement_that_was_not_requested_is_ignored(socketio: Client) -> None:
    socket = await join_main(socketio)

    await socket.send("4312[1]")
    await socket.send('42["message"]')

    assert await socket.next_message() == '42["message-back"]'


# malformed


@pytest.mark.parametrize(
    "frames",
    [
        ["4abc"],
        ["4"],
        ["42"],
        ["42{}"],
        ["42[]"],
        ["42[{}]"],
        ["42[null]"],
        ['42["message"'],
        ['42abc["message-with-ack",1]'],
        ["44{}"],
        ["47[]"],
        [b"\x01"],
        ['451-["message",{"_placeholder":true,"num":0}]', "4not binary"],
        ['451-["message",{"_placeholder":true,"num":1}]', b"\x01"],
        ['451-["message",{"_placeholder":true,"num":"x"}]', b"\x01"],
        ['4511-["message"]'],
        ['459999999999-["message"]'],
        ['45-["message"]', b"\x01"],
        ["42" + "[" * 100_000],
    ],
)
async def test_malformed_packet_closes_the_transport(socketio: Client, frames: list[str | bytes]) -> None:
    socket = await join_main(socketio)

    for frame in frames:
        await socket.send(frame)

    assert await socket.wait_closed() == 1002


@pytest.mark.parametrize(
    "packet", ["4abc", '42["message"]', '451-["message",{"_placeholder":true,"num":0}]', "4{}"]
)
async def test_other_packets_before_any_namespace_is_joined_close_the_transport(
    socketio: Client, packet: str
) -> None:
    socket, _ = await socketio.open_websocket()

    await socket.send(packet)

    assert await socket.wait_closed() == 1002
