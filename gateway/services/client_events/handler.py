"""``ClientEvents``: handle the events of clients as the event catalogue says."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from gateway.domain.errors import ClientEventRejected
from gateway.domain.event_catalogue import RESERVED_PREFIXES, EventCatalogue
from gateway.domain.messages import new_id
from gateway.domain.rate_limit import Rate
from gateway.domain.templates import EventContext
from gateway.hub import Connection, ConnectionState
from gateway.interfaces import AckStore, Clock, RateLimits, Schedule
from gateway.metrics import MetricFactory
from gateway.services.client_events.effects import Effects, PlannedEvent, own_ack
from gateway.services.client_events.queue import (
    SLOW_SECONDS,
    Acknowledge,
    EventQueue,
    ReceivedEvent,
    rate_limited,
)
from gateway.services.client_events.repeats import Repeats, digest, repeatable_id
from gateway.services.client_events.replies import Replies
from gateway.services.client_events.rules import (
    Plan,
    check_arguments,
    check_rights,
    plan,
)


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
        reserved_prefixes: tuple[str, ...] = RESERVED_PREFIXES,
    ) -> None:
        """``reserved_prefixes`` begin the names of rooms that only tokens grant."""
        self.reserved_prefixes = reserved_prefixes
        self._effects = effects
        self._rates = rates
        self._repeats = Repeats(acks=acks, effects=effects)
        self._clock = clock
        self._replies = Replies(
            effects=effects, clock=clock, schedule=schedule, namespaces=namespaces, metrics=metrics
        )
        self.catalogue = catalogue
        self._queues: dict[Connection, EventQueue] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        metrics.callback_gauge(
            "client_events_in_progress",
            "Client events for which a task runs: those with a webhook, and those that wait for an earlier event.",
            read=lambda: len(self._tasks),
        )

    @property
    def catalogue(self) -> EventCatalogue:
        """The event catalogue in effect."""
        return self._catalogue

    @catalogue.setter
    def catalogue(self, catalogue: EventCatalogue) -> None:
        self._catalogue = catalogue
        self._replies.init_labels(catalogue)

    def handle(
        self,
        connection: Connection,
        event: object,
        arguments: Sequence[object],
        acknowledge: Acknowledge | None,
        *,
        are_plain: bool = False,
    ) -> Coroutine[Any, Any, None] | None:
        """Handle one event of a client, or return the coroutine that handles it if it waits for the state.

        It never waits for a webhook, nor a second time for a slow state, and raises nothing.
        ``are_plain``: the arguments pass ``rules.check_values``.
        """
        namespace = self._catalogue.namespaces.get(connection.namespace)
        entry = namespace.client_event(event) if namespace is not None and isinstance(event, str) else None
        queue = self._queues.get(connection)
        if queue is None:
            if connection.state is ConnectionState.CLOSED:
                return None
            queue = self._queues[connection] = EventQueue()
        if namespace is None or entry is None:
            self._replies.reject_unknown(queue, connection, namespace, event, acknowledge)
            return None
        received = ReceivedEvent(
            new_id(),
            connection,
            namespace,
            entry,
            str(event),
            arguments,
            acknowledge,
            self._clock.now(),
            are_plain,
        )
        try:
            if entry.rate is not None:
                queue.check_rate(entry.name, entry.rate, self._clock.monotonic())
            if queue.is_busy:
                queue.put(received)
                return None
        except ClientEventRejected as error:
            return self._replies.fail(queue, received, error)
        if entry.only_answers:
            return self._answer(queue, received)
        queue.is_busy = True
        if queue.is_slow or not received.is_quick:
            self._start(self._work(queue, received))
            return None
        return self._process_alone(queue, received)

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

    def _answer(self, queue: EventQueue, received: ReceivedEvent) -> Coroutine[Any, Any, None] | None:
        """Check an event that has no effect but its acknowledgement, and send that: it waits for nothing."""
        context = received.context()
        try:
            check_rights(received.entry, received.connection.rooms)
            check_arguments(received.entry.args, received.arguments, are_plain=received.are_plain)
            self._replies.answer(received, own_ack(received.entry, context))
        except Exception as error:  # noqa: BLE001  # as in _process
            return self._replies.fail(queue, received, error, context)
        return None

    # order

    async def _process_alone(self, queue: EventQueue, received: ReceivedEvent) -> None:
        """Handle an event before which none waits, then begin with those that wait behind it."""
        waiting = None
        try:
            waiting = await self._process(queue, received)
        finally:
            if waiting is None:
                self._continue(queue)
        if waiting is not None:
            self._start(self._finish_and_continue(queue, waiting))

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
        try:
            while following is not None:
                waiting = await self._process(queue, following)
                if waiting is not None:
                    await self._finish(queue, waiting)
                following = queue.take()
        finally:
            queue.is_busy = False

    async def _finish_and_continue(self, queue: EventQueue, event: PlannedEvent) -> None:
        try:
            await self._finish(queue, event)
        finally:
            self._continue(queue)

    async def _process(self, queue: EventQueue, received: ReceivedEvent) -> PlannedEvent | None:
        """Handle an event up to the point from which the next one may be handled.

        Return the event if it has to wait for an equal one in progress: ``_finish`` handles the rest of it, and the
        next one has to wait for that.
        """
        context = received.context()
        began_at = self._clock.monotonic()
        try:
            event = PlannedEvent(received, context, await self._check(received, context))
            if self._effects.lets_others_pass(received.entry):
                queue.begin_call()
                self._start(self._finish_beside(queue, event))
                return None
            if received.entry.dedupe is None:
                outcome = await self._effects.apply(event)
            else:
                first = await self._repeats.try_to_apply(event)
                if first is None:
                    return event
                outcome = first
            await self._replies.finish(queue, received, outcome)
        except Exception as error:  # noqa: BLE001  # the outermost edge of an event: what is unexpected is logged
            await self._replies.fail(queue, received, error, context)
        finally:
            queue.is_slow = self._clock.monotonic() - began_at > SLOW_SECONDS
        return None

    async def _finish_beside(self, queue: EventQueue, event: PlannedEvent) -> None:
        try:
            await self._finish(queue, event)
        finally:
            queue.calls -= 1

    async def _finish(self, queue: EventQueue, event: PlannedEvent) -> None:
        """Let a checked event take effect, and send its acknowledgement; that may take long."""
        received, context, _ = event
        try:
            if received.entry.dedupe is None:
                outcome = await self._effects.apply(event)
            else:
                outcome = await self._repeats.apply(event)
            await self._replies.finish(queue, received, outcome)
        except Exception as error:  # noqa: BLE001  # as in _process
            await self._replies.fail(queue, received, error, context)

    # steps

    async def _check(self, received: ReceivedEvent, context: EventContext) -> Plan:
        """Check rights, the shared rate and the arguments.

        Raises: ClientEventRejected, BrokerUnavailable, BrokerTimeout.
        """
        entry, connection = received.entry, received.connection
        check_rights(entry, connection.rooms)
        if entry.user_rate is not None:
            await self._check_user_rate(received, entry.user_rate)
        check_arguments(entry.args, received.arguments, are_plain=received.are_plain)
        if entry.dedupe is not None:
            context.id = repeatable_id(received, entry.dedupe.render(context))
        return plan(entry, received.namespace, connection, context, reserved=self.reserved_prefixes)

    async def _check_user_rate(self, received: ReceivedEvent, per_second: float) -> None:
        connection = received.connection
        bucket = digest(["client event", connection.namespace, received.entry.name, connection.user])
        result = await self._rates.consume(bucket, Rate(per_second, max(1, round(2 * per_second))))
        if not result.allowed:
            raise rate_limited(result.retry_after_seconds)
