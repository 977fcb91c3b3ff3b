"""What a request leaves in the log, and the trace that it is a part of."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.domain.messages import Message
from gateway.domain.sampling import Sampling
from gateway.domain.traces import Trace
from tests.unit.ingest_api.harness import PATIENCE, Door, head, running

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"
EVENT = {"event": "news", "data": 1}


async def test_the_line_of_a_push_names_the_message_and_how_many_it_was_for(
    door: Door, lines: list[dict[str, Any]]
) -> None:
    await door.connect("42", "s1")

    reply = await door.post("/emit/user/42", EVENT)

    [line] = lines
    assert (line["log_level"], line["outcome"]) == ("info", "ok")
    assert (line["message_id"], line["connections"]) == (reply.json["id"], 1)
    assert "trace_id" not in line
    assert "sample_rate" not in line


async def test_a_repeat_is_told_from_the_first(door: Door, lines: list[dict[str, Any]]) -> None:
    for _ in range(2):
        await door.post("/emit/user/42", EVENT, idempotency_key="once")

    assert [line["outcome"] for line in lines] == ["ok", "replayed"]
    assert lines[0]["message_id"] == lines[1]["message_id"]


async def test_what_is_the_callers_to_mend_is_info_and_what_is_ours_a_warning(
    lines: list[dict[str, Any]],
) -> None:
    async def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a bug")

    def failing(publisher: Any) -> Any:
        publisher.publish = fail
        return publisher

    async with running(wrap=failing) as door:
        await door.post("/emit/user/42", EVENT)
        await door.post("/nowhere", EVENT)

    answered = [line for line in lines if line["event"] == "request.answered"]
    assert [(line["log_level"], line["outcome"]) for line in answered] == [
        ("warning", "failed"),
        ("info", "refused"),
    ]


async def test_a_request_that_is_given_up_has_its_line(lines: list[dict[str, Any]]) -> None:
    working: asyncio.Future[asyncio.Task[Any] | None] = asyncio.get_running_loop().create_future()

    async def wait(*_: Any, **__: Any) -> Any:
        working.set_result(asyncio.current_task())
        await asyncio.Event().wait()

    def waiting(publisher: Any) -> Any:
        publisher.publish = wait
        return publisher

    async with running(wrap=waiting) as door, door.wire() as wire:
        body = b'{"event":"news"}'
        more = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        await wire.send(head("POST", "/broadcast", [*door.sign("POST", "/broadcast", body), *more]) + body)
        task = await asyncio.wait_for(working, PATIENCE)
        assert task is not None
        task.cancel()
        await asyncio.wait([task], timeout=PATIENCE)

    [line] = [line for line in lines if line["event"] == "request.cancelled"]
    assert (line["log_level"], line["route"], line["key_id"]) == ("warning", "/broadcast", "shop")


# --- sampling ---


async def test_of_what_went_well_a_part_is_logged_and_says_which_part(lines: list[dict[str, Any]]) -> None:
    sampling = Sampling(0.5)
    ids = [f"order-{number}" for number in range(40)]
    async with running(sampling=sampling) as door:
        for each in ids:
            await door.ask("GET", "/openapi.yaml", headers=[("X-Request-Id", each)])

    assert [line["request_id"] for line in lines] == [each for each in ids if sampling.should_log(each)]
    assert 0 < len(lines) < len(ids)
    assert {line["sample_rate"] for line in lines} == {0.5}


async def test_what_did_not_go_well_is_logged_whatever_the_rate(lines: list[dict[str, Any]]) -> None:
    async with running(sampling=Sampling(0.0)) as door:
        await door.post("/emit/user/42", EVENT)
        await door.post("/emit/user/42", b"{")
        await door.post("/nowhere", EVENT)
        await door.post("/emit/user/42", EVENT, secret="wrong" * 10)

    assert [line["code"] for line in lines] == ["invalid_json", "not_found", "bad_signature"]
    assert ["sample_rate" in line for line in lines] == [False] * 3


async def test_a_trace_is_kept_or_left_out_whole(lines: list[dict[str, Any]]) -> None:
    sampling = Sampling(0.5)
    traces = [f"{number:032x}" for number in range(1, 21)]
    async with running(sampling=sampling) as door:
        for trace_id in traces:
            for _ in range(2):
                more = [("traceparent", f"00-{trace_id}-{SPAN_ID}-01")]
                await door.post("/emit/user/42", EVENT, more=more)

    kept = [each for each in traces if sampling.should_log(each)]
    assert [line["trace_id"] for line in lines] == [each for each in kept for _ in range(2)]


# --- traces ---


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("/emit/user/42", EVENT),
        ("/emit/room", EVENT | {"room": "org:7"}),
        ("/broadcast", EVENT | {"volatile": True}),
    ],
)
async def test_a_message_belongs_to_the_trace_of_its_push(
    door: Door, lines: list[dict[str, Any]], target: str, body: dict[str, Any]
) -> None:
    reply = await door.post(target, body, more=[("TraceParent", TRACEPARENT), ("tracestate", "a=1")])

    [message] = door.taken
    assert reply.status == 200
    assert isinstance(message, Message)
    assert message.trace == Trace(TRACE_ID, SPAN_ID, 1)
    assert (lines[0]["trace_id"], lines[0]["span_id"]) == (TRACE_ID, SPAN_ID)


@pytest.mark.parametrize(
    "given",
    [
        [],
        [""],
        ["rubbish"],
        [TRACEPARENT.upper()],
        [TRACEPARENT, TRACEPARENT],
        [TRACEPARENT + "-more"],
        [f"00-{'0' * 32}-{SPAN_ID}-01"],
        ["x" * 4000],
        ["é"],
    ],
)
async def test_a_malformed_one_is_ignored_and_never_a_reason_to_refuse(
    door: Door, lines: list[dict[str, Any]], given: list[str]
) -> None:
    reply = await door.post("/emit/user/42", EVENT, more=[("traceparent", each) for each in given])

    [message] = door.taken
    assert reply.status == 200
    assert isinstance(message, Message)
    assert message.trace is None
    assert "trace_id" not in lines[0]


async def test_a_repeat_publishes_nothing_so_the_first_trace_is_what_was_published(door: Door) -> None:
    for digit in "12":
        more = [("traceparent", f"00-{digit * 32}-{SPAN_ID}-01")]
        await door.post("/emit/user/42", EVENT, idempotency_key="once", more=more)

    [message] = door.taken
    assert isinstance(message, Message)
    assert message.trace is not None
    assert message.trace.trace_id == "1" * 32


async def test_a_refused_request_keeps_its_trace_in_the_log(door: Door, lines: list[dict[str, Any]]) -> None:
    await door.post("/emit/user/42", b"{", more=[("traceparent", TRACEPARENT)])

    assert (lines[0]["code"], lines[0]["trace_id"]) == ("invalid_json", TRACE_ID)
