"""What an answer of a webhook means: a status and a body in, effects or an error for the client out."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

from gateway.domain.attachments import MAX_ATTACHMENTS, PLACEHOLDER, holds_placeholder, with_buffers
from gateway.domain.errors import ClientEventRejected, InvalidName
from gateway.domain.names import check_event, check_room, check_user
from gateway.domain.strict_json import decode_strictly
from gateway.domain.webhooks import WebhookAnswer, WebhookEmission

MAX_ANSWER_BYTES: Final = 64 * 1024
MAX_EMISSIONS: Final = 32
MAX_ROOMS: Final = 100
MAX_MESSAGE_CHARACTERS: Final = 300
MAX_RETRY_SECONDS: Final = 3600.0
DEFAULT_RETRY_SECONDS: Final = 1.0

_MEMBERS: Final = frozenset({"ack", "emit", "join", "leave", "set", "disconnect", "binary"})
_EMISSION_MEMBERS: Final = frozenset({"to", "event", "data", "binary"})
_TARGETS: Final = {
    "user": check_user,
    "users": check_user,
    "room": check_room,
    "rooms": check_room,
    "sid": check_room,
}
_WORDS: Final = ("self", "everyone")
_CODE: Final = re.compile(r"[a-z0-9_]{1,64}", re.ASCII)
_DIGITS: Final = re.compile(r"[0-9]{1,15}", re.ASCII)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_REJECTED: Final = "the backend rejected the event"


class Answer(NamedTuple):
    """A response of a webhook. ``body`` is empty where the status alone decides (``has_meaning``)."""

    status: int
    body: bytes = b""
    retry_after: str | None = None


class RejectedByBackend(ClientEventRejected):
    """The backend answered that the event is not accepted; the code may be its own."""


def has_meaning(status: int) -> bool:
    """Return whether the body of an answer with this status is read."""
    return 200 <= status < 300 or (400 <= status < 500 and status != 429)


def is_failure(status: int) -> bool:
    """Return whether an answer with this status counts for the circuit breaker: the endpoint does not work."""
    return not has_meaning(status)


def interpret(answer: Answer, *, now: float) -> WebhookAnswer:
    """Return what a 2xx answer asks for. ``now`` is in seconds since 1970, for dates in ``Retry-After``.

    Raises: ClientEventRejected for every other answer, and for one of a wrong form; RejectedByBackend for 4xx.
    """
    status = answer.status
    if 200 <= status < 300:
        return parse_answer(answer.body)
    if status in {429, 503}:
        seconds = parse_retry_after(answer.retry_after, now=now)
        raise ClientEventRejected(
            "backend_unavailable", "the backend is overloaded", retry_after_seconds=seconds
        )
    if 400 <= status < 500:
        raise _rejection(answer.body)
    raise ClientEventRejected("backend_error", "the backend failed")


def parse_answer(body: bytes) -> WebhookAnswer:
    """Return what the body of a 2xx answer asks for; nothing if it is empty.

    Raises: ClientEventRejected with ``backend_error``.
    """
    if not body.strip():
        return WebhookAnswer()
    try:
        return _parse(decode_strictly(body))
    except InvalidName as error:
        raise _malformed(error.message) from None
    except ValueError as error:
        raise _malformed(str(error)) from None


def parse_retry_after(text: str | None, *, now: float) -> float:
    """Return the seconds of ``Retry-After``; DEFAULT_RETRY_SECONDS if it is absent or malformed."""
    seconds = find_retry_after(text, now=now)
    return DEFAULT_RETRY_SECONDS if seconds is None else seconds


def find_retry_after(text: str | None, *, now: float) -> float | None:
    """Return the seconds of ``Retry-After`` (RFC 9110 §10.2.3: seconds or a date), at most MAX_RETRY_SECONDS.

    None if it is absent or malformed.
    """
    if text is None:
        return None
    if _DIGITS.fullmatch(text):
        return min(float(text), MAX_RETRY_SECONDS)
    try:
        seconds = parsedate_to_datetime(text).timestamp() - now
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(0.0, float(math.ceil(seconds))), MAX_RETRY_SECONDS)


def _malformed(reason: str) -> ClientEventRejected:
    error = ClientEventRejected("backend_error", "the answer of the backend has a wrong form")
    error.add_note(reason)
    return error


def _rejection(body: bytes) -> RejectedByBackend:
    try:
        members = decode_strictly(body)
    except ValueError:
        members = None
    if not isinstance(members, dict):
        return RejectedByBackend("rejected", _REJECTED)
    code = members.get("code")
    sentences = (members.get("message"), members.get("detail"))
    sentence = next((each for each in sentences if isinstance(each, str) and each.strip()), _REJECTED)
    return RejectedByBackend(
        code if isinstance(code, str) and _CODE.fullmatch(code) else "rejected",
        _CONTROL.sub(" ", sentence)[:MAX_MESSAGE_CHARACTERS],
    )


def _parse(answer: object) -> WebhookAnswer:
    members = _object(answer, "it", _MEMBERS)
    emissions = _list(members, "emit", MAX_EMISSIONS)
    disconnect = members.get("disconnect", False)
    if not isinstance(disconnect, bool):
        raise ValueError("disconnect is neither true nor false")
    _read_buffers(members, "ack", "")
    data = members.get("set", {})
    if not isinstance(data, dict):
        raise ValueError("set is no object")
    return WebhookAnswer(
        ack=members.get("ack"),
        has_ack="ack" in members,
        emit=tuple(_emission(each, f"emit.{index}") for index, each in enumerate(emissions)),
        join=_rooms(members, "join"),
        leave=_rooms(members, "leave"),
        set=data,
        disconnect=disconnect,
    )


def _emission(value: object, path: str) -> WebhookEmission:
    members = _object(value, path, _EMISSION_MEMBERS)
    event = members.get("event")
    if not isinstance(event, str):
        raise ValueError(f"{path}.event is no text")
    to = members.get("to")
    if "to" in members:
        _check_target(to, f"{path}.to")
    _read_buffers(members, "data", f"{path}.")
    return WebhookEmission(check_event(event), (members["data"],) if "data" in members else (), to)


def _read_buffers(members: dict[str, object], name: str, path: str) -> None:
    """Replace the base64 strings that ``binary`` names inside of a member by buffers."""
    pointers = _list(members, "binary", MAX_ATTACHMENTS)
    if not pointers:
        return
    for pointer in pointers:
        if not isinstance(pointer, str) or f"{pointer}/".partition(f"/{name}/")[0]:
            raise ValueError(f"{path}binary names something outside of {name}")
    try:
        with_buffers(members, [str(pointer) for pointer in pointers])
    except ValueError as error:
        raise ValueError(f"{path}{error}") from None
    if holds_placeholder(members[name]):
        raise ValueError(f"{path}{name} has a member {PLACEHOLDER!r}, which clients take for an attachment")


def _check_target(to: object, path: str) -> None:
    if isinstance(to, str) and to in _WORDS:
        return
    if not isinstance(to, dict) or len(to) != 1 or not to.keys() <= _TARGETS.keys():
        raise ValueError(
            f"{path} is neither self nor everyone nor exactly one of user, users, room, rooms, sid"
        )
    ((kind, named),) = to.items()
    names = named if kind.endswith("s") else [named]
    if not isinstance(names, list) or not 1 <= len(names) <= MAX_ROOMS:
        raise ValueError(f"{path}.{kind} is no list of 1 to {MAX_ROOMS} names")
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"{path}.{kind} is no text")
        _TARGETS[kind](name)


def _rooms(members: Mapping[str, object], name: str) -> tuple[str, ...]:
    rooms = _list(members, name, MAX_ROOMS)
    checked: list[str] = []
    for room in rooms:
        if not isinstance(room, str):
            raise ValueError(f"{name} is no list of texts")
        checked.append(check_room(room))
    return tuple(dict.fromkeys(checked))


def _list(members: Mapping[str, object], name: str, max_items: int) -> list[object]:
    items = members.get(name, [])
    if not isinstance(items, list) or len(items) > max_items:
        raise ValueError(f"{name} is no list of at most {max_items} items")
    return items


def _object(value: object, path: str, known: frozenset[str]) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"{path} is no object")
    if not value.keys() <= known:
        raise ValueError(f"{path} has a member other than {', '.join(sorted(known))}")
    return value
