"""Whether the process lives, and whether it should be sent clients (unsigned, for probes and people)."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import StrEnum
from typing import Final, NamedTuple

from aiohttp import web

from gateway.domain.status import StateStatus
from gateway.domain.times import iso_timestamp
from gateway.metrics import CONTENT_TYPE, MetricFactory, exposition

LIVENESS_LIMIT_SECONDS: Final = 300.0
"""How long a replica may be deaf before it counts as not alive. Whatever made it deaf did not pass in a time in which
it would have met Redis many times, so only a new process can be expected to help."""


class Phase(StrEnum):
    """How far along the life of a process is."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"


class Part(NamedTuple):
    """What one part of the process is, since when, in seconds since 1970, and why, where somebody said so."""

    status: str
    since: float
    reason: str = ""

    def as_dict(self) -> dict[str, str]:
        """The same for people."""
        told = {"status": str(self.status), "since": iso_timestamp(self.since)}
        return told | {"reason": self.reason} if self.reason else told


class Health:
    """What the probes are told. ``now`` is the time, ``condition`` what the shared state lets this replica do and since
    when, both in seconds since 1970; ``refusal`` what the shared state refuses although it answers, or nothing."""

    def __init__(
        self,
        *,
        now: Callable[[], float],
        status: Callable[[], tuple[StateStatus, float]],
        metrics: MetricFactory,
        rejection: Callable[[], str] = str,
    ) -> None:
        self._now = now
        self._rejection = rejection
        self._status = status
        self.phase = Phase.STARTING
        self._phase_since = now()
        metrics.callback_gauge(
            "replica_ready", "1 while the readiness probe is answered with 200.", read=lambda: self.ready
        )
        metrics.callback_gauge(
            "replica_draining",
            "1 once the process was asked to stop.",
            read=lambda: self.phase is Phase.DRAINING,
        )

    def enter(self, phase: Phase) -> None:
        """The process is that far from now on."""
        if phase is not self.phase:
            self.phase, self._phase_since = phase, self._now()

    @property
    def alive(self) -> bool:
        """Whether the process can serve, or soon will; slow to say no, since no means that it is killed."""
        condition, since = self._status()
        return (
            condition is not StateStatus.SUBSCRIPTION_STALLED or self._now() - since < LIVENESS_LIMIT_SECONDS
        )

    @property
    def ready(self) -> bool:
        """Whether clients and backends should be sent here."""
        return self._unready_part() is None

    def report(self) -> dict[str, object]:
        """The verdict, the part that stands against it and since when, all parts, and ``degraded`` while the shared
        state is away.

        Being away does not end readiness: no other replica would be better off, and callers had better be told so by
        this replica's own 503 than by a proxy that finds nobody ready.
        """
        parts = self._parts()
        told = {name: part.as_dict() for name, part in parts.items()}
        name = self._unready_part()
        report: dict[str, object] = {"status": "ready"} if name is None else {**told[name], "part": name}
        if parts["state"].status == StateStatus.UNAVAILABLE:
            why = f": {parts['state'].reason}" if parts["state"].reason else ""
            report["degraded"] = f"the shared state is away since {told['state']['since']}{why}"
        return report | {"parts": told}

    def _parts(self) -> dict[str, Part]:
        return {
            "process": Part(self.phase, self._phase_since),
            "state": Part(*self._status(), self._rejection()),
        }

    def _unready_part(self) -> str | None:
        """The name of the part because of which nobody should be sent here."""
        if self.phase is not Phase.SERVING:
            return "process"
        return "state" if self._status()[0] is StateStatus.SUBSCRIPTION_STALLED else None


def add_routes(app: web.Application, health: Health, metrics: MetricFactory) -> None:
    """``/health/live``, ``/health/ready`` and ``/metrics``."""

    async def live(_request: web.Request) -> web.Response:
        return _answer(200, {"status": "live"}) if health.alive else _answer(503, health.report())

    async def ready(_request: web.Request) -> web.Response:
        return _answer(200 if health.ready else 503, health.report())

    async def scrape(_request: web.Request) -> web.Response:
        return web.Response(body=await exposition(metrics), headers={"Content-Type": CONTENT_TYPE})

    for path, handler in (("/health/live", live), ("/health/ready", ready), ("/metrics", scrape)):
        app.router.add_get(path, handler)
        app.router.add_route("*", path, _reject_method)


async def _reject_method(request: web.Request) -> web.Response:
    # Else the REST door, which takes what no route does, would say that there is no such path.
    raise web.HTTPMethodNotAllowed(request.method, ["GET", "HEAD"])


def _answer(status: int, body: dict[str, object]) -> web.Response:
    return web.Response(
        status=status,
        text=json.dumps(body),
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
