"""Bodies that are rejected, each with its status and code."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.domain.acks import AckTerms
from gateway.domain.messages import Message
from tests.unit.ingest_api.harness import RestApiServer

VALID = {"event": "e", "data": {}}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b" \n", id="white space"),
        pytest.param(b'{"event":"e","data":{"a":', id="truncated"),
        pytest.param(b'{"event":"e"}}', id="more than one value"),
        pytest.param(b"event=e&data=1", id="a form"),
        pytest.param(b"{'event':'e'}", id="single quotes"),
        pytest.param(b'{"event":"e",}', id="trailing comma"),
        pytest.param(b'{"event":"e" "data":1}', id="missing comma"),
        pytest.param(b'{"event" "e"}', id="missing colon"),
        pytest.param(b'{event:"e"}', id="bare name"),
        pytest.param(b'{"event":"e","data":NaN}', id="NaN"),
        pytest.param(b'{"event":"e","data":[Infinity]}', id="Infinity"),
        pytest.param(b'{"event":"e","data":-Infinity}', id="negative Infinity"),
        pytest.param(b'{"event":"e","data":01}', id="leading zero"),
        pytest.param('{"event":"e","data":١}'.encode(), id="digit that is not ASCII"),
        pytest.param(b'{"event":"e","data":+1}', id="plus sign"),
        pytest.param(b'{"event":"e","data":.5}', id="no digit before the point"),
        pytest.param(b'{"event":"e","data":"\\ud800"}', id="lone high surrogate"),
        pytest.param(b'{"event":"e","data":"\\udc00\\ud800"}', id="surrogates in the wrong order"),
        pytest.param(b'{"event":"e","data":{"\\uD83D":1}}', id="lone surrogate in a key"),
        pytest.param(b'{"event":"e","\\ud800":1}', id="lone surrogate in the name of a member"),
        pytest.param(b'{"event":"e","data":"\xed\xa0\x80"}', id="surrogate in UTF-8"),
        pytest.param(b'\xef\xbb\xbf{"event":"e"}', id="byte order mark"),
        pytest.param('{"event":"e"}'.encode("utf-16"), id="UTF-16"),
        pytest.param(b'{"event":"\xfc"}', id="Latin-1"),
        pytest.param(b'{"event":"e","data":"\xc0\x80"}', id="overlong UTF-8"),
        pytest.param(b'{"event":"e","data":"a\nb"}', id="raw control character"),
        pytest.param(b'{"event":"e","data":"\x1e"}', id="raw record separator"),
        pytest.param(b'{"event":"e"}\x1e', id="control character after the value"),
        pytest.param(b'{"event":"e"}\x00', id="NUL after the value"),
        pytest.param(b'{"event":"e","data":"\\x41"}', id="unknown escape"),
        pytest.param(b'{"event":"e","event":"e"}', id="duplicate key"),
        pytest.param(b'{"event":"e","\\u0065vent":"e"}', id="duplicate key, escaped"),
        pytest.param(b'{"event":"e","data":' + b"[" * 64 + b"]" * 64 + b"}", id="depth 65"),
        pytest.param(b'{"event":"e","data":' + b"[" * 10_000 + b"]" * 10_000 + b"}", id="depth 10 000"),
        pytest.param(b'{"a":' * 10_000, id="depth 10 000, truncated"),
        pytest.param(b"[" * 10_000, id="depth 10 000, an array"),
        pytest.param(b"]", id="closing bracket"),
        pytest.param(b'"\\', id="backslash at the end"),
        pytest.param(b"nul", id="half a word"),
    ],
)
async def test_body_that_is_not_json_is_rejected(server: RestApiServer, body: bytes) -> None:
    response = await server.post("/emit/user/42", body)

    assert response.problem == (400, "invalid_json")
    assert server.published == []


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "the body is empty"),
        (b'{"event":"e",\n "data":NaN}', "NaN is no JSON value: line 2, column 9"),
        (b'{"event":"NaN","data":NaN}', "NaN is no JSON value: line 1, column 23"),
        (b'{"a":1,\n\n"a":2}', "a member is repeated: line 3, column 5"),
        (b'{"a":"\\ud800"}', "\\ud800 is half of a surrogate pair: line 1, column 7"),
        (b'{"a":"\xff"}', "the body is not UTF-8: byte 6"),
        (b'{"a":1', "a comma or } is missing: line 1, column 7"),
        (b'{"a":"\n"}', "invalid control character at: line 1, column 7"),
        (b"[" * 65, "the body is nested more than 64 deep"),
    ],
)
async def test_detail_states_the_error_and_its_place(server: RestApiServer, body: bytes, detail: str) -> None:
    assert (await server.post("/broadcast", body)).json["detail"] == detail


@pytest.mark.parametrize("body", [b"[]", b'"x"', b"1", b"null", b"true", b'[{"event":"e"}]'])
async def test_json_that_is_not_an_object_is_an_invalid_body(server: RestApiServer, body: bytes) -> None:
    response = await server.post("/emit/user/42", body)

    assert response.problem == (422, "invalid_body")


async def test_body_with_too_many_members_is_not_read_to_its_end(server: RestApiServer) -> None:
    body = json.dumps({f"m{number}": number for number in range(1000)}).encode()

    response = await server.post("/emit/user/42", body)

    assert response.problem == (422, "invalid_body")
    assert response.json["detail"] == "the body has more than 32 members"


async def test_first_unknown_member_of_a_large_body_is_named(server: RestApiServer) -> None:
    body = json.dumps({"event": "e", "m" * 100: 1, "data": "x" * 20_000}).encode()

    response = await server.post("/emit/user/42", body)

    assert response.problem == (422, "invalid_body")
    assert response.json["errors"] == {"m" * 64: ["Unknown field."]}


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"event": None}, {"event"}),
        ({"event": 42}, {"event"}),
        ({"event": ["e"]}, {"event"}),
        ({"event": ""}, {"event"}),
        ({"event": "x" * 129}, {"event"}),
        ({"event": "connect"}, {"event"}),
        ({"event": "connect_error"}, {"event"}),
        ({"event": "disconnect"}, {"event"}),
        ({"event": "disconnecting"}, {"event"}),
        ({"event": "newListener"}, {"event"}),
        ({"event": "removeListener"}, {"event"}),
        ({"event": "authenticated"}, {"event"}),
        ({"event": "auth:expiring"}, {"event"}),
        ({"event": "auth:expired"}, {"event"}),
        ({"event": "recovery:failed"}, {"event"}),
        ({"args": []}, {"args"}),
        ({"namespace": "/unknown"}, {"namespace"}),
        ({"namespace": None}, {"namespace"}),
        ({"namespace": 1}, {"namespace"}),
        ({"namespace": ""}, {"namespace"}),
        ({"volatile": 1}, {"volatile"}),
        ({"volatile": "true"}, {"volatile"}),
        ({"volatile": None}, {"volatile"}),
        ({"ack": True}, {"ack"}),
        ({"ack": "first"}, {"ack"}),
        ({"ack": None}, {"ack"}),
        ({"ack": []}, {"ack"}),
        ({"ack": {}}, {"ack.want"}),
        ({"ack": {"want": 0}}, {"ack.want"}),
        ({"ack": {"want": -1}}, {"ack.want"}),
        ({"ack": {"want": 1.5}}, {"ack.want"}),
        ({"ack": {"want": True}}, {"ack.want"}),
        ({"ack": {"want": None}}, {"ack.want"}),
        ({"ack": {"want": "any"}}, {"ack.want"}),
        ({"ack": {"want": "1"}}, {"ack.want"}),
        ({"ack": {"want": []}}, {"ack.want"}),
        ({"ack": {"want": {}}}, {"ack.want"}),
        ({"ack": {"want": 1_000_001}}, {"ack.want"}),
        ({"ack": {"want": 10**30}}, {"ack.want"}),
        ({"ack": {"want": "all", "timeout_seconds": 0.09}}, {"ack.timeout_seconds"}),
        ({"ack": {"want": "all", "timeout_seconds": 25.1}}, {"ack.timeout_seconds"}),
        ({"ack": {"want": "all", "timeout_seconds": 10**400}}, {"ack.timeout_seconds"}),
        ({"ack": {"want": "all", "timeout_seconds": "5"}}, {"ack.timeout_seconds"}),
        ({"ack": {"want": "all", "timeout_seconds": True}}, {"ack.timeout_seconds"}),
        ({"ack": {"want": "all", "timeout_seconds": None}}, {"ack.timeout_seconds"}),
        ({"ack": {"want": "all", "x": 1}}, {"ack.x"}),
        ({"ack": {"want": "all", "x": "x" * 2000}}, {"ack"}),
        ({"ack": {"want": "all"}, "volatile": True}, {"ack"}),
        ({"ack": {"want": "none"}, "data": "x" * 20_000}, {"ack.want"}),
        ({"timestamp": "true"}, {"timestamp"}),
        ({"timestamp": True, "data": []}, {"timestamp"}),
        ({"timestamp": True, "data": None}, {"timestamp"}),
        ({"except": "a"}, {"except"}),
        ({"except": {"a": 1}}, {"except"}),
        ({"except": ["a", 1]}, {"except.1"}),
        ({"except": ["a", ""]}, {"except.1"}),
        ({"except": ["a\n"]}, {"except.0"}),
        ({"except": [str(number) for number in range(101)]}, {"except"}),
        ({"unknown": 1}, {"unknown"}),
        ({"room": "x"}, {"room"}),
        ({"Event": "e"}, {"Event"}),
        ({"event": 1, "volatile": 0, "x": 1}, {"event", "volatile", "x"}),
    ],
)
async def test_invalid_field_is_named_in_errors(
    server: RestApiServer, change: dict[str, Any], fields: set[str]
) -> None:
    response = await server.post("/emit/user/42", VALID | change)

    assert response.problem == (422, "invalid_body")
    assert set(response.json["errors"]) == fields
    assert all(
        isinstance(sentence, str) for sentences in response.json["errors"].values() for sentence in sentences
    )
    assert server.published == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"data": 1}, "event"),
        ({"event": "e", "args": {}}, "args"),
        ({"event": "e", "args": None}, "args"),
        ({"event": "e", "args": [0] * 17}, "args"),
        ({"event": "e", "timestamp": True}, "timestamp"),
        ({"event": "e", "timestamp": True, "args": [{}]}, "timestamp"),
    ],
)
async def test_event_needs_a_name_and_at_most_one_payload(
    server: RestApiServer, body: dict[str, Any], field: str
) -> None:
    response = await server.post("/broadcast", body)

    assert response.problem == (422, "invalid_body")
    assert list(response.json["errors"]) == [field]


@pytest.mark.parametrize(
    ("address", "field"),
    [
        ({}, "room"),
        ({"room": "a", "rooms": ["b"]}, "room"),
        ({"room": ""}, "room"),
        ({"room": None}, "room"),
        ({"room": 7}, "room"),
        ({"room": "a\x00"}, "room"),
        ({"room": "a\x85"}, "room"),
        ({"room": ".."}, "room"),
        ({"room": "x" * 301}, "room"),
        ({"room": "e\u0301"}, "room"),
        ({"rooms": ["a", "e\u0301"]}, "rooms.1"),
        ({"room": "a", "except": ["e\u0301"]}, "except.0"),
        ({"rooms": []}, "rooms"),
        ({"rooms": "a"}, "rooms"),
        ({"rooms": ["a", "a"]}, "rooms"),
        ({"rooms": ["a", "b\x7f"]}, "rooms.1"),
        ({"rooms": [str(number) for number in range(101)]}, "rooms"),
        ({"rooms": ["a", None]}, "rooms.1"),
    ],
)
async def test_push_to_rooms_needs_exactly_one_of_room_and_rooms(
    server: RestApiServer, address: dict[str, Any], field: str
) -> None:
    response = await server.post("/emit/room", VALID | address)

    assert response.problem == (422, "invalid_body")
    assert list(response.json["errors"]) == [field]


@pytest.mark.parametrize(
    ("field", "value", "path"),
    [
        ("users", None, "users"),
        ("users", [], "users"),
        ("users", "42", "users"),
        ("users", ["42", "42"], "users"),
        ("users", ["42", ""], "users.1"),
        ("users", ["42", 43], "users.1"),
        ("users", ["x" * 256], "users.0"),
        ("users", [str(number) for number in range(101)], "users"),
        ("room", "a", "room"),
        ("all", None, "all"),
        ("all", "a", "all"),
        ("all", ["a", "b\x7f"], "all.1"),
        ("all", [str(number) for number in range(9)], "all"),
    ],
)
async def test_push_to_users_needs_a_list_of_users(
    server: RestApiServer, field: str, value: object, path: str
) -> None:
    response = await server.post("/emit/users", VALID | {"users": ["42"]} | {field: value})

    assert response.problem == (422, "invalid_body")
    assert list(response.json["errors"]) == [path]


async def test_push_to_users_without_users_is_rejected(server: RestApiServer) -> None:
    response = await server.post("/emit/users", VALID)

    assert (response.problem, list(response.json["errors"])) == ((422, "invalid_body"), ["users"])


async def test_hundred_rooms_are_accepted(server: RestApiServer) -> None:
    rooms = [str(number) for number in range(100)]

    assert (await server.post("/emit/room", VALID | {"rooms": rooms, "except": rooms})).status == 200


@pytest.mark.parametrize(
    "change",
    [
        {"namespace": None},
        {"namespace": "/x"},
        {"revoke": 1},
        {"revoke": None},
        {"except": "a"},
        {"user": "42"},
    ],
)
async def test_disconnect_is_validated_strictly(server: RestApiServer, change: dict[str, Any]) -> None:
    response = await server.post("/disconnect/user/42", change)

    assert response.problem == (422, "invalid_body")
    assert list(response.json["errors"]) == list(change)


async def test_errors_list_at_most_twenty_fields_and_truncate_long_names(server: RestApiServer) -> None:
    response = await server.post("/broadcast", VALID | {"x" * 1000: 1} | {"except": [""] * 100})

    assert len(response.json["errors"]) == 20
    assert max(map(len, response.json["errors"])) <= 64


@pytest.mark.parametrize(
    "media_type",
    [
        None,
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin-1",
        "application/json; charset=utf-16",
        'application/json; profile=x; CHARSET="latin-1"',
        "application/json; charset=utf-8; charset=latin-1",
        "application/json; profile",
        "application/json; a=b c",
        'application/json; a="b',
        "application/json; =b",
        "application/json" + "; " * 2_000 + "x",
        "application/json,",
        "application/problem+json",
        "",
    ],
)
async def test_body_with_another_media_type_than_json_is_rejected(
    server: RestApiServer, media_type: str | None
) -> None:
    response = await server.post("/emit/user/42", VALID, media_type=media_type)

    assert response.problem == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "encoding", ["gzip", "deflate", "br", "zstd", "GZIP", "identity, gzip", "x", "identity", ""]
)
async def test_body_with_content_encoding_is_rejected(server: RestApiServer, encoding: str) -> None:
    response = await server.post("/emit/user/42", VALID, extra_headers=[("Content-Encoding", encoding)])

    assert response.problem == (415, "unsupported_encoding")


async def test_broadcast_takes_no_acknowledgements(server: RestApiServer) -> None:
    response = await server.post("/broadcast", VALID | {"ack": {"want": "first"}})

    assert response.problem == (422, "invalid_body")
    assert response.json["errors"] == {"ack": ["Unknown field."]}


@pytest.mark.parametrize("data", ["small", "x" * 20_000])
@pytest.mark.parametrize("want", ["first", "all", 1, 2.0, 1_000_000])
@pytest.mark.parametrize("seconds", [0.1, 1, 25])
async def test_terms_of_acknowledgements_are_read_from_small_and_large_bodies(
    server: RestApiServer, data: str, want: str | float, seconds: float
) -> None:
    body = {"event": "e", "data": data, "ack": {"want": want, "timeout_seconds": seconds}}

    response = await server.post("/emit/user/42", body)

    assert (response.status, response.json["complete"], response.json["asked"]) == (200, False, 0)
    [message] = server.published
    assert isinstance(message, Message)
    assert message.ack == AckTerms(
        {"first": 1, "all": 0}[want] if isinstance(want, str) else int(want), seconds
    )
    assert message.reply_to == "replica-1"
