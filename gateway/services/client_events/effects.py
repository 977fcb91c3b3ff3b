"""What a checked client event does: the call, the rooms that it joins or leaves, its messages and notification."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

import structlog

from gateway.domain.errors import BrokerUnavailable, CallDropped, ClientEventRejected
from gateway.domain.event_catalogue import ClientEvent
from gateway.domain.messages import Message
from gateway.domain.notifications import Notification, partition_of
from gateway.domain.socket_data import SocketData
from gateway.domain.templates import MISSING, EventContext
from gateway.domain.webhooks import WebhookAnswer
from gateway.hub import Connection, ConnectionState, Hub
from gateway.interfaces import Broker, Webhooks
from gateway.services.client_events.answers import (
    JOIN,
    AnswerInvalid,
    PlannedAnswer,
    check_returns,
    plan_answer,
)
from gateway.services.client_events.queue import DeliveryWait, ReceivedEvent
from gateway.services.client_events.requests import notification_data, request_data
from gateway.services.client_events.rules import Plan

CLIENT_EVENT = "client.event"
ROOM_JOIN = "room.join"
_NO_ANSWER = WebhookAnswer()

log = structlog.get_logger(__name__)


class Memberships(Protocol):
    """Changes the rooms of connections; see ``gateway.services.memberships``."""

    async def join(self, connection: Connection, rooms: Collection[str]) -> tuple[str, ...]: ...

    async def leave(self, connection: Connection, rooms: Collection[str]) -> tuple[str, ...]: ...

    async def undo(
        self, connection: Connection, *, joined: Collection[str] = (), left: Collection[str] = ()
    ) -> None: ...


class SocketDataChanges(Protocol):
    """Changes the socket data of connections; see ``gateway.services.socket_data``."""

    async def set_members(self, connection: Connection, members: SocketData) -> None: ...


class ConnectionClosed(Exception):
    """The connection closed before the event took effect."""


class PlannedEvent(NamedTuple):
    """An event that was checked, and what it does."""

    received: ReceivedEvent
    context: EventContext
    plan: Plan


class Outcome(NamedTuple):
    """The outcome of an event: a value of the label ``outcome``, and what its acknowledgement holds.

    ``delivery`` is the message that the acknowledgement has to follow. ``answer`` is that of the webhook, if it was
    called; with its ``disconnect`` the client is disconnected afterwards.
    """

    name: str
    ack: tuple[object, ...] = ()
    delivery: DeliveryWait | None = None
    answer: WebhookAnswer = _NO_ANSWER


class Effects:
    """Calls webhooks, changes rooms, appends messages and queues notifications."""

    def __init__(
        self,
        *,
        broker: Broker,
        hub: Hub,
        memberships: Memberships,
        socket_data: SocketDataChanges,
        webhooks: Webhooks,
        replica: str,
    ) -> None:
        self._broker = broker
        self._hub = hub
        self._memberships = memberships
        self._socket_data = socket_data
        self._webhooks = webhooks
        self._replica = replica

    def lets_others_pass(self, entry: ClientEvent) -> bool:
        """Return whether later events of the connection may take effect during the call of an entry.

        They may not if the entry changes rooms, or if answers of its webhook may.
        """
        return (
            entry.call is not None
            and not entry.serial
            and entry.join is None
            and entry.leave is None
            and not self._webhooks.may(entry.call, JOIN, None)
        )

    async def apply(self, event: PlannedEvent) -> Outcome:
        """Let an event take effect, unless its connection closes before.

        Raises: ClientEventRejected, BrokerUnavailable; nothing was changed then, except by the webhook. BrokerTimeout:
            unknown.
        """
        try:
            return await self._apply(event)
        except (CallDropped, ConnectionClosed):
            return Outcome("dropped")

    async def repeat(self, event: PlannedEvent, ack: tuple[object, ...], answer: WebhookAnswer) -> Outcome:
        """Give the connection of a repeat what the event gave to its connection: rooms and socket data, no messages.

        So a client that gets the acknowledgement on a new connection is in the rooms that it is about. ``ack`` and
        ``answer``, without its messages, are those of the first event.

        Raises: as ``apply`` does.
        """
        received, context, plan = event
        silent = PlannedEvent(received, context, plan._replace(messages=()))
        planned = PlannedAnswer()
        try:
            await self._ask(silent)
            if received.entry.call is not None:
                planned = self._plan_answer(answer, received.entry.call, silent, is_repeat=True)
            await self._change(silent, answer, planned)
        except (CallDropped, ConnectionClosed):
            return Outcome("dropped")
        return Outcome("repeated", ack, answer=answer)

    async def append(
        self, messages: Sequence[Message | None], notifications: Sequence[Notification] = ()
    ) -> None:
        """Append messages and queue notifications, all or none.

        Raises: BrokerUnavailable, BrokerTimeout.
        """
        present = [message for message in messages if message is not None]
        if notifications:
            await self._broker.append_all(present, notifications=notifications)
        elif len(present) == 1:
            await self._broker.append(present[0])
        elif present:
            await self._broker.append_all(present)

    async def append_awaited(
        self,
        connection: Connection,
        messages: Sequence[Message | None],
        notifications: Sequence[Notification] = (),
    ) -> DeliveryWait | None:
        """Do the same, and return the wait for the last message that reaches the sender, if one does.

        Raises: BrokerUnavailable, BrokerTimeout.
        """
        last = next((each for each in reversed(messages) if each and _reaches(connection, each)), None)
        if last is None:
            await self.append(messages, notifications)
            return None
        delivery = DeliveryWait(connection)
        # Before it is appended: the hub may deliver it before the broker has answered.
        callbacks = self._hub.delivery_callbacks
        callbacks[last.id] = delivery.delivered
        delivery.on_end = lambda: callbacks.pop(last.id, None)
        try:
            await self.append(messages, notifications)
        except BaseException:
            callbacks.pop(last.id, None)
            raise
        return delivery

    async def _apply(self, event: PlannedEvent) -> Outcome:
        received, context, _ = event
        await self._ask(event)
        answer, planned = _NO_ANSWER, PlannedAnswer()
        notifications: tuple[Notification, ...] = ()
        if received.entry.notify is not None:
            notifications = (self._notification(received.entry.notify, event),)
        elif received.entry.call is not None:
            answer = await self._call(received.entry.call, context.id, CLIENT_EVENT, received)
            planned = self._plan_answer(answer, received.entry.call, event)
        delivery = await self._change(event, answer, planned, notifications)
        return Outcome("ok", _ack(received.entry, context, answer), delivery, answer)

    async def _ask(self, event: PlannedEvent) -> None:
        """Ask the webhooks of the rooms to join.

        Raises: ClientEventRejected if one of them rejects it, CallDropped, ConnectionClosed.
        """
        received, context, plan = event
        connection = received.connection
        if _is_closed(connection):
            raise ConnectionClosed
        for room, webhook in plan.asks:
            if room in connection.rooms:
                continue  # a repeat may have waited while the first event joined it
            event_id = f"{context.id}-j{plan.named.index(room)}"
            _check_room_answer(await self._call(webhook, event_id, ROOM_JOIN, received, room))
            if _is_closed(connection):
                raise ConnectionClosed

    async def _change(
        self,
        event: PlannedEvent,
        answer: WebhookAnswer,
        planned: PlannedAnswer,
        notifications: Sequence[Notification] = (),
    ) -> DeliveryWait | None:
        """Join, leave, append and set the socket data; undo what was joined and left if nothing was appended.

        Raises: ConnectionClosed, instead of an append, if the connection closed before it had changed its rooms.
        """
        received, _, plan = event
        delivery = await self._change_rooms_and_append(received, plan, answer, planned, notifications)
        if planned.data is not None:
            await self._socket_data.set_members(received.connection, answer.set)
        return delivery

    async def _change_rooms_and_append(
        self,
        received: ReceivedEvent,
        plan: Plan,
        answer: WebhookAnswer,
        planned: PlannedAnswer,
        notifications: Sequence[Notification],
    ) -> DeliveryWait | None:
        connection = received.connection
        joined: tuple[str, ...] = ()
        left: tuple[str, ...] = ()
        appends = False
        try:
            if plan.join or answer.join:
                joined = await self._memberships.join(connection, (*plan.join, *answer.join))
            if plan.leave or answer.leave:
                left = await self._memberships.leave(connection, (*plan.leave, *answer.leave))
            if _is_closed(connection) and (plan.join or plan.leave or answer.join or answer.leave):
                raise ConnectionClosed
            own = {*plan.join, *plan.leave}
            changed = [room for room in (*joined, *left) if room in own]
            planned_messages = (*plan.messages, *planned.messages)
            others = (*plan.changed_before, *changed)
            messages = [each.for_rooms(connection, others) for each in planned_messages]
            appends = True
            if received.acknowledge is None and not answer.disconnect:
                await self.append(messages, notifications)
                return None
            return await self.append_awaited(connection, messages, notifications)
        except Exception as error:
            is_certain = not appends or isinstance(error, ClientEventRejected | BrokerUnavailable)
            if is_certain and (joined or left):
                await self._memberships.undo(connection, joined=joined, left=left)
            raise

    async def _call(
        self, webhook: str, event_id: str, event_type: str, received: ReceivedEvent, room: str | None = None
    ) -> WebhookAnswer:
        data = request_data(received, replica=self._replica)
        if room is not None:
            data["room"] = room
        connection = received.connection
        return await self._webhooks.call(
            webhook,
            event_id=event_id,
            event_type=event_type,
            data=data,
            is_wanted=lambda: not _is_closed(connection),
        )

    def _plan_answer(
        self, answer: WebhookAnswer, webhook: str, event: PlannedEvent, *, is_repeat: bool = False
    ) -> PlannedAnswer:
        received, context, _ = event
        try:
            if not is_repeat:
                check_returns(received.entry, answer)
            return plan_answer(
                answer,
                webhook=webhook,
                namespace=received.namespace,
                connection=received.connection,
                event_id=context.id,
                may=self._webhooks.may,
            )
        except AnswerInvalid as error:
            log.warning("client_event.answer_rejected", webhook=webhook, reason=str(error))
            raise ClientEventRejected("backend_error", "the answer of the backend cannot be used") from error

    def _notification(self, webhook: str, event: PlannedEvent) -> Notification:
        """Return what is queued for a webhook.

        Raises: ClientEventRejected if the webhook is not configured, or the event is no JSON.
        """
        received, context, _ = event
        configured = self._webhooks.configured().get(webhook)
        if configured is None:
            raise ClientEventRejected("backend_unavailable", "the backend is not configured")
        user = received.connection.user
        return Notification(
            id=context.id,
            webhook=webhook,
            partition=partition_of(user, configured.partitions),
            user=user,
            type=CLIENT_EVENT,
            at=received.received_at,
            data=notification_data(received, replica=self._replica),
        )


def _is_closed(connection: Connection) -> bool:
    return connection.state is ConnectionState.CLOSED


def _check_room_answer(answer: WebhookAnswer) -> None:
    """Raises: ClientEventRejected if the answer to ``room.join`` asks for anything: it only allows the join."""
    if answer.emit or answer.join or answer.leave or answer.set or answer.disconnect:
        log.warning("client_event.answer_rejected", reason="the answer to room.join holds more than ack")
        raise ClientEventRejected("backend_error", "the answer of the backend cannot be used")


def own_ack(entry: ClientEvent, context: EventContext) -> tuple[object, ...]:
    """Return the arguments of the acknowledgement that an entry describes."""
    value = MISSING if entry.ack is None else entry.ack.render(context)
    return () if value is MISSING else (value,)


def _ack(entry: ClientEvent, context: EventContext, answer: WebhookAnswer) -> tuple[object, ...]:
    """Return the arguments of the acknowledgement: that of the entry, else that of the answer, else none."""
    return (answer.ack,) if entry.ack is None and answer.has_ack else own_ack(entry, context)


def _reaches(connection: Connection, message: Message) -> bool:
    """Whether a message is for a connection too."""
    if connection.sid in message.exclude or connection.state is ConnectionState.CLOSED:
        return False
    return not message.rooms or not connection.rooms.isdisjoint(message.rooms)
