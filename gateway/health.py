"""Whether the process lives, and whether it should be sent clients (unsigned, for probes and people)."""

from __future__ import annotations

import json
from collections.abc import Callable

from aiohttp import web

from gateway.domain.condition import Condition


class Health:
    """What the probes are told. ``condition`` is asked for what the shared state lets this replica do."""

    def __init__(self, condition: Callable[[], Condition] = lambda: Condition.HEARING) -> None:
        self.listening = False
        self.draining = False
        self._condition = condition

    @property
    def status(self) -> str:
        """``ready``, or why not."""
        if self.draining:
            return "draining"
        if not self.listening:
            return "starting"
        return "deaf" if self._condition() is Condition.DEAF else "ready"

    @property
    def degraded(self) -> bool:
        """Whether the shared state is away: clients stay, and callers had better be told so by this replica's own 503
        than by a proxy that finds nobody ready."""
        return self._condition() is Condition.AWAY


def add_routes(
    app: web.Application, health: Health, exposition: Callable[[], bytes], content_type: str
) -> None:
    """``/health/live``, ``/health/ready`` and ``/metrics``."""

    async def live(_request: web.Request) -> web.Response:
        return _answer(200, {"status": "live"})

    async def ready(_request: web.Request) -> web.Response:
        status = health.status
        body: dict[str, object] = {"status": status}
        if health.degraded:
            body["degraded"] = "the shared state is away"
        return _answer(200 if status == "ready" else 503, body)

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=exposition(), headers={"Content-Type": content_type})

    app.router.add_get("/health/live", live)
    app.router.add_get("/health/ready", ready)
    app.router.add_get("/metrics", metrics)


def _answer(status: int, body: dict[str, object]) -> web.Response:
    return web.Response(
        status=status,
        text=json.dumps(body),
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
