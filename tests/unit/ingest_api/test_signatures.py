"""Signatures over HTTP: every error that they can have."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.domain.ingest_keys import IngestKey
from tests.support.paths import ROOT
from tests.unit.ingest_api.harness import NOW, SECRET, SHOP, Headers, RestApiServer, run_rest_api

VECTORS = json.loads((ROOT / "tests/support/vectors" / "signing.json").read_text(encoding="utf-8"))
BODY = b'{"event":"e"}'
JSON = [("Content-Type", "application/json")]
NAMES = ("X-Gateway-Key", "X-Gateway-Timestamp", "X-Gateway-Nonce", "X-Gateway-Signature")


def without(headers: Headers, name: str) -> Headers:
    return [header for header in headers if header[0] != name]


async def post_with(
    server: RestApiServer, headers: Headers, body: bytes = BODY, target: str = "/broadcast"
) -> Any:
    return await server.send_request("POST", target, body, headers + JSON)


@pytest.mark.parametrize("name", NAMES)
async def test_missing_header_is_a_missing_signature(server: RestApiServer, name: str) -> None:
    response = await post_with(server, without(server.sign("POST", "/broadcast", BODY), name))

    assert response.problem == (401, "missing_signature")
    assert response.headers["www-authenticate"] == "Gateway-HMAC"
    assert name in response.json["detail"]


@pytest.mark.parametrize("name", NAMES)
async def test_repeated_header_is_a_missing_signature(server: RestApiServer, name: str) -> None:
    headers = server.sign("POST", "/broadcast", BODY)

    response = await post_with(server, headers + [header for header in headers if header[0] == name])

    assert response.problem == (401, "missing_signature")


@pytest.mark.parametrize(
    "invalid", VECTORS["invalid"], ids=lambda invalid: f"{invalid['header']}: {invalid['reason']}"
)
async def test_malformed_header_is_a_missing_signature(
    server: RestApiServer, invalid: dict[str, str]
) -> None:
    headers = without(server.sign("POST", "/broadcast", BODY), invalid["header"])

    response = await post_with(server, [*headers, (invalid["header"], invalid["value"])])

    assert response.problem == (401, "missing_signature")


async def test_header_names_are_case_insensitive(server: RestApiServer) -> None:
    headers = [(name.lower(), value) for name, value in server.sign("POST", "/broadcast", BODY)]

    assert (await post_with(server, headers)).status == 200


async def test_unknown_key_is_rejected(server: RestApiServer) -> None:
    unknown = IngestKey("unknown", (SECRET,))

    response = await post_with(server, server.sign("POST", "/broadcast", BODY, key=unknown))

    assert response.problem == (401, "unknown_key")


@pytest.mark.parametrize("offset", [-301, 301, -100_000, 10**14])
async def test_timestamp_more_than_five_minutes_off_is_out_of_range(
    server: RestApiServer, offset: int
) -> None:
    server.clock.advance(100_000)
    timestamp = int(server.clock.now()) + offset

    response = await post_with(server, server.sign("POST", "/broadcast", BODY, timestamp=timestamp))

    assert response.problem == (401, "timestamp_out_of_range")
    assert response.json["server_time"] == int(server.clock.now())


@pytest.mark.parametrize("offset", [-300, 300, 0])
async def test_timestamp_within_five_minutes_is_accepted(server: RestApiServer, offset: int) -> None:
    server.clock.advance(1000)
    timestamp = int(server.clock.now()) + offset

    assert (
        await post_with(server, server.sign("POST", "/broadcast", BODY, timestamp=timestamp))
    ).status == 200


async def test_request_from_before_nonces_were_stored_is_signed_anew(server: RestApiServer) -> None:
    response = await post_with(server, server.sign("POST", "/broadcast", BODY, timestamp=int(NOW) - 7))

    assert response.problem == (503, "freshness_unknown")
    assert response.headers["retry-after"] == "7"
    assert "sign it anew" in response.json["detail"]
    server.clock.advance(7)
    assert (
        await post_with(server, server.sign("POST", "/broadcast", BODY, timestamp=int(NOW)))
    ).status == 200


async def test_request_signed_ahead_is_accepted_once_the_store_is_five_minutes_old(
    server: RestApiServer,
) -> None:
    def signed(ahead: int) -> Headers:
        return server.sign("POST", "/broadcast", BODY, timestamp=int(server.clock.now()) + ahead)

    assert (await post_with(server, signed(2))).status == 200
    early = await post_with(server, signed(250))
    assert (early.problem, early.headers["retry-after"]) == ((503, "freshness_unknown"), "300")
    server.clock.advance(300)
    assert (await post_with(server, signed(300))).status == 200


async def test_timestamp_that_fits_the_clock_before_it_was_set_is_not_called_wrong(
    server: RestApiServer,
) -> None:
    server.clock.advance(1000)
    right = server.clock.now()
    for set_by in (3600, -7200):
        server.clock.wall += set_by
        response = await post_with(server, server.sign("POST", "/broadcast", BODY, timestamp=int(right)))
        assert (response.problem, response.headers["retry-after"]) == ((503, "freshness_unknown"), "5")
    server.clock.wall += 3600
    assert (
        await post_with(server, server.sign("POST", "/broadcast", BODY, timestamp=int(right)))
    ).status == 200


async def test_leading_zeros_of_a_timestamp_are_part_of_the_signed_text(server: RestApiServer) -> None:
    headers = without(server.sign("POST", "/broadcast", BODY), "X-Gateway-Timestamp")

    response = await post_with(server, [*headers, ("X-Gateway-Timestamp", f"0{int(NOW)}")])

    assert response.problem == (401, "bad_signature")


@pytest.mark.parametrize(
    "change",
    [
        {"secret": "another secret, long enough as well, but another"},
        {"method": "PUT"},
        {"target": "/emit/room"},
        {"target": "/broadcast?"},
        {"target": "/broadcast?a=1"},
        {"target": "http://gateway/broadcast"},
        {"body": b""},
        {"body": BODY + b" "},
        {"idempotency_key": "one"},
    ],
    ids=str,
)
async def test_signature_of_another_request_is_bad(server: RestApiServer, change: dict[str, Any]) -> None:
    request = {"method": "POST", "target": "/broadcast", "body": BODY} | change
    headers = without(server.sign(**request), "Idempotency-Key")

    response = await post_with(server, headers)

    assert response.problem == (401, "bad_signature")
    assert server.published == []


@pytest.mark.parametrize("name", ["X-Gateway-Timestamp", "X-Gateway-Nonce", "X-Gateway-Key"])
async def test_header_changed_after_signing_is_a_bad_signature(name: str) -> None:
    other = IngestKey("other", ("another secret, long enough as well, but another",))
    async with run_rest_api(keys=(SHOP, other)) as server:
        changed = {
            "X-Gateway-Timestamp": str(int(NOW) + 1),
            "X-Gateway-Nonce": "changed-nonce",
            "X-Gateway-Key": "other",
        }
        headers = without(server.sign("POST", "/broadcast", BODY), name)

        assert (await post_with(server, [*headers, (name, changed[name])])).problem == (401, "bad_signature")


async def test_idempotency_key_is_part_of_the_signed_text(server: RestApiServer) -> None:
    headers = server.sign("POST", "/broadcast", BODY)

    assert (await post_with(server, [*headers, ("Idempotency-Key", "one")])).problem == (401, "bad_signature")


@pytest.mark.parametrize("target", ["/emit/user/a%2fb", "/emit/user/a%2Fb?", "/emit/user/%61%2Fb?x=%zz&y#"])
async def test_target_is_signed_byte_for_byte(server: RestApiServer, target: str) -> None:
    exact = server.sign("POST", target, BODY)
    normalised = server.sign("POST", "/emit/user/a%2Fb", BODY)
    expected = (400, "invalid_path") if "#" in target else (401, "bad_signature")

    assert (await post_with(server, normalised, target=target)).problem == expected
    if "#" not in target:
        assert (await post_with(server, exact, target=target)).status == 200


async def test_any_secret_of_a_key_may_sign() -> None:
    secrets = tuple(f"secret number {number} of a key that is rotated" for number in range(3))
    async with run_rest_api(keys=(IngestKey("shop", secrets),)) as server:
        for secret in secrets:
            assert (
                await post_with(server, server.sign("POST", "/broadcast", BODY, secret=secret))
            ).status == 200


async def test_nonce_is_accepted_once(server: RestApiServer) -> None:
    headers = server.sign("POST", "/broadcast", BODY)

    assert (await post_with(server, headers)).status == 200
    assert (await post_with(server, headers)).problem == (401, "replayed_request")
    assert len(server.published) == 1


async def test_nonce_is_accepted_once_for_all_calls_of_a_key(server: RestApiServer) -> None:
    nonce = "once-for-all"

    assert (await server.send_signed("GET", "/presence/42", nonce=nonce)).status == 200
    assert (await server.send_signed("GET", "/presence/42", nonce=nonce)).problem == (401, "replayed_request")
    assert (await server.post("/disconnect/user/42", {}, nonce=nonce)).problem == (401, "replayed_request")


async def test_nonce_belongs_to_its_key() -> None:
    other = IngestKey("other", ("another secret, long enough as well, but another",))
    async with run_rest_api(keys=(SHOP, other)) as server:
        for key in (SHOP, other):
            assert (
                await post_with(server, server.sign("POST", "/broadcast", BODY, key=key, nonce="the-same"))
            ).status == 200


async def test_rejected_request_does_not_consume_its_nonce(server: RestApiServer) -> None:
    nonce = "consumed-by-success"
    for bad in (b"", b"{}", b'{"event":"connect"}'):
        assert (await post_with(server, server.sign("POST", "/broadcast", bad, nonce=nonce), bad)).status in {
            400,
            422,
        }

    assert (await post_with(server, server.sign("POST", "/broadcast", BODY, nonce=nonce))).status == 200


async def test_replay_is_detected_while_its_timestamp_is_valid(server: RestApiServer) -> None:
    server.clock.advance(300)
    headers = server.sign("POST", "/broadcast", BODY, timestamp=int(NOW) + 600)
    assert (await post_with(server, headers)).status == 200

    server.clock.advance(600)
    assert (await post_with(server, headers)).problem == (401, "replayed_request")
    server.clock.advance(1)
    assert (await post_with(server, headers)).problem == (401, "timestamp_out_of_range")


async def test_removed_key_is_unknown_at_once() -> None:
    keys = {"shop": SHOP}
    async with run_rest_api(lookup=keys.get) as server:
        assert (await post_with(server, server.sign("POST", "/broadcast", BODY))).status == 200
        keys.clear()
        assert (await post_with(server, server.sign("POST", "/broadcast", BODY))).problem == (
            401,
            "unknown_key",
        )


@pytest.mark.parametrize("value", ["", "x" * 256, "schlüssel", "a\tb"])
async def test_malformed_idempotency_key_is_rejected(server: RestApiServer, value: str) -> None:
    response = await server.post("/broadcast", {"event": "e"}, extra_headers=[("Idempotency-Key", value)])

    assert response.problem == (400, "invalid_idempotency_key")


async def test_repeated_idempotency_key_is_rejected(server: RestApiServer) -> None:
    response = await server.post(
        "/broadcast", {"event": "e"}, idempotency_key="a", extra_headers=[("Idempotency-Key", "a")]
    )

    assert response.problem == (400, "invalid_idempotency_key")
