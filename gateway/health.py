"""Whether the process lives, and whether it should be sent clients (unsigned, for probes and people)."""

from __future__ import annotations

import json
from collections.abc import Callable

from aiohttp import web


class Health:
    """What the probes are told."""

    def __init__(self) -> None:
        self.listening = False
        self.draining = False

    @property
    def ready(self) -> bool:
        return self.listening and not self.draining


def add_routes(
    app: web.Application, health: Health, exposition: Callable[[], bytes], content_type: str
) -> None:
    """``/health/live``, ``/health/ready`` and ``/metrics``."""

    async def live(_request: web.Request) -> web.Response:
        return _answer(200, {"status": "live"})

    async def ready(_request: web.Request) -> web.Response:
        status = "ready" if health.ready else "draining" if health.draining else "starting"
        return _answer(200 if health.ready else 503, {"status": status})

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
