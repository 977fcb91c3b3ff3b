"""permessage-deflate (RFC 7692): offers and payloads, without sockets."""

from __future__ import annotations

import os
import random
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.transport.deflate import InflateError, answer_offers, deflate, inflate

ANSWER = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
LIMIT_BYTES = 100_000


@pytest.mark.parametrize(
    "offers",
    [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; client_max_window_bits=10",
        'permessage-deflate; client_max_window_bits="15"',
        "permessage-deflate;server_no_context_takeover ; client_no_context_takeover",
        "x-webkit-deflate-frame, permessage-deflate",
        "permessage-deflate; server_max_window_bits=10, permessage-deflate",
        "permessage-deflate; unheard_of, permessage-deflate; client_max_window_bits",
    ],
)
def test_offer_is_accepted_without_a_context_on_either_side(offers: str) -> None:
    assert answer_offers(offers) == ANSWER


def test_largest_server_window_is_confirmed_if_it_is_offered() -> None:
    assert answer_offers("permessage-deflate; server_max_window_bits=15") == (
        ANSWER + "; server_max_window_bits=15"
    )


@pytest.mark.parametrize(
    "offers",
    [
        "",
        "permessage-bzip2",
        "permessage-deflated",
        "permessage-deflate; server_max_window_bits=14",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; client_max_window_bits=x",
        "permessage-deflate; client_max_window_bits=٨",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; ",
        ", ;=;,",
    ],
)
def test_offer_that_cannot_be_fulfilled_is_not_accepted(offers: str) -> None:
    assert answer_offers(offers) is None


@given(st.text())
def test_any_text_is_accepted_or_skipped_as_an_offer(offers: str) -> None:
    answer_offers(offers)
    answer_offers(f"permessage-deflate; {offers}")


@given(st.binary(max_size=2000))
def test_deflated_payload_inflates_to_the_same(payload: bytes) -> None:
    assert inflate(deflate(payload), limit_bytes=LIMIT_BYTES) == payload


@pytest.mark.parametrize("level", range(10))
@pytest.mark.parametrize("window_bits", [9, 12, 15])
def test_payload_of_any_level_and_window_is_inflated(level: int, window_bits: int) -> None:
    payload = (b"text and more text " * 2000) + os.urandom(5000)
    compressor = zlib.compressobj(level, zlib.DEFLATED, -window_bits)

    compressed = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)

    assert inflate(compressed[:-4], limit_bytes=LIMIT_BYTES) == payload


@pytest.mark.parametrize("rest", [b"", b"\x00"])
def test_final_block_is_inflated(rest: bytes) -> None:
    compressor = zlib.compressobj(wbits=-15)
    compressed = compressor.compress(b"hello") + compressor.flush(zlib.Z_FINISH)

    assert inflate(compressed + rest, limit_bytes=LIMIT_BYTES) == b"hello"


def test_bytes_after_the_final_block_are_rejected() -> None:
    compressor = zlib.compressobj(wbits=-15)
    compressed = compressor.compress(b"hello") + compressor.flush(zlib.Z_FINISH)

    with pytest.raises(InflateError) as rejected:
        inflate(compressed + deflate(b"again"), limit_bytes=LIMIT_BYTES)
    assert not rejected.value.too_large


@pytest.mark.parametrize("payload", [b"\xff\xff", b"\x07", random.Random(1).randbytes(50) + b"\xff" * 50])
def test_payload_that_is_not_compressed_is_rejected(payload: bytes) -> None:
    with pytest.raises(InflateError) as rejected:
        inflate(payload, limit_bytes=LIMIT_BYTES)
    assert not rejected.value.too_large


def test_limit_counts_the_inflated_bytes() -> None:
    assert len(inflate(deflate(bytes(LIMIT_BYTES)), limit_bytes=LIMIT_BYTES)) == LIMIT_BYTES
    with pytest.raises(InflateError) as rejected:
        inflate(deflate(bytes(LIMIT_BYTES + 1)), limit_bytes=LIMIT_BYTES)
    assert rejected.value.too_large


def test_decompression_bomb_is_not_inflated_beyond_the_limit() -> None:
    bomb = deflate(bytes(20_000_000))
    assert len(bomb) < LIMIT_BYTES

    tracemalloc.start()
    with pytest.raises(InflateError):
        inflate(bomb, limit_bytes=LIMIT_BYTES)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 10 * LIMIT_BYTES
