"""Check the claims of a token (RFC 7519 §4.1), and derive the identity from them. Pure: the time is an argument."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, NoReturn

from jwt.utils import base64url_decode

from gateway.domain.errors import InvalidName, TokenRejected
from gateway.domain.identity import Identity, scoped_token_id
from gateway.domain.issuers import OwnedUsers
from gateway.domain.names import (
    SID_PREFIX,
    USER_PREFIX,
    check_room,
    check_token_id,
    check_user,
    user_room,
)

Claims = Mapping[str, object]

ROOMS_CLAIM: Final = "rooms"
CLOCK_SKEW_SECONDS: Final = 5.0
"""The tolerance for ``nbf`` and ``iat``: how far the clock of an issuer may be ahead. ``exp`` has none of it."""
MAX_RETRY_AFTER_SECONDS: Final = 3600
"""A token that is active later is retried every hour. A timer of a browser holds at most 24 days."""
_LAST_SECOND: Final = 253_402_300_799
"""9999-12-31T23:59:59Z. A later date is an error, most often milliseconds instead of seconds."""


_ALL_USERS: Final = OwnedUsers("", ())

_TYPES: Final = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    dict: "object",
    list: "list",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRules:
    """The rules for claims.

    - ``audience``, ``issuer``: the accepted values; if empty, the claim is not checked.
    - ``leeway_seconds``: the tolerance for ``exp``, and for ``nbf`` and ``iat`` if it is more than CLOCK_SKEW_SECONDS.
    - ``max_lifetime_seconds``: the longest time from ``iat`` to ``exp``; None means no limit.
    - ``room_claims``: maps a claim to the prefix of the rooms that it grants. The name may be a path into nested claims
      (``realm_access.roles``). The claim ``rooms`` grants rooms verbatim, unless the mapping names it.
    - ``scope``: the issuer whose token ids these are; two issuers may give the same one.
    - ``users``: the users that tokens of the issuer may be of.
    """

    audience: frozenset[str]
    issuer: frozenset[str]
    leeway_seconds: float
    require_exp: bool
    max_lifetime_seconds: float | None
    room_claims: Mapping[str, str]
    scope: str = ""
    users: OwnedUsers = _ALL_USERS


class IgnoredClaim(NamedTuple):
    """A claim, or an item of its list, that should grant a room and does not. The value is in none of the fields."""

    claim: str
    type: str
    reason: str


def read_claims(payload: bytes) -> Claims:
    """Return the claims in the payload of a token with a valid signature.

    Raises:
        TokenRejected: The payload is not a JSON object (``token_malformed``).
    """
    try:
        # ValueError is also raised for invalid UTF-8 and for a number of thousands of digits.
        claims = json.loads(payload, parse_constant=_reject_constant)
    except (ValueError, RecursionError) as error:
        raise TokenRejected("token_malformed", "the payload of the token is not JSON") from error
    if not isinstance(claims, dict):
        raise TokenRejected("token_malformed", "the payload of the token is not a JSON object")
    return claims


def read_unverified(token: str) -> Claims:
    """Return the claims in a token whose signature was not checked: only to find the issuer that must have signed it.

    Raises:
        TokenRejected: The payload is not base64url of a JSON object (``token_malformed``).
    """
    try:
        payload = base64url_decode(token.split(".", 2)[1])
    except (ValueError, IndexError) as error:
        raise TokenRejected("token_malformed", "this is not a signed JSON Web Token") from error
    return read_claims(payload)


def unknown_issuer(issuer: object) -> TokenRejected:
    """Return the rejection of a token whose issuer is not accepted; None: it names none."""
    if issuer is None:
        return TokenRejected("token_claim_missing", "the token has no claim iss")
    return TokenRejected(
        "token_issuer_invalid", "the token is from an issuer (iss) that is not accepted here"
    )


def identity_of(claims: Claims, rules: ClaimRules, now: float) -> tuple[Identity, Sequence[IgnoredClaim]]:
    """Return the identity that the claims describe, and the claims of a shape that grants no room.

    Raises:
        TokenRejected: The code is that of the first violated rule. The last rule is the one that the token meets later
            (``token_not_active``), so a token with ``retry_after_seconds`` meets all others.
    """
    issued_at = _date(claims, "iat")
    expires_at = _expiry(claims, rules, now)
    _check_lifetime(issued_at, expires_at, rules.max_lifetime_seconds, now)
    _check_issuer(claims, rules.issuer)
    _check_audience(claims, rules.audience)
    user = _user(claims, rules.users)
    ignored: list[IgnoredClaim] = []
    rooms = frozenset(_rooms(claims, user, rules, ignored))
    token_id = _token_id(claims, rules.scope)
    _check_not_before(claims, issued_at, rules, now)
    email, subject = claims.get("email"), claims["sub"]
    identity = Identity(
        user=user,
        rooms=rooms,
        expires_at=expires_at,
        issued_at=issued_at,
        email=email if isinstance(email, str) else None,
        subject=subject if isinstance(subject, int) else None,
        token_id=token_id,
    )
    return identity, ignored


def _reject_constant(constant: str) -> NoReturn:
    # Python accepts NaN and Infinity; JSON (RFC 8259 §6) has neither.
    raise ValueError(f"{constant} is not JSON")


def _date(claims: Claims, name: str) -> float | None:
    """Return a NumericDate claim (RFC 7519 §2): seconds since 1970, perhaps with a fraction. None if it is absent."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TokenRejected("token_invalid", f"the claim {name} is not a number of seconds since 1970")
    if not 0 <= value <= _LAST_SECOND:  # also true for NaN
        raise TokenRejected(
            "token_invalid", f"the claim {name} is no date in seconds since 1970 (are these milliseconds?)"
        )
    return float(value)


def _expiry(claims: Claims, rules: ClaimRules, now: float) -> float | None:
    """Return ``exp`` as written, without the leeway. Token expiry adds the leeway when it closes connections."""
    expires_at = _date(claims, "exp")
    if expires_at is None:
        if rules.require_exp:
            raise TokenRejected("token_claim_missing", "the token has no claim exp")
    elif now >= expires_at + rules.leeway_seconds:
        raise TokenRejected("token_expired", "the token has expired")
    return expires_at


def _check_not_before(claims: Claims, issued_at: float | None, rules: ClaimRules, now: float) -> None:
    latest = now + max(rules.leeway_seconds, CLOCK_SKEW_SECONDS)
    not_before = _date(claims, "nbf")
    if not_before is not None and not_before > latest:
        raise _not_active("the token is not valid yet (nbf)", not_before - latest)
    if issued_at is not None and issued_at > latest:
        raise _not_active("the token was issued in the future (iat)", issued_at - latest)


def _not_active(reason: str, seconds: float) -> TokenRejected:
    wait_seconds = min(math.ceil(seconds), MAX_RETRY_AFTER_SECONDS)
    return TokenRejected("token_not_active", reason, retry_after_seconds=wait_seconds)


def _check_lifetime(
    issued_at: float | None, expires_at: float | None, max_lifetime_seconds: float | None, now: float
) -> None:
    """Limit the lifetime of tokens to that of revocations: a revoked token that lives longer would be valid again."""
    if max_lifetime_seconds is None or expires_at is None:
        return
    starts_at = now if issued_at is None else issued_at
    if expires_at - starts_at > max_lifetime_seconds:
        raise TokenRejected(
            "token_invalid",
            f"the token lives longer than the {max_lifetime_seconds:.0f} seconds for which revocations are kept",
        )


def _check_issuer(claims: Claims, issuer: frozenset[str]) -> None:
    if not issuer:
        return
    value = claims.get("iss")
    if not isinstance(value, str) or value not in issuer:
        raise unknown_issuer(value)


def _check_audience(claims: Claims, audience: frozenset[str]) -> None:
    """Check that one of the token's audiences is accepted (RFC 7519 §4.1.3: a string or a list of strings)."""
    if not audience:
        return
    value = claims.get("aud")
    if value is None:
        raise TokenRejected("token_claim_missing", "the token has no claim aud")
    values = value if isinstance(value, list) else [value]
    if not any(isinstance(each, str) and each in audience for each in values):
        raise TokenRejected("token_audience_invalid", "the token is meant for another audience (aud)")


def _user(claims: Claims, users: OwnedUsers) -> str:
    value = claims.get("sub")
    if value is None:
        raise TokenRejected("token_claim_missing", "the token has no claim sub")
    text = _text(value)
    if text is None:
        raise TokenRejected("token_invalid", "the claim sub is neither a string nor an integer")
    if not text:
        raise TokenRejected("token_invalid", "the claim sub is no user id: a user id is not empty")
    try:
        user = check_user(users.prefix + text)
    except InvalidName as error:
        raise TokenRejected("token_invalid", f"the claim sub is no user id: {error.message}") from error
    if not users.has(user):
        raise TokenRejected("token_invalid", "the claim sub begins as the users of another issuer do")
    return user


def _token_id(claims: Claims, scope: str) -> str:
    """Return the id of a token (RFC 7519 §4.1.7), empty without one. An id that cannot be revoked is rejected."""
    value = claims.get("jti")
    if value is None:
        return ""
    text = _text(value)
    if text is None:
        raise TokenRejected("token_invalid", "the claim jti is neither a string nor an integer")
    try:
        return scoped_token_id(scope, check_token_id(text))
    except InvalidName as error:
        raise TokenRejected("token_invalid", f"the claim jti is no token id: {error.message}") from error


def _rooms(claims: Claims, user: str, rules: ClaimRules, ignored: list[IgnoredClaim]) -> Iterator[str]:
    yield user_room(user)
    if ROOMS_CLAIM not in rules.room_claims:
        yield from _granted(claims, ROOMS_CLAIM, "", rules.users, ignored)
    for name, prefix in rules.room_claims.items():
        yield from _granted(claims, name, prefix, rules.users, ignored)


def _granted(
    claims: Claims, name: str, prefix: str, users: OwnedUsers, ignored: list[IgnoredClaim]
) -> Iterator[str]:
    """Yield the rooms of one claim: none if it is absent or null, one for a value, one for each value of a list.

    A value of another shape is often another application's, so it grants no room and rejects no token.
    """
    value = find_claim(claims, name)
    if value is None:
        return
    for each in value if isinstance(value, list) else (value,):
        text = _text(each)
        if not text:
            # With a prefix it would be a valid name: "org:" would be a room of all users without an organisation.
            reason = "it is empty" if text is not None else "it is neither a string nor an integer"
            ignored.append(IgnoredClaim(name, _type_of(each), reason))
            continue
        try:
            room = check_room(prefix + text)
        except InvalidName as error:
            ignored.append(IgnoredClaim(name, _type_of(each), error.message))
            continue
        if room.startswith(SID_PREFIX):
            raise TokenRejected(
                "token_invalid",
                f"the claim {name} grants a room that begins with {SID_PREFIX}, as only sids may",
            )
        if room.startswith(USER_PREFIX) and not users.has(room.removeprefix(USER_PREFIX)):
            raise TokenRejected("token_invalid", f"the claim {name} grants a room of another issuer's user")
        yield room


def find_claim(claims: Claims, name: str) -> object:
    """Return the claim of this exact name, else the one at the end of the path that the name is; None if absent.

    Names may contain dots themselves (``https://example.com/roles``), at each level. Longer names are tried first.
    """
    if name in claims:
        return claims[name]
    end = name.rfind(".")
    while end > 0:
        inner = claims.get(name[:end])
        if isinstance(inner, dict):
            found = find_claim(inner, name[end + 1 :])
            if found is not None:
                return found
        end = name.rfind(".", 0, end)
    return None


def _text(value: object) -> str | None:
    """Return a string, or the text of an integer; None for any other value."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None


def _type_of(value: object) -> str:
    """Return the JSON type of a value."""
    return _TYPES.get(type(value), "null")
