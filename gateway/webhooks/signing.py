"""Sign requests by Standard Webhooks 1.0 (https://www.standardwebhooks.com): HMAC-SHA256 of ``id.timestamp.body``."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Final

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)


def is_event_id(text: str) -> bool:
    """Return whether a text can be the id of an event: a dot would end it in the signed text."""
    return _ID.fullmatch(text) is not None


def signature_headers(*, event_id: str, timestamp: int, body: bytes, keys: Sequence[bytes]) -> dict[str, str]:
    """Return the three headers of a request: every key signs.

    Raises: ValueError if the id has other characters than ``A-Z a-z 0-9 _ -``.
    """
    if not is_event_id(event_id):
        raise ValueError("the id of an event has 1 to 128 characters of A-Z a-z 0-9 _ -")
    signed = f"{event_id}.{timestamp}.".encode() + body
    signatures = (base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in keys)
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
