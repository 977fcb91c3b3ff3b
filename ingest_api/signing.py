"""What is signed, how, and when a signature is refused. Pure: the command line signs with the same functions.

    text = "v1" LF key LF METHOD LF target LF timestamp LF nonce LF idempotency-key LF hex(SHA-256(body))
    signature = HMAC-SHA256(UTF-8 bytes of the secret as written, text)

docs/reference/signing.md says it to backend developers, tests/support/vectors/signing.json in examples.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import ClassVar, Final, NamedTuple, Protocol

from gateway.domain.ingest_keys import KEY_ID

VERSION: Final = "v1"
SCHEME: Final = "Gateway-HMAC"
WINDOW_SECONDS: Final = 300

KEY_HEADER: Final = "X-Gateway-Key"
TIMESTAMP_HEADER: Final = "X-Gateway-Timestamp"
NONCE_HEADER: Final = "X-Gateway-Nonce"
SIGNATURE_HEADER: Final = "X-Gateway-Signature"
IDEMPOTENCY_HEADER: Final = "Idempotency-Key"

TIMESTAMP: Final = re.compile(r"[0-9]{1,15}", re.ASCII)
NONCE: Final = re.compile(r"[A-Za-z0-9._~+/=-]{8,64}", re.ASCII)
SIGNATURE: Final = re.compile(r"v1=[0-9a-f]{64}", re.ASCII)
IDEMPOTENCY_KEY: Final = re.compile(r"[ -~]{1,255}", re.ASCII)

_HEADERS: Final = (KEY_HEADER, TIMESTAMP_HEADER, NONCE_HEADER, SIGNATURE_HEADER)
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
    """The request does not prove where it comes from; ``code`` is stable, ``detail`` a sentence for the caller."""

    code: ClassVar[str] = "bad_signature"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class MissingSignature(SignatureRejected):
    """A signing header is absent, repeated or malformed."""

    code = "missing_signature"


class UnknownKey(SignatureRejected):
    """No ingest key has this id."""

    code = "unknown_key"


class TimestampOutOfRange(SignatureRejected):
    """The request is too old, too new, or older than the memory of nonces. ``server_time`` in seconds since 1970."""

    code = "timestamp_out_of_range"

    def __init__(self, detail: str, *, server_time: int) -> None:
        super().__init__(detail)
        self.server_time = server_time


class BadSignature(SignatureRejected):
    """No secret of the key gives this signature for this request."""

    code = "bad_signature"


class ValuesOf(Protocol):
    """Answers all values of a header."""

    def __call__(self, name: str, default: tuple[str, ...], /) -> Sequence[str]: ...


class Credentials(NamedTuple):
    """The signing headers of a request, each exactly once and well formed. ``timestamp`` as it was written."""

    key_id: str
    timestamp: str
    nonce: str
    signature: str


def read_credentials(values_of: ValuesOf) -> Credentials:
    """The credentials among the headers. Raises MissingSignature."""
    found = [values_of(header, ()) for header in _HEADERS]
    text = "\n".join([values[0] for values in found if len(values) == 1])
    if _CREDENTIALS.fullmatch(text):
        return Credentials._make(text.split("\n"))
    # Something is wrong: look for what.
    return Credentials._make([_only(values, *form) for values, form in zip(found, _FORMS, strict=True)])


def check_timestamp(timestamp: str, *, now: float, nonces_since: float) -> None:
    """Raises TimestampOutOfRange unless a replay of a request of that time would be noticed."""
    seconds = int(timestamp)
    if abs(now - seconds) > WINDOW_SECONDS:
        early_or_late = "behind" if seconds < now else "ahead of"
        raise TimestampOutOfRange(
            f"the timestamp is more than {WINDOW_SECONDS} seconds {early_or_late} server_time",
            server_time=int(now),
        )
    if seconds < nonces_since:
        raise TimestampOutOfRange(
            "the timestamp is before the gateway began to remember nonces; sign the request anew",
            server_time=int(now),
        )


def body_digest(body: bytes) -> str:
    """How a body enters the text that is signed."""
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
    """The text that is signed. ``target``: path and query as in the request line; ``digest``: ``body_digest``."""
    before = f"{VERSION}\n{key_id}\n{method}\n".encode()
    after = f"\n{timestamp}\n{nonce}\n{idempotency_key or ''}\n{digest}".encode()
    return before + target + after


def signature_of(secret: str, text: bytes) -> str:
    """The value of X-Gateway-Signature for a text that is signed with a secret."""
    mac = _keyed(secret).copy()
    mac.update(text)
    return f"{VERSION}={mac.hexdigest()}"


def check_signature(signature: str, secrets: Iterable[str], text: bytes) -> None:
    """Raises BadSignature unless one of the secrets signs the text so. Takes as long whichever it is."""
    good = False
    for secret in secrets:
        good |= hmac.compare_digest(signature, signature_of(secret, text))
    if not good:
        raise BadSignature("the signature is not that of this request under any secret of the key")


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
    """The headers that make a request a signed one. ``target``: path and query, exactly as they will be sent."""
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
def _keyed(secret: str) -> hmac.HMAC:
    """An HMAC that has seen its key and nothing else; taking the key in costs as much as a short text."""
    return hmac.new(secret.encode(), digestmod="sha256")


def _only(values: Sequence[str], header: str, form: re.Pattern[str], what: str) -> str:
    if len(values) != 1:
        times = "missing" if not values else "there more than once"
        raise MissingSignature(f"the header {header} is {times}; every request is signed")
    if not form.fullmatch(values[0]):
        raise MissingSignature(f"the header {header} is malformed: it holds {what}")
    return values[0]
