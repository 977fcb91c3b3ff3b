"""Failures of the broker and unexpected errors: their responses, and what is logged and never logged."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import structlog

from gateway.domain.errors import BrokerTimeout, BrokerUnavailable
from gateway.domain.ingest_keys import IngestKey
from tests.unit.ingest_api.harness import SECRET, SHOP, RestApiServer, run_rest_api

EVENT = {"event": "private-event", "data": {"text": "private-payload"}}


class FailingBackend:
    """A fake publisher, presence and dedup store. Every method raises the given error, or ends with it later."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def publish_now(self, *_: Any) -> asyncio.Future[Any]:
        later = asyncio.get_running_loop().create_future()
        later.get_loop().call_soon(later.set_exception, self._error)
        return later

    async def publish(self, *_: Any, **__: Any) -> Any:
        raise self._error

    disconnect_user = consume_nonce = of_user = publish


@pytest.mark.parametrize(
    ("error", "code", "retry_after"),
    [
        (BrokerUnavailable("redis://10.0.0.1:6379 rejected"), "broker_unavailable", "1"),
        (
            BrokerUnavailable("redis://10.0.0.1:6379 is full", retry_after_seconds=60),
            "broker_unavailable",
            "60",
        ),
        (BrokerTimeout("redis://10.0.0.1:6379 is silent", retry_after_seconds=2), "broker_timeout", "2"),
    ],
)
async def test_unavailable_broker_is_a_503_with_its_code_and_retry_after(
    error: Exception, code: str, retry_after: str
) -> None:
    async with run_rest_api(
        wrap_publisher=lambda _: FailingBackend(error), presence=FailingBackend(error)
    ) as server:
        responses = [
            await server.post("/emit/user/42", EVENT),
            await server.post("/disconnect/user/42", {}),
            await server.send_signed("GET", "/presence/42"),
        ]

    for response in responses:
        assert response.problem == (503, code)
        assert response.headers["retry-after"] == retry_after
        assert "10.0.0.1" not in response.body.decode()


async def test_idempotency_key_is_usable_again_after_a_failure() -> None:
    async with run_rest_api(wrap_publisher=lambda _: FailingBackend(BrokerTimeout("late"))) as server:
        for _ in range(2):
            response = await server.post("/broadcast", EVENT, idempotency_key="one")
            assert response.problem == (503, "broker_timeout")


@pytest.mark.parametrize("error", [RuntimeError("a bug"), TimeoutError(), AssertionError()])
async def test_unexpected_error_is_a_500_without_details_and_logged_once(
    error: Exception, log_lines: list[dict[str, Any]]
) -> None:
    async with run_rest_api(wrap_publisher=lambda _: FailingBackend(error)) as server:
        response = await server.post("/broadcast", EVENT)
        # The server still handles requests.
        assert (await server.send_signed("GET", "/presence/42")).status == 200

    assert response.problem == (500, "internal_error")
    assert "bug" not in response.body.decode()
    [failed] = [line for line in log_lines if line["event"] == "request.failed"]
    assert failed["exc_info"] is error
    assert failed["request_id"] == response.json["request_id"]


async def test_each_request_has_one_log_line_and_one_count(
    server: RestApiServer, log_lines: list[dict[str, Any]]
) -> None:
    await server.post("/emit/user/42", EVENT, extra_headers=[("X-Request-Id", "order-4711")])
    await server.post("/emit/user/%FF", EVENT)
    await server.post("/nowhere?q=private-query", EVENT)
    await server.send_request("GET", "/openapi.yaml")

    logged = [
        {name: line[name] for name in ("event", "route", "status", "code", "user", "key_id")}
        for line in log_lines
    ]
    assert logged == [
        {
            "event": "request.answered",
            "route": route,
            "status": status,
            "code": code,
            "user": user,
            "key_id": key,
        }
        for route, status, code, user, key in (
            ("/emit/user/{id}", 200, "ok", "42", "shop"),
            ("/emit/user/{id}", 400, "invalid_path", None, None),
            ("unmatched", 404, "not_found", None, None),
            ("/openapi.yaml", 200, "ok", None, None),
        )
    ]
    assert log_lines[0]["request_id"] == "order-4711"
    assert log_lines[0]["bytes"] == len(b'{"event": "private-event", "data": {"text": "private-payload"}}')
    assert log_lines[0]["seconds"] >= 0
    assert server.metrics.finished == [(line["route"], line["status"], line["code"]) for line in log_lines]


async def test_log_has_no_secret_signature_nonce_query_or_payload(log_lines: list[dict[str, Any]]) -> None:
    async with run_rest_api(wrap_publisher=lambda _: FailingBackend(RuntimeError("a bug"))) as server:
        headers = dict(server.sign("POST", "/broadcast?q=private-query", b"{}", nonce="private-nonce"))
        options: dict[str, Any] = {"nonce": "private-nonce", "idempotency_key": "private-idempotency"}
        await server.post("/broadcast?q=private-query", EVENT, **options)
        await server.post("/broadcast", EVENT, **options)
        await server.post("/broadcast", b'{"private-payload', **options)
        await server.send_signed("GET", "/users?prefix=private-query")
        await server.post("/broadcast?q=private-query", EVENT, secret="private-secret" * 3, **options)

    # At debug the text that was verified is logged, with the target and the nonce: a hash stands for the body.
    explained = repr([log_lines.pop(n) for n, line in enumerate(log_lines) if line["log_level"] == "debug"])
    assert "private-nonce" in explained
    assert "private-event" not in explained
    assert "private-payload" not in explained
    logged = repr([{**line, "exc_info": None} for line in log_lines])
    assert "private" not in logged
    assert SECRET not in explained + logged
    assert headers["X-Gateway-Signature"][3:] not in logged


@pytest.mark.parametrize("given", ["a", "A-z_0.9", "x" * 64])
async def test_well_formed_request_id_of_the_caller_is_used(server: RestApiServer, given: str) -> None:
    for target in ("/openapi.yaml", "/nowhere", "/presence/42"):
        response = await server.send_request("GET", target, headers=[("X-Request-Id", given)])
        assert response.headers["x-request-id"] == given


@pytest.mark.parametrize("given", [[], [""], ["x" * 65], ["a b"], ["é"], ["a", "a"], ["<script>"]])
async def test_malformed_request_id_is_replaced(server: RestApiServer, given: list[str]) -> None:
    responses = [
        await server.send_request(
            "GET", "/openapi.yaml", headers=[("X-Request-Id", value) for value in given]
        )
        for _ in range(2)
    ]

    ids = {response.headers["x-request-id"] for response in responses}
    assert len(ids) == 2
    assert ids.isdisjoint(given)


async def test_responses_have_cache_control_no_store(server: RestApiServer) -> None:
    assert (await server.send_signed("GET", "/presence/42", key=SHOP)).headers["cache-control"] == "no-store"


async def test_problem_title_is_the_phrase_of_its_status(server: RestApiServer) -> None:
    problem = (await server.send_request("GET", "/nowhere")).json

    assert list(problem) == ["type", "title", "status", "code", "detail", "request_id"]
    assert (problem["type"], problem["title"]) == ("about:blank", "Not Found")


async def test_metrics_get_the_key_id_and_whether_it_signed(server: RestApiServer) -> None:
    await server.post("/broadcast", {"event": "e"}, key=SHOP)
    await server.post("/broadcast", {"event": "e"}, key=IngestKey(SHOP.id, ("another secret" * 4,)))
    await server.post("/broadcast", {"event": "e"}, key=IngestKey("unknown", SHOP.secrets))
    await server.send_request("GET", "/nowhere")

    assert [code for _, _, code in server.metrics.finished] == [
        "ok",
        "bad_signature",
        "unknown_key",
        "not_found",
    ]
    assert server.metrics.keys == [(SHOP.id, True), (SHOP.id, False), (None, False), (None, False)]


async def test_cancelled_push_is_answered_as_unknown() -> None:
    class CancelledBackend(FailingBackend):
        """A fake publisher whose pushes are cancelled."""

        def publish_now(self, *_: Any) -> asyncio.Future[Any]:
            later = asyncio.get_running_loop().create_future()
            later.get_loop().call_soon(later.cancel)
            return later

    backend = CancelledBackend(BrokerTimeout("cancelled"))
    async with run_rest_api(wrap_publisher=lambda _: backend) as server:
        response = await server.post("/broadcast", {"event": "news", "data": 1})

    assert response.problem == (503, "broker_timeout")


async def test_unexpected_error_of_a_plain_push_is_answered_logged_and_counted() -> None:
    class BrokenBackend(FailingBackend):
        """A fake publisher that raises in the step that publishes."""

        def publish_now(self, *_: Any) -> asyncio.Future[Any]:
            raise self._error

    async with run_rest_api(wrap_publisher=lambda _: BrokenBackend(RuntimeError("a bug"))) as server:
        with structlog.testing.capture_logs() as lines:
            response = await server.post("/emit/user/42", EVENT)

    assert response.problem == (500, "internal_error")
    assert [line["event"] for line in lines] == ["request.failed", "request.answered"]
    assert {line["request_id"] for line in lines} == {response.headers["x-request-id"]}
    assert [(template, code) for template, _, code in server.metrics.finished] == [
        ("/emit/user/{id}", "internal_error")
    ]
