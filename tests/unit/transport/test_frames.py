"""Frames of a client are joined to messages, with any content and however their bytes are split (RFC 6455 §5)."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.transport import frames
from gateway.transport.deflate import deflate
from gateway.transport.frames import (
    BINARY,
    CLOSE,
    FRAGMENT,
    PING,
    TEXT,
    FrameError,
    FrameReader,
    ReceivedFrame,
)

MAX_BYTES = 5_000
CONTINUATION = 0
FIN, RSV1, RSV2 = 0x80, 0x40, 0x20
MASK = b"\x01\x02\x03\x04"


def frame(first: int, payload: bytes, *, mask: bytes = MASK) -> bytes:
    """Return a frame of a client, masked unless the mask is empty."""
    flag = 0x80 if mask else 0
    if len(payload) < 126:
        head = bytes((first, flag | len(payload)))
    elif len(payload) < 65_536:
        head = bytes((first, flag | 126)) + len(payload).to_bytes(2, "big")
    else:
        head = bytes((first, flag | 127)) + len(payload).to_bytes(8, "big")
    if mask:
        payload = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return head + mask + payload


def frames_of(opcode: int, data: bytes, *, compressed: bool, pieces: int) -> bytes:
    """Return a message in so many frames with pings between them."""
    size = -(-len(data) // pieces) or 1
    parts = [data[at : at + size] for at in range(0, len(data), size)] or [b""]
    heads = [opcode | (RSV1 if compressed else 0), *[CONTINUATION] * (len(parts) - 1)]
    heads[-1] |= FIN
    return frame(FIN | PING, b"between").join(map(frame, heads, parts))


def read(
    reader: FrameReader, data: bytes, splits: Sequence[int] = (), *, max_bytes: int = MAX_BYTES
) -> list[ReceivedFrame]:
    """Return everything that is read from bytes that arrive in pieces, split at these offsets."""
    edges = [0, *sorted(split % (len(data) + 1) for split in splits), len(data)]
    received = []
    for start, end in itertools.pairwise(edges):
        reader.feed(data[start:end])
        while (frame := reader.next(max_bytes)) is not None:
            if frame is not FRAGMENT:
                received.append(frame)
    return received


SPLITS = st.lists(st.integers(0, 10_000), max_size=10)
MESSAGES = st.lists(
    st.tuples(st.sampled_from([TEXT, BINARY]), st.binary(max_size=300), st.booleans(), st.integers(1, 4)),
    max_size=8,
)


@given(MESSAGES, SPLITS)
def test_messages_are_read_as_they_were_sent(
    messages: list[tuple[int, bytes, bool, int]], splits: list[int]
) -> None:
    data = b"".join(
        frames_of(opcode, payload, compressed=compressed, pieces=pieces)
        for opcode, payload, compressed, pieces in messages
    )

    received = read(FrameReader(deflated=True), data, splits)

    expected = [ReceivedFrame(opcode, payload, compressed) for opcode, payload, compressed, _ in messages]
    assert [message for message in received if message.opcode != PING] == expected
    assert {message.data for message in received if message.opcode == PING} <= {b"between"}


@given(st.binary(max_size=200), SPLITS, st.booleans())
def test_any_bytes_are_read_or_rejected(data: bytes, splits: list[int], deflated: bool) -> None:
    with suppress(FrameError):
        read(FrameReader(deflated=deflated), data, splits, max_bytes=50)


BROKEN = {
    "unmasked": frame(FIN | TEXT, b"x", mask=b""),
    "a reserved opcode": frame(FIN | 0x3, b""),
    "a reserved control opcode": frame(FIN | 0xB, b""),
    "a reserved bit": frame(FIN | RSV2 | TEXT, b""),
    "compressed, not negotiated": frame(FIN | RSV1 | TEXT, b""),
    "a length with the highest bit": bytes((FIN | TEXT, 0xFF)) + b"\xff" * 8,
    "a short length in two bytes": bytes((FIN | TEXT, 0xFE)) + b"\x00\x7d",
    "a short length in eight bytes": bytes((FIN | TEXT, 0xFF)) + bytes(6) + b"\xff\xff",
    "a fragmented ping": frame(PING, b""),
    "a long ping": frame(FIN | PING, b"x" * 126),
    "a continuation of nothing": frame(FIN | CONTINUATION, b"x"),
    "a message within a message": frame(TEXT, b"x") + frame(FIN | TEXT, b"x"),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_frame_that_rfc_6455_forbids_is_rejected_at_its_header(data: bytes) -> None:
    with pytest.raises(FrameError) as rejected:
        read(FrameReader(deflated=False), data)

    assert rejected.value.close_code == 1002


@pytest.mark.parametrize("first", [FIN | RSV1 | CONTINUATION, FIN | RSV1 | PING, FIN | RSV1 | CLOSE])
def test_compression_bit_is_allowed_on_the_first_frame_of_a_message_only(first: int) -> None:
    reader = FrameReader(deflated=True)

    with pytest.raises(FrameError):
        read(reader, frame(RSV1 | TEXT, deflate(b"x")) + frame(first, b""))


TOO_LARGE = {
    "plain": frame(FIN | TEXT, b"x" * 1001),
    "compressed": frame(FIN | BINARY | RSV1, b"x" * 1001),
    "fragments": frame(TEXT, b"x" * 600) + frame(FIN | PING, b"") + frame(FIN | CONTINUATION, b"x" * 401),
    "large": frame(FIN | TEXT, b"x" * 70_000),
    "enormous": bytes((FIN | TEXT, 0xFF)) + b"\x7f" + b"\xff" * 7,
}


@pytest.mark.parametrize("data", TOO_LARGE.values(), ids=TOO_LARGE)
def test_message_over_the_limit_is_rejected_when_its_size_is_known(data: bytes) -> None:
    reader = FrameReader(deflated=True)
    small = frame(FIN | TEXT, b"x" * 1000)

    assert len(read(reader, small, max_bytes=1000)) == 1
    with pytest.raises(FrameError) as rejected:
        read(reader, data[:-300] if len(data) > 400 else data, max_bytes=1000)

    assert rejected.value.close_code == 1009


def test_limit_may_change_between_messages() -> None:
    reader, large = FrameReader(deflated=False), frame(FIN | TEXT, b"x" * 1001)

    assert read(reader, large, max_bytes=2000)
    with pytest.raises(FrameError):
        read(reader, large, max_bytes=1000)


def test_empty_fragments_take_no_memory() -> None:
    reader = FrameReader(deflated=False)
    read(reader, frame(TEXT, b""))
    empty = frame(CONTINUATION, b"") * 1000
    tracemalloc.start()

    for _ in range(20):
        assert read(reader, empty) == []

    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 50_000


def test_each_fragment_is_returned_so_that_a_caller_can_stop_after_any() -> None:
    reader = FrameReader(deflated=False)
    reader.feed(frame(TEXT, b"") + frame(CONTINUATION, b"") * 3 + frame(FIN | CONTINUATION, b"x"))

    received = [reader.next(MAX_BYTES) for _ in range(6)]

    assert received == [FRAGMENT] * 4 + [ReceivedFrame(TEXT, b"x", compressed=False), None]


def test_large_message_may_arrive_in_small_pieces() -> None:
    reader, message = FrameReader(deflated=False), frame(FIN | BINARY, bytes(range(256)) * 4096)

    for at in range(0, len(message), 100):
        assert reader.next(2**20) is None
        reader.feed(message[at : at + 100])

    assert reader.next(2**20) == ReceivedFrame(BINARY, bytes(range(256)) * 4096, compressed=False)


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", None),
        (b"\x03\xe8", 1000),
        (b"\x03\xf4bye", 1012),
        (b"\x0f\xa0", 4000),
        (b"\x13\x87gr\xc3\xbc\xc3\x9fe", 4999),
    ],
)
def test_close_frame_has_a_code_or_none(payload: bytes, code: int | None) -> None:
    assert frames.close_code_of(payload) == code


@pytest.mark.parametrize(
    ("payload", "close_code"),
    [
        (b"\x03", 1002),
        (b"\x00\x00", 1002),
        (b"\x03\xe7", 1002),
        (b"\x03\xed", 1002),
        (b"\x03\xee", 1002),
        (b"\x03\xf7", 1002),
        (b"\x13\x88", 1002),
        (b"\x03\xe8\xff", 1007),
    ],
)
def test_malformed_close_frame_is_rejected(payload: bytes, close_code: int) -> None:
    with pytest.raises(FrameError) as rejected:
        frames.close_code_of(payload)

    assert rejected.value.close_code == close_code
