"""Sign requests, and check signatures. Pure: the command line signs with the same functions.

    text = "v1" LF key LF METHOD LF target LF timestamp LF nonce LF idempotency-key LF hex(SHA-256(body))
    signature = HMAC-SHA256(UTF-8 bytes of the secret as written, text)

docs/reference/signing.md describes the signature for backend developers; tests/support/vectors/signing.json has test
vectors.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import ClassVar, Final, NamedTuple, Protocol

from gateway.domain.dedup import WINDOW_SECONDS
from gateway.domain.errors import FreshnessUnknown
from gateway.domain.ingest_keys import KEY_ID

VERSION: Final = "v1"
SCHEME: Final = "Gateway-HMAC"

KEY_HEADER: Final = "X-Gateway-Key"
TIMESTAMP_HEADER: Final = "X-Gateway-Timestamp"
NONCE_HEADER: Final = "X-Gateway-Nonce"
SIGNATURE_HEADER: Final = "X-Gateway-Signature"
IDEMPOTENCY_HEADER: Final = "Idempotency-Key"

TIMESTAMP: Final = re.compile(r"[0-9]{1,15}", re.ASCII)
NONCE: Final = re.compile(r"[A-Za-z0-9._~+/=-]{8,64}", re.ASCII)
SIGNATURE: Final = re.compile(r"v1=[0-9a-f]{64}", re.ASCII)
IDEMPOTENCY_KEY: Final = re.compile(r"[ -~]{1,255}", re.ASCII)

_BLOCK_BYTES: Final = 64
"""The block of SHA-256."""
_INNER: Final = bytes(each ^ 0x36 for each in range(256))
_OUTER: Final = bytes(each ^ 0x5C for each in range(256))
_HEADERS: Final = (KEY_HEADER, TIMESTAMP_HEADER, NONCE_HEADER, SIGNATURE_HEADER)
_FIELDS: Final = tuple(header.lower().encode() for header in _HEADERS)
_CREDENTIALS: Final = re.compile(
    "\n".join(form.pattern for form in (KEY_ID, TIMESTAMP, NONCE, SIGNATURE)), re.ASCII
)
_FORMS: Final = (
    (KEY_HEADER, KEY_ID, "1 to 64 of A-Z a-z 0-9 . _ -"),
    (TIMESTAMP_HEADER, TIMESTAMP, "ASCII digits: seconds since 1970"),
    (NONCE_HEADER, NONCE, "8 to 64 of A-Z a-z 0-9 . _ ~ + / = -"),
    (SIGNATURE_HEADER, SIGNATURE, "v1= and 64 lower-case hexadecimal digits"),
)


class SignatureRejected(Exception):
    """The request is not authentic. ``code`` is stable, ``detail`` is a sentence for the caller."""

    code: ClassVar[str] = "bad_signature"

    def __init__(self, detail: str, **members: object) -> None:
        """``members`` are added to the problem document."""
        super().__init__(detail)
        self.detail = detail
        self.members = members


class MissingSignature(SignatureRejected):
    """A signing header is absent, repeated or malformed."""

    code = "missing_signature"


class UnknownKey(SignatureRejected):
    """No ingest key has this id."""

    code = "unknown_key"


class TimestampOutOfRange(SignatureRejected):
    """The timestamp is too far from ``server_time``.

    The member ``server_time`` is in seconds since 1970.
    """

    code = "timestamp_out_of_range"


class BadSignature(SignatureRejected):
    """The signature does not match the request under any secret of the key."""

    code = "bad_signature"


class HeaderValues(Protocol):
    """Returns all values of a header, or ``default`` if the request has none."""

    def __call__(self, name: str, default: tuple[str, ...], /) -> Sequence[str]: ...


class Credentials(NamedTuple):
    """The values of the signing headers, all of them well-formed. ``timestamp`` is as it was written."""

    key_id: str
    timestamp: str
    nonce: str
    signature: str


def read_credentials(header_values: HeaderValues) -> Credentials:
    """Return the credentials in the headers of a request.

    Raises:
        MissingSignature: A signing header is absent, repeated or malformed.
    """
    found = [header_values(header, ()) for header in _HEADERS]
    text = "\n".join([values[0] for values in found if len(values) == 1])
    if _CREDENTIALS.fullmatch(text):
        return Credentials._make(text.split("\n"))
    # At least one header is wrong: find it, for the detail of the error.
    return Credentials._make(
        [_check_header(values, *form) for values, form in zip(found, _FORMS, strict=True)]
    )


def find_credentials(fields: Mapping[bytes, bytes]) -> tuple[str, str, str, str] | None:
    """Return the credentials in headers by their names in lower case; None if one is absent or malformed.

    They are those of ``Credentials``. None of the headers is repeated, and all of them are ASCII.
    """
    try:
        text = b"\n".join([fields[name] for name in _FIELDS]).decode()
    except KeyError:
        return None
    if not _CREDENTIALS.fullmatch(text):
        return None
    key_id, timestamp, nonce, signature = text.split("\n")
    return key_id, timestamp, nonce, signature


def check_timestamp(timestamp: str, *, now: float, others: Callable[[], Iterable[float]]) -> None:
    """Check a timestamp by ``now``, the time of the store of nonces.

    ``others`` returns the times of other clocks, which agree with it unless one of them is wrong.

    Raises:
        TimestampOutOfRange: The timestamp is more than ``WINDOW_SECONDS`` from every clock.
        FreshnessUnknown: It is in range of another clock. So it is unknown which one is wrong.
    """
    seconds = int(timestamp)
    if abs(now - seconds) <= WINDOW_SECONDS:
        return
    if any(abs(other - seconds) <= WINDOW_SECONDS for other in others()):
        raise FreshnessUnknown("the clocks of the gateway disagree", retry_after_seconds=5)
    direction = "behind" if seconds < now else "ahead of"
    raise TimestampOutOfRange(
        f"the timestamp is more than {WINDOW_SECONDS} seconds {direction} server_time",
        server_time=int(now),
    )


def body_digest(body: bytes) -> str:
    """Return the SHA-256 of a body in lower-case hex, as in the signed text."""
    return hashlib.sha256(body).hexdigest()


def string_to_sign(
    *,
    key_id: str,
    method: str,
    target: bytes,
    timestamp: str,
    nonce: str,
    idempotency_key: str | None,
    digest: str,
) -> bytes:
    """Return the signed text. ``target`` is path and query as in the request line, ``digest`` is ``body_digest``."""
    before = f"{VERSION}\n{key_id}\n{method}\n".encode()
    after = f"\n{timestamp}\n{nonce}\n{idempotency_key or ''}\n{digest}".encode()
    return before + target + after


def signature_of(secret: str, text: bytes) -> str:
    """Return the value of X-Gateway-Signature for a text and a secret."""
    inner, outer = _keyed(secret)
    inner, outer = inner.copy(), outer.copy()
    inner.update(text)
    outer.update(inner.digest())
    return f"{VERSION}={outer.hexdigest()}"


def check_signature(signature: str, secrets: Iterable[str], text: bytes) -> None:
    """Check a signature as ``is_signature`` does.

    Raises:
        BadSignature: No secret gives this signature for the text.
    """
    if not is_signature(signature, secrets, text):
        raise BadSignature("the signature is not that of this request under any secret of the key")


def is_signature(signature: str, secrets: Iterable[str], text: bytes) -> bool:
    """Return whether any of the secrets of a key gives a signature, in a time that does not depend on which does."""
    is_valid = False
    for secret in secrets:
        is_valid |= hmac.compare_digest(signature, signature_of(secret, text))
    return is_valid


def sign(
    secret: str,
    *,
    key_id: str,
    method: str,
    target: str,
    timestamp: int,
    nonce: str,
    body: bytes = b"",
    idempotency_key: str | None = None,
) -> dict[str, str]:
    """Return the signing headers for a request. ``target`` is path and query, exactly as they will be sent."""
    text = string_to_sign(
        key_id=key_id,
        method=method,
        target=target.encode(),
        timestamp=str(timestamp),
        nonce=nonce,
        idempotency_key=idempotency_key,
        digest=body_digest(body),
    )
    headers = {
        KEY_HEADER: key_id,
        TIMESTAMP_HEADER: str(timestamp),
        NONCE_HEADER: nonce,
        SIGNATURE_HEADER: signature_of(secret, text),
    }
    if idempotency_key is not None:
        headers[IDEMPOTENCY_HEADER] = idempotency_key
    return headers


@lru_cache(maxsize=1024)
def _keyed(secret: str) -> tuple[hashlib._Hash, hashlib._Hash]:
    """Return the two hashes of an HMAC with the key and no data (RFC 2104 §2).

    They are cached because the key costs as much as a short text. To copy an object of ``hmac`` costs more than both.
    """
    key = secret.encode()
    if len(key) > _BLOCK_BYTES:
        key = hashlib.sha256(key).digest()
    key = key.ljust(_BLOCK_BYTES, b"\0")
    return hashlib.sha256(key.translate(_INNER)), hashlib.sha256(key.translate(_OUTER))


def _check_header(values: Sequence[str], header: str, form: re.Pattern[str], description: str) -> str:
    if len(values) != 1:
        error = "missing" if not values else "repeated"
        raise MissingSignature(f"the header {header} is {error}; every request is signed")
    if not form.fullmatch(values[0]):
        raise MissingSignature(f"the header {header} is malformed: it holds {description}")
    return values[0]
