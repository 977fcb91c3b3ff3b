"""Answers to polls are compressed for clients that accept it: from a size on, once, and beside the event loop."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.transport.deflate import MAX_LOOP_BYTES, Accepted, PollCompressor

ACCEPTS = ["gzip, deflate, br"]


def payload(size: int, mark: int = 0) -> bytes:
    """A message as backends push it, of about that size."""
    words = random.Random(mark)
    items = [
        {"id": words.randrange(10**6), "title": "A new comment", "read": False} for _ in range(size // 50)
    ]
    return b"42" + json.dumps(["note", items]).encode()


@pytest.mark.parametrize("size", [1100, MAX_LOOP_BYTES - 2000, MAX_LOOP_BYTES * 2, 1024 * 1024])
async def test_compressed_answer_holds_the_payload_and_is_smaller(size: int) -> None:
    sent = payload(size)

    compressed = await PollCompressor(1024).compress(sent, ACCEPTS)

    assert compressed is not None
    assert gzip.decompress(compressed) == sent
    assert len(compressed) < len(sent) / 2


@pytest.mark.parametrize(
    ("from_bytes", "sent", "accepts"),
    [
        (1024, b"4" + b"x" * 1022, ACCEPTS),
        (None, payload(5000), ACCEPTS),
        (1024, payload(5000), []),
        (1024, payload(5000), ["br"]),
        (1024, payload(5000), ["gzip;q=0"]),
        (1024, b"4" + random.Random(1).randbytes(2000), ACCEPTS),
        (1024, b"4" + random.Random(1).randbytes(2 * MAX_LOOP_BYTES), ACCEPTS),
        (1024, b'40{"sid":"a","pid":"b"}\x1e' + payload(5000), ACCEPTS),
        (1024, payload(5000) + b'\x1e40/admin,{"sid":"a","pid":"b"}', ACCEPTS),
    ],
    ids=[
        "small",
        "off",
        "no header",
        "not accepted",
        "excluded",
        "random",
        "random, large",
        "first",
        "later",
    ],
)
async def test_answer_is_sent_as_it_is(from_bytes: int | None, sent: bytes, accepts: list[str]) -> None:
    assert await PollCompressor(from_bytes).compress(sent, accepts) is None


async def test_answer_of_the_threshold_is_compressed() -> None:
    assert await PollCompressor(1024).compress(b"4" + b"x" * 1023, ACCEPTS) is not None


@pytest.mark.parametrize("size", [5000, 8 * MAX_LOOP_BYTES])
async def test_equal_answers_to_many_clients_are_compressed_once(size: int) -> None:
    compressor = PollCompressor(1024)
    answers = await asyncio.gather(*[compressor.compress(payload(size, 1), ACCEPTS) for _ in range(50)])
    answers.append(await compressor.compress(payload(size, 1), ACCEPTS))

    assert answers[0] is not None
    assert {id(answer) for answer in answers} == {id(answers[0])}
    assert await compressor.compress(payload(size, 2), ACCEPTS) != answers[0]


async def test_client_that_leaves_does_not_end_the_compression_for_others() -> None:
    compressor = PollCompressor(1024)
    sent = payload(8 * MAX_LOOP_BYTES)
    leaves, stays = [asyncio.create_task(compressor.compress(sent, ACCEPTS)) for _ in range(2)]
    await asyncio.sleep(0)

    leaves.cancel()
    with suppress(asyncio.CancelledError):
        await leaves

    compressed = await stays
    assert compressed is not None
    assert gzip.decompress(compressed) == sent


async def test_payload_of_a_mebibyte_takes_little_time_of_the_event_loop() -> None:
    """Measured as CPU time of the thread of the loop, which does not depend on how busy the machine is."""
    compressor = PollCompressor(1024)
    sent = payload(1024 * 1024)
    started = time.thread_time()

    assert await compressor.compress(sent, ACCEPTS) is not None

    assert time.thread_time() - started < 0.02


@given(st.lists(st.text(), max_size=3))
def test_any_text_in_the_header_is_understood_or_ignored(lines: list[str]) -> None:
    accepted = Accepted(lines)

    assert isinstance(accepted.gzip, bool)
    assert accepted.identity or "q" in "".join(lines).lower()


@given(st.permutations(["gzip;q=0.8", "identity;q=0.3", "*;q=0"]))
def test_order_of_the_codings_makes_no_difference(items: list[str]) -> None:
    accepted = Accepted([",".join(items[:2]), items[2]])

    assert (accepted.gzip, accepted.identity) == (True, True)
