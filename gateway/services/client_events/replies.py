"""What the client gets for its event: an acknowledgement or an error, and how that is counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import structlog

from gateway.domain.disconnects import DISCONNECTED_BY_BACKEND
from gateway.domain.errors import (
    BrokerTimeout,
    BrokerUnavailable,
    ClientEventRejected,
    GatewayError,
    release_frames,
)
from gateway.domain.event_catalogue import Arguments, ClientEvent, EventCatalogue, NamespaceEvents
from gateway.domain.names import MAX_EVENT_CHARACTERS
from gateway.domain.templates import MISSING, EventContext
from gateway.hub import Connection, ConnectionState
from gateway.interfaces import Clock, Schedule
from gateway.metrics import MetricFactory
from gateway.services.client_events.effects import Effects, Outcome
from gateway.services.client_events.queue import (
    MAX_WAITING,
    Acknowledge,
    DeliveryWait,
    EventQueue,
    ReceivedEvent,
)
from gateway.services.client_events.rules import check_arguments, plan_emissions

UNKNOWN_EVENT: Final = "the gateway does not know this event; backends push over REST"
ERROR_EVENT_SECONDS: Final = 1.0
_NO_EMIT: Final = frozenset({"rate_limited", "busy", BrokerUnavailable.code, BrokerTimeout.code})
"""Codes after which ``emit`` of ``on_error`` is left out: it would add to the load that caused them."""

log = structlog.get_logger(__name__)


class Replies:
    """Sends acknowledgements and errors, and counts outcomes."""

    def __init__(
        self,
        *,
        effects: Effects,
        clock: Clock,
        schedule: Schedule,
        namespaces: Sequence[str],
        metrics: MetricFactory,
    ) -> None:
        self._effects = effects
        self._clock = clock
        self._schedule = schedule
        self._events = metrics.counter(
            "client_events",
            "Events of clients, by their entry in the event catalogue (empty: none) and by outcome.",
            ("nsp", "event", "outcome"),
            [(namespace, "", "unknown_event") for namespace in namespaces],
        )

    def init_labels(self, catalogue: EventCatalogue) -> None:
        """Show each entry with its successful events from the start."""
        for name, namespace in catalogue.namespaces.items():
            entries = (*namespace.client_events.values(), *namespace.patterns)
            self._events.init_labels((name, entry.name, "ok") for entry in entries)

    async def finish(self, queue: EventQueue, received: ReceivedEvent, outcome: Outcome) -> None:
        """Send the acknowledgement, behind the messages that the event caused on its connection."""
        self._count(received.connection.namespace, received.entry, outcome.name)
        if outcome.name == "dropped" or (received.acknowledge is None and not outcome.answer.disconnect):
            return
        if outcome.delivery is None:
            _answer(received, outcome)
        else:
            await self._answer_behind(queue, received, outcome, outcome.delivery)

    def answer(self, received: ReceivedEvent, arguments: tuple[object, ...]) -> None:
        """Send the acknowledgement of an event that has no other effect."""
        self._count(received.connection.namespace, received.entry, "ok")
        if received.acknowledge is not None:
            received.acknowledge(*arguments)

    async def fail(
        self,
        queue: EventQueue,
        received: ReceivedEvent,
        error: Exception,
        context: EventContext | None = None,
    ) -> None:
        """Send the error of an event: as its acknowledgement, or as an event."""
        code, message, retry_after_seconds = _describe(error, received)
        release_frames(error)
        connection, entry = received.connection, received.entry
        self._count(connection.namespace, entry, code if code in ClientEventRejected.CODES else _other(error))
        if connection.state is ConnectionState.CLOSED:
            return
        context = context or received.context()
        context.error = _error_object(code, message, retry_after_seconds)
        was_emitted, delivery = False, None
        if entry.on_error.emit and code not in _NO_EMIT:
            was_emitted, delivery = await self._emit_on_error(received, context)
        if received.acknowledge is not None:
            outcome = Outcome(code, _error_ack(entry, context))
            if delivery is None:
                _answer(received, outcome)
            else:
                await self._answer_behind(queue, received, outcome, delivery)
        elif not was_emitted:  # A client that listens for one error event would get two.
            error_event = received.namespace.error_event
            self._emit_error(queue, connection, error_event, received.name, context.error)

    async def _answer_behind(
        self, queue: EventQueue, received: ReceivedEvent, outcome: Outcome, delivery: DeliveryWait
    ) -> None:
        """Send the acknowledgement once the message is sent that it has to follow."""
        queue.acks += 1

        def answer() -> None:
            queue.acks -= 1
            _answer(received, outcome)

        delivery.then(answer, self._schedule)
        if queue.acks > MAX_WAITING:
            await delivery.done()

    async def _emit_on_error(
        self, received: ReceivedEvent, context: EventContext
    ) -> tuple[bool, DeliveryWait | None]:
        """Append the messages of ``on_error``; return whether the broker has them, and the wait for the last one."""
        connection, entry = received.connection, received.entry
        try:
            # Other ids than those of "emit", which a repeat may still append.
            of_error = replace(context, id=f"{received.id}-e")
            messages = plan_emissions(entry.on_error.emit, received.namespace, connection, of_error)
            addressed = [each.for_rooms(connection, ()) for each in messages]
            if received.acknowledge is not None:
                return True, await self._effects.append_awaited(connection, addressed)
            await self._effects.append(addressed)
        except (ClientEventRejected, BrokerUnavailable, BrokerTimeout) as error:
            log.debug("client_event.on_error_failed", event_name=entry.name, code=error.code)
            return False, None
        return True, None

    def reject_unknown(
        self,
        queue: EventQueue,
        connection: Connection,
        namespace: NamespaceEvents | None,
        event: object,
        acknowledge: Acknowledge | None,
    ) -> None:
        """Send the error of an event without an entry; ``namespace`` None: there is no catalogue for it."""
        self._events.count((connection.namespace, "", "unknown_event"))
        error = _error_object("unknown_event", UNKNOWN_EVENT, None)
        if acknowledge is not None:
            acknowledge({"error": error})
        elif namespace is None:
            self._emit_error(queue, connection, "error", None, error)
        else:
            self._emit_error(queue, connection, namespace.error_event, event, error)

    def _emit_error(
        self,
        queue: EventQueue,
        connection: Connection,
        error_event: str,
        event: object,
        error: Mapping[str, object],
    ) -> None:
        """Send an error as an event, at most one each ERROR_EVENT_SECONDS."""
        now = self._clock.monotonic()
        if now - queue.last_error_at < ERROR_EVENT_SECONDS:
            return
        queue.last_error_at = now
        payload: dict[str, object] = {"status": "error", **error}
        if event is not None:
            payload["event"] = _shown(event)
        if error_event == "exception":
            # As the exception filter of NestJS does.
            payload["cause"] = {"pattern": _shown(event)}
        connection.transport.emit(error_event, payload)

    def _count(self, namespace: str, entry: ClientEvent, outcome: str) -> None:
        self._events.count((namespace, entry.name, outcome))


def _answer(received: ReceivedEvent, outcome: Outcome) -> None:
    connection = received.connection
    if received.acknowledge is not None and connection.state is not ConnectionState.CLOSED:
        received.acknowledge(*outcome.ack)
    if outcome.answer.disconnect and connection.state is not ConnectionState.CLOSED:
        connection.transport.disconnect(DISCONNECTED_BY_BACKEND)


def _error_ack(entry: ClientEvent, context: EventContext) -> tuple[object, ...]:
    """Return the arguments of the acknowledgement of a failed event: those of ``on_error``, else the error."""
    if entry.on_error.ack is None:
        return ({"error": context.error},)
    value = entry.on_error.ack.render(context)
    return () if value is MISSING else (_checked(value, context.error),)


def _checked(value: object, error: Mapping[str, object]) -> object:
    """Return a rendered acknowledgement, or the standard one if it is no JSON: arguments may be unchecked."""
    try:
        check_arguments(Arguments(), [value])
    except ClientEventRejected:
        return {"error": error}
    return value


def _describe(error: Exception, received: ReceivedEvent) -> tuple[str, str, float | None]:
    """Return code, message and time to retry after of a failed event."""
    if isinstance(error, ClientEventRejected | BrokerUnavailable | BrokerTimeout):
        return error.code, error.message, error.retry_after_seconds
    log.error("client_event.failed", event_name=received.entry.name, exc_info=error)
    return GatewayError.code, "the gateway failed; its log says why", None


def _other(error: Exception) -> str:
    """Return the outcome to count for a code of a backend, which can be any text, or of a bug."""
    return "rejected" if isinstance(error, ClientEventRejected) else GatewayError.code


def _error_object(code: str, message: str, retry_after_seconds: float | None) -> dict[str, object]:
    error: dict[str, object] = {"code": code, "message": message}
    if retry_after_seconds is not None:
        error["retryAfter"] = retry_after_seconds
    return error


def _shown(event: object) -> object:
    """Return the name of an event as errors repeat it: its first MAX_EVENT_CHARACTERS characters."""
    return event[:MAX_EVENT_CHARACTERS] if isinstance(event, str) else event
