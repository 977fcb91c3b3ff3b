"""Replicas behind nginx, restarted one after the other while stock clients receive pushes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.load.soak.clients import ClientResult
from tests.load.soak.runner import replicas_on
from tests.support.gateway_process import GatewayProcess
from tests.support.nginx import Nginx
from tests.support.redis_server import RedisServer

ORIGIN = "https://app.example"
LIMIT_SECONDS = 15.0
"""How long a replica may take to stop, in addition to its DRAIN_SECONDS."""


@dataclass(frozen=True)
class Restart:
    """One replica that was stopped and started again."""

    replica: str
    at: float
    """When it got SIGTERM, in Unix seconds."""
    seconds: float
    """From SIGTERM until the process ended."""
    status: int
    failures: list[dict[str, Any]]
    """Lines of its log that a healthy process does not write; see ``GatewayProcess.failures``."""
    disconnected_at: list[float]
    """When it closed the connection of each client, in Unix seconds."""


@contextmanager
def behind_nginx(names: Mapping[str, str], **settings: Any) -> Iterator[tuple[Nginx, list[GatewayProcess]]]:
    """Run replicas on a Redis of their own behind an nginx. ``names``: name of each in nginx, and its REPLICA_ID."""
    with (
        replicas_on(RedisServer(), list(names.values()), cors_origins=ORIGIN, **settings) as replicas,
        Nginx(dict(zip(names, replicas, strict=True))) as nginx,
    ):
        yield nginx, replicas


def restart(replica: GatewayProcess, *, drain_seconds: float) -> Restart:
    """Stop a replica with SIGTERM, as an orchestrator does, and start it again; return once it listens."""
    at, started = time.time(), time.monotonic()
    status = replica.stop(drain_seconds + LIMIT_SECONDS)
    disconnected_at = [
        datetime.fromisoformat(line["timestamp"]).timestamp()
        for line in replica.log.entries
        if line.get("event") == "connection.closed" and line["reason"] == "draining"
    ]
    seconds = time.monotonic() - started
    done = Restart(replica.replica_id, at, seconds, status, replica.failures(), disconnected_at)
    replica.start()
    return done


def reconnects(
    results: Mapping[str, ClientResult], *, since: float, until: float
) -> list[tuple[float, float]]:
    """Return each reconnect between two moments: when (Unix seconds), and seconds without a connection before it."""
    return [
        (at, away) for each in results.values() for at, _, away in each.connects[1:] if since <= at < until
    ]
