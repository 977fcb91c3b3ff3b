"""JSON Web Tokens (RFC 7519) without a library, so that the gateway is not tested with its own code."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any


def token(sub: Any, secret: str, *, lifetime_seconds: float | None = 3600, **claims: Any) -> str:
    """Make an HS256 token; ``claims`` are added, and a claim of None is left out."""
    now = int(time.time())
    payload: dict[str, Any] = {"sub": sub, "iat": now}
    if lifetime_seconds is not None:
        payload["exp"] = now + lifetime_seconds
    payload = {name: value for name, value in (payload | claims).items() if value is not None}
    return sign({"alg": "HS256", "typ": "JWT"}, payload, secret)


def sign(header: dict[str, Any], payload: dict[str, Any], secret: str) -> str:
    text = f"{_base64url(json.dumps(header).encode())}.{_base64url(json.dumps(payload).encode())}"
    return f"{text}.{_base64url(hmac.digest(secret.encode(), text.encode(), hashlib.sha256))}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
