"""``ClientEvents``: handle the events of clients as the event catalogue says."""

from __future__ import annotations

import asyncio
import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import orjson
import structlog

from gateway.domain.dedup import AckClaim
from gateway.domain.disconnects import DISCONNECTED_BY_BACKEND
from gateway.domain.errors import BrokerTimeout, BrokerUnavailable, ClientEventRejected, GatewayError
from gateway.domain.event_catalogue import ClientEvent, EventCatalogue
from gateway.domain.messages import new_id
from gateway.domain.names import MAX_EVENT_CHARACTERS
from gateway.domain.rate_limit import Rate
from gateway.domain.templates import MISSING, EventContext
from gateway.domain.times import iso_timestamp
from gateway.hub import Connection, ConnectionState
from gateway.interfaces import AckStore, Clock, RateLimits, Schedule
from gateway.metrics import MetricFactory
from gateway.services.client_events.effects import Effects, Outcome
from gateway.services.client_events.queue import (
    MAX_WAITING,
    Acknowledge,
    EventQueue,
    ReceivedEvent,
    rate_limited,
)
from gateway.services.client_events.rules import (
    Plan,
    check_allow,
    check_arguments,
    encode,
    plan,
    plan_emissions,
)

UNKNOWN_EVENT: Final = "the gateway does not know this event; backends push over REST"
ERROR_EVENT_SECONDS: Final = 1.0
CLAIM_SECONDS: Final = 60.0
"""How long one replica may take to let an event with a dedupe value take effect: longer than its calls."""
MAX_KEPT_ACK_BYTES: Final = 4 * 1024
_POLL_SECONDS: Final = 0.1
"""How often a repeat looks whether the first event has its acknowledgement."""
_ID_CHARACTERS: Final = 32
"""Characters of 6 bits of a digest."""
_NO_EMIT: Final = frozenset({"rate_limited", "busy", BrokerUnavailable.code, BrokerTimeout.code})
"""Codes after which ``emit`` of ``on_error`` is left out: it would add to the load that caused them."""

log = structlog.get_logger(__name__)


class ClientEvents:
    """Handles events; see docs/explanation/architecture.md, "Client events".

    ``catalogue`` may be replaced at any time; events that are in progress keep the entry that they began with.
    """

    def __init__(
        self,
        catalogue: EventCatalogue,
        *,
        effects: Effects,
        rates: RateLimits,
        acks: AckStore,
        clock: Clock,
        schedule: Schedule,
        namespaces: Sequence[str],
        metrics: MetricFactory,
    ) -> None:
        self.catalogue = catalogue
        self._effects = effects
        self._rates = rates
        self._acks = acks
        self._clock = clock
        self._schedule = schedule
        self._queues: dict[Connection, EventQueue] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._events = metrics.counter(
            "client_events",
            "Events of clients, by their entry in the event catalogue (empty: none) and by outcome.",
            ("nsp", "event", "outcome"),
            [(namespace, "", "unknown_event") for namespace in namespaces],
        )
        metrics.callback_gauge(
            "client_events_in_progress",
            "Client events for which a task runs: those with a webhook, and those that wait for an earlier event.",
            read=lambda: len(self._tasks),
        )

    async def handle(
        self,
        connection: Connection,
        event: object,
        arguments: Sequence[object],
        acknowledge: Acknowledge | None,
    ) -> None:
        """Handle one event of a client. It never waits for a webhook, and raises nothing."""
        namespace = self.catalogue.namespaces.get(connection.namespace)
        entry = namespace.client_event(event) if namespace is not None and isinstance(event, str) else None
        queue = self._queues.get(connection)
        if queue is None:
            if connection.state is ConnectionState.CLOSED:
                return
            queue = self._queues[connection] = EventQueue()
        if namespace is None or entry is None:
            self._reject_unknown(queue, connection, event, acknowledge)
            return
        received = ReceivedEvent(
            new_id(), connection, namespace, entry, str(event), arguments, acknowledge, self._clock.now()
        )
        try:
            queue.check_rate(entry, self._clock.monotonic())
            if queue.is_busy:
                queue.put(received)
                return
        except ClientEventRejected as error:
            await self._fail(queue, received, error)
            return
        queue.is_busy = True
        if not received.is_quick:
            self._start(self._work(queue, received))
            return
        try:
            await self._process(queue, received)
        finally:
            self._continue(queue)

    def connection_closed(self, connection: Connection) -> None:
        """Drop the events of a closed connection that wait. A call that was sent to a webhook keeps its effects."""
        queue = self._queues.pop(connection, None)
        if queue is not None:
            queue.clear()

    async def close(self, *, finish_seconds: float = 0.0) -> None:
        """Let the events in progress finish for some seconds, then cancel them; no client is connected any more."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=finish_seconds)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    # order

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="client event")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _continue(self, queue: EventQueue) -> None:
        """Begin with the next event that waits, in a task."""
        following = queue.take()
        if following is None:
            queue.is_busy = False
        else:
            self._start(self._work(queue, following))

    async def _work(self, queue: EventQueue, received: ReceivedEvent) -> None:
        """Handle an event and those that wait behind it, one after the other."""
        following: ReceivedEvent | None = received
        while following is not None:
            await self._process(queue, following)
            following = queue.take()
        queue.is_busy = False

    async def _process(self, queue: EventQueue, received: ReceivedEvent) -> None:
        """Handle an event up to the point from which the next one may be handled."""
        context = self._context(received)
        try:
            planned = await self._check(received, context)
            if received.lets_others_pass:
                self._start_beside(queue, received, context, planned)
            elif received.entry.dedupe is None:
                await self._finish(queue, received, await self._effects.apply(received, context, planned))
            else:
                await self._once(queue, received, context, planned)
        except Exception as error:  # noqa: BLE001  # the outermost edge of an event: what is unexpected is logged
            await self._fail(queue, received, error, context)

    def _start_beside(
        self, queue: EventQueue, received: ReceivedEvent, context: EventContext, planned: Plan
    ) -> None:
        queue.begin_call()
        self._start(self._run_beside(queue, received, context, planned))

    async def _run_beside(
        self, queue: EventQueue, received: ReceivedEvent, context: EventContext, planned: Plan
    ) -> None:
        try:
            if received.entry.dedupe is None:
                outcome = await self._effects.apply(received, context, planned)
            else:
                claim = await self._claim(received, context)
                while not claim.is_held and claim.ack is None:
                    await asyncio.sleep(_POLL_SECONDS)
                    if received.connection.state is ConnectionState.CLOSED:
                        return
                    claim = await self._claim(received, context)
                outcome = await self._claimed(claim, received, context, planned)
            await self._finish(queue, received, outcome)
        except Exception as error:  # noqa: BLE001  # as in _process
            await self._fail(queue, received, error, context)
        finally:
            queue.calls -= 1

    # steps

    async def _check(self, received: ReceivedEvent, context: EventContext) -> Plan:
        """Check rights, the shared rate and the arguments.

        Raises: ClientEventRejected, BrokerUnavailable, BrokerTimeout.
        """
        entry, connection = received.entry, received.connection
        if entry.reject is not None:
            raise ClientEventRejected("rejected", entry.reject)
        check_allow(entry, connection.rooms)
        if entry.user_rate is not None:
            await self._check_user_rate(received, entry.user_rate)
        check_arguments(entry.args, received.arguments)
        if entry.dedupe is not None:
            context.id = _repeatable_id(received, entry.dedupe.render(context))
        return plan(entry, received.namespace, connection, context)

    async def _check_user_rate(self, received: ReceivedEvent, per_second: float) -> None:
        connection = received.connection
        bucket = _digest(["client event", connection.namespace, received.entry.name, connection.user])
        result = await self._rates.consume(bucket, Rate(per_second, max(1, round(2 * per_second))))
        if not result.allowed:
            raise rate_limited(result.retry_after_seconds)

    async def _once(
        self, queue: EventQueue, received: ReceivedEvent, context: EventContext, planned: Plan
    ) -> None:
        """Let an event with a dedupe value take effect, unless it is a repeat."""
        claim = await self._claim(received, context)
        if not claim.is_held and claim.ack is None:
            self._start_beside(queue, received, context, planned)
        else:
            await self._finish(queue, received, await self._claimed(claim, received, context, planned))

    async def _claim(self, received: ReceivedEvent, context: EventContext) -> AckClaim:
        return await self._acks.claim(context.id, received.id, seconds=CLAIM_SECONDS)

    async def _claimed(
        self, claim: AckClaim, received: ReceivedEvent, context: EventContext, planned: Plan
    ) -> Outcome:
        """Let a claimed event take effect and keep its acknowledgement, or return the kept one."""
        if claim.ack is not None:
            return Outcome("repeated", tuple(orjson.loads(claim.ack)))
        try:
            outcome = await self._effects.apply(received, context, planned)
        except BaseException:
            with suppress(BrokerUnavailable, BrokerTimeout):
                await self._acks.release(context.id, received.id)
            raise
        text = encode(outcome.ack)
        # A claim that is not ended ends by itself: the event has taken effect, so its client gets no error.
        with suppress(BrokerUnavailable, BrokerTimeout):
            if outcome.name == "ok" and len(text.encode()) <= MAX_KEPT_ACK_BYTES:
                await self._acks.keep(context.id, received.id, text)
            else:
                await self._acks.release(context.id, received.id)
        return outcome

    def _context(self, received: ReceivedEvent) -> EventContext:
        connection = received.connection
        identity = connection.identity
        return EventContext(
            arguments=received.arguments,
            sid=connection.sid,
            user=connection.user,
            subject=connection.user if identity.subject is None else identity.subject,
            email=identity.email,
            now=iso_timestamp(received.received_at),
            id=received.id,
            data=connection.data,
        )

    # answers

    async def _finish(self, queue: EventQueue, received: ReceivedEvent, outcome: Outcome) -> None:
        """Send the acknowledgement, behind the messages that the event caused on its connection."""
        self._count(received.connection.namespace, received.entry, outcome.name)
        delivery = outcome.delivery
        if outcome.name == "dropped" or (received.acknowledge is None and not outcome.disconnects):
            return
        if delivery is None:
            _answer(received, outcome)
            return
        queue.acks += 1

        def answer() -> None:
            queue.acks -= 1
            _answer(received, outcome)

        delivery.then(answer, self._schedule)
        if queue.acks > MAX_WAITING:
            await delivery.done()

    async def _fail(
        self,
        queue: EventQueue,
        received: ReceivedEvent,
        error: Exception,
        context: EventContext | None = None,
    ) -> None:
        """Send the error of an event: as its acknowledgement, or as an event."""
        code, message, retry_after_seconds = _describe(error, received)
        connection, entry = received.connection, received.entry
        self._count(connection.namespace, entry, code if code in ClientEventRejected.CODES else _other(error))
        if connection.state is ConnectionState.CLOSED:
            return
        context = context or self._context(received)
        context.error = _error_object(code, message, retry_after_seconds)
        if entry.on_error.emit and code not in _NO_EMIT:
            await self._emit_on_error(received, context)
        if received.acknowledge is None:
            self._emit_error(queue, connection, received.namespace.error_event, received.name, context.error)
        elif entry.on_error.ack is None:
            received.acknowledge({"error": context.error})
        else:
            value = entry.on_error.ack.render(context)
            received.acknowledge(*(() if value is MISSING else (value,)))

    async def _emit_on_error(self, received: ReceivedEvent, context: EventContext) -> None:
        connection, entry = received.connection, received.entry
        try:
            # Other ids than those of "emit", which a repeat may still append.
            of_error = replace(context, id=f"{received.id}-e")
            messages = plan_emissions(entry.on_error.emit, received.namespace, connection, of_error)
            await self._effects.append([each.for_rooms(connection, ()) for each in messages])
        except (ClientEventRejected, BrokerUnavailable, BrokerTimeout) as error:
            log.debug("client_event.on_error_failed", event_name=entry.name, code=error.code)

    def _reject_unknown(
        self, queue: EventQueue, connection: Connection, event: object, acknowledge: Acknowledge | None
    ) -> None:
        self._events.count((connection.namespace, "", "unknown_event"))
        error = _error_object("unknown_event", UNKNOWN_EVENT, None)
        namespace = self.catalogue.namespaces.get(connection.namespace)
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
    if outcome.disconnects and connection.state is not ConnectionState.CLOSED:
        connection.transport.disconnect(DISCONNECTED_BY_BACKEND)


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


def _repeatable_id(received: ReceivedEvent, value: object) -> str:
    """Return an id that repeats of an event share: made of its user, namespace, name and dedupe value."""
    if value is MISSING or value is None:
        raise ClientEventRejected("invalid_payload", "the value that tells repeats apart is missing")
    connection = received.connection
    return _digest([connection.user, connection.namespace, received.name, value])


def _digest(values: Sequence[object]) -> str:
    digest = hashlib.sha256(encode(values).encode()).digest()
    return urlsafe_b64encode(digest)[:_ID_CHARACTERS].decode()
