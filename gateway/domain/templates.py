"""Templates of the event catalogue: JSON values in which a string that begins with ``$`` is a reference.

Contexts hold what references refer to: a client event, a connection, or the change of a user.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final

from gateway.domain.identity import Identity
from gateway.domain.times import iso_timestamp

MISSING: Final = object()
"""What a reference returns when the member that it names is absent: JSON has no such value."""

MAX_EMAIL_CHARACTERS: Final = 64 + 1 + 255


class _OfConnection:
    """The references to the identity of a connection."""

    __slots__ = ()
    identity: Identity

    @property
    def user(self) -> str:
        """The user of the connection."""
        return self.identity.user

    @property
    def sub(self) -> str | int:
        """The claim ``sub`` with the type that the token had."""
        subject = self.identity.subject
        return self.identity.user if subject is None else subject

    @property
    def email(self) -> str | None:
        """The claim ``email``."""
        return self.identity.email


@dataclass(slots=True)
class EventContext(_OfConnection):
    """What references of one client event refer to: those by name to the attribute of that name.

    ``time`` is the time of the event in seconds since 1970. ``data`` is the socket data. ``error`` is set only for the
    templates of ``on_error``.
    """

    arguments: Sequence[object]
    sid: str
    identity: Identity
    data: Mapping[str, object]
    time: float
    id: str
    error: Mapping[str, object] = field(default_factory=dict)

    @property
    def now(self) -> str:
        """The time of the event as ISO 8601 text."""
        return iso_timestamp(self.time)


@dataclass(slots=True)
class ConnectionContext(_OfConnection):
    """What references in ``each`` of ``online_users`` refer to: ``$sid``, ``$user``, ``$sub`` and ``$email``."""

    sid: str
    identity: Identity
    arguments: ClassVar[Sequence[object]] = ()

    @property
    def email(self) -> str | None:
        """The claim ``email``, unless it is longer than an address can be (RFC 5321 §4.5.3.1)."""
        email = self.identity.email
        return None if email is None or len(email) > MAX_EMAIL_CHARACTERS else email


@dataclass(slots=True)
class ChangeContext:
    """What references of announcements refer to: the change of a user between online and offline.

    ``id`` is that of the message. ``time`` is the time of the announcement, ``changed_at`` that of the change, both in
    seconds since 1970.
    """

    user: str
    version: int
    changed_at: float
    id: str
    time: float
    arguments: ClassVar[Sequence[object]] = ()

    @property
    def now(self) -> str:
        """The time of the announcement as ISO 8601 text."""
        return iso_timestamp(self.time)

    @property
    def since(self) -> str:
        """The time of the change as ISO 8601 text."""
        return iso_timestamp(self.changed_at)


Context = EventContext | ConnectionContext | ChangeContext
"""What the references of a template refer to."""


@dataclass(frozen=True, slots=True)
class Reference:
    """``$0.room`` is ``Reference("0", ("room",))``; ``root`` is what follows the dollar sign, up to the first dot.

    Roots: ``0`` to ``15``, and the attributes of a context. The loader checks which the context of a template has.
    """

    root: str
    path: tuple[str, ...] = ()
    _index: int | None = field(init=False, repr=False, compare=False)
    """The index of the argument, unless the root is a name."""

    def __post_init__(self) -> None:
        index = int(self.root) if self.root.isdigit() else None
        object.__setattr__(self, "_index", index)  # The class is frozen.

    def render(self, context: Context) -> object:
        """Return the value that the reference refers to, or MISSING."""
        index = self._index
        if index is None:
            value: object = getattr(context, self.root)
        elif index < len(context.arguments):
            value = context.arguments[index]
        else:
            return MISSING
        for member in self.path:
            value = _member(value, member)
        return value


@dataclass(frozen=True, slots=True)
class Literal:
    """A JSON value without references."""

    value: object

    def render(self, context: Context) -> object:  # noqa: ARG002  # the same for every event
        """Return the value."""
        return self.value


@dataclass(frozen=True, slots=True)
class ObjectTemplate:
    """A JSON object; members whose value is MISSING are left out, as ``JSON.stringify`` does."""

    members: tuple[tuple[str, Template], ...]

    def render(self, context: Context) -> object:
        """Return the object."""
        rendered = {}
        for name, template in self.members:
            value = template.render(context)
            if value is not MISSING:
                rendered[name] = value
        return rendered


@dataclass(frozen=True, slots=True)
class ArrayTemplate:
    """A JSON array; an item that is MISSING becomes null, as ``JSON.stringify`` does."""

    items: tuple[Template, ...]

    def render(self, context: Context) -> object:
        """Return the array."""
        rendered = (template.render(context) for template in self.items)
        return [None if value is MISSING else value for value in rendered]


Template = Reference | Literal | ObjectTemplate | ArrayTemplate


def render_json(template: Template, context: Context) -> str:
    """Return the JSON text of what a template renders: null if that is MISSING."""
    value = template.render(context)
    return json.dumps(None if value is MISSING else value, separators=(",", ":"))


def _member(value: object, name: str) -> object:
    if isinstance(value, dict) or isinstance(value, Mapping):  # noqa: SIM101  # the test of a dict is ten times faster
        return value.get(name, MISSING)
    if isinstance(value, list) and name.isascii() and name.isdigit() and len(name) < 6:
        return value[int(name)] if int(name) < len(value) else MISSING
    return MISSING
