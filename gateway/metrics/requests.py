"""What the REST door answers, to whom, and how fast; satisfies ``ingest_api.interfaces.Meter``."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import product
from typing import Final

from prometheus_client import CollectorRegistry

from gateway.metrics.primitives import Labels, MetricFactory, one_label

_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_UNAUTHORIZED: Final = 401
_Finished = tuple[str, int, str, str | None]
"""Route, status, code, and the id of the ingest key if it is one of ours."""


class RequestMetrics:
    """Requests to the REST door. One number is kept for each kind of answer to each key; the metrics are its sums."""

    def __init__(self, registry: CollectorRegistry, now: Callable[[], float] = time.time) -> None:
        """``now``: seconds since 1970."""
        factory = MetricFactory(registry)
        self._now = now
        self._finished: dict[_Finished, int] = {}
        self._last_used: dict[str, float] = {}
        self._initial_labels: tuple[Labels, ...] = ()
        self._key_codes: tuple[str, ...] = ()
        self._keys: dict[str, None] = {}
        requests = factory.callback_counter(
            "requests", "Requests to the REST door.", ("route", "status", "code")
        )
        requests.read = self._by_answer
        self._seconds = factory.histogram(
            "request_duration_seconds",
            "From the head of a request to its answer.",
            ("route",),
            bounds=_BOUNDS,
        )
        by_key = factory.callback_counter(
            "ingest_key_requests", "Requests that named an ingest key, by what was answered.", ("key", "code")
        )
        by_key.read = self._by_key
        last_used = factory.callback_gauge(
            "ingest_key_last_used_timestamp_seconds",
            "When an ingest key last signed a request to this replica, 0 for not since it started.",
            ("key",),
        )
        last_used.read = self._last_used_values

    def init_labels(self, routes: Iterable[str], statuses: Mapping[str, int]) -> None:
        """Show each route with each of these codes, which go with these statuses, from the start."""
        routes = tuple(routes)
        self._initial_labels = tuple(
            (route, str(int(status)), code) for route, (code, status) in product(routes, statuses.items())
        )
        self._seconds.init_labels(one_label(routes))

    def init_key_labels(self, keys: Iterable[str], codes: Iterable[str]) -> None:
        """These ingest keys there are, and no others; of each the codes are shown from the start."""
        self._keys, self._key_codes = dict.fromkeys(keys), tuple(codes)

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
        answered = route, status, code, key
        self._finished[answered] = self._finished.get(answered, 0) + 1
        # A good signature that came a second time is not the key's use, but somebody's who listened.
        if key is not None and signed and status != _UNAUTHORIZED:
            self._last_used[key] = self._now()
        if seconds is not None:
            self._seconds.observe(seconds, (route,))

    def _by_answer(self) -> Mapping[Labels, float]:
        found: Counter[Labels] = Counter(dict.fromkeys(self._initial_labels, 0))
        for (route, status, code, _), number in self._finished.items():
            found[route, str(status), code] += number
        return found

    def _by_key(self) -> Mapping[Labels, float]:
        found: Counter[Labels] = Counter(dict.fromkeys(product(self._keys, self._key_codes), 0))
        for (_, _, code, key), number in self._finished.items():
            if key in self._keys:
                found[key, code] += number
        return found

    def _last_used_values(self) -> Mapping[Labels, float]:
        return {(key,): self._last_used.get(key, 0.0) for key in self._keys}
