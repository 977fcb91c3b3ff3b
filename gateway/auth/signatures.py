"""The header and the signature of a token (RFC 7515). Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from jwt import PyJWS
from jwt.exceptions import DecodeError, InvalidAlgorithmError, InvalidSignatureError, PyJWTError
from jwt.utils import base64url_decode

from gateway.auth.jwk import Key
from gateway.domain.errors import TokenRejected

SIGNATURE_INVALID: Final = "token_signature_invalid"
_REJECTIONS: Final[tuple[tuple[type[PyJWTError], str, str], ...]] = (
    (InvalidSignatureError, SIGNATURE_INVALID, "the signature of the token does not match"),
    (InvalidAlgorithmError, "token_algorithm_refused", "the token's algorithm is not accepted here"),
    (DecodeError, "token_malformed", "this is not a signed JSON Web Token"),
    (PyJWTError, "token_invalid", "the token has a header that is not accepted here"),
)
"""PyJWT's exceptions, the most specific first. PyJWT's own messages may quote the token; these never do."""


def signed_payload(jws: PyJWS, token: str, algorithm: str, keys: Sequence[Key]) -> bytes:
    """Return the payload of a token that one of the keys has signed.

    Raises:
        TokenRejected: None of them has (``token_signature_invalid``), or the token is malformed.
    """
    for key in keys:
        try:
            decoded = jws.decode_complete(token, key.material, algorithms=[algorithm])
        except InvalidSignatureError:
            continue
        except PyJWTError as error:
            raise rejection_of(error) from error
        else:
            payload: bytes = decoded["payload"]
            return payload
    failure = InvalidSignatureError()
    raise rejection_of(failure) from failure


class Header(NamedTuple):
    """The fields of a header that select the key."""

    algorithm: str
    kid: str | None


@lru_cache(maxsize=64)
def read_header(segment: str) -> Header:
    """Return the fields of a header that select the key. PyJWT checks the header again.

    The result is cached, because all tokens of an issuer have the same header. ``jku``, ``jwk``, ``x5u`` and ``x5c``
    are ignored: a token cannot provide its own key. A header with ``crit`` is rejected: it names extensions that a
    verifier must support (RFC 7515 §4.1.11), and this one supports none.

    Raises:
        TokenRejected: The header is malformed, or has an unsupported field.
    """
    try:
        header = json.loads(base64url_decode(segment))
    except (ValueError, RecursionError) as error:
        raise rejection_of(DecodeError()) from error
    if not isinstance(header, dict):
        raise rejection_of(DecodeError())
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str):
        raise rejection_of(InvalidAlgorithmError())
    if "crit" in header:
        raise TokenRejected(
            "token_invalid", "the token requires extensions (crit) that the gateway does not support"
        )
    if kid is not None and not isinstance(kid, str):
        raise TokenRejected("token_invalid", "the token's key id (kid) is not a string")
    return Header(algorithm, kid)


def rejection_of(error: PyJWTError) -> TokenRejected:
    """Return the rejection that an exception of PyJWT stands for."""
    code, sentence = next((code, sentence) for kind, code, sentence in _REJECTIONS if isinstance(error, kind))
    return TokenRejected(code, sentence)
