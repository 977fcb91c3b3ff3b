"""Issuers of tokens beside the one of JWT_*: their keys, and which users their tokens may be of."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenIssuer:
    """One issuer. ``issuer`` is the exact ``iss`` of its tokens; nothing else chooses it.

    ``secrets`` verify HS*, ``public_key`` (PEM) or the key set at ``jwks_url`` all other algorithms. ``room_claims``
    None: those of ROOM_CLAIMS. ``users``: the beginning of the user ids of its tokens, in front of ``sub``.
    ``same_users``: others that also have it and the same ``users`` speak for the same users.
    """

    issuer: str
    secrets: tuple[str, ...] = field(default=(), repr=False)
    public_key: str | None = field(default=None, repr=False)
    jwks_url: str | None = None
    algorithms: tuple[str, ...] = ()
    audience: tuple[str, ...] = ()
    room_claims: Mapping[str, str] | None = None
    users: str = ""
    same_users: bool = False


class OwnedUsers:
    """The users that the tokens of one issuer may be of: those whose id begins with its prefix.

    Without a prefix these are all but those of issuers with one.
    """

    __slots__ = ("_others", "prefix")

    def __init__(self, prefix: str, issuers: Collection[TokenIssuer]) -> None:
        self.prefix = prefix
        self._others = () if prefix else tuple({each.users for each in issuers if each.users})

    def has(self, user: str) -> bool:
        """Whether a token may be of this user, or grant the room of this user."""
        if self.prefix:
            return user.startswith(self.prefix)
        return not (self._others and user.startswith(self._others))


def find_shared_users(issuers: Collection[TokenIssuer], *, has_default: bool) -> list[str]:
    """Return a sentence for each pair of issuers whose tokens could be of one user although that is not intended.

    ``has_default``: there are also keys of JWT_*, whose users have no prefix.
    """
    sentences: list[str] = []
    seen: list[TokenIssuer] = []
    for each in issuers:
        if has_default and not each.users and not each.same_users:
            sentences.append(
                f"the issuer {each.issuer!r} has no users, so it could speak for every user of GATEWAY_JWT_*: give it a"
                ' prefix such as users: "b:", or same_users: true if they are the same users'
            )
        for other in seen:
            sentence = _clash(other, each)
            if sentence:
                sentences.append(f"the issuers {other.issuer!r} and {each.issuer!r} {sentence}")
        seen.append(each)
    return sentences


def _clash(one: TokenIssuer, other: TokenIssuer) -> str:
    if one.users == other.users:
        if one.same_users and other.same_users:
            return ""
        return (
            f"have the same users ({one.users!r}), so each could speak for users of the other: give them different"
            " prefixes, or both same_users: true"
        )
    if one.users and other.users and (one.users.startswith(other.users) or other.users.startswith(one.users)):
        return (
            f"have users of which one begins with the other ({one.users!r}, {other.users!r}), so both could speak for"
            " one user: end each prefix with a separator, such as a colon"
        )
    return ""
