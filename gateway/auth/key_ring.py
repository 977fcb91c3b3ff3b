"""The algorithms and keys that verify the tokens of one issuer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from jwt import PyJWS

from gateway.auth.jwk import (
    HMAC_DIGESTS,
    PUBLIC_KEY_ALGORITHMS,
    FastJws,
    Key,
    PreparedHmac,
    public_key,
    secret_key,
)
from gateway.auth.jwks import JwksCache

MakeCache = Callable[[str, Collection[str]], JwksCache]
"""Makes the cache of the key set at a URL, for some algorithms."""


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The algorithms and keys of one issuer. Replaced as a whole when the keys change."""

    algorithms: frozenset[str]
    local: tuple[Key, ...]
    remote: JwksCache | None
    jwks_url: str | None
    jws: PyJWS

    @property
    def is_ready(self) -> bool:
        """Whether tokens can be verified now. False only while all keys are in a set that was not fetched yet."""
        return bool(self.local) or self.remote is None or self.remote.is_ready

    def has_same_source(self, other: KeyRing) -> bool:
        """Whether both have the same key set: the same URL and algorithms."""
        return (self.jwks_url, self.algorithms) == (other.jwks_url, other.algorithms)

    def with_remote_of(self, other: KeyRing) -> KeyRing:
        """Return this ring with the cached key set of another one that has the same source."""
        return replace(self, remote=other.remote)


def make_key_ring(
    *,
    algorithms: Collection[str],
    secrets: Collection[str],
    public_key: str | None,
    jwks_url: str | None,
    make_cache: MakeCache,
) -> KeyRing:
    """Return the keys of an issuer; each algorithm needs one.

    Raises: ValueError if the combination can never accept a token.
    """
    if public_key is not None and jwks_url is not None:
        raise ValueError("there is a JWT public key and a JWKS address; the gateway takes one of the two")
    allowed = _check_algorithms(algorithms)
    local = _local_keys(secrets, public_key, allowed)
    remote = None if jwks_url is None else make_cache(jwks_url, allowed)
    _check_every_algorithm_has_a_key(allowed, local, remote)
    return KeyRing(allowed, local, remote, jwks_url, _prepared_jws(allowed))


def _check_algorithms(algorithms: Collection[str]) -> frozenset[str]:
    unknown = sorted(set(algorithms).difference(HMAC_DIGESTS, PUBLIC_KEY_ALGORITHMS))
    if unknown or not algorithms:
        known = ", ".join((*HMAC_DIGESTS, *PUBLIC_KEY_ALGORITHMS))
        raise ValueError(f"the JWT algorithms {', '.join(unknown)} are not known; there are {known}")
    return frozenset(algorithms)


def _local_keys(secrets: Collection[str], pem: str | None, algorithms: Collection[str]) -> tuple[Key, ...]:
    keys = [secret_key(secret, algorithms) for secret in secrets]
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
