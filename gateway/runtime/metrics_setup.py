"""Tells the metrics where to look, and which values their labels can have: shown from the start, so that the first
time that something happens is seen to be one.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from gateway.domain import disconnects
from gateway.health import Health, Phase
from gateway.interfaces import State
from gateway.logs import lines_dropped
from gateway.metrics import Metrics
from gateway.settings import Settings
from gateway.socketio_server.packets import KINDS
from gateway.transport import errors
from ingest_api.errors import STATUSES

_CLOSE_REASONS: Final = sorted({*errors.CLOSE_REASONS, *(reason.reason for reason in disconnects.ALL)})
_TRANSPORT_REASONS: Final = "client_disconnect"
"""A client left a namespace, and keeps its transport."""
_CODES: Final = {"ok": 200, **STATUSES}
_KEY_CODES: Final = (
    "ok",
    "timestamp_out_of_range",
    "bad_signature",
    "replayed_request",
    "missing_scope",
    "rate_limited",
    "broker_unavailable",
    "broker_timeout",
)
"""Of each ingest key these are shown from the start, the other codes once they happen: there may be many keys."""


def register_metrics(metrics: Metrics, settings: Settings, *, state: State, health: Health) -> None:
    """What is known before anything has happened, and what is looked up in the rooms."""
    metrics.connections.init_labels(
        namespaces=settings.namespaces,
        transports=settings.transports,
        reasons=[*_CLOSE_REASONS, _TRANSPORT_REASONS],
        kinds=KINDS,
    )
    metrics.transport.init_labels(
        rejections=errors.REJECTIONS,
        close_reasons=_CLOSE_REASONS,
        max_sessions=settings.max_connections,
        max_unauthenticated=settings.max_unauthenticated,
        send_buffer_bytes=settings.send_buffer_bytes,
    )
    metrics.replica.watch_state(
        state.sizes, history_length=settings.history_length, history_bytes=settings.history_bytes
    )
    metrics.replica.watch_health(
        is_ready=lambda: health.ready, is_draining=lambda: health.phase is Phase.DRAINING
    )
    metrics.replica.watch_log(lines_dropped)
    if state.redis_stats is not None:
        metrics.redis.watch(state.redis_stats)
    init_key_labels(metrics, [key.id for key in settings.ingest_keys])


def init_key_labels(metrics: Metrics, ids: Collection[str]) -> None:
    """These are the ingest keys from now on."""
    metrics.requests.init_key_labels(ids, _KEY_CODES)


def init_route_labels(metrics: Metrics, templates: Collection[str]) -> None:
    """These are the paths of the REST door."""
    metrics.requests.init_labels(templates, _CODES)
