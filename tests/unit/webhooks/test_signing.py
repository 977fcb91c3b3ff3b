"""The signature of Standard Webhooks 1.0."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from gateway.domain.webhooks import decode_secret
from gateway.webhooks.signing import signature_headers

SECRET = "whsec_ZXhhbXBsZS1ob29rLXNlY3JldC1vZi0zMi1ieXRlcyE="
BODY = b'{"type":"user.online","timestamp":"2026-11-21T12:00:00.000Z","data":{"user":"42","version":1795262400000}}'
ID = "p-42-1795262400000"


def test_vector_of_the_documentation_is_signed_as_documented() -> None:
    headers = signature_headers(event_id=ID, timestamp=1795262400, body=BODY, keys=[decode_secret(SECRET)])

    assert headers == {
        "webhook-id": ID,
        "webhook-timestamp": "1795262400",
        "webhook-signature": "v1,RjRMO/jBaic2owANFhtAFs6FXxTJEgajJ+pyAzUNZ0Q=",
    }


def test_every_secret_signs_in_the_order_of_the_settings() -> None:
    keys = [b"a" * 24, b"b" * 64]
    signed = f"{ID}.1.".encode() + BODY

    signatures = signature_headers(event_id=ID, timestamp=1, body=BODY, keys=keys)["webhook-signature"]

    assert signatures.split(" ") == [
        "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode() for key in keys
    ]


@pytest.mark.parametrize("event_id", ["", "a.b", "a b", "a\r\nx: y", "ä", "a" * 129])
def test_id_that_could_change_the_signed_text_is_rejected(event_id: str) -> None:
    with pytest.raises(ValueError, match="the id of an event"):
        signature_headers(event_id=event_id, timestamp=1, body=b"", keys=[b"k" * 24])


@pytest.mark.parametrize("length", [24, 32, 64])
def test_secret_of_24_to_64_bytes_is_accepted(length: int) -> None:
    assert decode_secret("whsec_" + base64.b64encode(b"k" * length).decode()) == b"k" * length


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "ZXhhbXBsZS1ob29rLXNlY3JldC1vZi0zMi1ieXRlcyE=",
        "whsec_",
        "whsec_not base64!",
        "whsec_" + base64.b64encode(b"k" * 23).decode(),
        "whsec_" + base64.b64encode(b"k" * 65).decode(),
        SECRET + "\n",
    ],
)
def test_other_secret_is_rejected_with_a_sentence_that_does_not_quote_it(secret: str) -> None:
    with pytest.raises(ValueError) as raised:
        decode_secret(secret)

    assert "ZXhhb" not in str(raised.value)
    assert "a2tra" not in str(raised.value)
