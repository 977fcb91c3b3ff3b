"""What answers of webhooks mean."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.domain.errors import ClientEventRejected
from gateway.domain.webhooks import WebhookAnswer, WebhookEmission
from gateway.webhooks.answers import Answer, RejectedByBackend, interpret, parse_answer, parse_retry_after


def rejection(status: int, body: Any = b"", retry_after: str | None = None) -> ClientEventRejected:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(ClientEventRejected) as raised:
        interpret(Answer(status, text, retry_after), now=0.0)
    return raised.value


@pytest.mark.parametrize("body", [b"", b" \r\n", b"{}"])
@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_empty_answer_asks_for_nothing(status: int, body: bytes) -> None:
    assert interpret(Answer(status, body), now=0.0) == WebhookAnswer()


def test_every_member_of_an_answer_is_read() -> None:
    body = {
        "ack": {"ok": True},
        "emit": [
            {"event": "a"},
            {"event": "b", "data": None},
            {"to": {"room": "org:7"}, "event": "c", "data": [1]},
            {"to": {"users": ["1", "2"]}, "event": "d"},
            {"to": "everyone", "event": "e"},
        ],
        "join": ["match:1", "match:1"],
        "leave": ["lobby"],
        "set": {"team": 3},
        "disconnect": True,
    }

    assert parse_answer(json.dumps(body).encode()) == WebhookAnswer(
        ack={"ok": True},
        has_ack=True,
        emit=(
            WebhookEmission("a", ()),
            WebhookEmission("b", (None,)),
            WebhookEmission("c", ([1],), {"room": "org:7"}),
            WebhookEmission("d", (), {"users": ["1", "2"]}),
            WebhookEmission("e", (), "everyone"),
        ),
        join=("match:1",),
        leave=("lobby",),
        set={"team": 3},
        disconnect=True,
    )


def test_null_is_an_acknowledgement() -> None:
    assert parse_answer(b'{"ack":null}').has_ack


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[]",
        b"null",
        b'"ok"',
        b"\xef\xbb\xbf{}",
        b"\xff",
        b'{"ack":NaN}',
        b'{"ack":-Infinity}',
        b'{"ack":1e999}',
        b'{"ack":1,"ack":2}',
        b'{"ack":{"a":1,"a":2}}',
        b'{"ack":"\\ud800"}',
        b'{"ack":' + b"[" * 64 + b"]" * 64 + b"}",
        b'{"ack":' + b"9" * 5000 + b"}",
        b"[" * 65536,
        b'{"acknowledge":1}',
        b'{"emit":{}}',
        b'{"emit":[1]}',
        b'{"emit":[{}]}',
        b'{"emit":[{"event":""}]}',
        b'{"emit":[{"event":"connect"}]}',
        b'{"emit":[{"event":"auth:expired"}]}',
        b'{"emit":[{"event":1}]}',
        b'{"emit":[{"event":"a","args":[]}]}',
        b'{"emit":[{"event":"a","to":null}]}',
        b'{"emit":[{"event":"a","to":"others"}]}',
        b'{"emit":[{"event":"a","to":{}}]}',
        b'{"emit":[{"event":"a","to":{"room":"a","user":"b"}}]}',
        b'{"emit":[{"event":"a","to":{"namespace":"a"}}]}',
        b'{"emit":[{"event":"a","to":{"room":["a"]}}]}',
        b'{"emit":[{"event":"a","to":{"rooms":"a"}}]}',
        b'{"emit":[{"event":"a","to":{"rooms":[]}}]}',
        b'{"emit":[{"event":"a","to":{"room":""}}]}',
        b'{"join":"a"}',
        b'{"join":[1]}',
        b'{"join":[""]}',
        json.dumps({"join": ["e\u0301"]}).encode(),
        json.dumps({"emit": [{"to": {"user": "e\u0301"}, "event": "a"}]}).encode(),
        b'{"leave":["\\u0000"]}',
        b'{"set":[]}',
        b'{"disconnect":1}',
        json.dumps({"emit": [{"event": "a"}] * 33}).encode(),
        json.dumps({"join": ["a"] * 101}).encode(),
        json.dumps({"emit": [{"event": "a", "to": {"users": ["a"] * 101}}]}).encode(),
    ],
)
def test_answer_of_a_wrong_form_is_a_backend_error_and_quotes_nothing(body: bytes) -> None:
    error = rejection(200, body)

    assert error.code == "backend_error"
    assert error.message == "the answer of the backend has a wrong form"
    assert not isinstance(error, RejectedByBackend)


def test_answer_as_deep_and_as_long_as_allowed_is_read() -> None:
    assert parse_answer(b'{"ack":' + b"[" * 63 + b"]" * 63 + b"}").has_ack
    assert parse_answer(b'{"ack":"' + b"[" * 65000 + b'"}').has_ack
    assert len(parse_answer(json.dumps({"emit": [{"event": "a"}] * 32}).encode()).emit) == 32


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 413, 422, 451, 499])
def test_4xx_is_a_rejection_with_code_and_sentence_of_the_backend(status: int) -> None:
    error = rejection(status, {"code": "too_late", "message": "The match has ended."})

    assert isinstance(error, RejectedByBackend)
    assert (error.code, error.message) == ("too_late", "The match has ended.")


@pytest.mark.parametrize("message", [["text must be a string"], {"text": "wrong"}, 7, "", "  "])
def test_message_that_is_no_sentence_does_not_hide_the_detail(message: object) -> None:
    error = rejection(400, {"message": message, "detail": "The text is missing."})

    assert error.message == "The text is missing."


def test_problem_json_has_its_sentence_in_detail() -> None:
    error = rejection(422, {"type": "about:blank", "status": 422, "code": "no", "detail": "Not now."})

    assert (error.code, error.message) == ("no", "Not now.")


@pytest.mark.parametrize("code", ["", "Too-Late", "a" * 65, 7, None])
def test_code_of_another_form_is_rejected_in_its_place(code: object) -> None:
    assert rejection(400, {"code": code}).code == "rejected"


@pytest.mark.parametrize(
    "body", [b"<html>Forbidden</html>", b"secret", b"[1]", b'{"message":7}', b'{"message":" "}']
)
def test_text_that_is_no_json_object_never_reaches_a_client(body: bytes) -> None:
    error = rejection(403, body)

    assert (error.code, error.message) == ("rejected", "the backend rejected the event")


def test_sentence_has_at_most_300_characters_and_no_control_characters() -> None:
    assert rejection(400, {"message": "ä" * 301}).message == "ä" * 300
    assert rejection(400, {"message": "a\r\nb\x00c"}).message == "a b c"


@pytest.mark.parametrize("status", [429, 503])
def test_overload_has_the_time_to_retry(status: int) -> None:
    error = rejection(status, {"code": "no"}, "7")

    assert (error.code, error.retry_after_seconds) == ("backend_unavailable", 7.0)


@pytest.mark.parametrize("status", [101, 300, 301, 302, 304, 307, 308, 500, 501, 502, 504, 599, 600])
def test_other_statuses_are_backend_errors(status: int) -> None:
    assert rejection(status, {"code": "no", "message": "no"}).code == "backend_error"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, 1.0),
        ("0", 0.0),
        ("12", 12.0),
        ("999999", 3600.0),
        ("9" * 100, 1.0),
        ("-1", 1.0),
        ("1.5", 1.0),
        ("soon", 1.0),
        ("Sat, 21 Nov 2026 12:00:30 GMT", 30.0),
        ("Sat, 21 Nov 2026 11:00:00 GMT", 0.0),
        ("Sat, 21 Nov 2099 12:00:00 GMT", 3600.0),
        ("Sat, 99 Nov 2026 12:00:00 GMT", 1.0),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_bounded(text: str | None, seconds: float) -> None:
    assert parse_retry_after(text, now=1795262400.0) == seconds
