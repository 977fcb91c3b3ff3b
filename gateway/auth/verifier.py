"""Verify tokens: PyJWT checks the signature (RFC 7515), ``claims`` checks the payload.

``issue_token`` signs tokens for the command line and for the development page. In production the application's own
backends issue them.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import jwt
import structlog
from jwt import PyJWS
from jwt.exceptions import InvalidAlgorithmError

from gateway.auth.claims import (
    ROOMS_CLAIM,
    ClaimRules,
    Claims,
    IgnoredClaim,
    identity_of,
    read_claims,
    read_unverified,
    unknown_issuer,
)
from gateway.auth.jwk import find_matching
from gateway.auth.jwks import Fetch, JwksCache
from gateway.auth.key_ring import KeyRing, make_key_ring
from gateway.auth.signatures import SIGNATURE_INVALID, Header, read_header, rejection_of, signed_payload
from gateway.domain.errors import TokenRejected
from gateway.domain.identity import Identity
from gateway.domain.issuers import OwnedUsers, TokenIssuer
from gateway.interfaces import Clock, Schedule, sleep
from gateway.metrics import MetricFactory, one_label

MAX_TOKEN_BYTES: Final = 16 * 1024
HOLD_SECONDS: Final = 5.0
"""How long a token that time may cure is held: one that is active soon, or whose key may be in the next key set.

A client waits a few seconds for its CONNECT without notice. Far below CONNECT_TIMEOUT_SECONDS and a ping timeout.
"""
_MARGIN_SECONDS: Final = 0.1
"""Timers follow the monotonic clock, which may run a little faster than that of the claims."""
LOG_AGAIN_SECONDS: Final = 60.0
"""How often a claim of a wrong shape is logged. All tokens of an issuer have it, and the metric counts them."""
_log = structlog.get_logger("gateway.auth")


@dataclass(frozen=True, slots=True)
class _Source:
    """The keys and rules for the tokens of one issuer. ``name`` is empty for those that no entry has."""

    name: str
    ring: KeyRing
    rules: ClaimRules


@dataclass(frozen=True, slots=True)
class _Sources:
    """Every source of tokens; ``default`` is the one for tokens that ``by_issuer`` has no entry for."""

    default: _Source | None
    by_issuer: Mapping[str, _Source]

    def all(self) -> tuple[_Source, ...]:
        """Return the sources, the default first."""
        return (*(() if self.default is None else (self.default,)), *self.by_issuer.values())


class JwtVerifier:
    """Verifies tokens. Satisfies ``gateway.interfaces.TokenVerifier``.

    The order of checks: form, header, issuer, algorithm, key, signature, claims. The claim ``iss`` alone decides
    between the entries of ``issuers`` and the keys below, which are those for all other tokens, and it is read before
    the signature is checked: so it chooses who has to have signed the token, and nothing in the header does. What time
    may cure is waited for, up to HOLD_SECONDS: a token that is not active yet, and a key that is not in the cached key
    set.

    - ``algorithms``: the accepted algorithms. Each needs a key. Empty only without keys, beside ``issuers``.
    - ``secrets``: the keys for HS* only.
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
        secrets: Collection[str] = (),
        public_key: str | None = None,
        jwks_url: str | None = None,
        issuers: Collection[TokenIssuer] = (),
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
        self._sources = self._make_sources(algorithms, secrets, public_key, jwks_url, issuers)
        self._logged_at: dict[IgnoredClaim, float] = {}
        """When each ignored claim was logged; claims are named by the settings, types and reasons by the code."""
        self._ignored_claims = metrics.counter(
            "token_claims_ignored",
            "Values of claims that should grant a room and have another shape, by claim.",
            ("claim",),
            one_label(self._room_claims()),
        )
        metrics.callback_gauge(
            "tokens_held",
            "Tokens that wait because their key is not in the key set.",
            read=lambda: sum(remote.held_tokens for remote in self._remotes()),
        )

    def change_keys(
        self,
        *,
        algorithms: Collection[str],
        secrets: Collection[str] = (),
        public_key: str | None = None,
        jwks_url: str | None = None,
        issuers: Collection[TokenIssuer] = (),
    ) -> None:
        """Replace the keys and the issuers. A fetched key set is kept if its issuer, URL and algorithms are unchanged.

        Raises:
            ValueError: As for the constructor. Nothing is changed then.
        """
        sources = self._make_sources(algorithms, secrets, public_key, jwks_url, issuers)
        former = {each.name: each.ring for each in self._sources.all()}
        kept = set()

        def with_former(source: _Source) -> _Source:
            ring = former.get(source.name)
            if ring is None or not source.ring.has_same_source(ring):
                return source
            kept.add(source.name)
            return replace(source, ring=source.ring.with_remote_of(ring))

        self._sources = _Sources(
            None if sources.default is None else with_former(sources.default),
            {name: with_former(source) for name, source in sources.by_issuer.items()},
        )
        for name, ring in former.items():
            if name not in kept and ring.remote is not None:
                ring.remote.cancel()
        self._ignored_claims.init_labels(one_label(self._room_claims()))
        self.prefetch()

    def issuers(self) -> Collection[str]:
        """Return the issuers whose tokens are accepted; the empty name stands for all that have no entry."""
        return frozenset(each.name for each in self._sources.all())

    @property
    def is_ready(self) -> bool:
        """Whether tokens of any issuer can be verified now. One whose key set is not fetched yet keeps no other out."""
        return any(each.ring.is_ready for each in self._sources.all())

    async def prepare(self) -> None:
        """Fetch the key sets that were not fetched before, all at once.

        Raises:
            KeysUnavailable: One of them could not be fetched.
        """
        loading = await asyncio.gather(*(remote.load() for remote in self._remotes()), return_exceptions=True)
        for failure in loading:
            if failure is not None:
                raise failure

    def prefetch(self) -> None:
        """Start to fetch the key sets without waiting. For a server that rejects clients until this is ``ready``."""
        for remote in self._remotes():
            remote.prefetch()

    async def close(self) -> None:
        """Cancel running fetches of key sets."""
        await asyncio.gather(*(remote.close() for remote in self._remotes()))

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
        header = read_header(token.partition(".")[0])
        source = self._source_of(token)
        ring = source.ring
        if header.algorithm not in ring.algorithms:
            raise rejection_of(InvalidAlgorithmError())
        # A local key has no id: ``kid`` selects keys of key sets only.
        keys = find_matching(ring.local, header.algorithm, None)
        if keys or ring.remote is None:
            payload = signed_payload(ring.jws, token, header.algorithm, keys)
        else:
            payload = await self._remotely_signed_payload(ring.jws, ring.remote, token, header)
        claims = read_claims(payload)
        try:
            return self._identity_of(claims, source.rules)
        except TokenRejected as rejection:
            wait_seconds = rejection.retry_after_seconds
            if wait_seconds is None or wait_seconds > HOLD_SECONDS:
                raise
        await sleep(self._schedule, wait_seconds + _MARGIN_SECONDS)
        return self._identity_of(claims, source.rules)

    def _source_of(self, token: str) -> _Source:
        """Return the source of a token whose signature was not checked yet.

        Raises:
            TokenRejected: Its payload is malformed, or no source is for its issuer.
        """
        sources = self._sources
        if not sources.by_issuer and sources.default is not None:
            return sources.default
        issuer = read_unverified(token).get("iss")
        # Two issuers whose names differ in anything are two. Only a string is compared: a list cannot be a key.
        source = sources.by_issuer.get(issuer) if isinstance(issuer, str) else None
        source = sources.default if source is None else source
        if source is None:
            raise unknown_issuer(issuer)
        return source

    def _identity_of(self, claims: Claims, rules: ClaimRules) -> Identity:
        identity, ignored = identity_of(claims, rules, self._clock.now())
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
        self, jws: PyJWS, remote: JwksCache, token: str, header: Header
    ) -> bytes:
        deadline = self._clock.monotonic() + HOLD_SECONDS
        while True:
            keys = remote.find(header.algorithm, header.kid)
            try:
                return signed_payload(jws, token, header.algorithm, keys)
            except TokenRejected as rejection:
                # A key with the id of the token is its key: no other one will be published.
                is_final = any(key.kid is not None and key.kid == header.kid for key in keys)
                if rejection.code != SIGNATURE_INVALID or is_final or remote.is_newer_than(token):
                    raise
            await remote.wait_for_newer(header.kid, deadline)

    def _make_sources(
        self,
        algorithms: Collection[str],
        secrets: Collection[str],
        public_key: str | None,
        jwks_url: str | None,
        issuers: Collection[TokenIssuer],
    ) -> _Sources:
        default = None
        if algorithms or not issuers:
            ring = make_key_ring(
                algorithms=algorithms,
                secrets=secrets,
                public_key=public_key,
                jwks_url=jwks_url,
                make_cache=partial(self._make_cache, ""),
            )
            default = _Source("", ring, replace(self._rules, users=OwnedUsers("", issuers)))
        return _Sources(default, {each.issuer: self._source(each, issuers) for each in issuers})

    def _source(self, issuer: TokenIssuer, issuers: Collection[TokenIssuer]) -> _Source:
        ring = make_key_ring(
            algorithms=issuer.algorithms,
            secrets=issuer.secrets,
            public_key=issuer.public_key,
            jwks_url=issuer.jwks_url,
            make_cache=partial(self._make_cache, issuer.issuer),
        )
        rules = replace(
            self._rules,
            issuer=frozenset({issuer.issuer}),
            audience=frozenset(issuer.audience),
            room_claims=self._rules.room_claims if issuer.room_claims is None else issuer.room_claims,
            scope=issuer.issuer,
            users=OwnedUsers(issuer.users, issuers),
        )
        return _Source(issuer.issuer, ring, rules)

    def _make_cache(self, issuer: str, url: str, algorithms: Collection[str]) -> JwksCache:
        if self._fetch is None:
            raise ValueError("a JWKS address needs something that fetches it")
        return JwksCache(
            url=url,
            fetch=self._fetch,
            algorithms=algorithms,
            clock=self._clock,
            schedule=self._schedule,
            issuer=issuer,
        )

    def _remotes(self) -> list[JwksCache]:
        return [each.ring.remote for each in self._sources.all() if each.ring.remote is not None]

    def _room_claims(self) -> list[str]:
        """Return every claim that grants rooms."""
        names = {name for each in self._sources.all() for name in each.rules.room_claims}
        return sorted({ROOMS_CLAIM, *names})


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
