"""Metrics of a push that span several components.

``RequestMetrics`` counts requests for the REST API, which may not import this package; it satisfies
``ingest_api.interfaces.RequestMetrics``. ``DeliveryTimer`` is started by the publisher and stopped by the hub.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from itertools import product
from typing import Final

from gateway.domain.messages import Address, Message
from gateway.metrics.primitives import Labels, MetricFactory, one_label

_REQUEST_BOUNDS: Final = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)
KEY_CODES: Final = (
    "ok",
    "timestamp_out_of_range",
    "bad_signature",
    "replayed_request",
    "missing_scope",
    "rate_limited",
    "broker_unavailable",
    "broker_timeout",
    "freshness_unknown",
)
"""Codes that each ingest key has a series for from the start. Others follow with their first event: there may be many
keys."""
_UNAUTHORIZED: Final = 401
_Response = tuple[str, int, str, str | None]
"""Route, status, code, and the id of the ingest key if the gateway knows it."""
_DELIVERY_BOUNDS: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
SAMPLE_EVERY: Final = 8
MIN_INTERVAL_SECONDS: Final = 0.01
"""Pushes that are further apart are all timed, of others one in SAMPLE_EVERY."""


class RequestMetrics:
    """Counts requests. One number is kept for each kind of response to each key; the metrics are sums of them."""

    def __init__(self, metrics: MetricFactory, now: Callable[[], float] = time.time) -> None:
        """``now``: seconds since 1970."""
        self._now = now
        self._finished: dict[_Response, int] = {}
        self._last_used: dict[str, float] = {}
        self._initial_labels: tuple[Labels, ...] = ()
        self._keys: dict[str, None] = {}
        metrics.callback_counter(
            "requests", "Requests to the REST API.", ("route", "status", "code"), read=self._by_response
        )
        self._seconds = metrics.histogram(
            "request_duration_seconds",
            "Time from the head of a request to its response.",
            ("route",),
            bounds=_REQUEST_BOUNDS,
        )
        metrics.callback_counter(
            "ingest_key_requests",
            "Requests that named this ingest key, by the code of the response.",
            ("key", "code"),
            read=self._by_key,
        )
        metrics.callback_gauge(
            "ingest_key_last_used_timestamp_seconds",
            "When this replica last answered a request signed with this ingest key; 0: not since its start.",
            ("key",),
            read=lambda: {(key,): self._last_used.get(key, 0.0) for key in self._keys},
        )

    def init_labels(self, routes: Iterable[str], statuses: Mapping[str, int]) -> None:
        """Show each route with each of these codes and its status from the start."""
        routes = tuple(routes)
        self._initial_labels = tuple(
            (route, str(int(status)), code) for route, (code, status) in product(routes, statuses.items())
        )
        self._seconds.init_labels(one_label(routes))

    def init_key_labels(self, keys: Iterable[str]) -> None:
        """Show these ingest keys and no others, each with KEY_CODES from the start."""
        self._keys = dict.fromkeys(keys)

    def request_finished(
        self,
        *,
        route: str,
        status: int,
        code: str,
        seconds: float | None = None,
        key: str | None = None,
        signed: bool = False,
    ) -> None:
        """Count a response; see ``ingest_api.interfaces.RequestMetrics``."""
        response = route, status, code, key
        self._finished[response] = self._finished.get(response, 0) + 1
        # A valid signature with 401 is a request that was replayed, perhaps by someone who recorded it.
        if key is not None and signed and status != _UNAUTHORIZED:
            self._last_used[key] = self._now()
        if seconds is not None:
            self._seconds.observe(seconds, (route,))

    def _by_response(self) -> Mapping[Labels, float]:
        sums: Counter[Labels] = Counter(dict.fromkeys(self._initial_labels, 0))
        for (route, status, code, _), number in self._finished.items():
            sums[route, str(status), code] += number
        return sums

    def _by_key(self) -> Mapping[Labels, float]:
        sums: Counter[Labels] = Counter(dict.fromkeys(product(self._keys, KEY_CODES), 0))
        for (_, _, code, key), number in self._finished.items():
            if key in self._keys:
                sums[key, code] += number
        return sums


class DeliveryTimer:
    """Times pushes from their check to their delivery here, both by one monotonic clock.

    All pushes are timed while few come. Of many, one in SAMPLE_EVERY is timed, because timing one costs as much as all
    other counting for it. A push is not timed if no connection of this replica has one of its addresses: the hub would
    never deliver it. At most ``max_pending`` pushes are timed at once. Beyond that new ones are left out, so that slow
    deliveries stay in the measurement. A push that was never delivered is dropped after ``timeout_seconds``, when its
    place is needed.
    """

    def __init__(
        self,
        has: Callable[[Address], bool],
        metrics: MetricFactory,
        *,
        now: Callable[[], float] = time.monotonic,
        max_pending: int = 4096,
        timeout_seconds: float = 60.0,
    ) -> None:
        """``has`` returns whether a connection of this replica has an address."""
        self._has = has
        self._now = now
        self._max_pending = max_pending
        self._timeout_seconds = timeout_seconds
        self.started: OrderedDict[str, float] = OrderedDict()
        """When each timed push started, by its id."""
        self._left_out = 0
        self._last = float("-inf")
        """When a push was last considered."""
        self._seconds = metrics.histogram(
            "delivery_duration_seconds",
            "Time from a checked push through this replica to its last connection here.",
            bounds=_DELIVERY_BOUNDS,
        )

    def start(self, message: Message) -> None:
        """Time a push that is about to be appended, unless it is left out."""
        now = self._now()
        self._left_out += 1
        if self._left_out < SAMPLE_EVERY and now - self._last < MIN_INTERVAL_SECONDS:
            return
        self._left_out, self._last = 0, now
        if any(map(self._has, message.addresses)) and self._has_place(now):
            self.started[message.id] = now

    def cancel(self, message_id: str) -> None:
        """Stop without an observation: the push will not be delivered."""
        self.started.pop(message_id, None)

    def stop(self, message_id: str, connections: int) -> None:
        """Observe the time of a push, unless it reached no connection."""
        started = self.started.pop(message_id, None)
        if started is not None and connections:
            self._seconds.observe(self._now() - started)

    def _has_place(self, now: float) -> bool:
        started = self.started
        if len(started) < self._max_pending:
            return True
        oldest = next(iter(started))
        if now - started[oldest] < self._timeout_seconds:
            return False
        del started[oldest]
        return True
