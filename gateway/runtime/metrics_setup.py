"""Tells the metrics where to look, and which values their labels can have: shown from the start, so that the first
time that something happens is seen to be one.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from gateway.health import Health, Phase
from gateway.interfaces import State
from gateway.logs import lines_dropped
from gateway.metrics import Metrics
from gateway.settings import Settings
from ingest_api.errors import STATUSES

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
    metrics.replica.watch_state(
        state.sizes, history_length=settings.history_length, history_bytes=settings.history_bytes
    )
    metrics.replica.watch_health(
        is_ready=lambda: health.ready, is_draining=lambda: health.phase is Phase.DRAINING
    )
    metrics.replica.watch_log(lines_dropped)
    init_key_labels(metrics, [key.id for key in settings.ingest_keys])


def init_key_labels(metrics: Metrics, ids: Collection[str]) -> None:
    """These are the ingest keys from now on."""
    metrics.requests.init_key_labels(ids, _KEY_CODES)


def init_route_labels(metrics: Metrics, templates: Collection[str]) -> None:
    """These are the paths of the REST door."""
    metrics.requests.init_labels(templates, _CODES)
