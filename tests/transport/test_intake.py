"""What stands before aiohttp's reader: whatever it is fed, and however that is cut, the reader gets the same."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from aiohttp import WebSocketError
from aiohttp._websocket.reader import WebSocketDataQueue
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_websocket import WebSocketReader
from hypothesis import given
from hypothesis import strategies as st

from gateway.transport.deflate import deflate, inflate
from gateway.transport.intake import Intake

NEWCOMER_BYTES = 1_000
MAX_BYTES = 5_000
TEXT, BINARY, CONTINUATION, CLOSE, PING = 1, 2, 0, 8, 9
FIN, RSV1 = 0x80, 0x40


@dataclass
class Client:
    """Who sends."""

    joined: bool = False


class RecordingReader:
    """Keeps what it is fed."""

    def __init__(self) -> None:
        self.fed = b""
        self.ended = False

    def feed_data(self, data: bytes, /) -> tuple[bool, bytes]:
        self.fed += data
        return False, b""

    def feed_eof(self) -> None:
        self.ended = True


def frame(first: int, payload: bytes, *, mask: bytes = b"\x01\x02\x03\x04") -> bytes:
    """A frame of a client, masked unless the mask is empty."""
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


def feed(intake: Intake, data: bytes, cuts: Sequence[int] = ()) -> None:
    """In pieces that end at the cuts."""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        intake.feed_data(data[start:end])


FRAMES = st.lists(
    st.builds(
        frame,
        st.sampled_from([FIN | TEXT, FIN | BINARY, BINARY, CONTINUATION, FIN | CONTINUATION, FIN | PING]),
        st.binary(max_size=300),
        mask=st.sampled_from([b"", b"\x00\xff\x10\x20"]),
    ),
    max_size=10,
).map(b"".join)
CUTS = st.lists(st.integers(0, 10_000), max_size=10)


@given(FRAMES, CUTS, st.booleans(), st.booleans())
def test_what_is_not_compressed_goes_on_byte_for_byte(
    data: bytes, cuts: list[int], joined: bool, deflated: bool
) -> None:
    reader = RecordingReader()
    intake = Intake(newcomer_bytes=100_000, deflated=deflated).stand_before(reader)
    intake.sender = Client(joined)

    feed(intake, data, cuts)

    assert reader.fed == data


@given(st.binary(max_size=200), CUTS)
def test_no_bytes_do_harm(data: bytes, cuts: list[int]) -> None:
    for deflated in (True, False):
        feed(Intake(newcomer_bytes=50, deflated=deflated).stand_before(RecordingReader()), data, cuts)


MESSAGES = st.lists(
    st.tuples(st.one_of(st.text(max_size=300), st.binary(max_size=300)), st.booleans(), st.integers(1, 4)),
    min_size=1,
    max_size=8,
)


def frames_of(payload: str | bytes, compressed: bool, pieces: int) -> bytes:
    """A message in so many frames, pings between them."""
    opcode, data = (TEXT, payload.encode()) if isinstance(payload, str) else (BINARY, payload)
    if compressed:
        opcode, data = opcode | RSV1, deflate(data)
    size = -(-len(data) // pieces) or 1
    parts = [data[at : at + size] for at in range(0, len(data), size)] or [b""]
    heads = [opcode, *[CONTINUATION] * (len(parts) - 1)]
    heads[-1] |= FIN
    return frame(FIN | PING, b"between").join(map(frame, heads, parts))


@given(MESSAGES, CUTS)
def test_compressed_messages_come_through_aiohttp_among_others_and_are_told_apart(
    messages: list[tuple[str | bytes, bool, int]], cuts: list[int]
) -> None:
    async def run() -> list[str | bytes]:
        reader, queue = real_reader()
        intake = Intake(newcomer_bytes=MAX_BYTES, deflated=True).stand_before(reader)
        feed(intake, b"".join(frames_of(*message) for message in messages), cuts)
        assert intake.kinds is not None
        received: list[str | bytes] = []
        while len(received) < len(messages):
            data, kind = (await queue.read()).data, None
            if data == b"between":
                continue
            kind = intake.kinds.popleft()
            if kind:
                data = inflate(data, limit_bytes=MAX_BYTES)
            received.append(data.decode() if kind == TEXT else data)
        assert not intake.kinds
        return received

    assert asyncio.run(run()) == [payload for payload, _, _ in messages]


def real_reader() -> tuple[WebSocketReader, WebSocketDataQueue]:
    loop = asyncio.get_running_loop()
    queue = WebSocketDataQueue(BaseProtocol(loop), 2**20, loop=loop)
    return WebSocketReader(queue, MAX_BYTES + 1, compress=False, decode_text=True), queue


TOO_LARGE = {
    "plain": frame(FIN | TEXT, b"x" * 1001),
    "compressed": frame(FIN | BINARY | RSV1, b"x" * 1001),
    "fragments": frame(TEXT, b"x" * 600) + frame(FIN | PING, b"") + frame(FIN | CONTINUATION, b"x" * 401),
    "large": frame(FIN | TEXT, b"x" * 70_000),
    "enormous": bytes((FIN | TEXT, 0xFF)) + b"\xff" * 8,
}
SMALL = frame(FIN | TEXT, b"x" * NEWCOMER_BYTES)


@pytest.mark.parametrize("data", TOO_LARGE.values(), ids=TOO_LARGE)
@pytest.mark.parametrize("deflated", [True, False])
@pytest.mark.parametrize("sender", [Client(), None])
async def test_a_message_of_a_stranger_is_refused_when_it_is_too_large(
    data: bytes, deflated: bool, sender: Client | None
) -> None:
    reader, queue = real_reader()
    intake = Intake(newcomer_bytes=NEWCOMER_BYTES, deflated=deflated).stand_before(reader)
    intake.sender = sender

    feed(intake, SMALL + data, [len(SMALL) + 20])

    assert len((await queue.read()).data) == NEWCOMER_BYTES
    error = queue.exception()
    assert isinstance(error, WebSocketError)
    assert error.code == 1009


@pytest.mark.parametrize("name", ["plain", "compressed", "fragments"])
async def test_the_same_message_is_taken_from_who_joined(name: str) -> None:
    reader, queue = real_reader()
    intake = Intake(newcomer_bytes=NEWCOMER_BYTES, deflated=True).stand_before(reader)
    intake.sender = Client(joined=True)

    feed(intake, SMALL + TOO_LARGE[name], [len(SMALL) + 20])

    received = [await queue.read() for _ in range(3 if name == "fragments" else 2)]
    assert len(received[-1].data) == 1001


async def test_nothing_of_what_is_too_large_is_kept() -> None:
    reader = RecordingReader()
    intake = Intake(newcomer_bytes=NEWCOMER_BYTES, deflated=False).stand_before(reader)

    intake.feed_data(frame(FIN | TEXT, b"x" * 50_000))

    assert len(reader.fed) < 20


def test_who_joined_is_looked_at_no_longer_once_a_frame_is_whole() -> None:
    client, reader = Client(), RecordingReader()
    intake = Intake(newcomer_bytes=NEWCOMER_BYTES, deflated=False).stand_before(reader)
    intake.sender = client
    small, large = frame(FIN | TEXT, b"small"), frame(FIN | TEXT, b"x" * 2000)

    intake.feed_data(small + small[:1])
    client.joined = True
    intake.feed_data(small[1:] + large[:30])
    intake.feed_data(large[30:])
    client.joined = False
    intake.feed_data(large)

    assert reader.fed == small + small + large + large


async def test_marks_of_compression_where_none_belong_reach_the_reader_which_refuses_them() -> None:
    for data in (
        frame(TEXT | RSV1, deflate(b"hello")) + frame(FIN | CONTINUATION | RSV1, b""),
        frame(FIN | RSV1 | 3, b""),
        frame(FIN | TEXT | 0x20, b""),
        frame(FIN | CONTINUATION, b""),
    ):
        reader, queue = real_reader()
        Intake(newcomer_bytes=MAX_BYTES, deflated=True).stand_before(reader).feed_data(data)

        with pytest.raises(WebSocketError) as refused:
            await queue.read()
        assert refused.value.code == 1002


def test_the_end_is_passed_on() -> None:
    reader = RecordingReader()

    Intake(newcomer_bytes=MAX_BYTES, deflated=True).stand_before(reader).feed_eof()

    assert reader.ended
