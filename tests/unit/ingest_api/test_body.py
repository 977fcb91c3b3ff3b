"""Bodies on the wire: too large, too slow, cut short, in chunks, announced and not sent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.unit.ingest_api.harness import Door, Headers, head, running

BODY = b'{"event":"e"}'
JSON = ("Content-Type", "application/json")
CHUNKED = ("Transfer-Encoding", "chunked")


def signed(door: Door, body: bytes = BODY) -> Headers:
    return [*door.sign("POST", "/broadcast", body), JSON]


def chunks(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts, b""))


async def test_a_declared_length_that_is_too_large_is_answered_before_the_body_comes(door: Door) -> None:
    async with door.wire() as wire:
        await wire.send(head("POST", "/broadcast", [*signed(door), ("Content-Length", "100001")]))

        reply = await wire.reply()

    assert reply.refusal == (413, "body_too_large")
    assert reply.headers["connection"] == "close"


async def test_a_sender_of_twenty_megabytes_gets_to_see_the_answer(door: Door) -> None:
    body = b"x" * (20 * 1024 * 1024)
    async with door.wire() as wire:
        # The whole of it is sent before anything is read, as simple clients do.
        await wire.send(
            head("POST", "/broadcast", [*signed(door), ("Content-Length", str(len(body)))]) + body
        )

        assert (await wire.reply()).refusal == (413, "body_too_large")


async def test_a_chunked_body_is_counted_while_it_comes(door: Door) -> None:
    async with door.wire() as wire:
        await wire.send(head("POST", "/broadcast", [*signed(door), CHUNKED]))
        await wire.send(b"".join(b"2710\r\n%s\r\n" % (b"x" * 10_000) for _ in range(11)))

        assert (await wire.reply()).refusal == (413, "body_too_large")


async def test_a_chunked_body_that_came_whole_is_counted_too(door: Door) -> None:
    body = b"x" * 100_001
    async with door.wire() as wire:
        await wire.send(head("POST", "/broadcast", [*signed(door, body), CHUNKED]) + chunks(body))

        assert (await wire.reply()).refusal == (413, "body_too_large")


async def test_a_body_of_just_the_limit_is_read(door: Door) -> None:
    body = b'{"event":"e","data":"%s"}' % (b"x" * (100_000 - 23))
    assert len(body) == 100_000

    assert (await door.post("/broadcast", body)).status == 200


async def test_a_chunked_body_is_signed_like_any_other(door: Door) -> None:
    async with door.wire() as wire:
        await wire.send(head("POST", "/broadcast", [*signed(door), CHUNKED]))
        await wire.send(chunks(BODY[:5], BODY[5:]))

        assert (await wire.reply()).status == 200


async def test_a_body_that_does_not_come_in_time_is_given_up_and_the_connection_closed() -> None:
    async with running(body_timeout_seconds=0.1, server={"lingering_time": 0.1}) as door, door.wire() as wire:
        await wire.send(head("POST", "/broadcast", [*signed(door), ("Content-Length", "13")]) + BODY[:5])

        reply = await wire.reply()

        assert reply.refusal == (408, "body_timeout")
        assert reply.headers["connection"] == "close"
        assert await wire.rest() == b""


async def test_a_body_that_dribbles_in_is_given_up_too() -> None:
    async with running(body_timeout_seconds=0.3, server={"lingering_time": 0.1}) as door, door.wire() as wire:
        await wire.send(head("POST", "/broadcast", [*signed(door), ("Content-Length", "1000")]))

        answer = asyncio.create_task(wire.reply(), name="answer")
        while not answer.done():
            await wire.send(b" ")
            await asyncio.wait({answer}, timeout=0.02)

        assert (await answer).refusal == (408, "body_timeout")


async def test_a_body_in_pieces_is_put_together(door: Door) -> None:
    async with door.wire() as wire:
        await wire.send(
            head("POST", "/broadcast", [*signed(door), ("Content-Length", "13"), ("Expect", "100-continue")])
        )
        assert (await wire.reply(has_body=False)).status == 100
        for byte in BODY:
            await wire.send(bytes([byte]))

        assert (await wire.reply()).status == 200


async def test_a_sender_that_goes_away_in_the_middle_leaves_no_trace_but_its_line(
    door: Door, lines: list[dict[str, object]]
) -> None:
    async with door.wire() as wire:
        await wire.send(
            head("POST", "/broadcast", [*signed(door), ("Content-Length", "13"), ("Expect", "100-continue")])
        )
        assert (await wire.reply(has_body=False)).status == 100
        await wire.send(BODY[:5])

    assert (await door.post("/broadcast", BODY)).status == 200
    assert [(line["event"], line["code"]) for line in lines] == [
        ("request.answered", "bad_request"),
        ("request.answered", "ok"),
    ]


@pytest.mark.parametrize("broken", [b"zz\r\n", b"5\r\nhelloX", b"-1\r\n"])
async def test_broken_chunks_are_no_body(broken: bytes) -> None:
    options: dict[str, Any] = {"body_timeout_seconds": 0.2, "server": {"lingering_time": 0.1}}
    async with running(**options) as door, door.wire() as wire:
        await wire.send(head("POST", "/broadcast", [*signed(door), CHUNKED, ("Expect", "100-continue")]))
        assert (await wire.reply(has_body=False)).status == 100
        await wire.send(broken)

        # aiohttp's own server tells nobody that the body it was reading broke; it never comes to its end.
        assert (await wire.reply()).refusal == (408, "body_timeout")


async def test_who_expects_to_be_told_to_continue_is_told_after_the_head_was_checked(door: Door) -> None:
    expect = ("Expect", "100-Continue")
    async with door.wire() as wire:
        await wire.send(head("POST", "/broadcast", [*signed(door), ("Content-Length", "13"), expect]))
        assert (await wire.reply(has_body=False)).status == 100
        await wire.send(BODY)
        assert (await wire.reply()).status == 200


@pytest.mark.parametrize(
    ("target", "more", "refusal"),
    [
        ("/nowhere", [("Content-Length", "13")], (404, "not_found")),
        ("/broadcast", [("Content-Length", "100001")], (413, "body_too_large")),
        (
            "/broadcast",
            [("Content-Length", "13"), ("Content-Encoding", "gzip")],
            (415, "unsupported_encoding"),
        ),
        ("/broadcast", [("Content-Length", "13"), ("X-Gateway-Key", "shop")], (401, "missing_signature")),
    ],
)
async def test_who_is_refused_for_the_head_is_not_told_to_continue(
    door: Door, target: str, more: Headers, refusal: tuple[int, str]
) -> None:
    async with door.wire() as wire:
        await wire.send(head("POST", target, [*signed(door), *more, ("Expect", "100-continue")]))

        reply = await wire.reply()

    assert reply.refusal == refusal
    assert reply.headers["connection"] == "close"


@pytest.mark.parametrize("expect", ["200-ok", "100-continue, x", ""])
async def test_another_expectation_fails(door: Door, expect: str) -> None:
    reply = await door.post("/broadcast", BODY, more=[("Expect", expect)])

    assert reply.refusal == (417, "unsupported_expectation")


@pytest.mark.parametrize("inflates", [True, False])
async def test_an_encoded_body_is_refused_whether_or_not_the_server_inflates(inflates: bool) -> None:
    async with running(server={"auto_decompress": inflates}) as door:
        reply = await door.post("/broadcast", BODY, more=[("Content-Encoding", "gzip")])

    assert reply.refusal == (415, "unsupported_encoding")
