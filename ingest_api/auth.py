"""Authenticate requests: all checks before the body is parsed, in the order of docs/reference/rest.md."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import structlog
from aiohttp import hdrs

from gateway.domain.dedup import WINDOW_SECONDS, DedupKey
from gateway.domain.errors import BrokerUnavailable
from gateway.domain.ingest_keys import IngestKey
from gateway.domain.rate_limit import Rate
from ingest_api import signing
from ingest_api.body import too_large
from ingest_api.errors import Problem
from ingest_api.interfaces import Clock, DedupStore, RateLimits
from ingest_api.query import read_query
from ingest_api.request import AuthenticatedRequest, Handler, Request, Response, SignedHandler
from ingest_api.routing import origin_form
from ingest_api.signature_mistakes import HELP_PAGE, SignedRequest, find_mistake
from ingest_api.signing import BadSignature, Credentials, UnknownKey

NONCE_MARGIN_SECONDS: Final = 60
"""How much longer a nonce is kept than its timestamp is valid: the clocks of replicas differ slightly."""

# Without the constructor of NamedTuple, which runs in Python and costs as much as a signature.
_new_dedup_key: Final[Callable[[tuple[object, ...]], DedupKey]] = partial(tuple.__new__, DedupKey)
_CONTINUE: Final = "100-continue"
_MISTAKE_SECONDS: Final = 1.0
"""The shortest time between two searches for the mistake in a bad signature, which cost some milliseconds each."""
_TARGET_HEADERS: Final = (
    "X-Forwarded-Prefix", "X-Forwarded-Uri", "X-Original-URI", "X-Original-URL", "X-Envoy-Original-Path",
)  # fmt: skip
"""Headers in which proxies report the target, or the part of it, that they changed."""


class Authenticator:
    """Checks the signature, scope and rate of requests.

    ``is_serving`` is whether the state that the checks need is available. ``path_prefix`` is the part that a proxy
    strips from the signed path. With ``explains_signatures`` the response to a bad signature has the text that was
    verified and the mistake that was found; otherwise only the log has, at debug.
    """

    def __init__(
        self,
        *,
        keys: Callable[[str], IngestKey | None],
        dedup: DedupStore,
        rates: RateLimits,
        clock: Clock,
        max_body_bytes: int,
        body_timeout_seconds: float,
        path_prefix: str,
        is_serving: Callable[[], bool],
        explains_signatures: bool = False,
    ) -> None:
        self._keys = keys
        self._is_serving = is_serving
        self._dedup = dedup
        self._rates = rates
        self._clock = clock
        self._max_body_bytes = max_body_bytes
        self._body_timeout_seconds = body_timeout_seconds
        self._path_prefix = path_prefix
        self._explains_signatures = explains_signatures
        self._search_at = -math.inf
        self._started_at = clock.now() - clock.monotonic()
        # Bound once: a module's logger is looked up for each line, even for one that is not written.
        self._log = structlog.get_logger(__name__).bind()

    def require(self, actions: tuple[str, ...], handle: SignedHandler, *, has_query: bool = False) -> Handler:
        """Return a handler that authenticates a request before ``handle``. Satisfies ``request.Require``.

        A query is rejected unless ``handle`` reads it: one that was ignored could have meant less than the whole call.
        """

        async def handle_authenticated(request: Request) -> Response:
            authenticated = await self.authenticate(request, actions)
            if not has_query and "?" in request.target:
                read_query(request.target, ())
            return await handle(authenticated)

        return handle_authenticated

    async def authenticate(self, request: Request, actions: tuple[str, ...]) -> AuthenticatedRequest:
        """Check a request, and read its body. The first check that fails decides the response.

        Raises:
            BrokerUnavailable: This replica is not serving yet.
            FreshnessUnknown: Clocks differ by so much that the timestamp cannot be checked.
            SignatureRejected: A signing header, the key, the timestamp or the signature is wrong.
            Problem: Any other check failed, or the body is too large or too slow.
            GatewayError: An error of ``RateLimits.consume``.
        """
        if not self._is_serving():
            raise BrokerUnavailable("this replica is starting")
        _check_head(request, max_body_bytes=self._max_body_bytes)
        credentials = signing.read_credentials(request.headers.getall)
        idempotency_key = _idempotency_key(request)
        key = self._keys(credentials.key_id)
        if key is None:
            raise UnknownKey("no ingest key has this id")
        # Not before the id is known: the header of an unknown key may hold a secret, which must not be logged.
        request.key_id = key.id
        signing.check_timestamp(credentials.timestamp, now=self._dedup.now(), others=self._other_times)
        body = await _read_body(
            request, max_body_bytes=self._max_body_bytes, timeout_seconds=self._body_timeout_seconds
        )
        request.body_bytes = len(body)
        digest = signing.body_digest(body)
        text = self._signed_text(request, credentials, idempotency_key, digest)
        self._check_signature(request, credentials, key, text, body)
        request.is_signed = True
        if not key.has_scope(*actions):
            raise Problem("missing_scope", f"this needs a key with the scope {' or '.join(actions)}")
        if key.rate is not None:
            await self._check_rate(request, key, key.rate)
        dedup_key = _dedup_key(request, credentials, idempotency_key, digest)
        return AuthenticatedRequest(request=request, key=key, dedup_key=dedup_key, body=body)

    def authenticate_now(
        self, target: str, fields: Mapping[bytes, bytes], body: bytes, actions: tuple[str, ...]
    ) -> tuple[IngestKey, DedupKey] | None:
        """Return the key that signed a whole POST request, and its dedup key, if no check fails.

        None: ``authenticate`` finds the reason, or the key has a rate. ``fields`` are the headers by their names in
        lower case, without those of which ``_check_head`` looks at the value, and without an idempotency key.
        """
        credentials = signing.find_credentials(fields)
        if credentials is None or len(body) > self._max_body_bytes or not self._is_serving():
            return None
        key_id, timestamp, nonce, signature = credentials
        key, signed_at = self._keys(key_id), float(timestamp)
        if key is None or key.rate is not None or not key.has_scope(*actions):
            return None
        if abs(self._dedup.now() - signed_at) > WINDOW_SECONDS:
            return None
        digest = signing.body_digest(body)
        text = signing.string_to_sign(
            key_id=key_id,
            method=hdrs.METH_POST,
            target=(self._path_prefix + target).encode(),
            timestamp=timestamp,
            nonce=nonce,
            idempotency_key=None,
            digest=digest,
        )
        if not signing.is_signature(signature, key.secrets, text):
            return None
        ends_at = signed_at + WINDOW_SECONDS + NONCE_MARGIN_SECONDS
        return key, _new_dedup_key((key_id, nonce, ends_at, None, "", digest, signed_at, signature))

    def _other_times(self) -> tuple[float, float]:
        """Return the time of this host, and what it would be if its clock had never been set."""
        return self._clock.now(), self._started_at + self._clock.monotonic()

    def _check_signature(
        self, request: Request, credentials: Credentials, key: IngestKey, text: bytes, body: bytes
    ) -> None:
        try:
            signing.check_signature(credentials.signature, key.secrets, text)
        except BadSignature as error:
            explanation = self._explain(request, credentials, key, text, body)
            raise BadSignature(error.detail, help=HELP_PAGE, **explanation) from None

    def _explain(
        self, request: Request, credentials: Credentials, key: IngestKey, text: bytes, body: bytes
    ) -> dict[str, object]:
        """Return what the response says about a bad signature, and log the same at debug.

        How long the search for the mistake takes depends on what it finds, so it is for developers alone.
        """
        is_logged = self._log.is_enabled_for(logging.DEBUG)
        if not (is_logged or self._explains_signatures):
            return {}
        mistake, now = None, self._clock.monotonic()
        if self._explains_signatures or now >= self._search_at:
            self._search_at = now + _MISTAKE_SECONDS
            signed = _signed_request(request, credentials, self._path_prefix, body)
            mistake = find_mistake(credentials.signature, key.secrets, signed)
        verified_text = text.decode(errors="replace")
        self._log.debug(
            "request.bad_signature",
            request_id=request.request_id,
            key_id=key.id,
            verified_text=verified_text,
            mistake=mistake,
        )
        return {"verified_text": verified_text, "mistake": mistake} if self._explains_signatures else {}

    def _signed_text(
        self, request: Request, credentials: Credentials, idempotency_key: str | None, digest: str
    ) -> bytes:
        return signing.string_to_sign(
            key_id=credentials.key_id,
            method=request.method,
            target=(self._path_prefix + origin_form(request.target)).encode("utf-8", "surrogateescape"),
            timestamp=credentials.timestamp,
            nonce=credentials.nonce,
            idempotency_key=idempotency_key,
            digest=digest,
        )

    async def _check_rate(self, request: Request, key: IngestKey, rate: Rate) -> None:
        limit = await self._rates.consume(key.id, rate)
        # draft-ietf-httpapi-ratelimit-headers-06, the last version with one header for each of the three.
        request.response_headers = {
            "RateLimit-Limit": str(limit.limit),
            "RateLimit-Remaining": str(limit.remaining),
            "RateLimit-Reset": str(math.ceil(limit.reset_seconds)),
        }
        if not limit.allowed:
            retry_after = {"Retry-After": str(max(1, math.ceil(limit.retry_after_seconds)))}
            raise Problem("rate_limited", "this key has used up its rate", headers=retry_after)


def _signed_request(request: Request, credentials: Credentials, prefix: str, body: bytes) -> SignedRequest:
    headers = request.headers
    return SignedRequest(
        credentials.key_id,
        request.method,
        (prefix + origin_form(request.target)).encode("utf-8", "surrogateescape"),
        credentials.timestamp,
        credentials.nonce,
        _idempotency_key(request),
        body,
        prefix=prefix,
        host=headers.get(hdrs.HOST, ""),
        others=tuple((name, headers[name]) for name in _TARGET_HEADERS if name in headers),
    )


def _check_head(request: Request, *, max_body_bytes: int) -> None:
    """Check the headers that announce the body, before any of it is read.

    Raises:
        Problem: Content-Encoding, Expect or Content-Length is not acceptable.
    """
    headers = request.headers
    if hdrs.CONTENT_ENCODING in headers:
        # The signature covers the bytes on the wire. A server that decompresses the body checks other bytes.
        raise Problem("unsupported_encoding", "a body is sent as it is, without Content-Encoding")
    if headers.get(hdrs.EXPECT, _CONTINUE).lower() != _CONTINUE:
        raise Problem("unsupported_expectation", f"the only expectation that is met is {_CONTINUE}")
    if int(headers.get(hdrs.CONTENT_LENGTH, "0")) > max_body_bytes:
        raise too_large(max_body_bytes)


async def _read_body(request: Request, *, max_body_bytes: int, timeout_seconds: float) -> bytes:
    """Return the whole body as it was sent.

    Raises:
        Problem: The body is too large, too slow or incomplete.
    """
    if not isinstance(request.body, bytes):
        return await request.body.read(max_bytes=max_body_bytes, timeout_seconds=timeout_seconds)
    if len(request.body) > max_body_bytes:
        raise too_large(max_body_bytes)
    return request.body


def _idempotency_key(request: Request) -> str | None:
    values = request.headers.getall(signing.IDEMPOTENCY_HEADER, ())
    if not values:
        return None
    if len(values) > 1 or not signing.IDEMPOTENCY_KEY.fullmatch(values[0]):
        raise Problem(
            "invalid_idempotency_key",
            "the header Idempotency-Key is sent once and has 1 to 255 printable ASCII characters",
        )
    return values[0]


def _dedup_key(
    request: Request, credentials: Credentials, idempotency_key: str | None, digest: str
) -> DedupKey:
    signed_at = float(credentials.timestamp)
    # Positional arguments: keywords cost as much again as the tuple itself, for every push.
    return DedupKey(
        credentials.key_id,
        credentials.nonce,
        signed_at + WINDOW_SECONDS + NONCE_MARGIN_SECONDS,
        idempotency_key,
        f"{credentials.key_id} {request.method} {request.path}" if idempotency_key else "",
        digest,
        signed_at,
        credentials.signature,
    )
