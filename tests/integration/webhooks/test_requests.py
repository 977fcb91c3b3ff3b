"""Requests to webhooks, and what becomes of each answer."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from structlog.testing import capture_logs

from gateway.domain.errors import ClientEventRejected
from gateway.domain.traces import RANDOM, Trace, format_traceparent, parse_traceparent
from gateway.domain.webhooks import decode_secret
from gateway.metrics import MetricFactory
from gateway.webhooks.answers import MAX_ANSWER_BYTES
from gateway.webhooks.signing import signature_headers
from tests.integration.webhooks.conftest import NEW_SECRET, OLD_SECRET, MakeClient, call, failure, webhook
from tests.support.metrics import counted
from tests.support.ports import free_port
from tests.support.raw_webhook_server import Request, answer, response, serving


async def test_request_has_the_headers_and_the_signed_body_of_the_contract(make_client: MakeClient) -> None:
    async with serving(answer(200, b'{"ack":"done"}')) as server:
        client = make_client(webhook(server.port, secrets=(NEW_SECRET, OLD_SECRET)))

        result = await client.call(
            "app",
            event_id="a-kf3l2Yq0T8m3c9kQ-1f",
            event_type="client.event",
            data={"args": ["ä"]},
        )

    (request,) = server.requests
    headers = request.headers
    assert result.ack == "done"
    assert request.line == "POST /hook HTTP/1.1"
    assert (
        headers.items()
        >= {
            "content-type": "application/json",
            "accept-encoding": "identity",
            "user-agent": "sio-gateway/test",
        }.items()
    )
    trace = parse_traceparent(headers["traceparent"])
    assert trace is not None
    assert not trace.is_sampled
    assert 0.0 < float(headers["gateway-timeout"]) <= 10.0
    body = json.loads(request.body)
    assert list(body) == ["type", "timestamp", "data"]
    assert (body["type"], body["data"]) == ("client.event", {"args": ["ä"]})
    assert (
        headers.items()
        >= signature_headers(
            event_id="a-kf3l2Yq0T8m3c9kQ-1f",
            timestamp=int(headers["webhook-timestamp"]),
            body=request.body,
            keys=[decode_secret(NEW_SECRET), decode_secret(OLD_SECRET)],
        ).items()
    )
    assert "cookie" not in headers


async def test_requests_in_a_row_use_one_connection(make_client: MakeClient) -> None:
    async with serving(answer(200, b"{}", "set-cookie: a=b")) as server:
        client = make_client(webhook(server.port))

        for _ in range(3):
            await call(client)

    assert server.connections == 1
    assert ["cookie" in request.headers for request in server.requests] == [False] * 3


@pytest.mark.parametrize(
    ("status", "body", "headers", "code"),
    [
        (400, b'{"code":"too_late","message":"no"}', (), "too_late"),
        (404, b"<html>not here</html>", (), "rejected"),
        (401, b"", (), "rejected"),
        (429, b"", ("retry-after: 3",), "backend_unavailable"),
        (503, b"", ("retry-after: 3",), "backend_unavailable"),
        (500, b'{"code":"no"}', (), "backend_error"),
        (502, b"<html>", (), "backend_error"),
        (302, b"", ("location: http://169.254.169.254/latest/meta-data/",), "backend_error"),
        (307, b"", ("location: /other",), "backend_error"),
        (200, b"<html>", (), "backend_error"),
        (200, b'{"unknown":1}', (), "backend_error"),
        (200, b"\x1f\x8b\x08", ("content-encoding: gzip",), "backend_error"),
        (400, b"\x1f\x8b\x08", ("content-encoding: gzip",), "backend_error"),
        (200, b'"' + b"a" * MAX_ANSWER_BYTES + b'"', (), "backend_error"),
        (400, b'"' + b"a" * MAX_ANSWER_BYTES + b'"', (), "backend_error"),
    ],
)
async def test_each_answer_becomes_the_error_of_the_contract_after_one_request(
    make_client: MakeClient, status: int, body: bytes, headers: tuple[str, ...], code: str
) -> None:
    async with serving(answer(status, body, *headers)) as server:
        error = await failure(make_client(webhook(server.port)))

    assert error.code == code
    assert error.retry_after_seconds == (3.0 if code == "backend_unavailable" else None)
    assert len(server.requests) == 1


async def test_garbage_and_an_answer_that_ends_early_are_backend_errors(make_client: MakeClient) -> None:
    for text in (b"220 smtp\r\n\r\n", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}"):

        async def reply(_request: Request, writer: asyncio.StreamWriter, text: bytes = text) -> None:
            writer.write(text)

        async with serving(reply) as server:
            client = make_client(webhook(server.port), metrics=MetricFactory())
            assert (await failure(client)).code == "backend_error"
        assert len(server.requests) == 1


async def test_backend_that_cannot_be_reached_is_unavailable_after_two_tries(
    make_client: MakeClient, metrics: MetricFactory
) -> None:
    error = await failure(make_client(webhook(free_port())))

    assert error.code == "backend_unavailable"
    assert counted(metrics, "webhook_requests_total") == {"app backend_unavailable": 1}


async def test_name_without_an_address_is_unavailable(make_client: MakeClient) -> None:
    error = await failure(make_client(webhook(1, url="https://app.invalid/")))

    assert error.code == "backend_unavailable"


async def test_backend_that_hangs_is_a_timeout_within_its_seconds(make_client: MakeClient) -> None:
    async def hang(_request: Request, _writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with serving(hang) as server:
        error = await failure(make_client(webhook(server.port, timeout_seconds=0.2)))

        assert error.code == "backend_timeout"
    assert len(server.requests) == 1


async def test_backend_that_drips_is_a_timeout_too(make_client: MakeClient) -> None:
    async def drip(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1\r\n \r\n")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with serving(drip) as server:
        error = await failure(make_client(webhook(server.port, timeout_seconds=0.3)))

    assert error.code == "backend_timeout"


async def test_kept_connection_that_ends_before_the_first_byte_is_tried_again_once(
    make_client: MakeClient,
) -> None:
    async def reply(request: Request, writer: asyncio.StreamWriter) -> bool:
        if request.number == 2:
            return False
        writer.write(response(200, b'{"ack":1}'))
        return True

    async with serving(reply) as server:
        client = make_client(webhook(server.port))
        await call(client)

        assert (await call(client)).ack == 1

    assert [(each.connection, each.number) for each in server.requests] == [(1, 1), (1, 2), (2, 1)]
    assert server.requests[1].headers["webhook-id"] == server.requests[2].headers["webhook-id"]


@pytest.mark.parametrize(
    "text", [b"H", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{"]
)
async def test_kept_connection_that_ends_after_the_first_byte_is_not_tried_again(
    make_client: MakeClient, text: bytes
) -> None:
    async def reply(request: Request, writer: asyncio.StreamWriter) -> bool:
        if request.number == 2:
            writer.write(text)
            return False
        writer.write(response(200, b'{"ack":1}'))
        return True

    async with serving(reply) as server:
        client = make_client(webhook(server.port))
        await call(client)

        assert (await failure(client)).code == "backend_error"

    assert len(server.requests) == 2


async def test_fresh_connection_that_ends_without_an_answer_is_not_tried_again(
    make_client: MakeClient,
) -> None:
    async def end(_request: Request, _writer: asyncio.StreamWriter) -> bool:
        return False

    async with serving(end) as server:
        assert (await failure(make_client(webhook(server.port)))).code == "backend_error"

    assert len(server.requests) == 1


async def test_data_that_json_cannot_hold_is_not_sent(make_client: MakeClient) -> None:
    async with serving(answer(204)) as server:
        client = make_client(webhook(server.port))
        for data in ({"a": b"bytes"}, {"a": float("nan")}, {"a": "\ud800"}):
            with pytest.raises(Exception, match="JSON") as raised:
                await call(client, data)
            assert raised.value.code == "invalid_payload"  # type: ignore[attr-defined]

    assert server.requests == []


async def test_unknown_webhook_is_unavailable(make_client: MakeClient) -> None:
    assert (await failure(make_client(), webhook="other")).code == "backend_unavailable"


@pytest.mark.parametrize(
    ("status", "body", "outcome", "reason"),
    [
        (200, b"{}", "ok", None),
        (404, b"", "rejected", None),
        (500, b"", "backend_error", None),
        (
            200,
            b'{"s3cret":1}',
            "backend_error",
            "it has a member other than ack, binary, disconnect, emit, join, leave, set",
        ),
        (200, b"s3cret", "backend_error", "it is not JSON: line 1, column 1"),
        (200, b"s" * 70_000, "backend_error", "BodyTooLarge"),
    ],
)  # fmt: skip
async def test_one_line_has_the_outcome_and_the_reason_and_nothing_of_request_or_answer(
    make_client: MakeClient, status: int, body: bytes, outcome: str, reason: str | None
) -> None:
    async with serving(answer(status, body)) as server:
        client = make_client(webhook(server.port))
        with capture_logs() as lines, contextlib.suppress(ClientEventRejected):
            await call(client, {"s3cret": "s3cret"})

    (line,) = lines
    level = "info" if outcome in {"ok", "rejected"} else "warning"
    assert line.pop("seconds") < 10
    (request,) = server.requests
    trace = Trace(line.pop("trace_id"), line.pop("span_id"), RANDOM)
    assert format_traceparent(trace) == request.headers["traceparent"]
    assert line == {
        "event": "webhook.answered", "log_level": level, "webhook": "app", "outcome": outcome, "reason": reason,
        "status": status, "attempts": 1,
    }  # fmt: skip


async def test_line_of_an_unreachable_backend_has_the_kind_of_error_and_no_host(
    make_client: MakeClient,
) -> None:
    client = make_client(
        webhook(1, url="https://app.invalid/"), webhook(1, id="metadata", url="http://169.254.169.254/")
    )
    with capture_logs() as lines:
        await failure(client)
        await failure(client, webhook="metadata")

    assert [(line["reason"], line["attempts"]) for line in lines] == [
        ("ClientConnectorDNSError", 2),
        ("requests are never sent to a link-local address, as metadata services have", 1),
    ]
    assert "app.invalid" not in str(lines)
