"""Liveness and readiness of the process, for probes and people, and ``/metrics``. These requests are not signed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from enum import StrEnum
from typing import Final, NamedTuple

from aiohttp import web

from gateway.domain.status import StateStatus
from gateway.domain.times import iso_timestamp
from gateway.metrics import CONTENT_TYPE, Exposition, MetricFactory

LIVENESS_LIMIT_SECONDS: Final = 300.0
"""How long the subscription may be stalled until the replica counts as not alive. In this time it has reconnected to
Redis many times without success, so only a new process may help."""

PUBLIC_PATH: Final = "/healthz"
_PUBLIC_METHODS: Final = ("GET", "HEAD", "OPTIONS")
"""Some balancers, HAProxy among them, send OPTIONS unless they are configured otherwise."""


class Phase(StrEnum):
    """The phase of the life of a process."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"


class Part(NamedTuple):
    """The status of one part of the process, since when (seconds since 1970), and the reason if one is known."""

    status: str
    since: float
    reason: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the part as it is in the report."""
        fields = {"status": str(self.status), "since": iso_timestamp(self.since)}
        return fields | {"reason": self.reason} if self.reason else fields


class Health:
    """Decides what the probes are answered."""

    def __init__(
        self,
        *,
        now: Callable[[], float],
        status: Callable[[], tuple[StateStatus, float]],
        metrics: MetricFactory,
        rejection: Callable[[], str] = str,
    ) -> None:
        """``now`` returns the time, ``status`` the status of the replica and since when, all in seconds since 1970.

        ``rejection`` returns what the state rejects although it answers, as a sentence, or an empty text.
        """
        self._now = now
        self._rejection = rejection
        self._status = status
        self.phase = Phase.STARTING
        self.has_started = asyncio.Event()
        """Set when the process leaves the phase STARTING."""
        self._phase_since = now()
        metrics.callback_gauge(
            "replica_ready", "1 while the readiness probe answers 200.", read=lambda: self.is_ready
        )
        metrics.callback_gauge(
            "replica_draining",
            "1 after the process received a signal to stop.",
            read=lambda: self.phase is Phase.DRAINING,
        )

    def enter(self, phase: Phase) -> None:
        """Enter a phase now."""
        if phase is not self.phase:
            self.phase, self._phase_since = phase, self._now()
            self.has_started.set()

    @property
    def is_alive(self) -> bool:
        """Whether the process can serve, or may be able to soon. False means that it is killed."""
        status, since = self._status()
        return status is not StateStatus.SUBSCRIPTION_STALLED or self._now() - since < LIVENESS_LIMIT_SECONDS

    @property
    def is_ready(self) -> bool:
        """Whether load balancers should send clients and backends to this replica."""
        return self._unready_part() is None

    def report(self) -> dict[str, object]:
        """Return the status, the part that is not ready and since when, all parts, and ``degraded`` while the state is
        unavailable.

        A replica whose state is unavailable stays ready. Other replicas share that state, and callers get the 503 of
        the gateway instead of that of a proxy without a ready replica.
        """
        parts = self._parts()
        shown = {name: part.as_dict() for name, part in parts.items()}
        name = self._unready_part()
        report: dict[str, object] = {"status": "ready"} if name is None else {**shown[name], "part": name}
        if parts["state"].status == StateStatus.UNAVAILABLE:
            why = f": {parts['state'].reason}" if parts["state"].reason else ""
            report["degraded"] = f"the shared state is unavailable since {shown['state']['since']}{why}"
        return report | {"parts": shown}

    def _parts(self) -> dict[str, Part]:
        return {
            "process": Part(self.phase, self._phase_since),
            "state": Part(*self._status(), self._rejection()),
        }

    def _unready_part(self) -> str | None:
        """Return the name of the part that is not ready, None if all are."""
        if self.phase is not Phase.SERVING:
            return "process"
        return "state" if self._status()[0] is StateStatus.SUBSCRIPTION_STALLED else None


def add_routes(app: web.Application, health: Health, metrics: MetricFactory) -> None:
    """Add ``/health/live``, ``/health/ready`` and ``/metrics``."""
    exposition = Exposition(metrics)

    async def live(_request: web.Request) -> web.Response:
        return _respond(200, {"status": "live"}) if health.is_alive else _respond(503, health.report())

    async def ready(_request: web.Request) -> web.Response:
        return _respond(200 if health.is_ready else 503, health.report())

    async def scrape(_request: web.Request) -> web.Response:
        return web.Response(body=await exposition.text(), headers={"Content-Type": CONTENT_TYPE})

    for path, handler in (("/health/live", live), ("/health/ready", ready), ("/metrics", scrape)):
        app.router.add_get(path, handler)
        app.router.add_route("*", path, _reject_method)


def add_public_route(app: web.Application, health: Health) -> None:
    """Add ``/healthz`` for load balancers at the port of clients: the status of ``/health/ready`` and nothing else."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=200 if health.is_ready else 503, headers={"Cache-Control": "no-store"})

    async def reject_method(request: web.Request) -> web.Response:
        raise web.HTTPMethodNotAllowed(request.method, _PUBLIC_METHODS)

    for method in _PUBLIC_METHODS:
        app.router.add_route(method, PUBLIC_PATH, answer)
    app.router.add_route("*", PUBLIC_PATH, reject_method)


async def _reject_method(request: web.Request) -> web.Response:
    # Otherwise the REST API, which answers every path without a route, would answer 404.
    raise web.HTTPMethodNotAllowed(request.method, ["GET", "HEAD"])


def _respond(status: int, body: dict[str, object]) -> web.Response:
    return web.Response(
        status=status,
        text=json.dumps(body),
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
