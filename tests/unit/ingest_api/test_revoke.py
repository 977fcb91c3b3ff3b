"""``POST /revoke``: the body, its errors and the answer."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.services.counted_disconnects import DisconnectCount
from tests.unit.ingest_api.harness import run_rest_api

B = "https://b.example/"


@pytest.mark.parametrize(
    ("body", "revoked"),
    [
        ({"jti": "t-1"}, ("t-1", "", None)),
        ({"jti": "ä 1"}, ("ä 1", "", None)),
        ({"jti": "x" * 255}, ("x" * 255, "", None)),
        ({"jti": "t-1", "issuer": B}, ("t-1", B, None)),
        ({"jti": "t-1", "expires_at": 1795266000}, ("t-1", "", 1795266000.0)),
        ({"jti": "t-1", "expires_at": 1795266000.5}, ("t-1", "", 1795266000.5)),
        ({"jti": "t-1", "expires_at": 0}, ("t-1", "", 0.0)),
    ],
)
async def test_token_of_the_body_is_revoked(body: dict[str, Any], revoked: tuple[Any, ...]) -> None:
    async with run_rest_api() as server:
        server.revocations.count = DisconnectCount(3, is_exact=True)

        response = await server.post("/revoke", body)

        assert (response.status, response.json) == (200, {"disconnected": 3})
        assert server.revocations.revoked == [revoked]


async def test_answer_says_that_a_replica_did_not_reply() -> None:
    async with run_rest_api() as server:
        server.revocations.count = DisconnectCount(1, is_exact=False)

        assert (await server.post("/revoke", {"jti": "t"})).json == {"disconnected": 1, "exact": False}


@pytest.mark.parametrize("filler", ["", " " * 20_000], ids=["small", "large"])
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("{}", "jti"),
        ('{"jti":""}', "jti"),
        ('{"jti":null}', "jti"),
        ('{"jti":7}', "jti"),
        ('{"jti":["t"]}', "jti"),
        ('{"jti":"%s"}' % ("x" * 256), "jti"),
        (r'{"jti":"a\u0007"}', "jti"),
        (r'{"jti":"a\u0085"}', "jti"),
        ('{"jti":"t","issuer":""}', "issuer"),
        ('{"jti":"t","issuer":7}', "issuer"),
        ('{"jti":"t","issuer":null}', "issuer"),
        ('{"jti":"t","issuer":"https://unknown.example/"}', "issuer"),
        ('{"jti":"t","issuer":"%s"}' % ("x" * 2_001), "issuer"),
        ('{"jti":"t","expires_at":"1795266000"}', "expires_at"),
        ('{"jti":"t","expires_at":true}', "expires_at"),
        ('{"jti":"t","expires_at":null}', "expires_at"),
        ('{"jti":"t","expires_at":-1}', "expires_at"),
        ('{"jti":"t","expires_at":1795266000000}', "expires_at"),
        ('{"jti":"t","user":"42"}', "user"),
    ],
)
async def test_wrong_field_is_named_and_nothing_is_revoked(body: str, field: str, filler: str) -> None:
    async with run_rest_api() as server:
        response = await server.post("/revoke", (body + filler).encode())

        assert response.problem == (422, "invalid_body")
        assert list(response.json["errors"]) == [field]
        assert server.revocations.revoked == []


async def test_issuer_is_required_if_no_token_is_verified_without_one() -> None:
    async with run_rest_api() as server:
        server.revocations.names = (B,)

        response = await server.post("/revoke", {"jti": "t"})

        assert response.problem == (422, "invalid_body")
        assert response.json["errors"]["issuer"][0].startswith("Missing")
        assert (await server.post("/revoke", {"jti": "t", "issuer": B})).status == 200


async def test_repeat_gets_the_first_answer_and_revokes_nothing_again() -> None:
    async with run_rest_api() as server:
        server.revocations.count = DisconnectCount(2, is_exact=True)
        first = await server.post("/revoke", {"jti": "t"}, idempotency_key="k")
        server.revocations.count = DisconnectCount(0, is_exact=True)

        repeat = await server.post("/revoke", {"jti": "t"}, idempotency_key="k")
        other = await server.post("/revoke", {"jti": "u"}, idempotency_key="k")

        assert (first.json, repeat.json) == ({"disconnected": 2}, {"disconnected": 2})
        assert repeat.headers["idempotency-replayed"] == "true"
        assert other.problem == (409, "idempotency_conflict")
        assert server.revocations.revoked == [("t", "", None)]


async def test_body_that_is_no_json_is_rejected() -> None:
    async with run_rest_api() as server:
        assert (await server.post("/revoke", b"")).problem == (400, "invalid_json")
        assert (await server.post("/revoke", b"[]")).problem == (422, "invalid_body")
        assert (await server.post("/revoke", b"{}", media_type="text/plain")).problem == (
            415,
            "unsupported_media_type",
        )
