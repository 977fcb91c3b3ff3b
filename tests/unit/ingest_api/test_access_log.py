"""The log line of a request, and the trace that the request belongs to."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.domain.messages import Message
from gateway.domain.sampling import Sampling
from gateway.domain.traces import Trace
from tests.support.waiter import TIMEOUT_SECONDS
from tests.unit.ingest_api.harness import RestApiServer, request_head, run_rest_api

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"
EVENT = {"event": "news", "data": 1}


async def test_log_line_of_a_push_has_message_id_and_connections(
    server: RestApiServer, log_lines: list[dict[str, Any]]
) -> None:
    await server.register_connection("42", "s1")

    response = await server.post("/emit/user/42", EVENT)

    [line] = log_lines
    assert (line["log_level"], line["outcome"]) == ("info", "ok")
    assert (line["message_id"], line["connections"]) == (response.json["id"], 1)
    assert "trace_id" not in line
    assert "sample_rate" not in line


async def test_repeat_is_logged_as_replayed_with_the_first_message_id(
    server: RestApiServer, log_lines: list[dict[str, Any]]
) -> None:
    for _ in range(2):
        await server.post("/emit/user/42", EVENT, idempotency_key="once")

    assert [line["outcome"] for line in log_lines] == ["ok", "replayed"]
    assert log_lines[0]["message_id"] == log_lines[1]["message_id"]


async def test_rejection_is_logged_as_info_and_failure_as_warning(
    log_lines: list[dict[str, Any]],
) -> None:
    async def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a bug")

    def fail_to_publish(publisher: Any) -> Any:
        publisher.publish = fail
        publisher.publish_now = lambda *_: None
        return publisher

    async with run_rest_api(wrap_publisher=fail_to_publish) as server:
        await server.post("/emit/user/42", EVENT)
        await server.post("/nowhere", EVENT)

    finished = [line for line in log_lines if line["event"] == "request.answered"]
    assert [(line["log_level"], line["outcome"]) for line in finished] == [
        ("warning", "failed"),
        ("info", "rejected"),
    ]


async def test_cancelled_request_is_logged(log_lines: list[dict[str, Any]]) -> None:
    handling: asyncio.Future[asyncio.Task[Any] | None] = asyncio.get_running_loop().create_future()

    async def wait(*_: Any, **__: Any) -> Any:
        handling.set_result(asyncio.current_task())
        await asyncio.Event().wait()

    def wait_in_publish(publisher: Any) -> Any:
        publisher.publish = wait
        return publisher

    async with run_rest_api(wrap_publisher=wait_in_publish) as server, server.open_connection() as connection:
        body = b'{"event":"news"}'
        extra_headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        await connection.send(
            request_head("POST", "/broadcast", [*server.sign("POST", "/broadcast", body), *extra_headers])
            + body
        )
        task = await asyncio.wait_for(handling, TIMEOUT_SECONDS)
        assert task is not None
        task.cancel()
        await asyncio.wait([task], timeout=TIMEOUT_SECONDS)

    [line] = [line for line in log_lines if line["event"] == "request.cancelled"]
    assert (line["log_level"], line["route"], line["key_id"]) == ("warning", "/broadcast", "shop")


# --- sampling ---


async def test_sampled_successful_requests_are_logged_with_the_sample_rate(
    log_lines: list[dict[str, Any]],
) -> None:
    sampling = Sampling(0.5)
    ids = [f"order-{number}" for number in range(40)]
    async with run_rest_api(sampling=sampling) as server:
        for each in ids:
            await server.send_request("GET", "/openapi.yaml", headers=[("X-Request-Id", each)])

    assert [line["request_id"] for line in log_lines] == [each for each in ids if sampling.should_log(each)]
    assert 0 < len(log_lines) < len(ids)
    assert {line["sample_rate"] for line in log_lines} == {0.5}


async def test_rejected_requests_are_logged_at_any_sample_rate(log_lines: list[dict[str, Any]]) -> None:
    async with run_rest_api(sampling=Sampling(0.0)) as server:
        await server.post("/emit/user/42", EVENT)
        await server.post("/emit/user/42", b"{")
        await server.post("/nowhere", EVENT)
        await server.post("/emit/user/42", EVENT, secret="wrong" * 10)

    answered = [line for line in log_lines if line["event"] == "request.answered"]
    assert [line["code"] for line in answered] == ["invalid_json", "not_found", "bad_signature"]
    assert ["sample_rate" in line for line in answered] == [False] * 3


async def test_requests_of_one_trace_are_all_logged_or_none(log_lines: list[dict[str, Any]]) -> None:
    sampling = Sampling(0.5)
    traces = [f"{number:032x}" for number in range(1, 21)]
    async with run_rest_api(sampling=sampling) as server:
        for trace_id in traces:
            for _ in range(2):
                extra_headers = [("traceparent", f"00-{trace_id}-{SPAN_ID}-01")]
                await server.post("/emit/user/42", EVENT, extra_headers=extra_headers)

    kept = [each for each in traces if sampling.should_log(each)]
    assert [line["trace_id"] for line in log_lines] == [each for each in kept for _ in range(2)]


# --- traces ---


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("/emit/user/42", EVENT),
        ("/emit/room", EVENT | {"room": "org:7"}),
        ("/broadcast", EVENT | {"volatile": True}),
    ],
)
async def test_message_belongs_to_the_trace_of_its_push(
    server: RestApiServer, log_lines: list[dict[str, Any]], target: str, body: dict[str, Any]
) -> None:
    response = await server.post(
        target, body, extra_headers=[("TraceParent", TRACEPARENT), ("tracestate", "a=1")]
    )

    [message] = server.published
    assert response.status == 200
    assert isinstance(message, Message)
    assert message.trace == Trace(TRACE_ID, SPAN_ID, 1)
    assert (log_lines[0]["trace_id"], log_lines[0]["span_id"]) == (TRACE_ID, SPAN_ID)


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
async def test_malformed_traceparent_is_ignored(
    server: RestApiServer, log_lines: list[dict[str, Any]], given: list[str]
) -> None:
    response = await server.post(
        "/emit/user/42", EVENT, extra_headers=[("traceparent", each) for each in given]
    )

    [message] = server.published
    assert response.status == 200
    assert isinstance(message, Message)
    assert message.trace is None
    assert "trace_id" not in log_lines[0]


async def test_repeat_publishes_nothing_so_the_message_has_the_first_trace(
    server: RestApiServer,
) -> None:
    for digit in "12":
        extra_headers = [("traceparent", f"00-{digit * 32}-{SPAN_ID}-01")]
        await server.post("/emit/user/42", EVENT, idempotency_key="once", extra_headers=extra_headers)

    [message] = server.published
    assert isinstance(message, Message)
    assert message.trace is not None
    assert message.trace.trace_id == "1" * 32


async def test_rejected_request_has_its_trace_in_the_log(
    server: RestApiServer, log_lines: list[dict[str, Any]]
) -> None:
    await server.post("/emit/user/42", b"{", extra_headers=[("traceparent", TRACEPARENT)])

    assert (log_lines[0]["code"], log_lines[0]["trace_id"]) == ("invalid_json", TRACE_ID)
