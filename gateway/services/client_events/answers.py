"""What the answer of a webhook asks for, checked against what it may do. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NoReturn, Protocol

from gateway.domain.attachments import with_base64
from gateway.domain.errors import ClientEventRejected, InvalidName
from gateway.domain.event_catalogue import RESERVED_PREFIXES, ClientEvent, NamespaceEvents
from gateway.domain.names import (
    SID_PREFIX,
    USER_PREFIX,
    check_event,
    check_room,
    check_user,
    is_sid_room,
    user_room,
)
from gateway.domain.socket_data import (
    MAX_DATA_BYTES,
    DataTooLarge,
    SocketData,
    encode_data,
    merge_members,
)
from gateway.domain.webhooks import WebhookAnswer, WebhookEmission
from gateway.hub import Connection
from gateway.services.client_events.buffers import encode_arguments
from gateway.services.client_events.rules import (
    MAX_ADDRESSES,
    PlannedMessage,
    Recipients,
    check_arguments,
)

EMIT_ROOM: Final = "emit:room"
EMIT_USER: Final = "emit:user"
BROADCAST: Final = "broadcast"
JOIN: Final = "join"
DISCONNECT: Final = "disconnect"
"""Scopes of ``may`` of a webhook."""


class May(Protocol):
    """Whether answers of a webhook may do something beyond the sender; see ``gateway.interfaces.Webhooks.may``."""

    def __call__(self, webhook: str, scope: str, target: str) -> bool: ...


class AnswerInvalid(Exception):
    """An answer asks for something that is not valid, or that it may not do. The sentence is for the operator."""


@dataclass(frozen=True, slots=True)
class PlannedAnswer:
    """What a checked answer does. ``data`` is the whole socket data afterwards; None leaves it as it is."""

    messages: tuple[PlannedMessage, ...] = ()
    data: SocketData | None = None


def plan_answer(
    answer: WebhookAnswer,
    *,
    webhook: str,
    namespace: NamespaceEvents,
    connection: Connection,
    event_id: str,
    may: May,
) -> PlannedAnswer:
    """Return what an answer does.

    Raises: AnswerInvalid; nothing of the answer may take effect then.
    """
    for room in (*answer.join, *answer.leave):
        _check_room_change(room, webhook, may)
    if answer.disconnect and not may(webhook, DISCONNECT, connection.user):
        raise AnswerInvalid("the webhook may not disconnect")
    messages = []
    for number, emission in enumerate(answer.emit):
        _check_event(emission, namespace)
        rooms = _recipients(emission.to, webhook, connection, may)
        arguments, attachments = encode_arguments(emission.arguments)
        messages.append(
            PlannedMessage(f"{event_id}-a{number}", rooms, emission.event, arguments, attachments=attachments)
        )
    return PlannedAnswer(tuple(messages), _merged_data(connection.data, answer.set))


def check_returns(entry: ClientEvent, answer: WebhookAnswer) -> None:
    """Check that an answer has the ``ack`` that the entry describes.

    Raises: AnswerInvalid.
    """
    if entry.returns is None:
        return
    if not answer.has_ack:
        raise AnswerInvalid("the answer has no ack, and the event catalogue describes one (returns)")
    problems = entry.returns.problems(with_base64(answer.ack, "", []))
    if problems:
        path, sentence = next(iter(problems.items()))
        raise AnswerInvalid(f"ack{'.' if path else ''}{path}: {sentence}")


def _check_room_change(room: str, webhook: str, may: May) -> None:
    try:
        check_room(room)
    except InvalidName as error:
        raise AnswerInvalid(f"join or leave: {error.message}") from error
    if room.startswith((USER_PREFIX, RESERVED_PREFIXES[-1])) or not may(webhook, JOIN, room):
        raise AnswerInvalid("the webhook may not let clients join or leave the room")


def _check_event(emission: WebhookEmission, namespace: NamespaceEvents) -> None:
    try:
        check_event(emission.event)
    except InvalidName as error:
        raise AnswerInvalid(f"emit: {error.message}") from error
    described = namespace.server_events.get(emission.event)
    if described is None:
        if not namespace.allows_undescribed_pushes:
            raise AnswerInvalid("emit: the event catalogue does not describe the event")
        return
    try:
        check_arguments(described.args, emission.arguments)
    except ClientEventRejected as error:
        raise AnswerInvalid(f"emit: {error.message}") from error


def _recipients(to: object, webhook: str, connection: Connection, may: May) -> Recipients:
    """Return the recipients that ``to`` of an answer names: the sender, unless the webhook may reach others."""
    if to is None or to == "self":
        return Recipients((connection.sid,))
    if to == "everyone":
        if not may(webhook, BROADCAST, ""):
            raise AnswerInvalid("the webhook may not emit to everyone")
        return Recipients(everyone=True)
    if not isinstance(to, Mapping) or len(to) != 1:
        _unknown_target()
    ((kind, value),) = to.items()
    names = value if kind in {"rooms", "users"} else [value]
    if kind not in {"room", "rooms", "user", "users", "sid"} or not isinstance(names, list):
        _unknown_target()
    if not 1 <= len(names) <= MAX_ADDRESSES:
        raise AnswerInvalid(f"emit: to names 1 to {MAX_ADDRESSES} rooms or users")
    return Recipients(
        tuple(dict.fromkeys([_address(name, str(kind), webhook, connection, may) for name in names]))
    )


def _address(name: object, kind: str, webhook: str, connection: Connection, may: May) -> str:
    if not isinstance(name, str):
        _unknown_target()
    try:
        room = user_room(check_user(name)) if kind in {"user", "users"} else check_room(name)
    except InvalidName as error:
        raise AnswerInvalid(f"emit: to: {error.message}") from error
    scope, target = (
        (EMIT_USER, room.removeprefix(USER_PREFIX)) if room.startswith(USER_PREFIX) else (EMIT_ROOM, room)
    )
    if kind == "sid" and not is_sid_room(target):
        target = SID_PREFIX + target  # the previous release made sids without it
    if room != connection.sid and not may(webhook, scope, target):
        raise AnswerInvalid("the webhook may not emit to others than the sender")
    return room


def _merged_data(data: SocketData, change: SocketData) -> SocketData | None:
    if not change:
        return None
    merged = merge_members(data, change)
    try:
        encode_data(merged)
    except DataTooLarge:
        raise AnswerInvalid(f"set: the socket data has more than {MAX_DATA_BYTES} bytes") from None
    except ValueError:
        raise AnswerInvalid("set: a number is infinite") from None
    return merged


def _unknown_target() -> NoReturn:
    raise AnswerInvalid('emit: to is "self", "everyone", or one of room, rooms, user, users, sid')
