"""Valid requests to the calls that push, and to those for users."""

from __future__ import annotations

import json

import pytest

from gateway.domain.messages import DisconnectCommand, Message
from tests.unit.ingest_api.harness import RestApiServer, run_rest_api

EVENT = {"event": "notification:new", "data": {"title": "hi"}}


async def test_push_to_a_user_returns_the_number_of_its_connections(server: RestApiServer) -> None:
    await server.register_connection("42", "a")
    await server.register_connection("42", "b")
    await server.register_connection("42", "c", namespace="/events")

    response = await server.post("/emit/user/42", EVENT)

    assert response.status == 200
    assert response.headers["content-type"] == "application/json"
    [message] = server.published
    assert response.json == {
        "id": message.id,
        "room": "user:42",
        "online": True,
        "connections": 2,
        "recoverable": 0,
    }


async def test_push_to_an_offline_user_returns_online_false(server: RestApiServer) -> None:
    response = await server.post("/emit/user/42", EVENT)

    assert (response.json["online"], response.json["connections"]) == (False, 0)


async def test_response_is_compact_json(server: RestApiServer) -> None:
    response = await server.post("/emit/user/%C3%BC", EVENT)

    assert response.body.decode() == json.dumps(response.json, separators=(",", ":"), ensure_ascii=False)
    assert response.json["room"] == "user:ü"


async def test_message_has_the_fields_of_the_body(server: RestApiServer) -> None:
    body = b'{"event":"e","data": {"b":1.50, "a":[ 1e400 ],"b":2} ,'
    body += b'"namespace":"/events","except":["x"],"volatile":true}'

    assert (await server.post("/emit/user/42", body)).status == 200

    [message] = server.published
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
async def test_arguments_are_passed_on_as_they_were_written(
    server: RestApiServer, body: bytes, arguments: tuple[str, ...]
) -> None:
    assert (await server.post("/emit/user/42", body)).status == 200

    [message] = server.published
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
async def test_timestamp_is_set_and_the_rest_of_data_unchanged(
    server: RestApiServer, data: str, expected: str
) -> None:
    server.clock.advance(0.125)

    await server.post("/emit/user/42", f'{{"event":"e","data":{data},"timestamp":true}}'.encode())

    [message] = server.published
    assert isinstance(message, Message)
    assert message.arguments == (expected,)


async def test_push_to_one_room_returns_the_room(server: RestApiServer) -> None:
    await server.register_connection("42", "a", rooms=("org:7",))

    response = await server.post("/emit/room", {"room": "org:7"} | EVENT)

    assert response.json == {
        "id": server.published[0].id,
        "room": "org:7",
        "online": True,
        "connections": 1,
        "recoverable": 0,
    }


async def test_push_to_several_rooms_is_one_message_with_an_upper_bound_of_connections(
    server: RestApiServer,
) -> None:
    await server.register_connection("42", "a", rooms=("org:7", "org:8"))

    response = await server.post("/emit/room", {"rooms": ["org:8", "org:7"]} | EVENT)

    [message] = server.published
    assert isinstance(message, Message)
    assert message.rooms == ("org:8", "org:7")
    assert response.json == {
        "id": message.id,
        "rooms": ["org:8", "org:7"],
        "online": True,
        "connections": 2,
        "recoverable": 0,
        "exact": False,
    }


async def test_connections_with_except_are_an_upper_bound(server: RestApiServer) -> None:
    response = await server.post("/emit/user/42", EVENT | {"except": ["a"]})

    assert response.json["exact"] is False


async def test_broadcast_response_has_no_room(server: RestApiServer) -> None:
    await server.register_connection("42", "a")
    await server.register_connection("43", "b")

    response = await server.post("/broadcast", EVENT)

    [message] = server.published
    assert isinstance(message, Message)
    assert message.rooms == ()
    assert response.json == {"id": message.id, "online": True, "connections": 2, "recoverable": 0}


async def test_presence_lists_connections_in_all_namespaces(server: RestApiServer) -> None:
    await server.register_connection("a/b", "one")
    server.clock.advance(1.5)
    await server.register_connection("a/b", "two", namespace="/events")

    response = await server.send_signed("GET", "/presence/a%2Fb")

    common = {"replica": "replica-1", "transport": "websocket"}
    assert response.json == {
        "user": "a/b",
        "online": True,
        "recoverable": 0,
        "connections": [
            {"sid": "one", "namespace": "/", "connected_at": "2026-11-21T12:00:00.000Z"} | common,
            {"sid": "two", "namespace": "/events", "connected_at": "2026-11-21T12:00:01.500Z"} | common,
        ],
        "last_seen": None,
    }


async def test_presence_returns_last_seen_after_the_last_disconnect(server: RestApiServer) -> None:
    await server.register_connection("42", "a")
    await server.state.presence.unregister("a")

    response = await server.send_signed("GET", "/presence/42")

    assert response.json == {
        "user": "42",
        "online": False,
        "recoverable": 0,
        "connections": [],
        "last_seen": "2026-11-21T12:00:00.000Z",
    }


@pytest.mark.parametrize("body", [b"", b"{}", b" { } "])
async def test_disconnect_without_a_namespace_is_for_all_namespaces(
    server: RestApiServer, body: bytes
) -> None:
    await server.register_connection("42", "a")
    await server.register_connection("42", "b", namespace="/events")

    response = await server.post("/disconnect/user/42", body, media_type="application/json" if body else None)

    assert (response.status, response.json) == (200, {"disconnected": 2})
    [command] = server.published
    assert isinstance(command, DisconnectCommand)
    assert (command.user, command.namespaces, command.revoke) == ("42", ("/", "/events"), False)


async def test_disconnect_passes_on_namespace_except_and_revoke(server: RestApiServer) -> None:
    body = {"namespace": "/events", "except": ["a"], "revoke": True}

    response = await server.post("/disconnect/user/42", body)

    assert response.json == {"disconnected": 0, "exact": False}
    [command] = server.published
    assert isinstance(command, DisconnectCommand)
    assert (command.namespaces, command.exclude, command.revoke) == (("/events",), frozenset({"a"}), True)


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8"',
        "application/json; charset=utf8",
        'application/json; profile=x; charset="utf-8"',
        'application/json; profile="https://example.com/a;charset=latin-1"',
        'application/json ;\tversion=1 ; x="a\\"b"; charset=utf-8; y=z',
        "application/json;",
        "application/json;;odata.metadata=none;",
    ],
)
async def test_media_type_may_have_parameters_other_than_a_foreign_charset(
    server: RestApiServer, media_type: str
) -> None:
    assert (await server.post("/broadcast", EVENT, media_type=media_type)).status == 200


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
        ("x" * 255, "x" * 255),
        ("%C3%A9", "é"),
    ],
)
async def test_id_in_the_path_may_be_any_text(server: RestApiServer, segment: str, user: str) -> None:
    response = await server.post(f"/emit/user/{segment}", EVENT)

    assert (response.status, response.json["room"]) == (200, f"user:{user}")


async def test_absolute_form_of_a_target_is_accepted(server: RestApiServer) -> None:
    body = json.dumps(EVENT).encode()
    headers = [*server.sign("POST", "/emit/user/a%2Fb?", body), ("Content-Type", "application/json")]

    response = await server.send_request("POST", "http://elsewhere:80/emit/user/a%2Fb?", body, headers)

    assert (response.status, response.json["room"]) == (200, "user:a/b")


async def test_stripped_path_prefix_is_part_of_the_signed_text() -> None:
    async with run_rest_api(path_prefix="/push") as server:
        body = json.dumps(EVENT).encode()
        headers = [*server.sign("POST", "/push/broadcast", body), ("Content-Type", "application/json")]

        assert (await server.send_request("POST", "/broadcast", body, headers)).status == 200
        assert (await server.post("/broadcast", EVENT)).problem == (401, "bad_signature")


async def test_connection_stays_open_for_the_next_request(server: RestApiServer) -> None:
    body = json.dumps(EVENT).encode()
    async with server.open_connection() as connection:
        for _ in range(2):
            headers = [*server.sign("POST", "/broadcast", body), ("Content-Type", "application/json")]
            message = b"POST /broadcast HTTP/1.1\r\nHost: x\r\n"
            message += "".join(f"{name}: {value}\r\n" for name, value in headers).encode()
            await connection.send(message + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            assert (await connection.read_response()).status == 200


async def test_responses_count_connections_that_may_be_resumed(server: RestApiServer) -> None:
    await server.register_connection("42", "a", rooms=("org:7",))
    await server.state.presence.unregister("a", is_parked=True)

    responses = [
        await server.post("/emit/user/42", EVENT),
        await server.post("/emit/room", {"room": "org:7"} | EVENT),
        await server.post("/emit/room", {"rooms": ["org:7", "user:42"]} | EVENT),
        await server.post("/broadcast", EVENT),
        await server.send_signed("GET", "/presence/42"),
        await server.post("/emit/user/43", EVENT),
    ]

    assert [each.json["recoverable"] for each in responses] == [1, 1, 2, 1, 1, 0]
    assert {each.json["online"] for each in responses} == {False}


async def test_push_to_users_is_one_message_and_returns_the_connections_of_each(
    server: RestApiServer,
) -> None:
    for user, sid in (("42", "a"), ("42", "b"), ("ü", "c")):
        await server.register_connection(user, sid)

    response = await server.post("/emit/users", EVENT | {"users": ["42", "43", "ü"]}, idempotency_key="k")

    [message] = server.published
    assert isinstance(message, Message)
    assert message.rooms == ("user:42", "user:43", "user:ü")
    first = {
        "id": message.id,
        "users": {"42": 2, "43": 0, "ü": 1},
        "online": True,
        "connections": 3,
        "recoverable": 0,
    }
    assert response.json == first
    await server.state.presence.unregister("a")
    again = await server.post("/emit/users", EVENT | {"users": ["42", "43", "ü"]}, idempotency_key="k")
    assert (again.json, again.headers["idempotency-replayed"]) == (first, "true")


@pytest.mark.parametrize(
    ("target", "address"),
    [
        ("/emit/user/42", {}),
        ("/emit/users", {"users": ["42"]}),
        ("/emit/room", {"room": "org:7"}),
        ("/emit/room", {"rooms": ["org:7", "org:8"]}),
        ("/broadcast", {}),
    ],
)
@pytest.mark.parametrize("size", [1, 20_000], ids=["small", "large"])
async def test_every_push_may_name_rooms_that_its_recipients_have_to_be_in(
    server: RestApiServer, target: str, address: dict[str, object], size: int
) -> None:
    body = EVENT | address | {"all": ["role:admin", "tenant:1"], "data": "x" * size}

    response = await server.post(target, body)

    assert (response.status, response.json["exact"]) == (200, False)
    [message] = server.published
    assert isinstance(message, Message)
    assert message.all_of == ("role:admin", "tenant:1")
