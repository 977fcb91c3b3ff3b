"""Verify tokens: PyJWT checks the signature (RFC 7515), ``claims`` checks the payload.

``issue_token`` signs tokens for the command line and for the development page. In production the application's own
backends issue them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, NamedTuple

import jwt
import structlog
from jwt import PyJWS
from jwt.exceptions import DecodeError, InvalidAlgorithmError, InvalidSignatureError, PyJWTError
from jwt.utils import base64url_decode

from gateway.auth.claims import ROOMS_CLAIM, ClaimRules, Claims, IgnoredClaim, identity_of, read_claims
from gateway.auth.jwk import (
    HMAC_DIGESTS,
    PUBLIC_KEY_ALGORITHMS,
    FastJws,
    Key,
    PreparedHmac,
    find_matching,
    public_key,
    secret_key,
)
from gateway.auth.jwks import Fetch, JwksCache
from gateway.domain.errors import TokenRejected
from gateway.domain.identity import Identity
from gateway.interfaces import Clock, Schedule, sleep
from gateway.metrics import MetricFactory, one_label

MAX_TOKEN_BYTES: Final = 16 * 1024
HOLD_SECONDS: Final = 5.0
"""How long a token that time may cure is held: one that is active soon, or whose key may be in the next key set.

A client waits a few seconds for its CONNECT without notice. Far below CONNECT_TIMEOUT_SECONDS and a ping timeout.
"""
_MARGIN_SECONDS: Final = 0.1
"""Timers follow the monotonic clock, which may run a little faster than that of the claims."""
SIGNATURE_INVALID: Final = "token_signature_invalid"

LOG_AGAIN_SECONDS: Final = 60.0
"""How often a claim of a wrong shape is logged. All tokens of an issuer have it, and the metric counts them."""
_log = structlog.get_logger("gateway.auth")

_REJECTIONS: Final[tuple[tuple[type[PyJWTError], str, str], ...]] = (
    (InvalidSignatureError, SIGNATURE_INVALID, "the signature of the token does not match"),
    (InvalidAlgorithmError, "token_algorithm_refused", "the token's algorithm is not accepted here"),
    (DecodeError, "token_malformed", "this is not a signed JSON Web Token"),
    (PyJWTError, "token_invalid", "the token has a header that is not accepted here"),
)
"""PyJWT's exceptions, the most specific first. PyJWT's own messages may quote the token; these never do."""


class JwtVerifier:
    """Verifies tokens. Satisfies ``gateway.interfaces.TokenVerifier``.

    The order of checks: form, header, algorithm, key, signature, claims. What time may cure is waited for, up to
    HOLD_SECONDS: a token that is not active yet, and a key that is not in the cached key set.

    - ``algorithms``: the accepted algorithms. Each needs a key.
    - ``secret``: the key for HS* only.
    - ``public_key`` (PEM), or ``jwks_url`` with ``fetch``: the keys for all other algorithms.
    - ``audience``, ``issuer``: the token must have one of each; if empty, the claim is not checked.
    - ``max_token_bytes``: the limit of a token, wherever the client sends it.
    - ``max_lifetime_seconds``: how long revocations are kept. A token that lives longer is rejected.

    Raises:
        ValueError: The combination can never accept a token. The message is a sentence for the operator.
    """

    def __init__(
        self,
        *,
        algorithms: Collection[str],
        clock: Clock,
        schedule: Schedule,
        room_claims: Mapping[str, str],
        secret: str | None = None,
        public_key: str | None = None,
        jwks_url: str | None = None,
        fetch: Fetch | None = None,
        audience: Collection[str] = (),
        issuer: Collection[str] = (),
        leeway_seconds: float = 0.0,
        require_exp: bool = True,
        max_lifetime_seconds: float | None = None,
        max_token_bytes: int = MAX_TOKEN_BYTES,
        metrics: MetricFactory,
    ) -> None:
        self._clock = clock
        self._max_token_bytes = max_token_bytes
        self._schedule = schedule
        self._fetch = fetch
        self._rules = ClaimRules(
            audience=frozenset(audience),
            issuer=frozenset(issuer),
            leeway_seconds=leeway_seconds,
            require_exp=require_exp,
            max_lifetime_seconds=max_lifetime_seconds,
            room_claims=room_claims,
        )
        self._ring = self._key_ring(algorithms, secret, public_key, jwks_url)
        self._logged_at: dict[IgnoredClaim, float] = {}
        """When each ignored claim was logged; claims are named by the settings, types and reasons by the code."""
        self._ignored_claims = metrics.counter(
            "token_claims_ignored",
            "Values of claims that should grant a room and have another shape, by claim.",
            ("claim",),
            one_label(sorted({ROOMS_CLAIM, *room_claims})),
        )
        metrics.callback_gauge(
            "tokens_held",
            "Tokens that wait because their key is not in the key set.",
            read=lambda: 0 if self._ring.remote is None else self._ring.remote.held_tokens,
        )

    def change_keys(
        self,
        *,
        algorithms: Collection[str],
        secret: str | None = None,
        public_key: str | None = None,
        jwks_url: str | None = None,
    ) -> None:
        """Replace the keys. A fetched key set is kept if its URL and the algorithms are unchanged.

        Raises:
            ValueError: As for the constructor. Nothing is changed then.
        """
        former, ring = self._ring, self._key_ring(algorithms, secret, public_key, jwks_url)
        if ring.has_same_source(former):
            ring = replace(ring, remote=former.remote)
        elif former.remote is not None:
            former.remote.cancel()
        self._ring = ring
        self.prefetch()

    def issuers(self) -> Collection[str]:
        """Return the issuers whose tokens are accepted; the empty name stands for the keys of JWT_*."""
        return frozenset({""})

    @property
    def is_ready(self) -> bool:
        """Whether tokens can be verified now. False only while the single source of keys is a set not yet fetched."""
        return bool(self._ring.local) or self._ring.remote is None or self._ring.remote.is_ready

    async def prepare(self) -> None:
        """Fetch the key set if it was not fetched before.

        Raises:
            KeysUnavailable: The key set could not be fetched.
        """
        if self._ring.remote is not None:
            await self._ring.remote.load()

    def prefetch(self) -> None:
        """Start to fetch the key set without waiting. For a server that rejects clients until this is ``ready``."""
        if self._ring.remote is not None:
            self._ring.remote.prefetch()

    async def close(self) -> None:
        """Cancel a running fetch of the key set."""
        if self._ring.remote is not None:
            await self._ring.remote.close()

    async def verify(self, token: str) -> Identity:
        """Return the identity that a token proves.

        Raises:
            TokenRejected: The token is invalid. The code is that of the first check that failed.
            KeysStale: The key of the token is not in the cached key set, and the next fetch is not allowed yet.
            KeysUnavailable: The keys of the issuer could not be fetched.
        """
        if not token.isascii():
            raise TokenRejected("token_malformed", "all characters of a token are ASCII")
        if len(token) > self._max_token_bytes:
            raise TokenRejected(
                "token_too_long",
                f"a token has at most {self._max_token_bytes} bytes (GATEWAY_MAX_TOKEN_BYTES)",
            )
        ring = self._ring
        header = _read_header(token.partition(".")[0])
        if header.algorithm not in ring.algorithms:
            raise _rejection(InvalidAlgorithmError())
        # A local key has no id: ``kid`` selects keys of key sets only.
        keys = find_matching(ring.local, header.algorithm, None)
        if keys or ring.remote is None:
            payload = _signed_payload(ring.jws, token, header.algorithm, keys)
        else:
            payload = await self._remotely_signed_payload(ring.jws, ring.remote, token, header)
        claims = read_claims(payload)
        try:
            return self._identity_of(claims)
        except TokenRejected as rejection:
            wait_seconds = rejection.retry_after_seconds
            if wait_seconds is None or wait_seconds > HOLD_SECONDS:
                raise
        await sleep(self._schedule, wait_seconds + _MARGIN_SECONDS)
        return self._identity_of(claims)

    def _identity_of(self, claims: Claims) -> Identity:
        identity, ignored = identity_of(claims, self._rules, self._clock.now())
        for each in ignored:
            self._ignored_claims.count((each.claim,))
            now, logged_at = self._clock.monotonic(), self._logged_at.get(each, -math.inf)
            if now - logged_at >= LOG_AGAIN_SECONDS:
                self._logged_at[each] = now
                _log.warning(
                    "claim.ignored",
                    claim=each.claim,
                    type=each.type,
                    reason=each.reason,
                    user=identity.user,
                )
        return identity

    async def _remotely_signed_payload(
        self, jws: PyJWS, remote: JwksCache, token: str, header: _Header
    ) -> bytes:
        deadline = self._clock.monotonic() + HOLD_SECONDS
        while True:
            keys = remote.find(header.algorithm, header.kid)
            try:
                return _signed_payload(jws, token, header.algorithm, keys)
            except TokenRejected as rejection:
                # A key with the id of the token is its key: no other one will be published.
                is_final = any(key.kid is not None and key.kid == header.kid for key in keys)
                if rejection.code != SIGNATURE_INVALID or is_final or remote.is_newer_than(token):
                    raise
            await remote.wait_for_newer(header.kid, deadline)

    def _key_ring(
        self, allowed: Collection[str], secret: str | None, public_key: str | None, jwks_url: str | None
    ) -> _KeyRing:
        if public_key is not None and jwks_url is not None:
            raise ValueError("there is a JWT public key and a JWKS address; the gateway takes one of the two")
        algorithms = _check_algorithms(allowed)
        local = _local_keys(secret, public_key, algorithms)
        remote = None
        if jwks_url is not None:
            if self._fetch is None:
                raise ValueError("a JWKS address needs something that fetches it")
            remote = JwksCache(
                url=jwks_url,
                fetch=self._fetch,
                algorithms=algorithms,
                clock=self._clock,
                schedule=self._schedule,
            )
        _check_every_algorithm_has_a_key(algorithms, local, remote)
        return _KeyRing(algorithms, local, remote, jwks_url, _prepared_jws(algorithms))


def issue_token(
    *,
    secret: str,
    user: str,
    now: float,
    ttl_seconds: float,
    algorithm: str = "HS256",
    claims: Mapping[str, object] | None = None,
) -> str:
    """Return a token for ``user`` that expires ``ttl_seconds`` after ``now``. ``claims`` override the usual ones."""
    issued_at = int(now)
    payload = {"sub": user, "iat": issued_at, "exp": issued_at + int(ttl_seconds), **(claims or {})}
    return jwt.encode(payload, secret, algorithm=algorithm)


@dataclass(frozen=True, slots=True)
class _KeyRing:
    """The algorithms and keys that verify tokens. Replaced as a whole when the keys change."""

    algorithms: frozenset[str]
    local: tuple[Key, ...]
    remote: JwksCache | None
    jwks_url: str | None
    jws: PyJWS

    def has_same_source(self, other: _KeyRing) -> bool:
        """Whether both have the same key set: the same URL and algorithms."""
        return (self.jwks_url, self.algorithms) == (other.jwks_url, other.algorithms)


def _signed_payload(jws: PyJWS, token: str, algorithm: str, keys: Sequence[Key]) -> bytes:
    for key in keys:
        try:
            decoded = jws.decode_complete(token, key.material, algorithms=[algorithm])
        except InvalidSignatureError:
            continue
        except PyJWTError as error:
            raise _rejection(error) from error
        else:
            payload: bytes = decoded["payload"]
            return payload
    failure = InvalidSignatureError()
    raise _rejection(failure) from failure


class _Header(NamedTuple):
    algorithm: str
    kid: str | None


@lru_cache(maxsize=64)
def _read_header(segment: str) -> _Header:
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
        raise _rejection(DecodeError()) from error
    if not isinstance(header, dict):
        raise _rejection(DecodeError())
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str):
        raise _rejection(InvalidAlgorithmError())
    if "crit" in header:
        raise TokenRejected(
            "token_invalid", "the token requires extensions (crit) that the gateway does not support"
        )
    if kid is not None and not isinstance(kid, str):
        raise TokenRejected("token_invalid", "the token's key id (kid) is not a string")
    return _Header(algorithm, kid)


def _rejection(error: PyJWTError) -> TokenRejected:
    code, sentence = next((code, sentence) for kind, code, sentence in _REJECTIONS if isinstance(error, kind))
    return TokenRejected(code, sentence)


def _check_algorithms(algorithms: Collection[str]) -> frozenset[str]:
    unknown = sorted(set(algorithms).difference(HMAC_DIGESTS, PUBLIC_KEY_ALGORITHMS))
    if unknown or not algorithms:
        known = ", ".join((*HMAC_DIGESTS, *PUBLIC_KEY_ALGORITHMS))
        raise ValueError(f"the JWT algorithms {', '.join(unknown)} are not known; there are {known}")
    return frozenset(algorithms)


def _local_keys(secret: str | None, pem: str | None, algorithms: Collection[str]) -> tuple[Key, ...]:
    keys = []
    if secret is not None:
        keys.append(secret_key(secret, algorithms))
    if pem is not None:
        keys.append(public_key(pem, algorithms))
    return tuple(key for key in keys if key.algorithms)


def _check_every_algorithm_has_a_key(
    algorithms: Collection[str], local: Sequence[Key], remote: JwksCache | None
) -> None:
    served = {name for key in local for name in key.algorithms}
    if remote is not None:
        served.update(PUBLIC_KEY_ALGORITHMS)
    missing = sorted(set(algorithms).difference(served))
    if missing:
        raise ValueError(f"there is no key for the JWT algorithms {', '.join(missing)}")


def _prepared_jws(algorithms: frozenset[str]) -> PyJWS:
    jws = FastJws(algorithms=sorted(algorithms))
    for name in algorithms.intersection(HMAC_DIGESTS):
        jws.unregister_algorithm(name)
        jws.register_algorithm(name, PreparedHmac(HMAC_DIGESTS[name]))
    return jws
