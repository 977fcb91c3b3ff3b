"""Which key may check which algorithm (RFC 7518, RFC 7517). Pure.

A key is prepared once for the algorithms it fits, and found by algorithm and key id; so a token can never choose how
a key is understood (RFC 8725 §2.1, algorithm confusion).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from jwt import PyJWK
from jwt.algorithms import HMACAlgorithm, get_default_algorithms
from jwt.exceptions import PyJWTError

HMAC_DIGESTS: Final = {
    "HS256": HMACAlgorithm.SHA256,
    "HS384": HMACAlgorithm.SHA384,
    "HS512": HMACAlgorithm.SHA512,
}
PUBLIC_KEY_ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES256K", "ES384", "ES512", "EdDSA"),
)
MIN_SECRET_BYTES: Final = 32
MAX_KEY_SET_CHARACTERS: Final = 256 * 1024
_IMPLEMENTATIONS: Final = get_default_algorithms()


class PreparedHmac(HMACAlgorithm):
    """PyJWT's HMAC without its examination of the secret for every token; ``secret_key`` did that once."""

    def prepare_key(self, key: str | bytes) -> bytes:
        return key if isinstance(key, bytes) else key.encode()

    def check_key_length(self, key: bytes) -> None:
        """32 bytes do for HS384 and HS512 as well: the secret must not be guessed, however long the hash is."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key and the algorithms that it may check; ``kid`` is the issuer's name for it."""

    material: Any  # bytes, or one of the public key classes of ``cryptography``
    algorithms: frozenset[str]
    kid: str | None = None

    def __repr__(self) -> str:
        return f"Key(kid={self.kid!r}, algorithms={sorted(self.algorithms)})"


def secret_key(secret: str, allowed: Collection[str]) -> Key:
    """The key for HS256, HS384 and HS512; raises ValueError for a secret that is short or no secret at all."""
    if len(secret.encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"the JWT secret has fewer than {MIN_SECRET_BYTES} bytes")
    try:
        material = HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
    except PyJWTError as error:  # a public key or certificate, known to everybody
        raise ValueError("the JWT secret is a public key, a certificate or a JSON Web Key") from error
    return Key(material, frozenset(HMAC_DIGESTS).intersection(allowed))


def public_key(pem: str, allowed: Collection[str]) -> Key:
    """A PEM public key; raises ValueError if it is none, or of no use for the allowed algorithms."""
    if "PRIVATE KEY-----" in pem:
        raise ValueError("the JWT public key is a private key; the gateway needs the public half alone")
    algorithms = _usable_algorithms(pem, allowed)
    if not algorithms:
        raise ValueError("the JWT public key is no PEM public key for any of the allowed algorithms")
    return Key(_IMPLEMENTATIONS[min(algorithms)].prepare_key(pem), algorithms)


def read_key_set(text: str, allowed: Collection[str]) -> tuple[Key, ...]:
    """The keys of a JSON Web Key Set that may check signatures; raises ValueError if there is none.

    Left out are secrets (``oct``), private keys, keys for other uses, keys too short, and what cannot be read.
    """
    if len(text) > MAX_KEY_SET_CHARACTERS:
        raise ValueError(f"the key set has more than {MAX_KEY_SET_CHARACTERS} characters")
    try:
        document = json.loads(text)
    except RecursionError as error:
        raise ValueError("the key set is nested too deeply") from error
    members = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(members, list):
        raise ValueError("the key set is no JSON object with a list of keys")
    keys = tuple(key for member in members if (key := _read_member(member, allowed)) is not None)
    if not keys:
        raise ValueError("the key set holds no key for the allowed algorithms")
    return keys


def find_matching(keys: Sequence[Key], algorithm: str, kid: str | None) -> tuple[Key, ...]:
    """The keys that may have signed a token with this header; without a key id each key of the algorithm may."""
    return tuple(key for key in keys if algorithm in key.algorithms and kid in {None, key.kid})


def _read_member(member: object, allowed: Collection[str]) -> Key | None:
    if not isinstance(member, dict) or not _is_for_signatures(member):
        return None
    declared = member.get("alg")
    if declared is not None and not (isinstance(declared, str) and declared in PUBLIC_KEY_ALGORITHMS):
        return None
    try:
        material = PyJWK(member).key
    except (PyJWTError, ValueError, TypeError, KeyError):
        return None
    algorithms = _usable_algorithms(material, {declared}.intersection(allowed) if declared else allowed)
    kid = member.get("kid")
    return Key(material, algorithms, kid if isinstance(kid, str) else None) if algorithms else None


def _is_for_signatures(member: dict[str, object]) -> bool:
    """RFC 7517 §4.2 and §4.3. A private key (``d``) that was published proves nothing any more."""
    operations = member.get("key_ops", ["verify"])
    return (
        member.get("kty") in ("RSA", "EC", "OKP")  # a tuple: what is asked may not be hashable
        and "d" not in member
        and member.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and "verify" in operations
    )


def _usable_algorithms(material: Any, allowed: Collection[str]) -> frozenset[str]:
    """The allowed public-key algorithms that this key is of the right type, curve and length for."""
    return frozenset(name for name in PUBLIC_KEY_ALGORITHMS if name in allowed and _is_usable(name, material))


def _is_usable(name: str, material: Any) -> bool:
    implementation = _IMPLEMENTATIONS[name]
    try:
        return implementation.check_key_length(implementation.prepare_key(material)) is None
    except (PyJWTError, ValueError, TypeError):
        return False
