"""Engine.IO 4, §Packet encoding, and the frames of RFC 6455 §5.2."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import string
import subprocess
import tracemalloc

import pytest
from aiohttp import WSMsgType
from aiohttp._websocket.reader import WebSocketDataQueue
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_websocket import WebSocketReader
from hypothesis import given
from hypothesis import strategies as st

from gateway.transport import packets
from gateway.transport.packets import (
    Frames,
    FrameSequence,
    MalformedPacket,
    Packet,
    decode_base64,
    decode_payload,
    decode_text,
    encode_payload,
)

TEXT = st.text(st.characters(exclude_characters="\x1e", exclude_categories=["Cs"]), max_size=200)
SENT = st.one_of(
    st.builds(Packet, st.sampled_from("0123456"), TEXT),
    st.builds(Packet, st.just("4"), st.binary(max_size=200)),
)


def frames_of(packet: Packet) -> Frames:
    return Frames(packet.data if isinstance(packet.data, bytes) else packet.type + packet.data)


@given(st.lists(SENT, min_size=1, max_size=20))
def test_payload_is_decoded_as_it_was_encoded(sent: list[Packet]) -> None:
    assert list(decode_payload(encode_payload(map(frames_of, sent)))) == sent


@given(st.sampled_from("0123456"), TEXT)
def test_text_frame_is_decoded_as_it_was_encoded(kind: str, data: str) -> None:
    assert decode_text(kind + data) == Packet(kind, data)


@pytest.mark.parametrize("length", [0, 1, 124, 125, 126, 65_534, 65_535, 65_536, 200_000])
@pytest.mark.parametrize("binary", [True, False])
async def test_ready_frame_is_read_by_a_websocket_reader(length: int, binary: bool) -> None:
    loop = asyncio.get_running_loop()
    queue = WebSocketDataQueue(BaseProtocol(loop), 2**20, loop=loop)
    sent = b"x" * length if binary else "é" * length

    WebSocketReader(queue, 2**20, compress=False, decode_text=True).feed_data(Frames(sent).frame)
    received = await queue.read()

    assert received.type is (WSMsgType.BINARY if binary else WSMsgType.TEXT)
    assert received.data == sent


@pytest.mark.parametrize("code", [1000, 1012, 4401])
async def test_close_frame_has_its_code_and_nothing_else(code: int) -> None:
    loop = asyncio.get_running_loop()
    queue = WebSocketDataQueue(BaseProtocol(loop), 2**20, loop=loop)

    WebSocketReader(queue, 2**20, compress=False, decode_text=True).feed_data(packets.close_frame(code))
    received = await queue.read()

    assert (received.type, received.data, received.extra) == (WSMsgType.CLOSE, code, "")


def test_packet_is_encoded_once_for_any_number_of_recipients() -> None:
    frames = packets.message("hello" * 100)

    assert frames.frame is frames.frame
    assert frames.compressed is frames.compressed


@pytest.mark.parametrize(
    "packet", ["4", "4hello", "4gr\u00fc\u00df", "4" + "x" * 70_000, b"", b"a", b"ab", b"abc", b"x" * 200]
)
def test_length_of_a_record_is_known_before_it_is_made(packet: str | bytes) -> None:
    frames = Frames(packet)

    assert frames.record_bytes == len(frames.record)


def test_packet_is_held_once() -> None:
    frames = packets.message("x" * 100_000)
    tracemalloc.start()

    assert frames.record_bytes == 100_001
    assert len(frames.record) == 100_001

    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 10_000


@pytest.mark.parametrize("length", [10, 100, 200, 10_000, 200_000])
@pytest.mark.parametrize("binary", [True, False])
async def test_compressed_frame_is_read_by_a_websocket_reader(length: int, binary: bool) -> None:
    loop = asyncio.get_running_loop()
    queue = WebSocketDataQueue(BaseProtocol(loop), 2**22, loop=loop)
    reader = WebSocketReader(queue, 2**22, compress=True, decode_text=True)
    sent = [bytes(length) if binary else "é" * length, b"x" * length if binary else "x" * length]

    for each in sent:
        frames = Frames(each)
        assert len(frames.compressed) < max(20, len(frames.frame) // 10)
        reader.feed_data(frames.compressed)

    assert [(await queue.read()).data for _ in sent] == sent


def test_packet_that_does_not_become_smaller_is_sent_plain() -> None:
    noise = Frames(os.urandom(2000))

    assert noise.compressed is noise.frame


def test_packet_over_the_compression_limit_is_sent_plain() -> None:
    large = Frames(bytes(packets.MAX_COMPRESSED_BYTES + 1))

    assert large.compressed is large.frame


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"abc",
        b"7",
        b"-1",
        "٤hello".encode(),
        b"\x1e",
        b"4ok\x1e",
        b"\x1e4ok",
        b"4ok\x1e\x1e4ok",
        b"4\xff",
        b"\xff",
    ],
)
def test_malformed_payload_is_rejected(body: bytes) -> None:
    with pytest.raises(MalformedPacket):
        list(decode_payload(body))


BASE64 = [
    ("AQIDBA==", b"\1\2\3\4"),
    ("AQIDBA==\n", b"\1\2\3\4"),
    ("AQID\r\nBA==\r\n", b"\1\2\3\4"),
    ("AQIDBA", b"\1\2\3\4"),
    ("AQIDBA=", b"\1\2\3\4"),
    (" AQ ID BA == ", b"\1\2\3\4"),
    ("-_-_", b"\xfb\xff\xbf"),
    ("+/+/", b"\xfb\xff\xbf"),
    ("A*Q!I.D", b"\1\2\3"),
    ("AQIDé", b"\1\2\3"),
    ("AQIDB", b"\1\2\3"),
    ("A", b""),
    ("*", b""),
    ("", b""),
]
"""Texts, and what ``Buffer.from(text, "base64")`` of Node makes of them."""


@pytest.mark.parametrize(("text", "data"), BASE64)
def test_base64_is_decoded_as_by_node(text: str, data: bytes) -> None:
    assert list(decode_payload(f"b{text}".encode())) == [Packet("4", data)]
    assert decode_text("b" + text) == Packet("4", data)


def test_node_decodes_base64_in_the_same_way() -> None:
    alphabet = string.ascii_letters + string.digits + "+/-_=*! \r\n\t.é"
    chosen = random.Random(7)  # no secret
    texts = [text for text, _ in BASE64]
    texts += ["".join(chosen.choices(alphabet, k=chosen.randint(0, 40))) for _ in range(2_000)]
    # Padding inside a text: releases of Node differ.
    texts = [text for text in texts if "=" not in text.rstrip("= \r\n\t")]
    script = """
        const texts = JSON.parse(require("fs").readFileSync(0, "utf8"));
        console.log(JSON.stringify(texts.map((text) => Buffer.from(text, "base64").toString("hex"))));
    """
    done = subprocess.run(
        ["node", "-e", script],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert [decode_base64(text).hex() for text in texts] == json.loads(done.stdout)


@given(st.binary(max_size=100))
def test_any_bytes_are_decoded_or_rejected_as_a_payload(body: bytes) -> None:
    try:
        received = list(decode_payload(body))
    except MalformedPacket:
        return
    assert all(packet.type in "0123456" for packet in received)


@pytest.mark.parametrize("text", ["", "7", "x", " 4", "B"])
def test_text_frame_without_a_packet_type_is_rejected(text: str) -> None:
    with pytest.raises(MalformedPacket):
        decode_text(text)


def test_packets_before_a_malformed_one_are_decoded() -> None:
    payload = decode_payload(b"4one\x1eabc")

    assert next(payload) == Packet("4", "one")
    with pytest.raises(MalformedPacket):
        next(payload)


PARTS: list[str | bytes] = ["451-[1]", b"\x00\x01", b"", b"x" * 200, os.urandom(3000)]


def test_sequence_of_packets_has_the_frames_and_records_of_each_in_order() -> None:
    sequence = FrameSequence([Frames(each) for each in PARTS])

    assert sequence.frame == b"".join([Frames(each).frame for each in PARTS])
    assert sequence.record == b"\x1e".join([Frames(each).record for each in PARTS])
    assert sequence.record_bytes == len(sequence.record)
    assert [each.data for each in packets.decode_payload(sequence.record)] == ["51-[1]", *PARTS[1:]]
    assert sequence.record is sequence.record


def test_sequence_for_a_client_without_binary_frames_has_base64_in_text_frames() -> None:
    sequence = FrameSequence([Frames(each) for each in PARTS])
    texts = [
        "451-[1]",
        *["b" + base64.b64encode(each).decode() for each in PARTS[1:] if isinstance(each, bytes)],
    ]

    assert sequence.as_text.frame == b"".join([Frames(each).frame for each in texts])
    assert sequence.as_text is sequence.as_text


def test_sequence_is_compressed_frame_by_frame_unless_it_is_too_large() -> None:
    sequence = FrameSequence([Frames(each) for each in PARTS])
    large = FrameSequence([Frames(bytes(packets.MAX_COMPRESSED_BYTES)), Frames(b"x")])

    assert sequence.compressed == b"".join([Frames(each).compressed for each in PARTS])
    assert len(sequence.compressed) < len(sequence.frame)
    assert large.compressed is large.frame
