"""Send events to webhooks: satisfies ``gateway.interfaces.Webhooks``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Final, Protocol

import structlog

from gateway.domain.errors import CallDropped, ClientEventRejected
from gateway.domain.sampling import Sampling
from gateway.domain.times import iso_timestamp
from gateway.domain.traces import Trace, new_trace
from gateway.domain.webhooks import (
    Delivery,
    DeliveryOutcome,
    Webhook,
    WebhookAnswer,
    WebhookEvent,
)
from gateway.interfaces import Clock
from gateway.metrics import MetricFactory
from gateway.webhooks.answers import RejectedByBackend, interpret
from gateway.webhooks.circuit import CircuitOpen
from gateway.webhooks.deliveries import (
    BATCH,
    DELIVERY_SECONDS,
    NO_ANSWER,
    delivery_id,
    encode_delivery,
    read_delivery,
)
from gateway.webhooks.endpoint import FAILURES, Endpoint, Exchange, kind_of, reason_of

OK: Final = "ok"
REJECTED: Final = "rejected"
CIRCUIT_OPEN: Final = "circuit_open"
DROPPED: Final = "dropped"
CANCELLED: Final = "cancelled"
OUTCOMES: Final = (
    OK, REJECTED, "busy", CIRCUIT_OPEN, "backend_unavailable", "backend_timeout", "backend_error", "invalid_payload",
    DROPPED, CANCELLED,
)  # fmt: skip
_EXPECTED: Final = frozenset({OK, REJECTED, DROPPED})
"""Outcomes that are no failures: neither of the backend, nor of the gateway."""
DELIVERY_OUTCOMES: Final = (*[outcome.value for outcome in DeliveryOutcome], CANCELLED)
_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0)

log = structlog.get_logger(__name__)


class CallSpan(Protocol):
    """The span of a call. ``trace`` is the place in its trace that the request carries."""

    @property
    def trace(self) -> Trace: ...

    def end(self, *, outcome: str, is_failure: bool, status: int | None, tries: int) -> None:
        """End the span. ``outcome`` is one of OUTCOMES; ``status``: None if no answer began."""
        ...


class CallTracer(Protocol):
    """Begins the spans of calls."""

    def begin(self, webhook: str, event_type: str) -> CallSpan: ...


class WebhookClient:
    """Sends events to webhooks, each with its own connections, limits and circuit breaker.

    One that fails or hangs takes nothing from the others.
    """

    def __init__(
        self,
        webhooks: Iterable[Webhook],
        *,
        clock: Clock,
        metrics: MetricFactory,
        user_agent: str,
        own_ports: Callable[[], Collection[int]] = tuple,
        sampling: Sampling | None = None,
        tracer: CallTracer | None = None,
        delivery_seconds: float = DELIVERY_SECONDS,
    ) -> None:
        """Must be called on the running event loop. ``own_ports`` are the ports that this process listens on.

        Without ``tracer`` each request carries a trace that is not sampled. ``delivery_seconds`` is the limit of a
        delivery, from the moment at which it has its slot.

        Raises: ValueError if a secret or a file of TLS cannot be used.
        """
        self._clock = clock
        self._user_agent = user_agent
        self._own_ports = own_ports
        self._sampling = sampling or Sampling()
        self._tracer = tracer
        self._delivery_seconds = delivery_seconds
        self._endpoints: dict[str, Endpoint] = {}
        self._retired: dict[Endpoint, asyncio.Task[None]] = {}
        self._create_metrics(metrics)
        self.change(webhooks)

    def change(self, webhooks: Iterable[Webhook]) -> None:
        """Use these webhooks and no others from now on; requests under way finish as they began.

        Raises: ValueError if a secret or a file of TLS cannot be used; then nothing has changed.
        """
        endpoints: dict[str, Endpoint] = {}
        kept: list[tuple[Endpoint, Webhook]] = []
        created: list[Endpoint] = []
        try:
            for webhook in webhooks:
                endpoint = self._endpoints.get(webhook.id)
                if endpoint is not None and endpoint.serves(webhook):
                    kept.append((endpoint, webhook))
                else:
                    endpoint = self._create_endpoint(webhook)
                    created.append(endpoint)
                endpoints[webhook.id] = endpoint
        except ValueError:
            for endpoint in created:
                self._retire(endpoint)
            raise
        for endpoint, webhook in kept:
            endpoint.change(webhook)
        former, self._endpoints = self._endpoints, endpoints
        self._configured = {name: endpoint.webhook for name, endpoint in endpoints.items()}
        for endpoint in set(former.values()) - set(endpoints.values()):
            self._retire(endpoint)
        self._requests.init_labels((each, outcome) for each in endpoints for outcome in OUTCOMES)
        self._seconds.init_labels((each,) for each in endpoints)
        self._deliveries.init_labels((each, outcome) for each in endpoints for outcome in DELIVERY_OUTCOMES)
        self._delivery_times.init_labels((each,) for each in endpoints)

    async def call(
        self,
        webhook: str,
        *,
        event_id: str,
        event_type: str,
        data: Mapping[str, object],
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> WebhookAnswer:
        """Send one event and return the answer, within the timeout of the webhook.

        Raises: ClientEventRejected; CallDropped; ValueError if ``event_id`` has other characters than
            ``A-Z a-z 0-9 _ -``.
        """
        endpoint = self._endpoints.get(webhook)
        if endpoint is None:
            raise ClientEventRejected("backend_unavailable", "the backend is not configured")
        started = self._clock.monotonic()
        span = None if self._tracer is None else self._tracer.begin(webhook, event_type)
        exchange = Exchange(event_id, b"", new_trace() if span is None else span.trace, is_wanted)
        outcome, reason = CANCELLED, None
        try:
            exchange.body = encode_event(event_type, self._clock.now(), data)
            answer = await endpoint.send(exchange)
            result = interpret(answer, now=self._clock.now())
            outcome = OK
        except RejectedByBackend:
            outcome = REJECTED
            raise
        except CircuitOpen as error:
            outcome = CIRCUIT_OPEN
            raise ClientEventRejected(
                "backend_unavailable",
                "the backend does not work at the moment",
                retry_after_seconds=error.retry_after_seconds,
            ) from None
        except CallDropped:
            outcome = DROPPED
            raise
        except ClientEventRejected as error:
            outcome, reason = error.code, reason_of(error)
            raise
        finally:
            self._requests.count((webhook, outcome))
            if span is not None:
                span.end(
                    outcome=outcome,
                    is_failure=outcome not in _EXPECTED,
                    status=exchange.status,
                    tries=exchange.tries,
                )
            if exchange.tries:
                self._record(webhook, exchange, outcome, reason, self._clock.monotonic() - started)
        return result

    async def deliver(
        self, webhook: str, events: Sequence[WebhookEvent], *, is_wanted: Callable[[], bool] = lambda: True
    ) -> Delivery:
        """Send events in one request and return what became of it; see ``gateway.interfaces.Webhooks``."""
        try:
            body = encode_delivery(events)
            event_id = delivery_id(events)
        except ValueError as error:
            log.error("webhook.event_invalid", webhook=webhook, reason=str(error))
            return Delivery(DeliveryOutcome.REJECTED)
        started = self._clock.monotonic()
        event_type = events[0].type if len(events) == 1 else BATCH
        span = None if self._tracer is None else self._tracer.begin(webhook, event_type)
        exchange = Exchange(event_id, body, new_trace() if span is None else span.trace)
        outcome, reason, delivery = CANCELLED, None, NO_ANSWER
        try:
            delivery, reason = await self._deliver(webhook, exchange, is_wanted)
            outcome = delivery.outcome.value
        finally:
            if exchange.tries:
                self._deliveries.count((webhook, outcome))
                self._record_delivery(
                    webhook,
                    exchange,
                    outcome=outcome,
                    reason=reason,
                    seconds=self._clock.monotonic() - started,
                    events=len(events),
                )
            if span is not None:
                is_failure = delivery.outcome is not DeliveryOutcome.ACCEPTED
                span.end(outcome=outcome, is_failure=is_failure, status=exchange.status, tries=exchange.tries)
        return delivery

    def configured(self) -> Mapping[str, Webhook]:
        """Return the webhooks by id, as they are configured now."""
        return self._configured

    def may(self, webhook: str, scope: str, target: str | None) -> bool:
        """Return whether answers of a webhook may do something beyond the sender (``Webhook.allows``)."""
        endpoint = self._endpoints.get(webhook)
        return endpoint is not None and endpoint.webhook.allows(scope, target)

    def is_circuit_open(self, webhook: str) -> bool:
        """Return whether the circuit breaker of a webhook is open, on this replica."""
        endpoint = self._endpoints.get(webhook)
        return endpoint is not None and endpoint.circuit.is_open

    async def close(self) -> None:
        """Close all connections. Requests that are under way fail."""
        endpoints = [*self._endpoints.values(), *self._retired]
        await asyncio.gather(*[endpoint.close() for endpoint in endpoints])
        await asyncio.gather(*self._retired.values())

    async def _deliver(
        self, webhook: str, exchange: Exchange, is_wanted: Callable[[], bool]
    ) -> tuple[Delivery, str | None]:
        """Send a delivery; return what became of it, and the kind of the error of one without an answer.

        One that waits for a slot while a reload replaces its endpoint waits for one of the new endpoint.

        Raises: CallDropped if it is no longer wanted.
        """
        while (endpoint := self._endpoints.get(webhook)) is not None:
            is_current = partial(self._is_current, webhook, endpoint)
            exchange.is_wanted = partial(_both, is_current, is_wanted)
            try:
                answer = await endpoint.deliver(exchange, seconds=self._delivery_seconds)
            except CallDropped:
                if is_current():
                    raise
                continue
            except (*FAILURES, TimeoutError) as error:
                return NO_ANSWER, kind_of(error)
            return read_delivery(answer, now=self._clock.now()), None
        return NO_ANSWER, None

    def _is_current(self, webhook: str, endpoint: Endpoint) -> bool:
        return self._endpoints.get(webhook) is endpoint

    def _create_endpoint(self, webhook: Webhook) -> Endpoint:
        return Endpoint(
            webhook,
            clock=self._clock,
            user_agent=self._user_agent,
            own_ports=self._own_ports,
            on_circuit_changed=partial(_log_circuit, webhook.id),
        )

    def _retire(self, endpoint: Endpoint) -> None:
        task = asyncio.create_task(endpoint.finish(), name="webhook-close")
        self._retired[endpoint] = task
        task.add_done_callback(lambda _task: self._retired.pop(endpoint, None))

    def _create_metrics(self, metrics: MetricFactory) -> None:
        self._requests = metrics.counter(
            "webhook_requests", "Events for webhooks, by what became of them.", ("webhook", "outcome")
        )
        self._seconds = metrics.histogram(
            "webhook_request_seconds",
            "Time of a request to a webhook, with its wait and its second try.",
            ("webhook",),
            bounds=_BOUNDS,
        )
        self._deliveries = metrics.counter(
            "webhook_deliveries",
            "Requests with notifications, by what became of them.",
            ("webhook", "outcome"),
        )
        self._delivery_times = metrics.histogram(
            "webhook_delivery_seconds",
            "Time of a request with notifications, with its wait and its second try.",
            ("webhook",),
            bounds=_BOUNDS,
        )
        for name, text, read in (
            ("webhook_in_flight", "Requests that wait for an answer.", lambda each: each.slots.in_flight),
            ("webhook_waiting", "Events that wait to be sent.", lambda each: each.slots.waiting),
            ("webhook_circuit_open", "1 while the circuit is open.", lambda each: each.circuit.is_open),
        ):
            metrics.callback_gauge(name, text, ("webhook",), read=self._reader(read))

    def _reader(self, read: Callable[[Endpoint], float]) -> Callable[[], Mapping[tuple[str, ...], float]]:
        return lambda: {(name,): float(read(endpoint)) for name, endpoint in self._endpoints.items()}

    def _record(
        self, webhook: str, exchange: Exchange, outcome: str, reason: str | None, seconds: float
    ) -> None:
        self._seconds.observe(seconds, (webhook,))
        is_routine = outcome in _EXPECTED
        trace = exchange.trace
        if is_routine and not self._sampling.should_log(trace.trace_id):
            return
        write = log.info if is_routine else log.warning
        write(
            "webhook.answered",
            webhook=webhook,
            outcome=outcome,
            reason=reason,
            status=exchange.status,
            seconds=round(seconds, 6),
            attempts=exchange.tries,
            trace_id=trace.trace_id,
            span_id=trace.span_id,
            **(self._sampling.fields if is_routine else {}),
        )

    def _record_delivery(
        self,
        webhook: str,
        exchange: Exchange,
        *,
        outcome: str,
        reason: str | None,
        seconds: float,
        events: int,
    ) -> None:
        self._delivery_times.observe(seconds, (webhook,))
        is_routine = outcome == DeliveryOutcome.ACCEPTED.value
        if is_routine and not self._sampling.should_log(exchange.trace.trace_id):
            return
        write = log.info if is_routine else log.warning
        write(
            "webhook.delivered",
            webhook=webhook,
            outcome=outcome,
            reason=reason,
            status=exchange.status,
            events=events,
            seconds=round(seconds, 6),
            attempts=exchange.tries,
            trace_id=exchange.trace.trace_id,
            span_id=exchange.trace.span_id,
            **(self._sampling.fields if is_routine else {}),
        )


def encode_event(event_type: str, now: float, data: Mapping[str, object]) -> bytes:
    """Return the body of a request.

    Raises: ClientEventRejected with ``invalid_payload`` for data that JSON in UTF-8 cannot hold.
    """
    event = {"type": event_type, "timestamp": iso_timestamp(now), "data": data}
    try:
        return json.dumps(event, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        raise ClientEventRejected(
            "invalid_payload",
            "the event holds what JSON in UTF-8 cannot: binary data, or half a surrogate pair",
        ) from None


def _both(first: Callable[[], bool], second: Callable[[], bool]) -> bool:
    return first() and second()


def _log_circuit(webhook: str, is_open: bool) -> None:
    if is_open:
        log.warning("webhook.circuit_opened", webhook=webhook)
    else:
        log.info("webhook.circuit_closed", webhook=webhook)
