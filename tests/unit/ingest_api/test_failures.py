"""When something else is wrong: the broker away, a bug. And what is logged of it, and what never is."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.domain.errors import BrokerTimeout, BrokerUnavailable
from gateway.domain.ingest_keys import IngestKey
from tests.unit.ingest_api.harness import SECRET, SHOP, Door, running

EVENT = {"event": "private-event", "data": {"text": "private-payload"}}


class Failing:
    """A fake broker door: raises what it is given, where a real one would have lost its connection."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def publish(self, *_: Any, **__: Any) -> Any:
        raise self._error

    disconnect_user = consume_nonce = of_user = publish


@pytest.mark.parametrize(
    ("error", "code", "retry_after"),
    [
        (BrokerUnavailable("redis://10.0.0.1:6379 refused"), "broker_unavailable", "1"),
        (
            BrokerUnavailable("redis://10.0.0.1:6379 is full", retry_after_seconds=60),
            "broker_unavailable",
            "60",
        ),
        (BrokerTimeout("redis://10.0.0.1:6379 is silent", retry_after_seconds=2), "broker_timeout", "2"),
    ],
)
async def test_a_broker_that_is_away_is_said_to_be(error: Exception, code: str, retry_after: str) -> None:
    async with running(wrap=lambda _: Failing(error), presence=Failing(error)) as door:
        replies = [
            await door.post("/emit/user/42", EVENT),
            await door.post("/disconnect/user/42", {}),
            await door.call("GET", "/presence/42"),
        ]

    for reply in replies:
        assert reply.refusal == (503, code)
        assert reply.headers["retry-after"] == retry_after
        assert "10.0.0.1" not in reply.body.decode()


async def test_an_idempotency_key_is_free_again_after_a_failure() -> None:
    async with running(wrap=lambda _: Failing(BrokerTimeout("late"))) as door:
        for _ in range(2):
            reply = await door.post("/broadcast", EVENT, idempotency_key="one")
            assert reply.refusal == (503, "broker_timeout")


@pytest.mark.parametrize("error", [RuntimeError("a bug"), TimeoutError(), AssertionError()])
async def test_a_bug_is_answered_without_a_word_of_it_and_logged_once(
    error: Exception, lines: list[dict[str, Any]]
) -> None:
    async with running(wrap=lambda _: Failing(error)) as door:
        reply = await door.post("/broadcast?secret=query", EVENT)
        # The connection and the door are none the worse for it.
        assert (await door.call("GET", "/presence/42")).status == 200

    assert reply.refusal == (500, "internal_error")
    assert "bug" not in reply.body.decode()
    [failed] = [line for line in lines if line["event"] == "request.failed"]
    assert failed["exc_info"] is error
    assert failed["request_id"] == reply.json["request_id"]


async def test_each_request_has_one_line_in_the_log_and_one_count(
    door: Door, lines: list[dict[str, Any]]
) -> None:
    await door.post("/emit/user/42", EVENT, more=[("X-Request-Id", "order-4711")])
    await door.post("/emit/user/%FF", EVENT)
    await door.post("/nowhere?q=private-query", EVENT)
    await door.ask("GET", "/openapi.yaml")

    said = [
        {name: line[name] for name in ("event", "route", "status", "code", "user", "key_id")}
        for line in lines
    ]
    assert said == [
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
    assert lines[0]["request_id"] == "order-4711"
    assert lines[0]["bytes"] == len(b'{"event": "private-event", "data": {"text": "private-payload"}}')
    assert lines[0]["seconds"] >= 0
    assert door.tally.answered == [(line["route"], line["status"], line["code"]) for line in lines]


async def test_nothing_private_is_logged(lines: list[dict[str, Any]]) -> None:
    async with running(wrap=lambda _: Failing(RuntimeError("a bug"))) as door:
        headers = dict(door.sign("POST", "/broadcast?q=private-query", b"{}", nonce="private-nonce"))
        options: dict[str, Any] = {"nonce": "private-nonce", "idempotency_key": "private-idempotency"}
        await door.post("/broadcast?q=private-query", EVENT, **options)
        await door.post("/broadcast?q=private-query", b'{"private-payload', **options)
        await door.post("/broadcast?q=private-query", EVENT, secret="private-secret" * 3, **options)

    logged = repr([{**line, "exc_info": None} for line in lines])
    assert "private" not in logged
    assert SECRET not in logged
    assert headers["X-Gateway-Signature"][3:] not in logged


@pytest.mark.parametrize("given", ["a", "A-z_0.9", "x" * 64])
async def test_a_request_id_of_the_caller_is_kept(door: Door, given: str) -> None:
    for target in ("/openapi.yaml", "/nowhere", "/presence/42"):
        reply = await door.ask("GET", target, headers=[("X-Request-Id", given)])
        assert reply.headers["x-request-id"] == given


@pytest.mark.parametrize("given", [[], [""], ["x" * 65], ["a b"], ["é"], ["a", "a"], ["<script>"]])
async def test_another_request_id_is_replaced(door: Door, given: list[str]) -> None:
    replies = [
        await door.ask("GET", "/openapi.yaml", headers=[("X-Request-Id", value) for value in given])
        for _ in range(2)
    ]

    ids = {reply.headers["x-request-id"] for reply in replies}
    assert len(ids) == 2
    assert ids.isdisjoint(given)


async def test_answers_are_not_to_be_stored(door: Door) -> None:
    assert (await door.call("GET", "/presence/42", key=SHOP)).headers["cache-control"] == "no-store"


async def test_the_title_of_a_problem_is_the_phrase_of_its_status(door: Door) -> None:
    problem = (await door.ask("GET", "/nowhere")).json

    assert list(problem) == ["type", "title", "status", "code", "detail", "request_id"]
    assert (problem["type"], problem["title"]) == ("about:blank", "Not Found")


async def test_the_meter_is_told_which_key_was_named_and_whether_it_signed(door: Door) -> None:
    await door.post("/broadcast", {"event": "e"}, key=SHOP)
    await door.post("/broadcast", {"event": "e"}, key=IngestKey(SHOP.id, ("another secret" * 4,)))
    await door.post("/broadcast", {"event": "e"}, key=IngestKey("nobody", SHOP.secrets))
    await door.ask("GET", "/nowhere")

    assert [code for _, _, code in door.tally.answered] == ["ok", "bad_signature", "unknown_key", "not_found"]
    assert door.tally.keys == [(SHOP.id, True), (SHOP.id, False), (None, False), (None, False)]
