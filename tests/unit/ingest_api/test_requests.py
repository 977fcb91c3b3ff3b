"""The five calls, done right."""

from __future__ import annotations

import json

import pytest

from gateway.domain.messages import DisconnectCommand, Message
from tests.unit.ingest_api.harness import Door, running

EVENT = {"event": "notification:new", "data": {"title": "hi"}}


async def test_a_push_to_a_user_says_how_many_connections_it_is_for(door: Door) -> None:
    await door.connect("42", "a")
    await door.connect("42", "b")
    await door.connect("42", "c", namespace="/events")

    reply = await door.post("/emit/user/42", EVENT)

    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    [message] = door.taken
    assert reply.json == {"id": message.id, "room": "user:42", "online": True, "connections": 2}


async def test_a_push_to_somebody_who_is_away_says_so(door: Door) -> None:
    reply = await door.post("/emit/user/42", EVENT)

    assert (reply.json["online"], reply.json["connections"]) == (False, 0)


async def test_the_answer_is_compact_json(door: Door) -> None:
    reply = await door.post("/emit/user/%C3%BC", EVENT)

    assert reply.body.decode() == json.dumps(reply.json, separators=(",", ":"), ensure_ascii=False)
    assert reply.json["room"] == "user:ü"


async def test_a_message_is_what_the_body_says(door: Door) -> None:
    body = b'{"event":"e","data": {"b":1.50, "a":[ 1e400 ],"b":2} ,'
    body += b'"namespace":"/events","except":["x"],"volatile":true}'

    assert (await door.post("/emit/user/42", body)).status == 200

    [message] = door.taken
    assert isinstance(message, Message)
    assert message.arguments == ('{"b":1.50, "a":[ 1e400 ],"b":2}',)
    assert (message.namespace, message.rooms, message.event) == ("/events", ("user:42",), "e")
    assert (message.exclude, message.volatile) == (frozenset({"x"}), True)


@pytest.mark.parametrize(
    ("body", "arguments"),
    [
        (b'{"event":"e"}', ()),
        (b'{"event":"e","data":null}', ("null",)),
        (b'{"event":"e","data":"x"}', ('"x"',)),
        (b'{"event":"e","args":[]}', ()),
        (b'{"event":"e","args":[ 1 , {"a": "]"},null ]}', ("1", '{"a": "]"}', "null")),
        (b'{"event":"e","data":' + b"9" * 5000 + b"}", ("9" * 5000,)),
        (b'{"event":"e","data":"\\ud83d\\ude00 \xe2\x80\xa8"}', ('"\\ud83d\\ude00 \u2028"',)),
        (b'{"\\u0065vent":"e","data":-0}', ("-0",)),
        (b'{"event":"e","data":' + b"[" * 63 + b"]" * 63 + b"}", ("[" * 63 + "]" * 63,)),
    ],
)
async def test_arguments_are_handed_on_as_they_were_written(
    door: Door, body: bytes, arguments: tuple[str, ...]
) -> None:
    assert (await door.post("/emit/user/42", body)).status == 200

    [message] = door.taken
    assert isinstance(message, Message)
    assert message.arguments == arguments


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("{}", '{"timestamp":"2026-11-21T12:00:00.125Z"}'),
        ('{"a":1.0 }', '{"a":1.0 ,"timestamp":"2026-11-21T12:00:00.125Z"}'),
        ('{"timestamp":0, "a":1,"timestamp":[]}', '{ "a":1,"timestamp":"2026-11-21T12:00:00.125Z"}'),
        ('{"\\u0074imestamp":0}', '{"timestamp":"2026-11-21T12:00:00.125Z"}'),
        ('{"a":{"timestamp":1}}', '{"a":{"timestamp":1},"timestamp":"2026-11-21T12:00:00.125Z"}'),
    ],
)
async def test_a_timestamp_is_set_and_nothing_else_changes(door: Door, data: str, expected: str) -> None:
    door.clock.seconds += 0.125

    await door.post("/emit/user/42", f'{{"event":"e","data":{data},"timestamp":true}}'.encode())

    [message] = door.taken
    assert isinstance(message, Message)
    assert message.arguments == (expected,)


async def test_a_push_to_one_room_is_answered_with_it(door: Door) -> None:
    await door.connect("42", "a", rooms=("org:7",))

    reply = await door.post("/emit/room", {"room": "org:7"} | EVENT)

    assert reply.json == {"id": door.taken[0].id, "room": "org:7", "online": True, "connections": 1}


async def test_a_push_to_several_rooms_is_one_message_and_its_count_an_upper_bound(door: Door) -> None:
    await door.connect("42", "a", rooms=("org:7", "org:8"))

    reply = await door.post("/emit/room", {"rooms": ["org:8", "org:7"]} | EVENT)

    [message] = door.taken
    assert isinstance(message, Message)
    assert message.rooms == ("org:8", "org:7")
    assert reply.json == {
        "id": message.id,
        "rooms": ["org:8", "org:7"],
        "online": True,
        "connections": 2,
        "exact": False,
    }


async def test_a_count_with_exceptions_is_an_upper_bound(door: Door) -> None:
    reply = await door.post("/emit/user/42", EVENT | {"except": ["a"]})

    assert reply.json["exact"] is False


async def test_a_broadcast_is_answered_without_a_room(door: Door) -> None:
    await door.connect("42", "a")
    await door.connect("43", "b")

    reply = await door.post("/broadcast", EVENT)

    [message] = door.taken
    assert isinstance(message, Message)
    assert message.rooms == ()
    assert reply.json == {"id": message.id, "online": True, "connections": 2}


async def test_presence_lists_connections_in_all_namespaces(door: Door) -> None:
    await door.connect("a/b", "one")
    door.clock.seconds += 1.5
    await door.connect("a/b", "two", namespace="/events")

    reply = await door.call("GET", "/presence/a%2Fb")

    common = {"replica": "replica-1", "transport": "websocket"}
    assert reply.json == {
        "user": "a/b",
        "online": True,
        "connections": [
            {"sid": "one", "namespace": "/", "connected_at": "2026-11-21T12:00:00.000Z"} | common,
            {"sid": "two", "namespace": "/events", "connected_at": "2026-11-21T12:00:01.500Z"} | common,
        ],
        "last_seen": None,
    }


async def test_presence_remembers_when_somebody_left(door: Door) -> None:
    await door.connect("42", "a")
    await door.state.presence.unregister("a")

    reply = await door.call("GET", "/presence/42")

    assert reply.json == {
        "user": "42",
        "online": False,
        "connections": [],
        "last_seen": "2026-11-21T12:00:00.000Z",
    }


@pytest.mark.parametrize("body", [b"", b"{}", b" { } "])
async def test_a_disconnect_without_limits_is_for_all_namespaces(door: Door, body: bytes) -> None:
    await door.connect("42", "a")
    await door.connect("42", "b", namespace="/events")

    reply = await door.post("/disconnect/user/42", body, media_type="application/json" if body else None)

    assert (reply.status, reply.json) == (200, {"disconnected": 2})
    [kick] = door.taken
    assert isinstance(kick, DisconnectCommand)
    assert (kick.user, kick.namespaces, kick.revoke) == ("42", ("/", "/events"), False)


async def test_a_disconnect_may_be_limited_and_may_revoke(door: Door) -> None:
    body = {"namespace": "/events", "except": ["a"], "revoke": True}

    reply = await door.post("/disconnect/user/42", body)

    assert reply.json == {"disconnected": 0, "exact": False}
    [kick] = door.taken
    assert isinstance(kick, DisconnectCommand)
    assert (kick.namespaces, kick.exclude, kick.revoke) == (("/events",), frozenset({"a"}), True)


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8"',
    ],
)
async def test_json_may_say_that_it_is_utf_8(door: Door, media_type: str) -> None:
    assert (await door.post("/broadcast", EVENT, media_type=media_type)).status == 200


@pytest.mark.parametrize(
    ("segment", "user"),
    [
        ("a%2Fb", "a/b"),
        ("a%2fb", "a/b"),
        ("%20", " "),
        ("a+b", "a+b"),
        ("%25", "%"),
        ("%252F", "%2F"),
        ("%F0%9F%98%80", "😀"),
        ("a;b=c,d@e:f!$&'()*~", "a;b=c,d@e:f!$&'()*~"),
        ("%E2%80%A8", "\u2028"),
        ("...", "..."),
        ("%41", "A"),
        ("x" * 128, "x" * 128),
    ],
)
async def test_an_id_in_the_path_may_be_any_text(door: Door, segment: str, user: str) -> None:
    reply = await door.post(f"/emit/user/{segment}", EVENT)

    assert (reply.status, reply.json["room"]) == (200, f"user:{user}")


async def test_the_absolute_form_of_a_target_is_understood(door: Door) -> None:
    body = json.dumps(EVENT).encode()
    headers = [*door.sign("POST", "/emit/user/a%2Fb?x=1", body), ("Content-Type", "application/json")]

    reply = await door.ask("POST", "http://elsewhere:80/emit/user/a%2Fb?x=1", body, headers)

    assert (reply.status, reply.json["room"]) == (200, "user:a/b")


async def test_a_stripped_prefix_is_part_of_what_is_signed() -> None:
    async with running(path_prefix="/push") as door:
        body = json.dumps(EVENT).encode()
        headers = [*door.sign("POST", "/push/broadcast", body), ("Content-Type", "application/json")]

        assert (await door.ask("POST", "/broadcast", body, headers)).status == 200
        assert (await door.post("/broadcast", EVENT)).refusal == (401, "bad_signature")


async def test_connections_are_kept_for_the_next_request(door: Door) -> None:
    body = json.dumps(EVENT).encode()
    async with door.wire() as wire:
        for _ in range(2):
            headers = [*door.sign("POST", "/broadcast", body), ("Content-Type", "application/json")]
            message = b"POST /broadcast HTTP/1.1\r\nHost: x\r\n"
            message += "".join(f"{name}: {value}\r\n" for name, value in headers).encode()
            await wire.send(message + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            assert (await wire.reply()).status == 200
