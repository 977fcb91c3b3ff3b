"""Sign requests by Standard Webhooks 1.0 (https://www.standardwebhooks.com): HMAC-SHA256 of ``id.timestamp.body``."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Final

SECRET_PREFIX: Final = "whsec_"  # noqa: S105  # the beginning of every secret
MIN_KEY_BYTES: Final = 24
MAX_KEY_BYTES: Final = 64
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)


def decode_secret(secret: str) -> bytes:
    """Return the key of a secret.

    Raises: ValueError with one sentence, which quotes nothing of the secret.
    """
    if not secret.startswith(SECRET_PREFIX):
        raise ValueError(f"a secret does not begin with {SECRET_PREFIX}")
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"a secret is not {SECRET_PREFIX} and base64") from None
    if not MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES:
        raise ValueError(f"the base64 of a secret is not that of {MIN_KEY_BYTES} to {MAX_KEY_BYTES} bytes")
    return key


def signature_headers(*, event_id: str, timestamp: int, body: bytes, keys: Sequence[bytes]) -> dict[str, str]:
    """Return the three headers of a request: every key signs.

    Raises: ValueError if the id has other characters than ``A-Z a-z 0-9 _ -``: a dot would end it in the signed text.
    """
    if not _ID.fullmatch(event_id):
        raise ValueError("the id of an event has 1 to 128 characters of A-Z a-z 0-9 _ -")
    signed = f"{event_id}.{timestamp}.".encode() + body
    signatures = (base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in keys)
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
