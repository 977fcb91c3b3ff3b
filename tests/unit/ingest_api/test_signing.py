"""The pure functions that compute and check signatures as docs/reference/signing.md describes them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from gateway.domain.errors import FreshnessUnknown
from ingest_api import signing
from tests.support.paths import ROOT

VECTORS = json.loads((ROOT / "tests/support/vectors" / "signing.json").read_text(encoding="utf-8"))
TEXT = b"a text"
SECRETS = ("the first secret", "the second secret")


def body_of(vector: dict[str, Any]) -> bytes:
    return base64.b64decode(vector["body_base64"]) if "body_base64" in vector else vector["body"].encode()


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda vector: vector["name"])
def test_vector_gives_its_text_and_signature(vector: dict[str, Any]) -> None:
    digest = signing.body_digest(body_of(vector))
    text = signing.string_to_sign(
        key_id=vector["key"],
        method=vector["method"],
        target=vector["target"].encode(),
        timestamp=vector["timestamp"],
        nonce=vector["nonce"],
        idempotency_key=vector["idempotency_key"] or None,
        digest=digest,
    )

    assert digest == vector["body_sha256"]
    assert text == vector["text"].encode()
    assert signing.signature_of(vector["secret"], text) == vector["signature"]


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda vector: vector["name"])
def test_vector_gives_the_headers_of_a_request(vector: dict[str, Any]) -> None:
    headers = signing.sign(
        vector["secret"],
        key_id=vector["key"],
        method=vector["method"],
        target=vector["target"],
        timestamp=int(vector["timestamp"]),
        nonce=vector["nonce"],
        body=body_of(vector),
        idempotency_key=vector["idempotency_key"] or None,
    )

    assert headers["X-Gateway-Signature"] == vector["signature"]
    assert headers.get("Idempotency-Key", "") == vector["idempotency_key"]
    credentials = signing.read_credentials(lambda name, _: [headers[name]])
    assert (credentials.key_id, credentials.nonce) == (vector["key"], vector["nonce"])


@pytest.mark.parametrize("secret", SECRETS)
def test_signature_of_each_secret_of_a_key_is_valid(secret: str) -> None:
    signing.check_signature(signing.signature_of(secret, TEXT), SECRETS, TEXT)


@pytest.mark.parametrize("secrets", [SECRETS, ()])
def test_signature_of_another_secret_is_rejected(secrets: tuple[str, ...]) -> None:
    with pytest.raises(signing.BadSignature):
        signing.check_signature(signing.signature_of("a third secret", TEXT), secrets, TEXT)


def test_every_secret_is_tried_even_after_a_match() -> None:
    tried: list[str] = []

    def secrets() -> Any:
        for secret in SECRETS:
            tried.append(secret)
            yield secret

    signing.check_signature(signing.signature_of(SECRETS[0], TEXT), secrets(), TEXT)

    assert tried == list(SECRETS)


@pytest.mark.parametrize(
    ("timestamp", "now", "is_valid"),
    [
        ("1000", 1000.0, True),
        ("1000", 1300.0, True),
        ("1000", 1300.1, False),
        ("1000", 700.0, True),
        ("1000", 699.9, False),
        ("0000001000", 1000.0, True),
        ("9" * 15, 1000.0, False),
    ],
)
def test_timestamp_is_valid_for_five_minutes_in_either_direction(
    timestamp: str, now: float, is_valid: bool
) -> None:
    if is_valid:
        signing.check_timestamp(timestamp, now=now, others=lambda: ())
        return
    with pytest.raises(signing.TimestampOutOfRange) as error:
        signing.check_timestamp(timestamp, now=now, others=lambda: (now,))
    assert error.value.members["server_time"] == int(now)


def test_timestamp_that_another_clock_accepts_is_not_out_of_range() -> None:
    with pytest.raises(FreshnessUnknown):
        signing.check_timestamp("1000", now=4600.0, others=lambda: (9000.0, 1300.0))


def test_error_names_the_header_but_not_its_value() -> None:
    with pytest.raises(signing.MissingSignature) as error:
        signing.read_credentials(lambda _, __: ["not\nwell formed"])

    assert "X-Gateway-Key" in error.value.detail
    assert "formed\n" not in error.value.detail
    assert "not\n" not in error.value.detail
