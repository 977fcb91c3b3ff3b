"""Requests to the REST API; satisfies ``ingest_api.interfaces.RequestMetrics``."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import product
from typing import Final

from gateway.metrics.primitives import Labels, MetricFactory, one_label

_BOUNDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
KEY_CODES: Final = (
    "ok",
    "timestamp_out_of_range",
    "bad_signature",
    "replayed_request",
    "missing_scope",
    "rate_limited",
    "broker_unavailable",
    "broker_timeout",
)
"""Codes that each ingest key has a series for from the start. Others follow with their first event: there may be many
keys."""
_UNAUTHORIZED: Final = 401
_Response = tuple[str, int, str, str | None]
"""Route, status, code, and the id of the ingest key if the gateway knows it."""


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
            "requests", "Requests to the REST API.", ("route", "status", "code"), self._by_response
        )
        self._seconds = metrics.histogram(
            "request_duration_seconds",
            "Time from the head of a request to its response.",
            ("route",),
            bounds=_BOUNDS,
        )
        metrics.callback_counter(
            "ingest_key_requests",
            "Requests that named this ingest key, by the code of the response.",
            ("key", "code"),
            self._by_key,
        )
        metrics.callback_gauge(
            "ingest_key_last_used_timestamp_seconds",
            "When this replica last answered a request signed with this ingest key; 0: not since its start.",
            ("key",),
            lambda: {(key,): self._last_used.get(key, 0.0) for key in self._keys},
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
