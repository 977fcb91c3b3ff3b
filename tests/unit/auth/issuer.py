"""An issuer of tokens, like an application's backend or identity provider: real keys, and any token."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from jwt.algorithms import get_default_algorithms

from gateway.auth import JwtVerifier
from gateway.metrics import MetricFactory
from tests.support.clock import FakeClock, FakeSchedule

NOW: Final = 1_800_000_000.0
SECRET: Final = "a secret of the issuer, 32 bytes or longer"
ROOM_CLAIMS: Final = {
    "orgId": "org:",
    "org_id": "org:",
    "tenantId": "tenant:",
    "tenant_id": "tenant:",
    "role": "role:",
}


def verifier(**options: Any) -> JwtVerifier:
    """Return a verifier at the time NOW. Without options it accepts HS256 with SECRET."""
    if not {"secrets", "public_key", "jwks_url"}.intersection(options):
        options["secrets"] = (SECRET,)
    schedule = options.get("schedule", FakeSchedule(options.get("clock", FakeClock(NOW))))
    defaults = {
        "algorithms": ("HS256",),
        "clock": schedule.clock,
        "schedule": schedule,
        "room_claims": ROOM_CLAIMS,
        "metrics": MetricFactory(),
    }
    return JwtVerifier(**{**defaults, **options})


def claims(**changes: object) -> dict[str, object]:
    """Return the claims of alice's token with some changes. None removes a claim."""
    usual: dict[str, object] = {"sub": "alice", "iat": int(NOW), "exp": int(NOW) + 3600}
    return {name: value for name, value in {**usual, **changes}.items() if value is not None}


def token(
    content: Mapping[str, object] | None = None,
    *,
    key: Any = SECRET,
    algorithm: str = "HS256",
    headers: Mapping[str, Any] | None = None,
) -> str:
    """Return a token with a valid signature, by default with the usual claims."""
    payload = dict(claims() if content is None else content)
    return jwt.encode(payload, key, algorithm=algorithm, headers=dict(headers or {}))


def raw_token(header: bytes, payload: bytes, *, secret: str = SECRET) -> str:
    """Return a token with any header and payload, and a valid HS256 signature."""
    text = f"{base64url(header)}.{base64url(payload)}"
    signature = get_default_algorithms()["HS256"].sign(text.encode(), secret.encode())
    return f"{text}.{base64url(signature)}"


def base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


@cache
def rsa_key(name: str = "") -> rsa.RSAPrivateKey:
    """Return one key for each name, cached because a new one is slow to generate."""
    return rsa.generate_private_key(public_exponent=65537, key_size=1024 if name == "short" else 2048)


@cache
def ec_key(curve: type[ec.EllipticCurve] = ec.SECP256R1, name: str = "") -> ec.EllipticCurvePrivateKey:
    """Return one key for each curve and name."""
    return ec.generate_private_key(curve())


@cache
def ed_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


def private_pem(key: Any) -> str:
    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem.decode()


def public_pem(key: Any) -> str:
    pem: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem.decode()


def jwk(key: Any, algorithm: str, **members: Any) -> dict[str, Any]:
    """Return the public key as a JSON Web Key. A member that is None is removed."""
    document = get_default_algorithms()[algorithm].to_jwk(key.public_key(), as_dict=True)
    document = {**document, **members}
    return {name: value for name, value in document.items() if value is not None}


def key_set(*keys: object) -> str:
    return json.dumps({"keys": keys})
