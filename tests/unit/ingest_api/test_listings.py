"""The calls about users, rooms, connections and replicas."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

import pytest

from gateway.domain import positions
from gateway.domain.event_catalogue import Glob, RoomRule
from gateway.domain.listings import MemberRules
from gateway.domain.messages import Address, DataChange
from gateway.domain.names import MAX_ROOM_CHARACTERS
from gateway.domain.presence import ClosedConnection, PresenceConsumer, PresenceRules
from tests.unit.ingest_api.harness import RestApiServer

CHAT = MemberRules({"/": (RoomRule(Glob("chat:*"), list_members=True),)})


async def get(server: RestApiServer, target: str) -> Any:
    response = await server.send_signed("GET", target)
    assert response.status == 200, response
    return response.json


async def walk(server: RestApiServer, target: str, member: str) -> list[Any]:
    found: list[Any] = []
    cursor = ""
    while True:
        page = await get(server, target + cursor)
        found += page[member]
        if page["next"] is None:
            return found
        cursor = f"&cursor={page['next']}"


async def test_presence_of_several_users(server: RestApiServer) -> None:
    server.state.presence_events.configure(PresenceRules(10.0, frozenset({PresenceConsumer.WEBHOOK})))
    await server.register_connection("42", "~1")
    await server.register_connection("42", "~2", namespace="/events")
    await server.register_connection("43", "~3")
    await server.state.disconnects.record([ClosedConnection("~3", "43", is_parked=True)])

    response = await server.post("/presence", {"users": ["42", "43", "ä/b"]})

    answer = response.json
    versions = [answer["users"][user].pop("version") for user in ("42", "43")]
    assert 0 < versions[0] <= versions[1]
    assert answer == {
        "users": {
            "42": {"online": True, "connections": 2, "recoverable": 0, "last_seen": None},
            "43": {
                "online": False,
                "connections": 0,
                "recoverable": 1,
                "last_seen": "2026-11-21T12:00:00.000Z",
            },
            "ä/b": {"online": False, "connections": 0, "recoverable": 0, "last_seen": None},
        }
    }


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "users"),
        ({"users": []}, "users"),
        ({"users": "42"}, "users"),
        ({"users": ["42", ""]}, "users.1"),
        ({"users": ["42", "42"]}, "users"),
        ({"users": [42]}, "users.0"),
        ({"users": [str(number) for number in range(201)]}, "users"),
        ({"users": ["42"], "namespace": "/"}, "namespace"),
    ],
)
async def test_invalid_users_are_rejected(server: RestApiServer, body: dict[str, Any], field: str) -> None:
    response = await server.post("/presence", body)

    assert response.problem == (422, "invalid_body")
    assert list(response.json["errors"]) == [field]


async def test_two_hundred_users_fit_in_a_request(server: RestApiServer) -> None:
    users = [f"{number:03}" + "ä" * 200 for number in range(200)]

    body = json.dumps({"users": users}, ensure_ascii=False).encode()

    response = await server.post("/presence", body)

    assert len(body) > 64 * 1024
    assert response.status == 200, response
    assert list(response.json["users"]) == users


async def test_stats(server: RestApiServer) -> None:
    await server.register_connection("42", "~1", rooms=("org:7",))
    await server.register_connection("42", "~2", namespace="/events")

    assert await get(server, "/stats") == {
        "users": 1,
        "connections": 2,
        "rooms": 3,
        "namespaces": {
            "/": {"connections": 1, "rooms": 2, "users": 1},
            "/events": {"connections": 1, "rooms": 1, "users": 1},
        },
        "replicas": [
            {"id": "replica-1", "connections": 2, "version": None, "since": "2026-11-21T12:00:00.000Z"}
        ],
    }


async def test_users_and_rooms_are_listed_page_by_page(server: RestApiServer) -> None:
    await server.register_connection("42", "~1", rooms=("org:7", "org:é"))
    await server.register_connection("43", "~2", rooms=("org:7",))
    await server.register_connection("42", "~3", namespace="/events")

    assert await walk(server, "/users?limit=1", "users") == [
        {"name": "42", "connections": 2}, {"name": "43", "connections": 1}
    ]  # fmt: skip
    assert await walk(server, "/users?limit=1&namespace=%2Fevents", "users") == [
        {"name": "42", "connections": 1}
    ]
    assert await walk(server, "/rooms?limit=1&prefix=org%3A", "rooms") == [
        {"name": "org:7", "connections": 2}, {"name": "org:é", "connections": 1}
    ]  # fmt: skip
    assert await walk(server, "/rooms?limit=2", "rooms") == [
        {"name": "org:7", "connections": 2},
        {"name": "org:é", "connections": 1},
        {"name": "user:42", "connections": 1},
        {"name": "user:43", "connections": 1},
    ]


async def test_names_of_any_form_are_listed_page_by_page(server: RestApiServer) -> None:
    names = ["a/b", "%2F", "a b+c", "täg", "\U0001f600" * 256, "\U0001f600" * 255, '"' * 256, "a?b#c"]
    await server.register_connection("42", "~1", rooms=tuple(names))

    found = await walk(server, "/rooms?limit=1", "rooms")

    assert [each["name"] for each in found] == sorted([*names, "user:42"])
    for name in names:
        assert (await get(server, f"/rooms/{quote(name, safe='')}")) == {
            "room": name, "connections": 1, "users": None, "recoverable": 0
        }  # fmt: skip
        prefix = quote(name[:200], safe="")
        page = await walk(server, f"/rooms?limit=1&prefix={prefix}", "rooms")
        assert [each["name"] for each in page] == sorted(
            other for other in names if other.startswith(name[:200])
        )


async def test_cursor_of_another_list_is_rejected(server: RestApiServer) -> None:
    await server.register_connection("42", "~1", rooms=("org:7", "org:8", "a", "b"))
    cursor = (await get(server, "/rooms?limit=1&prefix=org%3A"))["next"]

    for target in (
        "/rooms?prefix=org",
        "/rooms?prefix=org%3A&namespace=%2Fevents",
        "/users?prefix=org%3A",
        "/connections?user=42",
        "/webhooks/app/dead?",
    ):
        response = await server.send_signed("GET", f"{target}&cursor={cursor}")
        assert response.problem in {(400, "invalid_query"), (404, "unknown_webhook")}
    assert (await server.send_signed("GET", f"/rooms?prefix=org%3A&cursor={cursor}")).status == 200


async def test_cursor_that_was_changed_is_rejected_with_its_reason(server: RestApiServer) -> None:
    await server.register_connection("42", "~1", rooms=("a", "b"))
    cursor = (await get(server, "/rooms?limit=1"))["next"]
    members = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    changed = [
        members[:-1],
        [*members, "a"],
        [*members[:-1], 1],
        [*members[:-1], ""],
        ["users", *members[1:]],
        {},
        None,
    ]

    for each in (cursor[:-2], cursor + "A", "%00", "a" * 3000, *map(_encode, changed)):
        response = await server.send_signed("GET", f"/rooms?limit=1&cursor={each}")
        assert response.problem == (400, "invalid_query"), each
        assert response.json["detail"] == "cursor is the next of an earlier page"


def _encode(members: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(members).encode()).decode().rstrip("=")


async def test_pages_of_the_longest_names_are_walked_to_the_end(server: RestApiServer) -> None:
    prefix = "\U0001f600" * (MAX_ROOM_CHARACTERS - 1)
    names = (f"{prefix}a", f"{prefix}b")
    await server.register_connection("42", "~1", rooms=names)

    found = await walk(server, f"/rooms?limit=1&prefix={quote(prefix)}", "rooms")

    assert tuple(each["name"] for each in found) == names


async def test_query_of_a_call_without_parameters_is_named_as_the_mistake(server: RestApiServer) -> None:
    response = await server.send_signed("GET", "/stats?a=1")

    assert response.json["detail"] == "this call has no query"


@pytest.mark.parametrize(
    "target",
    [
        "/stats?a=1",
        "/users?namespace=%2Fnone",
        "/rooms?limit=0",
        "/rooms?limit=101",
        "/rooms?cursor=x",
        "/rooms?cursor=WzFd",
        "/rooms?prefix=a&prefix=b",
        "/rooms/org:7?prefix=a",
        "/connections",
        "/connections?user=42&room=a",
        "/connections?user=",
        "/connections?room=.",
        "/connections/~1?a=1",
    ],
)
async def test_invalid_query_is_rejected(server: RestApiServer, target: str) -> None:
    assert (await server.send_signed("GET", target)).problem == (400, "invalid_query")


async def test_room_has_the_number_of_its_users_only_if_members_are_listed(server: RestApiServer) -> None:
    server.state.listings.configure(CHAT)
    await server.register_connection("42", "~1", rooms=("chat:1", "org:7"))
    await server.register_connection("42", "~2", rooms=("chat:1",))
    await server.register_connection("43", "~3", rooms=("chat:1",))
    await server.state.disconnects.record([ClosedConnection("~3", "43", is_parked=True)])

    assert await get(server, "/rooms/chat%3A1") == {
        "room": "chat:1", "connections": 2, "users": 1, "recoverable": 1
    }  # fmt: skip
    assert await get(server, "/rooms/org:7?namespace=%2F") == {
        "room": "org:7", "connections": 1, "users": None, "recoverable": 0
    }  # fmt: skip
    assert (await get(server, "/rooms/none"))["connections"] == 0


async def test_connections_of_a_user_and_of_a_room(server: RestApiServer) -> None:
    server.state.listings.configure(CHAT)
    await server.register_connection("42", "~1", rooms=("chat:1", "org:7"))
    await server.register_connection("42", "~2", namespace="/events")
    await server.register_connection("43", "~3", rooms=("chat:1",))
    first = {
        "sid": "~1",
        "user": "42",
        "namespace": "/",
        "rooms": ["chat:1", "org:7", "user:42"],
        "data": {},
        "replica": "replica-1",
        "transport": "websocket",
        "connected_at": "2026-11-21T12:00:00.000Z",
    }

    assert await get(server, "/connections?user=42&namespace=%2F") == {"connections": [first], "next": None}
    of_user = await walk(server, "/connections?user=42&limit=1", "connections")
    assert [each["sid"] for each in of_user] == ["~1", "~2"]
    of_room = await walk(server, "/connections?room=chat%3A1&limit=1", "connections")
    assert [each["sid"] for each in of_room] == ["~1", "~3"]
    assert await get(server, "/connections/~1") == first
    assert (await server.send_signed("GET", "/connections?room=org:7")).problem == (422, "members_not_listed")
    assert (await server.send_signed("GET", "/connections/~9")).problem == (404, "unknown_connection")


async def patch(server: RestApiServer, body: Any, sid: str = "~1", **options: Any) -> Any:
    return await server.send_signed("PATCH", f"/connections/{sid}", body, **options)


async def test_socket_data_is_changed_by_a_merge_patch(server: RestApiServer) -> None:
    await server.register_connection("42", "~1")

    first = await patch(server, {"data": {"cart": {"items": 3, "coupon": "x"}, "seat": "4ä"}})
    second = await patch(server, {"data": {"cart": {"coupon": None}, "seat": None, "big": 2**70}})

    assert first.json == {"data": {"cart": {"items": 3, "coupon": "x"}, "seat": "4ä"}}
    assert second.json == {"data": {"cart": {"items": 3}, "big": 2**70}}
    assert (await get(server, "/connections/~1"))["data"] == {"cart": {"items": 3}, "big": 2**70}
    page = await server.state.broker.history(
        positions.START, [Address("/", "~1")], max_entries=9, max_bytes=9_999
    )
    entries = [entry for _, entry in page.entries]
    assert [type(entry) for entry in entries] == [DataChange, DataChange]
    stored = await server.state.socket_data.read("~1")
    assert (entries[1].version, entries[1].data) == stored  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({}, (422, "invalid_body")),
        ({"data": None}, (422, "invalid_body")),
        ({"data": []}, (422, "invalid_body")),
        ({"data": {}, "sid": "~1"}, (422, "invalid_body")),
        ({"data": {"text": "x" * 4096}}, (422, "invalid_body")),
        (b'{"data":{"number":1e999}}', (422, "invalid_body")),
        (b'{"data":{"number":NaN}}', (400, "invalid_json")),
        (b"", (400, "invalid_json")),
    ],
)
async def test_invalid_socket_data_changes_nothing(
    server: RestApiServer, body: Any, problem: tuple[int, str]
) -> None:
    await server.register_connection("42", "~1")
    await patch(server, {"data": {"seat": 4}})

    assert (await patch(server, body)).problem == problem
    assert (await get(server, "/connections/~1"))["data"] == {"seat": 4}


async def test_socket_data_may_have_as_many_bytes_as_the_limit(server: RestApiServer) -> None:
    await server.register_connection("42", "~1")
    longest = "ä" * ((4096 - len('{"t":""}')) // 2)

    assert (await patch(server, {"data": {"t": longest}})).json == {"data": {"t": longest}}
    assert (await patch(server, {"data": {"t": longest + "x"}})).problem == (422, "invalid_body")


async def test_data_of_a_connection_that_is_not_open_is_not_changed(server: RestApiServer) -> None:
    await server.register_connection("42", "~1")
    await server.state.disconnects.record([ClosedConnection("~1", "42", is_parked=True)])

    assert (await patch(server, {"data": {}})).problem == (404, "unknown_connection")
    assert (await patch(server, {"data": {}}, "~none")).problem == (404, "unknown_connection")


async def test_patches_with_idempotency_keys_leave_space_for_those_of_other_calls(
    server: RestApiServer,
) -> None:
    await server.register_connection("42", "~1")
    large = {"data": {"a": "x" * 4_000}}

    responses = [await patch(server, large, idempotency_key=f"k{number}") for number in range(520)]

    assert responses[499].status == 200
    assert responses[-1].problem == (429, "rate_limited")
    revoked = await server.send_signed("POST", "/revoke", b'{"jti":"t-1"}', idempotency_key="k")
    assert revoked.status == 200


async def test_repeat_of_a_patch_gets_the_first_answer(server: RestApiServer) -> None:
    await server.register_connection("42", "~1")

    first = await patch(server, {"data": {"a": 1}}, idempotency_key="k")
    await patch(server, {"data": {"a": 2}})
    repeat = await patch(server, {"data": {"a": 1}}, idempotency_key="k")

    assert repeat.json == first.json == {"data": {"a": 1}}
    assert repeat.headers["idempotency-replayed"] == "true"
    assert (await get(server, "/connections/~1"))["data"] == {"a": 2}
    other = await patch(server, {"data": {"a": 3}}, idempotency_key="k")
    assert other.problem == (409, "idempotency_conflict")
