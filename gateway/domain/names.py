"""The rules for user ids, room names, namespaces and event names."""

from __future__ import annotations

import re
from typing import Final
from unicodedata import is_normalized

from gateway.domain.errors import InvalidName

MAX_USER_CHARACTERS: Final = 255
"""OpenID Connect Core §2 allows 255 ASCII characters in ``sub``."""
MAX_TOKEN_ID_CHARACTERS: Final = 255
MAX_ROOM_CHARACTERS: Final = 300
"""Holds a prefix and a user id."""
MAX_NAMESPACE_CHARACTERS: Final = 200
MAX_EVENT_CHARACTERS: Final = 128

MAIN_NAMESPACE: Final = "/"
"""The namespace of a push that names none; the one that Socket.IO clients join by default."""

USER_PREFIX: Final = "user:"

GRANTED_PREFIXES: Final = ("org:", "tenant:", "role:")
"""Rooms that tokens grant by default. Only a scope that names them lets a backend change who is in one."""

SID_PREFIX: Final = "~"
"""Every sid begins with it, and no other room: no token grants such a room, and no client joins one."""
FORMER_SID_FORM: Final = re.compile(r"[A-Za-z0-9_-]{20}", re.ASCII)
"""The form of sids that the previous release made."""

_SOCKETIO_EVENTS: Final = frozenset(
    {"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"}
)
"""Names that Socket.IO's client and server keep for themselves (Socket.IO 4, "Emit cheatsheet")."""
_GATEWAY_EVENTS: Final = frozenset({"authenticated", "auth:expiring", "auth:expired", "recovery:failed"})
"""Events that clients take for the gateway's own word. ``error`` is none: applications send errors of their own."""
RESERVED_EVENTS: Final = _SOCKETIO_EVENTS | _GATEWAY_EVENTS
"""Names that no message has."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""Unicode category Cc: the C0 controls, DEL and the C1 controls."""
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")


def check_user(user: str) -> str:
    """Return the user id.

    Raises: InvalidName with the rule that it breaks.
    """
    return _check(user, "user id", MAX_USER_CHARACTERS)


def check_token_id(token_id: str) -> str:
    """Return the id of a token (``jti``), which may be any text besides: two that differ are two ids.

    Raises: InvalidName with the rule that it breaks.
    """
    if not token_id:
        raise InvalidName("a token id is not empty")
    if len(token_id) > MAX_TOKEN_ID_CHARACTERS:
        raise InvalidName(f"a token id has at most {MAX_TOKEN_ID_CHARACTERS} characters")
    if _CONTROL.search(token_id) or _SURROGATE.search(token_id):
        raise InvalidName("a token id holds neither control characters nor lone surrogates")
    return token_id


def check_room(room: str) -> str:
    """Return the room name.

    Raises: InvalidName with the rule that it breaks.
    """
    return _check(room, "room name", MAX_ROOM_CHARACTERS)


def check_namespace(namespace: str) -> str:
    """Return the namespace: a slash, then neither comma nor question mark, which end it on the wire.

    Raises: InvalidName with the rule that it breaks.
    """
    _check(namespace, "namespace", MAX_NAMESPACE_CHARACTERS)
    if not namespace.startswith("/"):
        raise InvalidName("a namespace starts with a slash")
    if "," in namespace or "?" in namespace:
        raise InvalidName("a namespace holds neither a comma nor a question mark")
    return namespace


def is_sid_room(room: str) -> bool:
    """Whether a room is that of one connection."""
    return room.startswith(SID_PREFIX)


def check_event(event: str) -> str:
    """Return the event name of a message.

    Raises: InvalidName if it is empty, too long, reserved by Socket.IO or by the gateway, or holds a lone surrogate.
    """
    if event in _GATEWAY_EVENTS:
        raise InvalidName(f"the event name {event!r} is reserved by the gateway")
    return check_client_event(event)


def check_client_event(event: str) -> str:
    """Return the name of an event that clients send.

    Raises: InvalidName if it is empty, too long, reserved by Socket.IO, or holds a lone surrogate.
    """
    if not event:
        raise InvalidName("an event name is not empty")
    if len(event) > MAX_EVENT_CHARACTERS:
        raise InvalidName(f"an event name has at most {MAX_EVENT_CHARACTERS} characters")
    if event in _SOCKETIO_EVENTS:
        raise InvalidName(f"the event name {event!r} is reserved by Socket.IO")
    if _SURROGATE.search(event):
        raise InvalidName("an event name holds no lone surrogates")
    return event


def is_nfc(text: str) -> bool:
    """Whether a text is in Unicode normalization form C, as keyboards and browsers write it."""
    return text.isascii() or is_normalized("NFC", text)


def user_room(user: str) -> str:
    """Return the room that holds every connection of a user."""
    return USER_PREFIX + user


def is_user_room(room: str | None) -> bool:
    """Whether a room is that of a user."""
    return room is not None and room.startswith(USER_PREFIX)


def _check(name: str, what: str, max_characters: int) -> str:
    if not name:
        raise InvalidName(f"a {what} is not empty")
    if len(name) > max_characters:
        raise InvalidName(f"a {what} has at most {max_characters} characters")
    if name in {".", ".."}:
        raise InvalidName(f"a {what} is neither '.' nor '..'")
    if _CONTROL.search(name):
        raise InvalidName(f"a {what} holds no control characters")
    if name.isascii():
        return name
    if _SURROGATE.search(name):
        raise InvalidName(f"a {what} holds no lone surrogates")
    if not is_nfc(name):
        # Rejected and not normalized: two users of an issuer that distinguishes the forms must not become one.
        raise InvalidName(f"a {what} is in Unicode form NFC (é is one character, not e and an accent)")
    return name
