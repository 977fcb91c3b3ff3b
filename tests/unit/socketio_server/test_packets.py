"""The bytes of Socket.IO 5, decoded by python-socketio."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from socketio import packet

from gateway.domain.attachments import placeholder, with_buffers
from gateway.domain.messages import Message
from gateway.domain.positions import START, Position
from gateway.interfaces import Frames
from gateway.socketio_server import packets
from gateway.transport.packets import decode_payload

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
NAMESPACES = ["/", "/events", "/é"]


def decoded(frames: Frames) -> Any:
    assert frames.record[:1] == b"4"
    return packet.Packet(encoded_packet=frames.record[1:].decode())


@given(namespace=st.sampled_from(NAMESPACES), event=st.text(min_size=1), arguments=st.lists(JSON, max_size=4))
def test_message_is_decoded_as_it_was_published(namespace: str, event: str, arguments: list[object]) -> None:
    texts = tuple(json.dumps(argument) for argument in arguments)

    read = decoded(packets.encode_message(Message("id", namespace, (), event, texts), None))

    assert (read.packet_type, read.namespace or "/", read.id) == (packet.EVENT, namespace, None)
    assert read.data == [event, *arguments]


def test_arguments_are_sent_byte_for_byte_as_they_were_received() -> None:
    message = Message("id", "/", (), "news", ('{"b" : 1,\t"a":1.0}', "1e400", '"\\u00e9"'))

    assert packets.encode_message(message, None).record == b'42["news",{"b" : 1,\t"a":1.0},1e400,"\\u00e9"]'


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_message_that_asks_for_an_acknowledgement_has_its_id(namespace: str) -> None:
    read = decoded(packets.encode_message(Message("id", namespace, (), "ask", ("1",)), None, ack_id=2**48))

    assert (read.packet_type, read.namespace or "/", read.id) == (packet.EVENT, namespace, 2**48)
    assert read.data == ["ask", 1]


@given(
    namespace=st.sampled_from([*NAMESPACES, "/a[b"]),
    ack_id=st.integers(0, 2**49),
    values=st.lists(JSON, max_size=4),
)
def test_acknowledgement_is_decoded_as_python_socketio_encodes_it(
    namespace: str, ack_id: int, values: list[object]
) -> None:
    sent = packet.Packet(packet.ACK, namespace=namespace, id=ack_id, data=values)

    text = sent.encode()
    read = packets.decode_ack(text)

    address = packets.ack_address(text)
    assert address is not None
    assert (address.namespace, address.ack_id, address.attachments) == (namespace, ack_id, 0)
    assert read is not None
    assert (read.namespace, read.ack_id, json.loads(read.arguments), read.number) == (
        namespace,
        ack_id,
        json.loads(json.dumps(values)),
        len(values),
    )


@given(text=st.text('3456[],/{}"1a0 ', max_size=12))
def test_arbitrary_text_is_an_acknowledgement_or_none(text: str) -> None:
    read = packets.decode_ack(text)

    address = packets.ack_address(text)
    assert read is None or (address is not None and address[:2] == (read.namespace, read.ack_id))


BUFFERS = st.recursive(
    st.one_of(
        st.none(), st.integers(-(2**70), 2**70), st.text(max_size=3), st.binary(min_size=2, max_size=5)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text("a/~_é", max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(namespace=st.sampled_from(NAMESPACES), values=st.lists(BUFFERS, max_size=4))
def test_acknowledgement_with_buffers_is_base64_with_pointers_to_it(
    namespace: str, values: list[Any]
) -> None:
    sent = packet.Packet(packet.ACK, namespace=namespace, id=7, data=values)
    encoded = sent.encode()
    text, *attachments = encoded if isinstance(encoded, list) else [encoded]

    read = packets.decode_ack(text, attachments)

    assert read is not None
    assert (read.namespace, read.ack_id, read.number) == (namespace, 7, len(values))
    arguments = json.loads(read.arguments)
    members = {"data": arguments[0]} if len(values) == 1 else {"args": arguments}
    expected = {"data": values[0]} if len(values) == 1 else {"args": values}
    assert len(read.binary) == len(attachments)
    assert with_buffers(members, read.binary) == expected


@pytest.mark.parametrize(
    "arguments",
    [
        '[{"_placeholder":true,"num":1}]',
        '[{"_placeholder":true,"num":-1}]',
        '[{"_placeholder":true,"num":"0"}]',
        '[{"_placeholder":true,"num":false}]',
        '[{"_placeholder":true,"num":0.0}]',
        '[{"_placeholder":true}]',
        '[{"_placeholder":1,"num":0}]',
        '[{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]',
        '[{"_placeholder":true,"num":0},{"a":{"_placeholder":"text"}}]',
        '[{"_placeholder":true,"num":0},NaN]',
        '[{"_placeholder":true,"num":0},"\\ud800"]',
    ],
)
def test_acknowledgement_whose_placeholders_do_not_name_each_attachment_once_is_none(arguments: str) -> None:
    assert packets.decode_ack(f"61-7{arguments}", [b"x"]) is None


def test_placeholder_of_an_acknowledgement_may_have_its_members_in_any_order() -> None:
    read = packets.decode_ack(
        '62-/n,7[{"num":1,"_placeholder":true,"x":1},{ "_placeholder" : true , "num" : 0 }]', [b"a", b"b"]
    )

    assert read == packets.AckPacket("/n", 7, '["Yg==","YQ=="]', 2, ("/args/0", "/args/1"))


@pytest.mark.parametrize("namespace", NAMESPACES)
@pytest.mark.parametrize(
    ("encode", "kind", "data"),
    [
        (lambda namespace: packets.connect(namespace, "sid", None), packet.CONNECT, {"sid": "sid"}),
        (
            lambda namespace: packets.connect(namespace, "sid", "pid"),
            packet.CONNECT,
            {"sid": "sid", "pid": "pid"},
        ),
        (
            lambda namespace: packets.connect_error(namespace, {"message": "é"}),
            packet.CONNECT_ERROR,
            {"message": "é"},
        ),
        (
            lambda namespace: packets.event(namespace, "error", {"a": [1]}),
            packet.EVENT,
            ["error", {"a": [1]}],
        ),
        (packets.disconnect, packet.DISCONNECT, None),
    ],
    ids=["connect", "connect with pid", "connect_error", "event", "disconnect"],
)
def test_packets_of_the_gateway_are_decoded_as_they_were_encoded(
    namespace: str, encode: Any, kind: int, data: object
) -> None:
    read = decoded(encode(namespace))

    assert (read.packet_type, read.namespace or "/", read.data) == (kind, namespace, data)


def test_main_namespace_is_not_written() -> None:
    assert packets.disconnect("/").record == b"41"
    assert packets.disconnect("/events").record == b"41/events,"


def test_position_is_the_last_argument_after_any_others() -> None:
    for arguments in ((), ("1",), ('"text"', "{}")):
        with_position = packets.encode_message(Message("id", "/", (), "news", arguments), START)

        assert json.loads(with_position.record[2:]) == ["news", *map(json.loads, arguments), "0-0"]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ('0{"token":"t"}', "connect"),
        ("1/events,", "disconnect"),
        ('2["news"]', "event"),
        ("3/events,7[]", "ack"),
        ("4{}", "connect_error"),
        ('51-["news",{"_placeholder":true,"num":0}]', "binary_event"),
        ('61-7[{"_placeholder":true,"num":0}]', "binary_ack"),
        (b"bytes", "attachment"),
        ("", "malformed"),
        ("7", "malformed"),
        ("news", "malformed"),
    ],
)
def test_kind_of_a_message_is_its_first_character(data: str | bytes, kind: str) -> None:
    assert packets.kind_of(data) == kind
    assert kind in packets.KINDS


@pytest.mark.parametrize("namespace", NAMESPACES)
@pytest.mark.parametrize("position", [None, START])
def test_attachments_follow_their_message_and_its_position_is_last(
    namespace: str, position: Position | None
) -> None:
    attachments = (b"\x00\xff", b"", b"x" * 1000)
    arguments = ('{"b":{"_placeholder":true,"num":1}}', '[{"_placeholder":true,"num":0}]', placeholder(2))
    message = Message(
        "id", namespace, (), "files", arguments,
        attachments=tuple([base64.b64encode(each).decode() for each in attachments]),
    )  # fmt: skip

    first, *others = [each.data for each in decode_payload(packets.encode_message(message, position).record)]

    read = packet.Packet(encoded_packet=first)
    assert [read.add_attachment(each) for each in others] == [False, False, True]
    assert (read.packet_type, read.namespace or "/") == (packet.BINARY_EVENT, namespace)
    last = [] if position is None else [position]
    assert read.data == ["files", {"b": b""}, [b"\x00\xff"], b"x" * 1000, *last]
