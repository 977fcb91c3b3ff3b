"""The calls that have connections join and leave rooms, and that disconnect those in a room."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.domain.messages import DisconnectCommand, RoomChange
from tests.unit.ingest_api.harness import RestApiServer, run_rest_api

JOIN = {"who": {"user": "42"}, "rooms": ["a"]}


def change(server: RestApiServer) -> RoomChange:
    """Return the one entry that was appended."""
    [entry] = server.published
    assert isinstance(entry, RoomChange)
    return entry


@pytest.mark.parametrize(
    ("who", "rooms"),
    [
        ("everyone", ()),
        ({"user": "42"}, ("user:42",)),
        ({"users": ["42", "a/b"]}, ("user:42", "user:a/b")),
        ({"room": "org:7"}, ("org:7",)),
        ({"rooms": ["org:7", "~Us0vkvkHVoWsjT_pvFDI"]}, ("org:7", "~Us0vkvkHVoWsjT_pvFDI")),
    ],
)
@pytest.mark.parametrize("target", ["/join", "/leave"])
async def test_change_is_addressed_to_the_connections_that_the_body_names(
    target: str, who: Any, rooms: tuple[str, ...]
) -> None:
    async with run_rest_api() as server:
        body = {"who": who, "rooms": ["a", "b"], "namespace": "/events", "except": ["role:bot"]}
        response = await server.post(target, body)

        assert response.status == 200, response
        entry = change(server)
        assert (entry.rooms, entry.changed, entry.namespace) == (rooms, ("a", "b"), "/events")
        assert (entry.is_join, entry.exclude) == (target == "/join", frozenset({"role:bot"}))


@pytest.mark.parametrize("pad", [0, 20_000])
@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ({"rooms": ["a"]}, ["who"]),
        ({"who": "all", "rooms": ["a"]}, ["who"]),
        ({"who": None, "rooms": ["a"]}, ["who"]),
        ({"who": ["user:42"], "rooms": ["a"]}, ["who"]),
        ({"who": {}, "rooms": ["a"]}, ["who"]),
        ({"who": {"user": "1", "room": "b"}, "rooms": ["a"]}, ["who"]),
        ({"who": {"user": ""}, "rooms": ["a"]}, ["who.user"]),
        ({"who": {"user": 42}, "rooms": ["a"]}, ["who.user"]),
        ({"who": {"users": []}, "rooms": ["a"]}, ["who.users"]),
        ({"who": {"users": ["1", "1"]}, "rooms": ["a"]}, ["who.users"]),
        ({"who": {"users": ["1", "\u0007"]}, "rooms": ["a"]}, ["who.users.1"]),
        ({"who": {"rooms": ["x"] * 101}, "rooms": ["a"]}, ["who.rooms"]),
        ({"who": {"room": ".."}, "rooms": ["a"]}, ["who.room"]),
        ({"who": {"event": "x"}, "rooms": ["a"]}, ["who.event"]),
        ({"who": "everyone"}, ["rooms"]),
        ({"who": "everyone", "rooms": []}, ["rooms"]),
        ({"who": "everyone", "rooms": ["a", "a"]}, ["rooms"]),
        ({"who": "everyone", "rooms": ["a", ""]}, ["rooms.1"]),
        ({"who": "everyone", "rooms": "a"}, ["rooms"]),
        ({"who": "everyone", "rooms": ["a"], "namespace": "/none"}, ["namespace"]),
        ({"who": "everyone", "rooms": ["a"], "except": ["b", 1]}, ["except.1"]),
        ({"who": "everyone", "rooms": ["a"], "volatile": True}, ["volatile"]),
    ],
)
async def test_wrong_body_is_rejected_by_the_path_of_the_field(
    body: dict[str, Any], paths: list[str], pad: int
) -> None:
    async with run_rest_api() as server:
        response = await server.post("/join", json.dumps(body).encode() + b" " * pad)

        assert response.problem == (422, "invalid_body")
        assert set(paths) <= set(response.json["errors"]), response
        assert server.published == []


@pytest.mark.parametrize("pad", [0, 20_000])
async def test_repeated_member_of_who_is_rejected(pad: int) -> None:
    async with run_rest_api() as server:
        body = b'{"who":{"user":"1","user":"2"},"rooms":["a"]}' + b" " * pad

        assert (await server.post("/join", body)).problem == (400, "invalid_json")
        assert server.published == []


async def test_counts_are_those_of_the_moment_and_inexact_ones_are_marked() -> None:
    async with run_rest_api() as server:
        await server.register_connection("42", "s1", rooms=("org:7",))
        await server.register_connection("43", "s2", rooms=("org:7",))

        one = await server.post("/join", JOIN)
        several = await server.post("/join", {"who": {"users": ["42", "43"]}, "rooms": ["a"]})

        assert one.json == {"connections": 1, "recoverable": 0}
        assert several.json == {"connections": 2, "recoverable": 0, "exact": False}


async def test_repeat_with_the_idempotency_key_gets_the_first_response() -> None:
    async with run_rest_api() as server:
        await server.register_connection("42", "s1")
        first = await server.post("/join", JOIN, idempotency_key="once")
        await server.register_connection("42", "s2")
        again = await server.post("/join", JOIN, idempotency_key="once")
        other = await server.post("/join", JOIN | {"rooms": ["b"]}, idempotency_key="once")

        assert first.json == again.json == {"connections": 1, "recoverable": 0}
        assert again.headers["idempotency-replayed"] == "true"
        assert other.problem == (409, "idempotency_conflict")
        assert len(server.published) == 1


async def test_room_is_disconnected_in_one_namespace_or_in_all() -> None:
    async with run_rest_api() as server:
        await server.register_connection("42", "s1", rooms=("match:9",))
        await server.register_connection("43", "s2", rooms=("match:9",), namespace="/events")

        everywhere = await server.post("/disconnect/room", {"room": "match:9"})
        one = await server.post(
            "/disconnect/room", {"room": "match:9", "namespace": "/events", "except": ["s2"]}
        )

        assert everywhere.json == {"disconnected": 2}
        assert one.json == {"disconnected": 1, "exact": False}
        [first, second] = server.published
        assert isinstance(first, DisconnectCommand)
        assert isinstance(second, DisconnectCommand)
        assert (first.room, first.user, first.namespaces) == ("match:9", "", ("/", "/events"))
        assert (second.namespaces, second.exclude) == (("/events",), frozenset({"s2"}))


@pytest.mark.parametrize(
    "body", [{}, {"room": ""}, {"room": ["a"]}, {"room": "a", "revoke": True}, {"rooms": ["a"]}]
)
async def test_disconnect_of_a_room_needs_one_room(body: dict[str, Any]) -> None:
    async with run_rest_api() as server:
        assert (await server.post("/disconnect/room", body)).problem == (422, "invalid_body")
        assert server.published == []
