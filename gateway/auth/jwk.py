"""Keys, and the algorithms that each may check (RFC 7518, RFC 7517). Pure.

A key is prepared once for the algorithms that it fits, and is selected by algorithm and key id. So a token can never
choose how a key is interpreted (RFC 8725 §2.1, algorithm confusion).
"""

from __future__ import annotations

import json
import string
from binascii import a2b_base64, b2a_base64
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from jwt import PyJWK, PyJWS
from jwt.algorithms import HMACAlgorithm, get_default_algorithms
from jwt.exceptions import DecodeError, PyJWTError

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
MAX_KEYS: Final = 256
MAX_TRIED_KEYS: Final = 32
"""Keys that one token is checked with at most, each some 40 µs; issuers publish two to four."""
_BASE64URL: Final = (string.ascii_letters + string.digits + "-_").encode()
_TO_BASE64: Final = bytes.maketrans(b"-_", b"+/")
_IMPLEMENTATIONS: Final = get_default_algorithms()


class PreparedHmac(HMACAlgorithm):
    """PyJWT's HMAC without its check of the secret for every token. ``secret_key`` has checked it once."""

    def prepare_key(self, key: str | bytes) -> bytes:
        return key if isinstance(key, bytes) else key.encode()

    def check_key_length(self, key: bytes) -> None:
        """Check nothing: 32 bytes are also enough for HS384 and HS512, because they cannot be guessed."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key, and the algorithms that it may check. ``kid`` is the issuer's id of the key."""

    material: Any  # bytes, or one of the public key classes of ``cryptography``
    algorithms: frozenset[str]
    kid: str | None = None

    def __repr__(self) -> str:
        return f"Key(kid={self.kid!r}, algorithms={sorted(self.algorithms)})"


def secret_key(secret: str, allowed: Collection[str]) -> Key:
    """Return the key for HS256, HS384 and HS512.

    Raises:
        ValueError: The secret is too short, or is a public key, a certificate or a JSON Web Key.
    """
    if len(secret.encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"the JWT secret has fewer than {MIN_SECRET_BYTES} bytes")
    try:
        material = HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
    except PyJWTError as error:  # a public key or certificate, which is not secret
        raise ValueError("the JWT secret is a public key, a certificate or a JSON Web Key") from error
    return Key(material, frozenset(HMAC_DIGESTS).intersection(allowed))


def public_key(pem: str, allowed: Collection[str]) -> Key:
    """Return the key of a PEM public key.

    Raises:
        ValueError: The text is not a PEM public key, or fits none of the allowed algorithms.
    """
    if "PRIVATE KEY-----" in pem:
        raise ValueError("the JWT public key is a private key; the gateway needs the public half alone")
    algorithms = _usable_algorithms(pem, allowed)
    if not algorithms:
        raise ValueError("the JWT public key is no PEM public key for any of the allowed algorithms")
    return Key(_IMPLEMENTATIONS[min(algorithms)].prepare_key(pem), algorithms)


def read_key_set(text: str, allowed: Collection[str]) -> tuple[Key, ...]:
    """Return the keys of a JSON Web Key Set that may check signatures.

    Excluded are secrets (``oct``), private keys, keys for other uses, keys that are too short, and invalid entries.

    Raises:
        ValueError: The text is not a key set, or no key is left.
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
    if len(members) > MAX_KEYS:
        raise ValueError(f"the key set has more than {MAX_KEYS} keys")
    keys = tuple(key for member in members if (key := _read_member(member, allowed)) is not None)
    if not keys:
        raise ValueError("the key set holds no key for the allowed algorithms")
    return keys


def find_matching(keys: Sequence[Key], algorithm: str, kid: str | None) -> tuple[Key, ...]:
    """Return the keys that may have signed a token with this header, at most MAX_TRIED_KEYS.

    Those are the keys with its ``kid``; if there are none, those without any; and for a token without ``kid`` all.
    ``kid`` is optional on both sides (RFC 7515 §4.1.4, RFC 7517 §4.5).
    """
    usable = [key for key in keys if algorithm in key.algorithms]
    if kid is not None:
        usable = [key for key in usable if key.kid == kid] or [key for key in usable if key.kid is None]
    return tuple(usable[:MAX_TRIED_KEYS])


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
    """Check ``use`` and ``key_ops`` (RFC 7517 §4.2, §4.3). A published private key (``d``) proves nothing."""
    operations = member.get("key_ops", ["verify"])
    return (
        member.get("kty") in ("RSA", "EC", "OKP")  # a tuple, because the value may not be hashable
        and "d" not in member
        and member.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and "verify" in operations
    )


def _usable_algorithms(material: Any, allowed: Collection[str]) -> frozenset[str]:
    """Return the allowed public-key algorithms that fit the type, curve and length of a key."""
    return frozenset(name for name in PUBLIC_KEY_ALGORITHMS if name in allowed and _is_usable(name, material))


def _is_usable(name: str, material: Any) -> bool:
    implementation = _IMPLEMENTATIONS[name]
    try:
        return implementation.check_key_length(implementation.prepare_key(material)) is None
    except (PyJWTError, ValueError, TypeError):
        return False


class FastJws(PyJWS):
    """PyJWT's decoder with a faster check of base64url: its own looks at each character, half a millisecond for 16 KiB.

    That is more than the signature takes, and anyone may send such a token.
    """

    @staticmethod
    def _decode_base64url_segment(segment: bytes, name: str) -> bytes:
        stripped = segment.rstrip(b"=")
        padding = len(segment) - len(stripped)
        is_malformed = (
            padding > 2
            or (padding and len(segment) % 4)
            or len(stripped) % 4 == 1
            or stripped.translate(None, _BASE64URL)
        )
        if not is_malformed:
            text = stripped.translate(_TO_BASE64) + b"=" * (-len(stripped) % 4)
            decoded = a2b_base64(text)
            # The bits that make no whole byte are zero: there is one text for each value.
            if b2a_base64(decoded, newline=False) == text:
                return decoded
        raise DecodeError(f"Invalid {name} padding")
