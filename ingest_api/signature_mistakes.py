"""Find the mistake in a bad signature: a text near the verified one, or another form of the secret, that it belongs to.

For developers only, with ``serve --dev`` and in the log at debug: it takes some hundred HMACs, and says more about a
request than a caller in production may learn. No sentence and no text contains a secret.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes

from ingest_api.signing import VERSION, body_digest

HELP_PAGE: Final = "docs/how-to/fix-bad-signature.md"
"""The page with the usual mistakes, in the repository of the gateway."""
_UNRESERVED: Final = "-._~"


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """The parts of the signed text as the gateway received them.

    ``prefix`` is the part of the target that a proxy stripped (INGEST_PATH_PREFIX). ``others`` are targets that proxies
    report in headers, with the name of the header.
    """

    key_id: str
    method: str
    target: bytes
    timestamp: str
    nonce: str
    idempotency_key: str | None
    body: bytes
    prefix: str = ""
    host: str = ""
    others: tuple[tuple[str, str], ...] = ()

    @property
    def lines(self) -> list[bytes]:
        """The eight lines of the signed text."""
        return [
            VERSION.encode(),
            self.key_id.encode(),
            self.method.encode(),
            self.target,
            self.timestamp.encode(),
            self.nonce.encode(),
            (self.idempotency_key or "").encode(),
            body_digest(self.body).encode(),
        ]


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What a sender may have signed, and with what."""

    lines: tuple[bytes | None, ...]
    """None for a line that is missing."""
    secret: bytes
    separator: bytes = b"\n"
    end: bytes = b""
    compute: Callable[[bytes, bytes], bytes] = lambda secret, text: hmac.digest(secret, text, "sha256")

    def matches(self, signature: bytes) -> bool:
        text = self.separator.join([line for line in self.lines if line is not None]) + self.end
        return hmac.compare_digest(self.compute(self.secret, text), signature)


Change = tuple[str, str, Callable[[_Attempt], _Attempt]]
"""What it changes, a sentence about the mistake, and the change. Two changes of one kind exclude each other."""


def find_mistake(signature: str, secrets: Sequence[str], request: SignedRequest) -> str | None:
    """Return a sentence about the mistake that explains a signature, or None if no nearby text has it.

    ``signature`` is the value of X-Gateway-Signature. One mistake is looked for first, then two.
    """
    given = bytes.fromhex(signature.partition("=")[2])
    changes = list(_changes(request, secrets))
    for secret in secrets:
        exact = _Attempt(tuple(request.lines), secret.encode())
        for number in (1, 2):
            for chosen in combinations(changes, number):
                if len({kind for kind, _, _ in chosen}) < number:
                    continue
                attempt = exact
                for _, _, change in chosen:
                    attempt = change(attempt)
                if attempt.matches(given):
                    return ", and ".join(sentence for _, sentence, _ in chosen)
    return None


def _changes(request: SignedRequest, secrets: Sequence[str]) -> Iterator[Change]:
    for sentence, target in _targets(request):
        yield "target", f"the target that was signed is {sentence}", _line(3, target)
    for sentence, digest in _digests(request.body):
        yield "body", sentence, _line(7, digest)
    yield "method", "the method was signed in lower case", _line(2, request.method.lower().encode())
    for sentence, timestamp in (
        ("in milliseconds", f"{request.timestamp}000"),
        ("with a fraction", f"{request.timestamp}.0"),
    ):
        yield "timestamp", f"the timestamp was signed {sentence}", _line(4, timestamp.encode())
    if request.idempotency_key is None:
        yield "idempotency key", "line 7 is missing: without an Idempotency-Key it is empty", _without(6)
    else:
        yield "idempotency key", "the Idempotency-Key was sent and not signed", _line(6, b"")
        yield "idempotency key", "line 7, the Idempotency-Key, is missing in the signed text", _without(6)
    yield "version", "line 1, the letters v1, is missing in the signed text", _without(0)
    yield from _forms()
    for name in dict.fromkeys(name for secret in secrets for name in _secret_forms(secret)):
        yield "secret", f"the secret was used {name}, and not as it is written", _secret(name)


def _forms() -> Iterator[Change]:
    """How the lines were joined, and how the signature was computed."""
    yield "form", "the signed text ends in a line feed", lambda it: replace(it, end=b"\n")
    yield "form", "the lines were joined by CR LF instead of LF", lambda it: replace(it, separator=b"\r\n")
    yield (
        "form",
        "the lines were joined by a backslash and the letter n instead of a line feed",
        lambda it: replace(it, separator=rb"\n"),
    )
    yield "form", "the lines were joined without line feeds", lambda it: replace(it, separator=b"")
    yield (
        "computation",
        "secret and text were exchanged in the HMAC",
        lambda it: replace(it, compute=lambda secret, text: hmac.digest(text, secret, "sha256")),
    )
    yield (
        "computation",
        "SHA-256 of secret and text was sent instead of an HMAC",
        lambda it: replace(it, compute=lambda secret, text: hashlib.sha256(secret + text).digest()),
    )


def _targets(request: SignedRequest) -> Iterator[tuple[str, bytes]]:
    target = request.target
    path, question, query = target.partition(b"?")
    decoded = unquote_to_bytes(path)
    candidates: list[tuple[str, bytes]] = [
        ("the path without INGEST_PATH_PREFIX", target.removeprefix(request.prefix.encode())),
        ("the path without its query", path),
        ("the target with a question mark at its end", target + b"?"),
        (
            "the path before a proxy encoded it a second time"
            if b"%" in decoded
            else "the path without percent-encoding",
            decoded + question + query,
        ),
        (
            "the path with every special character percent-encoded, which a proxy has decoded",
            _encode(decoded, "") + question + query,
        ),
        ("the path as a URL library encodes it", _encode(decoded, "!$&'()*+,;=:@") + question + query),
        (
            "the path as JavaScript's encodeURIComponent encodes it",
            _encode(decoded, "!'()*") + question + query,
        ),
        ("the path with lower-case percent-encoding", _lower_escapes(path) + question + query),
        ("the path with spaces as +", path.replace(b"%20", b"+") + question + query),
        ("the path with + as %20", path.replace(b"+", b"%20") + question + query),
        ("the path with a slash at its end", path + b"/" + question + query),
        ("the path without its last slash", path.rstrip(b"/") + question + query),
        ("the path without its first slash", target.removeprefix(b"/")),
        ("empty", b""),
    ]
    for scheme in ("http", "https"):
        url = f"{scheme}://{request.host}".encode() + target
        candidates.append(("the whole URL instead of path and query", url))
    candidates.append(("host and target", request.host.encode() + target))
    for header, value in request.others:
        encoded = value.encode("utf-8", "surrogateescape")
        candidates.append((f"that of the header {header}: a proxy changes the path", encoded))
        candidates.append(
            (f"with the header {header} in front: a proxy strips it", encoded.rstrip(b"/") + target)
        )
    seen = {target}
    for sentence, candidate in candidates:
        if candidate not in seen:
            seen.add(candidate)
            yield f"{sentence} ({candidate.decode(errors='replace')!r})" if candidate else sentence, candidate


def _encode(decoded: bytes, also_safe: str) -> bytes:
    """Percent-encode a path whose last segment may contain slashes, as the id of a user does."""
    for template in (b"/emit/user/", b"/presence/", b"/disconnect/user/"):
        head, found, user = decoded.partition(template)
        if found:
            return (head + found).replace(b" ", b"%20") + quote(user, safe=_UNRESERVED + also_safe).encode()
    return quote(decoded, safe="/" + _UNRESERVED + also_safe).encode()


def _lower_escapes(path: bytes) -> bytes:
    first, *rest = path.split(b"%")
    return b"%".join([first, *(part[:2].lower() + part[2:] for part in rest)])


def _digests(body: bytes) -> Iterator[tuple[str, bytes]]:
    digest = hashlib.sha256(body).digest()
    bodies: list[tuple[str, bytes]] = [
        ("the body was signed without the line feed at its end", body.removesuffix(b"\n")),
        ("the body was signed without the line break at its end", body.rstrip(b"\r\n")),
        ("the body was signed with a line feed at its end", body + b"\n"),
        ("the body was signed with line feeds where it has CR LF", body.replace(b"\r\n", b"\n")),
        ("an empty body was signed", b""),
        (
            "the body was signed as a JSON text of the text",
            json.dumps(body.decode(errors="replace")).encode(),
        ),
    ]
    with suppress(ValueError, RecursionError):
        bodies += [
            (f"the body was serialised a second time, {how}", text)
            for how, text in _serialisations(json.loads(body))
        ]
    seen = {body}
    for sentence, candidate in bodies:
        if candidate not in seen:
            seen.add(candidate)
            yield sentence, body_digest(candidate).encode()
    yield "line 8 has upper-case hex digits", digest.hex().upper().encode()
    yield "line 8 is the hash in base64 instead of hex", base64.b64encode(digest)
    yield "line 8 is the raw hash instead of its hex digits", digest
    yield "line 8 is the body instead of its hash", body
    yield "line 8 is empty: without a body it is the hash of zero bytes", b""


def _serialisations(value: Any) -> Iterator[tuple[str, bytes]]:
    for is_ascii in (False, True):
        escaped = ", with \\u escapes" if is_ascii else ""
        yield (
            f"without spaces{escaped}",
            json.dumps(value, ensure_ascii=is_ascii, separators=(",", ":")).encode("utf-8", "surrogatepass"),
        )
        yield (
            f"with spaces{escaped}",
            json.dumps(value, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass"),
        )


def _secret_forms(secret: str) -> dict[str, bytes]:
    padded = secret + "=" * (-len(secret) % 4)
    forms = {
        "with a line feed at its end": f"{secret}\n".encode(),
        "in quotation marks": f'"{secret}"'.encode(),
    }
    with suppress(ValueError, binascii.Error):
        forms["decoded from URL-safe base64"] = base64.b64decode(padded, altchars=b"-_", validate=True)
    with suppress(ValueError, binascii.Error):
        forms["decoded from base64"] = base64.b64decode(padded, validate=True)
    with suppress(ValueError):
        forms["decoded from hex"] = bytes.fromhex(secret)
    forms["as its SHA-256"] = hashlib.sha256(secret.encode()).digest()
    return forms


def _secret(name: str) -> Callable[[_Attempt], _Attempt]:
    def change(attempt: _Attempt) -> _Attempt:
        return replace(attempt, secret=_secret_forms(attempt.secret.decode()).get(name, attempt.secret))

    return change


def _line(index: int, value: bytes | None) -> Callable[[_Attempt], _Attempt]:
    def change(attempt: _Attempt) -> _Attempt:
        lines = list(attempt.lines)
        lines[index] = value
        return replace(attempt, lines=tuple(lines))

    return change


def _without(index: int) -> Callable[[_Attempt], _Attempt]:
    return _line(index, None)
