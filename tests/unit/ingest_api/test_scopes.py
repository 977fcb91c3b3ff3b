"""What a key may do."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.domain.ingest_keys import IngestKey, Scope
from tests.unit.ingest_api.harness import SECRET, running

EVENT = {"event": "e"}
CALLS: list[tuple[str, str, Any]] = [
    ("POST", "/emit/user/42", EVENT),
    ("POST", "/emit/room", EVENT | {"room": "org:7"}),
    ("POST", "/broadcast", EVENT),
    ("GET", "/presence/42", b""),
    ("POST", "/disconnect/user/42", {}),
]


def key(*scopes: str) -> IngestKey:
    return IngestKey("shop", (SECRET,), tuple(Scope.parse(scope) for scope in scopes))


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [
        ("emit:user", "/emit/user/42"),
        ("emit:room", "/emit/room"),
        ("broadcast", "/broadcast"),
        ("presence", "/presence/42"),
        ("admin", "/disconnect/user/42"),
    ],
)
async def test_a_scope_opens_one_call(scope: str, allowed: str) -> None:
    async with running(keys=(key(scope),)) as door:
        for method, target, body in CALLS:
            reply = await door.call(method, target, body, key=key(scope))

            if target == allowed:
                assert reply.status == 200
            else:
                assert reply.refusal == (403, "missing_scope")


async def test_a_key_without_scopes_may_do_nothing() -> None:
    async with running(keys=(key(),)) as door:
        for method, target, body in CALLS:
            assert (await door.call(method, target, body, key=key())).refusal == (403, "missing_scope")


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
    ],
)
async def test_a_scope_may_be_narrowed_to_names(
    scopes: list[str], target: str, address: dict[str, object], status: int
) -> None:
    async with running(keys=(key(*scopes),)) as door:
        reply = await door.post(target, EVENT | address, key=key(*scopes))

        assert reply.status == status
        assert status == 200 or reply.code == "missing_scope"
        assert len(door.taken) == (status == 200)
