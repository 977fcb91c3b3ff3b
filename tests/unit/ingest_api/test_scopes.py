"""The calls and names that the scopes of a key allow."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from gateway.domain.ingest_keys import IngestKey, Scope
from ingest_api import openapi
from tests.unit.ingest_api.harness import SECRET, run_rest_api

EVENT = {"event": "e"}
SID = "~Us0vkvkHVoWsjT_pvFDI"
CALLS: list[tuple[str, str, Any]] = [
    ("POST", "/emit/user/42", EVENT),
    ("POST", "/emit/room", EVENT | {"room": "org:7"}),
    ("POST", "/emit/users", EVENT | {"users": ["42"]}),
    ("POST", "/batch", {"messages": [EVENT | {"to": {"user": "42"}}]}),
    ("POST", "/broadcast", EVENT),
    ("GET", "/presence/42", b""),
    ("POST", "/presence", {"users": ["42"]}),
    ("GET", "/stats", b""),
    ("GET", "/users", b""),
    ("GET", "/rooms", b""),
    ("GET", "/rooms/org:7", b""),
    ("GET", "/connections?user=42", b""),
    ("GET", "/connections/~1", b""),
    ("PATCH", "/connections/~1", {"data": {}}),
    ("POST", "/disconnect/user/42", {}),
    ("POST", "/revoke", {"jti": "t-1"}),
    ("POST", "/disconnect/room", {"room": "org:7"}),
    ("POST", "/join", {"who": "everyone", "rooms": ["a"]}),
    ("POST", "/leave", {"who": "everyone", "rooms": ["a"]}),
    ("GET", "/webhooks", b""),
    ("GET", "/webhooks/none/dead", b""),
    ("POST", "/webhooks/none/replay", {"ids": ["a"]}),
    ("POST", "/webhooks/none/drop", {"ids": ["a"]}),
    ("GET", "/history/room/org%3A7", b""),
    ("GET", "/history/user/42", b""),
    ("GET", "/history/broadcast", b""),
    ("DELETE", "/history/room/org%3A7?upto=1-0", b""),
    ("DELETE", "/history/user/42?upto=1-0", b""),
    ("DELETE", "/history/broadcast?upto=1-0", b""),
]
ADMIN = {
    f"{method} {target}"
    for method, target, _ in CALLS
    if target.startswith(("/disconnect", "/revoke", "/webhooks")) or method in {"PATCH", "DELETE"}
}
PRESENCE = {
    f"{method} {target}"
    for method, target, _ in CALLS
    if target.startswith(("/presence", "/stats", "/users", "/rooms", "/connections")) and method != "PATCH"
}
HISTORY = {
    f"GET {target}" for method, target, _ in CALLS if target.startswith("/history") and method == "GET"
}


def key(*scopes: str) -> IngestKey:
    return IngestKey("shop", (SECRET,), tuple(Scope.parse(scope) for scope in scopes))


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [
        ("emit:user", {"POST /emit/user/42", "POST /emit/users", "POST /batch"}),
        ("emit:room", {"POST /emit/room"}),
        ("broadcast", {"POST /broadcast"}),
        ("presence", PRESENCE),
        ("history", HISTORY),
        ("join", {"POST /join", "POST /leave"}),
        ("admin", ADMIN),
        ("emit:user:4*", {"POST /emit/user/42", "POST /emit/users", "POST /batch"}),
        ("emit:user:5*", set()),
        ("emit:room:org:*", {"POST /emit/room"}),
        ("emit:room:tenant:*", set()),
        ("history:org:*", {"GET /history/room/org%3A7"}),
        ("history:user:4*", {"GET /history/user/42"}),
        ("history:tenant:*", set()),
        ("join:a*", {"POST /join", "POST /leave"}),
        ("join:b*", set()),
    ],
)
async def test_scope_allows_its_calls_alone(scope: str, allowed: set[str]) -> None:
    async with run_rest_api(keys=(key(scope),)) as server:
        for method, target, body in CALLS:
            response = await server.send_signed(method, target, body, key=key(scope))

            is_allowed = f"{method} {target}" in allowed
            if is_allowed and target.startswith("/connections/~1"):
                assert response.problem == (404, "unknown_connection")
            elif is_allowed and "/none/" in target:
                assert response.problem == (404, "unknown_webhook")
            elif is_allowed:
                assert response.status == 200
            else:
                assert response.problem == (403, "missing_scope")


def test_table_has_every_signed_call() -> None:
    paths = yaml.safe_load(openapi.text())["paths"]
    described = {(method.upper(), path) for path, calls in paths.items() for method in calls}
    templates = {path: re.compile(re.sub(r"\\{[^}]+\\}", "[^/]+", re.escape(path))) for path in paths}
    tested = {
        (method, path)
        for method, target, _ in CALLS
        for path, template in templates.items()
        if template.fullmatch(target.partition("?")[0])
    }

    assert tested >= described - {("GET", "/openapi.yaml")}


async def test_key_without_scopes_allows_no_call() -> None:
    async with run_rest_api(keys=(key(),)) as server:
        for method, target, body in CALLS:
            assert (await server.send_signed(method, target, body, key=key())).problem == (
                403,
                "missing_scope",
            )


@pytest.mark.parametrize(
    ("scopes", "target", "address", "status"),
    [
        (["emit:user:shop-*"], "/emit/user/shop-1", {}, 200),
        (["emit:user:shop-*"], "/emit/user/other", {}, 403),
        (["emit:user:a%2Fb"], "/emit/user/a%2Fb", {}, 403),
        (["emit:user:a/b"], "/emit/user/a%2Fb", {}, 200),
        (["emit:user:4?"], "/emit/user/42", {}, 403),
        (["emit:room:org:*"], "/emit/room", {"room": "org:7"}, 200),
        (["emit:room:org:*"], "/emit/room", {"room": "tenant:7"}, 403),
        (["emit:room:org:*"], "/emit/room", {"rooms": ["org:7", "tenant:7"]}, 403),
        (["emit:room:org:*", "emit:room:tenant:7"], "/emit/room", {"rooms": ["org:7", "tenant:7"]}, 200),
        (["emit:room"], "/emit/room", {"room": "user:42"}, 403),
        (["emit:room:user:*"], "/emit/room", {"room": "user:42"}, 403),
        (["emit:room:*"], "/emit/room", {"rooms": ["org:7", "user:42"]}, 403),
        (["emit:user"], "/emit/room", {"room": "user:42"}, 200),
        (["emit:user:42"], "/emit/room", {"rooms": ["user:42", "user:43"]}, 403),
        (["emit:user"], "/emit/room", {"room": "org:7"}, 403),
        (["emit:room", "emit:user"], "/emit/room", {"rooms": ["user:42", "org:7"]}, 200),
        (["emit:room:org:*"], "/emit/room", {"room": "org:7", "except": ["tenant:1", "user:2"]}, 200),
        (["emit:room"], "/emit/room", {"room": SID}, 403),
        (["emit:room:~*"], "/emit/room", {"room": SID}, 403),
        (["emit:room", "emit:user:4*"], "/emit/room", {"rooms": ["org:7", SID]}, 403),
        (["emit:user:*"], "/emit/room", {"room": SID}, 200),
        (["emit:room", "emit:user"], "/emit/room", {"rooms": ["org:7", SID]}, 200),
        (["emit:room"], "/emit/room", {"room": "org:7", "except": [SID]}, 200),
        (["emit:room:org:*"], "/emit/room", {"room": "org:7", "all": ["tenant:1", "user:2", SID]}, 200),
        (["emit:user:4*"], "/emit/users", {"users": ["42", "43"]}, 200),
        (["emit:user:4*"], "/emit/users", {"users": ["42", "53"]}, 403),
    ],
)
async def test_scope_may_be_narrowed_to_names(
    scopes: list[str], target: str, address: dict[str, object], status: int
) -> None:
    async with run_rest_api(keys=(key(*scopes),)) as server:
        response = await server.post(target, EVENT | address, key=key(*scopes))

        assert response.status == status
        assert status == 200 or response.code == "missing_scope"
        assert len(server.published) == (status == 200)


@pytest.mark.parametrize("target", ["/join", "/leave"])
@pytest.mark.parametrize(
    ("scopes", "rooms", "status"),
    [
        (["join"], ["chat:1"], 200),
        (["join:chat:*"], ["chat:1", "chat:2"], 200),
        (["join:chat:*"], ["chat:1", "lobby"], 403),
        (["join:chat:*", "join:lobby"], ["chat:1", "lobby"], 200),
        (["join"], ["org:7"], 403),
        (["join:*"], ["role:admin"], 403),
        (["join:o*"], ["org:7"], 403),
        (["join:org:*"], ["org:7"], 200),
        (["join:role:a*"], ["role:admin"], 200),
        (["join"], ["tenant:1"], 403),
        (["join", "join:user:*"], ["user:42"], 403),
        (["join", "join:~*"], [SID], 403),
        (["join"], ["team:1"], 403),
        (["join:team:*"], ["team:1"], 200),
    ],
)
async def test_rooms_that_tokens_grant_are_joined_by_a_scope_that_names_them_and_those_of_users_never(
    target: str, scopes: list[str], rooms: list[str], status: int
) -> None:
    async with run_rest_api(keys=(key(*scopes),)) as server:
        response = await server.post(target, {"who": {"user": "42"}, "rooms": rooms}, key=key(*scopes))

        assert response.status == status
        assert status == 200 or response.code == "missing_scope"
        assert len(server.published) == (status == 200)


@pytest.mark.parametrize(("scopes", "status"), [(["emit:room"], 403), (["emit:room", "emit:user"], 200)])
async def test_sid_of_the_previous_release_needs_the_scope_for_every_user_and_other_rooms_do_not(
    scopes: list[str], status: int
) -> None:
    async with run_rest_api(keys=(key(*scopes),)) as server:
        await server.register_connection("42", "Us0vkvkHVoWsjT_pvFDI")

        room = EVENT | {"room": "order-12345678901234"}
        assert (await server.post("/emit/room", room, key=key(*scopes))).status == 200
        sid = EVENT | {"rooms": ["org:7", "Us0vkvkHVoWsjT_pvFDI"]}
        assert (await server.post("/emit/room", sid, key=key(*scopes))).status == status
