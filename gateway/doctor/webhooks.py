"""Checks of webhooks: each gets ``webhook.test``."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from typing import Final

from gateway import __version__
from gateway.doctor.findings import Finding, Level
from gateway.domain.webhooks import Webhook
from gateway.timers import SystemClock
from gateway.webhooks.check import OK, PROBLEM, WARNING, check_webhook

_LEVELS: Final = {OK: Level.OK, WARNING: Level.WARNING, PROBLEM: Level.PROBLEM}


async def check_webhooks(webhooks: Iterable[Webhook], *, own_ports: Collection[int]) -> list[Finding]:
    """Return one finding for each webhook, named ``webhook.<id>``. All are checked at the same time."""
    return list(await asyncio.gather(*(_check(webhook, own_ports) for webhook in webhooks)))


async def _check(webhook: Webhook, own_ports: Collection[int]) -> Finding:
    result = await check_webhook(
        webhook, clock=SystemClock(), user_agent=f"sio-gateway/{__version__}", own_ports=own_ports
    )
    return Finding(f"webhook.{webhook.id}", _LEVELS[result.level], result.sentence, result.remedy)
