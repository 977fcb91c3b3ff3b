"""``ttl``: how long a push is kept for users, and what cannot be kept."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.domain.messages import Message
from tests.unit.ingest_api.harness import RestApiServer

KEPT = {"event": "e", "ttl": 3600}


def sent(server: RestApiServer) -> list[int]:
    """The ttl of each message that was accepted."""
    return [entry.ttl_seconds for entry in server.published if isinstance(entry, Message)]


@pytest.mark.parametrize("ttl", [1, 60.0, 604_800])
async def test_push_to_users_is_kept_for_so_many_seconds_and_the_answer_states_it(
    server: RestApiServer, ttl: float
) -> None:
    messages = [{"to": {"user": "42"}, "event": "e", "ttl": ttl}, {"to": {"user": "42"}, "event": "e"}]

    user = await server.post("/emit/user/42", KEPT | {"ttl": ttl})
    users = await server.post("/emit/users", KEPT | {"users": ["42", "43"], "ttl": ttl})
    batch = await server.post("/batch", {"messages": messages})

    assert [each.json["stored"] for each in (user, users)] == [True, True]
    assert [each.get("stored") for each in batch.json["results"]] == [True, None]
    assert sent(server) == [ttl, ttl, ttl, 0]


async def test_answer_to_a_push_without_ttl_has_no_stored(server: RestApiServer) -> None:
    assert "stored" not in (await server.post("/emit/user/42", {"event": "e"})).json
    assert sent(server) == [0]


@pytest.mark.parametrize("ttl", [0, -1, 604_801, 1.5, "60", True, None, [], {}, 10**30])
async def test_other_values_of_ttl_are_rejected(server: RestApiServer, ttl: object) -> None:
    response = await server.post("/emit/user/42", {"event": "e", "ttl": ttl})

    assert (response.problem, [*response.json["errors"]]) == ((422, "invalid_body"), ["ttl"])
    assert sent(server) == []


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/emit/user/42", {"volatile": True}, "ttl"),
        ("/emit/user/42", {"ack": {"want": "first"}}, "ttl"),
        ("/emit/room", {"room": "a"}, "ttl"),
        ("/broadcast", {}, "ttl"),
    ],
)
async def test_push_that_cannot_be_kept_is_rejected(
    server: RestApiServer, path: str, body: dict[str, Any], field: str
) -> None:
    response = await server.post(path, KEPT | body)

    assert (response.problem, [*response.json["errors"]]) == ((422, "invalid_body"), [field])
    assert sent(server) == []


@pytest.mark.parametrize(
    "message",
    [
        {"to": "everyone"},
        {"to": {"room": "a"}},
        {"to": {"rooms": ["user:42", "a"]}},
        {"to": {"user": "42"}, "volatile": True},
        {"to": {"user": "42"}, "ttl": 0},
    ],
)
async def test_batch_with_a_message_that_cannot_be_kept_is_rejected_whole(
    server: RestApiServer, message: dict[str, Any]
) -> None:
    first = KEPT | {"to": {"user": "42"}}

    response = await server.post("/batch", {"messages": [first, KEPT | message]})

    assert (response.problem, [*response.json["errors"]]) == ((422, "invalid_body"), ["messages.1.ttl"])
    assert sent(server) == []


async def test_large_pushes_are_kept(server: RestApiServer) -> None:
    large = KEPT | {"data": "x" * 40_000}

    user = await server.post("/emit/user/42", large)
    users = await server.post("/emit/users", large | {"users": ["42", "43"]})
    batch = await server.post("/batch", {"messages": [large | {"to": {"users": ["42", "43"]}}]})

    assert [user.json["stored"], users.json["stored"], batch.json["results"][0]["stored"]] == [True] * 3
    assert sent(server) == [3600] * 3
