"""Every way in which a signature can be wrong, over the wire."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.domain.ingest_keys import IngestKey
from tests.support.paths import ROOT
from tests.unit.ingest_api.harness import NOW, SECRET, SHOP, Door, Headers, running

VECTORS = json.loads((ROOT / "tests/support/vectors" / "signing.json").read_text(encoding="utf-8"))
BODY = b'{"event":"e"}'
JSON = [("Content-Type", "application/json")]
NAMES = ("X-Gateway-Key", "X-Gateway-Timestamp", "X-Gateway-Nonce", "X-Gateway-Signature")


def without(headers: Headers, name: str) -> Headers:
    return [header for header in headers if header[0] != name]


async def ask(door: Door, headers: Headers, body: bytes = BODY, target: str = "/broadcast") -> Any:
    return await door.ask("POST", target, body, headers + JSON)


@pytest.mark.parametrize("name", NAMES)
async def test_a_missing_header_is_a_missing_signature(door: Door, name: str) -> None:
    reply = await ask(door, without(door.sign("POST", "/broadcast", BODY), name))

    assert reply.refusal == (401, "missing_signature")
    assert reply.headers["www-authenticate"] == "Gateway-HMAC"
    assert name in reply.json["detail"]


@pytest.mark.parametrize("name", NAMES)
async def test_a_repeated_header_is_a_missing_signature(door: Door, name: str) -> None:
    headers = door.sign("POST", "/broadcast", BODY)

    reply = await ask(door, headers + [header for header in headers if header[0] == name])

    assert reply.refusal == (401, "missing_signature")


@pytest.mark.parametrize(
    "wrong", VECTORS["invalid"], ids=lambda wrong: f"{wrong['header']}: {wrong['reason']}"
)
async def test_a_malformed_header_is_a_missing_signature(door: Door, wrong: dict[str, str]) -> None:
    headers = without(door.sign("POST", "/broadcast", BODY), wrong["header"])

    reply = await ask(door, [*headers, (wrong["header"], wrong["value"])])

    assert reply.refusal == (401, "missing_signature")


async def test_names_of_headers_may_be_in_any_case(door: Door) -> None:
    headers = [(name.lower(), value) for name, value in door.sign("POST", "/broadcast", BODY)]

    assert (await ask(door, headers)).status == 200


async def test_an_unknown_key_is_refused_as_such(door: Door) -> None:
    stranger = IngestKey("stranger", (SECRET,))

    reply = await ask(door, door.sign("POST", "/broadcast", BODY, key=stranger))

    assert reply.refusal == (401, "unknown_key")


@pytest.mark.parametrize("offset", [-301, 301, -100_000, 10**14])
async def test_a_timestamp_far_away_is_out_of_range(door: Door, offset: int) -> None:
    door.clock.seconds += 100_000
    timestamp = int(door.clock.now()) + offset

    reply = await ask(door, door.sign("POST", "/broadcast", BODY, timestamp=timestamp))

    assert reply.refusal == (401, "timestamp_out_of_range")
    assert reply.json["server_time"] == int(door.clock.now())


@pytest.mark.parametrize("offset", [-300, 300, 0])
async def test_a_timestamp_within_five_minutes_is_good(door: Door, offset: int) -> None:
    door.clock.seconds += 1000
    timestamp = int(door.clock.now()) + offset

    assert (await ask(door, door.sign("POST", "/broadcast", BODY, timestamp=timestamp))).status == 200


async def test_a_timestamp_from_before_nonces_were_remembered_is_out_of_range(door: Door) -> None:
    reply = await ask(door, door.sign("POST", "/broadcast", BODY, timestamp=int(NOW) - 1))

    assert reply.refusal == (401, "timestamp_out_of_range")
    assert "remember" in reply.json["detail"]


async def test_leading_zeros_of_a_timestamp_are_signed_as_they_are(door: Door) -> None:
    headers = without(door.sign("POST", "/broadcast", BODY), "X-Gateway-Timestamp")

    reply = await ask(door, [*headers, ("X-Gateway-Timestamp", f"0{int(NOW)}")])

    assert reply.refusal == (401, "bad_signature")


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
async def test_a_signature_of_another_request_is_bad(door: Door, change: dict[str, Any]) -> None:
    what = {"method": "POST", "target": "/broadcast", "body": BODY} | change
    headers = without(door.sign(**what), "Idempotency-Key")

    reply = await ask(door, headers)

    assert reply.refusal == (401, "bad_signature")
    assert door.taken == []


@pytest.mark.parametrize("name", ["X-Gateway-Timestamp", "X-Gateway-Nonce", "X-Gateway-Key"])
async def test_a_header_that_was_changed_after_signing_breaks_the_signature(name: str) -> None:
    other = IngestKey("other", ("another secret, long enough as well, but another",))
    async with running(keys=(SHOP, other)) as door:
        changed = {
            "X-Gateway-Timestamp": str(int(NOW) + 1),
            "X-Gateway-Nonce": "changed-nonce",
            "X-Gateway-Key": "other",
        }
        headers = without(door.sign("POST", "/broadcast", BODY), name)

        assert (await ask(door, [*headers, (name, changed[name])])).refusal == (401, "bad_signature")


async def test_an_idempotency_key_is_signed(door: Door) -> None:
    headers = door.sign("POST", "/broadcast", BODY)

    assert (await ask(door, [*headers, ("Idempotency-Key", "one")])).refusal == (401, "bad_signature")


@pytest.mark.parametrize("target", ["/emit/user/a%2fb", "/emit/user/a%2Fb?", "/emit/user/%61%2Fb?x=%zz&y#"])
async def test_the_target_is_signed_byte_for_byte(door: Door, target: str) -> None:
    good = door.sign("POST", target, BODY)
    normalised = door.sign("POST", "/emit/user/a%2Fb", BODY)
    expected = (400, "invalid_path") if "#" in target else (401, "bad_signature")

    assert (await ask(door, normalised, target=target)).refusal == expected
    if "#" not in target:
        assert (await ask(door, good, target=target)).status == 200


async def test_any_secret_of_a_key_may_sign() -> None:
    secrets = tuple(f"secret number {number} of a key that is rotated" for number in range(3))
    async with running(keys=(IngestKey("shop", secrets),)) as door:
        for secret in secrets:
            assert (await ask(door, door.sign("POST", "/broadcast", BODY, secret=secret))).status == 200


async def test_a_nonce_is_good_once(door: Door) -> None:
    headers = door.sign("POST", "/broadcast", BODY)

    assert (await ask(door, headers)).status == 200
    assert (await ask(door, headers)).refusal == (401, "replayed_request")
    assert len(door.taken) == 1


async def test_a_nonce_is_good_once_for_all_calls_of_a_key(door: Door) -> None:
    nonce = "once-for-all"

    assert (await door.call("GET", "/presence/42", nonce=nonce)).status == 200
    assert (await door.call("GET", "/presence/42", nonce=nonce)).refusal == (401, "replayed_request")
    assert (await door.post("/disconnect/user/42", {}, nonce=nonce)).refusal == (401, "replayed_request")


async def test_a_nonce_belongs_to_its_key() -> None:
    other = IngestKey("other", ("another secret, long enough as well, but another",))
    async with running(keys=(SHOP, other)) as door:
        for key in (SHOP, other):
            assert (
                await ask(door, door.sign("POST", "/broadcast", BODY, key=key, nonce="the-same"))
            ).status == 200


async def test_a_refused_request_does_not_spend_its_nonce(door: Door) -> None:
    nonce = "spent-by-success"
    for bad in (b"", b"{}", b'{"event":"connect"}'):
        assert (await ask(door, door.sign("POST", "/broadcast", bad, nonce=nonce), bad)).status in {400, 422}

    assert (await ask(door, door.sign("POST", "/broadcast", BODY, nonce=nonce))).status == 200


async def test_a_replay_is_noticed_for_as_long_as_its_timestamp_is_good(door: Door) -> None:
    headers = door.sign("POST", "/broadcast", BODY, timestamp=int(NOW) + 300)
    assert (await ask(door, headers)).status == 200

    door.clock.seconds += 600
    assert (await ask(door, headers)).refusal == (401, "replayed_request")
    door.clock.seconds += 1
    assert (await ask(door, headers)).refusal == (401, "timestamp_out_of_range")


async def test_a_key_that_is_taken_away_is_unknown_at_once() -> None:
    keys = {"shop": SHOP}
    async with running(lookup=keys.get) as door:
        assert (await ask(door, door.sign("POST", "/broadcast", BODY))).status == 200
        keys.clear()
        assert (await ask(door, door.sign("POST", "/broadcast", BODY))).refusal == (401, "unknown_key")


@pytest.mark.parametrize("value", ["", "x" * 256, "schlüssel", "a\tb"])
async def test_a_malformed_idempotency_key_is_refused(door: Door, value: str) -> None:
    reply = await door.post("/broadcast", {"event": "e"}, more=[("Idempotency-Key", value)])

    assert reply.refusal == (400, "invalid_idempotency_key")


async def test_a_repeated_idempotency_key_is_refused(door: Door) -> None:
    reply = await door.post(
        "/broadcast", {"event": "e"}, idempotency_key="a", more=[("Idempotency-Key", "a")]
    )

    assert reply.refusal == (400, "invalid_idempotency_key")
