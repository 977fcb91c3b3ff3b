"""Ingest keys: the credential of one backend, and what the backend may do with it."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from gateway.domain.names import GRANTED_PREFIXES, USER_PREFIX, is_nfc, is_sid_room
from gateway.domain.rate_limit import Rate

MIN_SECRET_BYTES: Final = 32
KEY_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)

EMIT_USER: Final = "emit:user"
EMIT_ROOM: Final = "emit:room"
BROADCAST: Final = "broadcast"
PRESENCE: Final = "presence"
ADMIN: Final = "admin"
JOIN: Final = "join"
HISTORY: Final = "history"
ACTIONS: Final = (EMIT_USER, EMIT_ROOM, BROADCAST, PRESENCE, JOIN, HISTORY, ADMIN)
_ANY: Final = "*"
_NARROWED: Final = (EMIT_USER, EMIT_ROOM, JOIN, HISTORY)


@dataclass(frozen=True, slots=True)
class Scope:
    """One permission: an action, for some actions limited to names that match ``pattern`` (``*``: any text)."""

    action: str
    pattern: str = _ANY

    @classmethod
    def parse(cls, text: str) -> Scope:
        """Parse ``action`` or ``action:<glob>``.

        Raises: ValueError with one sentence for anything else.
        """
        if text in ACTIONS:
            return cls(text)
        if not is_nfc(text):
            raise ValueError(f"{text!r} is not in Unicode form NFC, and so matches no name")
        for action in _NARROWED:
            if text.startswith(action + ":") and len(text) > len(action) + 1:
                return cls(action, text[len(action) + 1 :])
        raise ValueError(
            f"{text!r} is no scope: use emit:user[:<glob>], emit:room[:<glob>], broadcast, presence, join[:<glob>],"
            " history[:<glob>], admin"
        )

    def can_join(self, room: str, granted_prefixes: Collection[str] = GRANTED_PREFIXES) -> bool:
        """Whether the pattern matches a room that connections join or leave: never that of a user or a sid.

        Rooms that only tokens grant need a pattern that begins with their prefix.
        """
        if room.startswith(USER_PREFIX) or is_sid_room(room):
            return False
        named = all(self.pattern.startswith(each) for each in granted_prefixes if room.startswith(each))
        return named and self.matches(room)

    @property
    def is_unlimited(self) -> bool:
        """Whether the pattern matches every name."""
        return self.pattern == _ANY

    def matches(self, name: str) -> bool:
        """Whether the pattern matches the whole of ``name``."""
        first, *others = self.pattern.split("*")
        if not others:
            return name == first
        *middle, last = others
        if not name.startswith(first) or not name.endswith(last):
            return False
        # Take each literal at its first place after the one before: linear. A regular expression may try all places.
        place, end = len(first), len(name) - len(last)
        for literal in middle:
            place = name.find(literal, place, end)
            if place < 0:
                return False
            place += len(literal)
        return place <= end


ALL_SCOPES: Final = tuple(Scope(action) for action in ACTIONS)


@dataclass(frozen=True, slots=True)
class IngestKey:
    """An id, one or more secrets (each may sign, so that they can be rotated), scopes, and a rate for all replicas."""

    id: str
    secrets: tuple[str, ...]
    scopes: tuple[Scope, ...] = ALL_SCOPES
    rate: Rate | None = None
    _actions: frozenset[str] = field(init=False, compare=False)
    _unlimited: frozenset[str] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        # Computed once, because every push looks at them.
        object.__setattr__(self, "_actions", frozenset(scope.action for scope in self.scopes))
        unlimited = frozenset(scope.action for scope in self.scopes if scope.is_unlimited)
        object.__setattr__(self, "_unlimited", unlimited)

    def __repr__(self) -> str:
        return f"IngestKey(id={self.id!r})"

    def has_scope(self, *actions: str) -> bool:
        """Whether any scope allows one of the actions on at least one name."""
        return not self._actions.isdisjoint(actions)

    def can_emit_to(self, room: str) -> bool:
        """Whether a scope allows to emit to a room. The room of a user needs ``emit:user``, never ``emit:room``.

        So does the room of a sid. Its user is not known here, so a glob has to match every user.
        """
        if room.startswith(USER_PREFIX):
            return self._has_scope_for(EMIT_USER, room[len(USER_PREFIX) :])
        if is_sid_room(room):
            return self.can_emit_to_every_user
        return self._has_scope_for(EMIT_ROOM, room)

    @property
    def can_emit_to_every_user(self) -> bool:
        """Whether a scope allows to emit to every user, as the room of a sid needs."""
        return EMIT_USER in self._unlimited

    def can_join(self, room: str, granted_prefixes: Collection[str] = GRANTED_PREFIXES) -> bool:
        """Whether a scope allows to have connections join or leave a room (``Scope.can_join``)."""
        return any(scope.action == JOIN and scope.can_join(room, granted_prefixes) for scope in self.scopes)

    def can_read_history(self, room: str | None) -> bool:
        """Whether a scope allows to read the history of a room; None: of messages to everyone, which needs any glob.

        The room of a sid needs a scope for every room.
        """
        if room is None or is_sid_room(room):
            return HISTORY in self._unlimited
        return self._has_scope_for(HISTORY, room)

    def _has_scope_for(self, action: str, name: str) -> bool:
        if action in self._unlimited:
            return True
        return any(scope.matches(name) for scope in self.scopes if scope.action == action)
