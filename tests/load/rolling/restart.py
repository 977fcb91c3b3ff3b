"""Replicas behind nginx with a crowd of stock clients, rolled one after the other while pushes go on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.load.soak.clients import Told
from tests.load.soak.runner import replicas_on
from tests.support.gateway_process import GatewayProcess
from tests.support.nginx import Nginx
from tests.support.redis_server import RedisServer

ORIGIN = "https://app.example"
LIMIT_SECONDS = 15.0
"""What a replica may take to stop, beyond the time in which it lets its clients go."""


@dataclass(frozen=True)
class Roll:
    """A replica that was asked to stop, and what came of it. ``at`` in Unix seconds."""

    replica: str
    at: float
    seconds: float
    """Until it had ended."""
    status: int
    complaints: list[dict[str, Any]]
    """Lines of its log that a healthy process does not write."""


@contextmanager
def behind_nginx(names: Mapping[str, str], **settings: Any) -> Iterator[tuple[Nginx, list[GatewayProcess]]]:
    """Replicas on a Redis of their own behind an nginx. ``names``: what nginx calls each, and its REPLICA_ID."""
    with (
        replicas_on(RedisServer(), list(names.values()), cors_origins=ORIGIN, **settings) as replicas,
        Nginx(dict(zip(names, replicas, strict=True))) as nginx,
    ):
        yield nginx, replicas


def roll(replica: GatewayProcess, *, drain_seconds: float) -> Roll:
    """Stop a replica as an orchestrator does, and start it again; returns once it listens."""
    at, began = time.time(), time.monotonic()
    status = replica.stop(drain_seconds + LIMIT_SECONDS)
    done = Roll(replica.replica_id, at, time.monotonic() - began, status, replica.failures())
    replica.start()
    return done


def came_back(told: Mapping[str, Told], *, since: float, until: float) -> list[tuple[float, float]]:
    """When clients came back between two moments, in Unix seconds, and for how many seconds they had been away."""
    return [(at, away) for each in told.values() for at, _, away in each.connects[1:] if since <= at < until]
