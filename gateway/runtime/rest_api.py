"""Build the REST API of a replica: the services behind its calls, and its settings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from gateway.domain.bounded_body import ArrivingBodies
from gateway.domain.event_catalogue import EventCatalogue
from gateway.domain.ingest_keys import IngestKey
from gateway.domain.sampling import Sampling
from gateway.interfaces import Clock, State
from gateway.metrics import MetricFactory, RequestMetrics
from gateway.runtime.events import CurrentPushSchemas
from gateway.runtime.from_settings import build_token_revocations
from gateway.runtime.webhook_queues import ConfiguredQueues, ConfiguredWebhooks
from gateway.services.counted_disconnects import CountedDisconnects
from gateway.services.message_history import MessageHistory
from gateway.services.room_changes import RoomChangePublisher
from gateway.services.socket_data import SocketDataChanges
from gateway.settings import Settings
from ingest_api import app as rest
from ingest_api.access_log import RejectionLimit
from ingest_api.history import HistoryHandlers
from ingest_api.interfaces import AckWaits, Publisher, Tracer
from ingest_api.listings import ListingHandlers
from ingest_api.pipeline import RestApi
from ingest_api.revocation import RevocationHandlers
from ingest_api.room_changes import RoomChangeHandlers


def build_rest_api(
    settings: Settings,
    *,
    publisher: Publisher,
    disconnects: CountedDisconnects,
    issuers: Callable[[], Collection[str]],
    granted_prefixes: Callable[[], Collection[str]],
    state: State,
    ack_waits: AckWaits,
    webhooks: ConfiguredWebhooks,
    keys: Mapping[str, IngestKey],
    event_catalogue: Callable[[], EventCatalogue],
    clock: Clock,
    metrics: RequestMetrics,
    factory: MetricFactory,
    sampling: Sampling,
    tracer: Tracer | None,
    is_serving: Callable[[], bool],
    explains_signatures: bool,
    arriving: ArrivingBodies,
    rejections: RejectionLimit,
) -> RestApi:
    """Build the REST API. ``keys`` are the ingest keys by id; the rest is as in ``create_rest_api``."""
    revocations = build_token_revocations(settings, disconnects, issuers, clock)
    revoking = RevocationHandlers(revocations=revocations, answers=state.acks, dedup=state.dedup)
    room_changes = _room_changes(settings, state, publisher, factory, granted_prefixes)
    groups = (_history(settings, state, factory), room_changes, _listings(settings, state), revoking)
    return rest.create_rest_api(
        publisher=publisher,
        groups=[each.routes for each in groups],
        presence=state.presence,
        dedup=state.dedup,
        rates=state.rates,
        queues=ConfiguredQueues(state, webhooks),
        answers=state.acks,
        ack_waits=ack_waits,
        keys=keys.get,
        clock=clock,
        metrics=metrics,
        namespaces=frozenset(settings.namespaces),
        max_body_bytes=settings.max_body_bytes,
        body_timeout_seconds=settings.request_timeout_seconds,
        path_prefix=settings.ingest_path_prefix,
        sampling=sampling,
        tracer=tracer,
        event_schemas=CurrentPushSchemas(event_catalogue),
        is_serving=is_serving,
        explains_signatures=explains_signatures,
        arriving=arriving,
        rejections=rejections,
    )


def _history(settings: Settings, state: State, factory: MetricFactory) -> HistoryHandlers:
    return HistoryHandlers(
        history=MessageHistory(
            broker=state.broker,
            logged_messages=state.logged_messages,
            recovery_seconds=settings.recovery_seconds,
            metrics=factory,
        ),
        presence=state.presence,
        answers=state.acks,
        dedup=state.dedup,
        namespaces=settings.namespaces,
    )


def _room_changes(
    settings: Settings,
    state: State,
    publisher: Publisher,
    factory: MetricFactory,
    granted_prefixes: Callable[[], Collection[str]],
) -> RoomChangeHandlers:
    return RoomChangeHandlers(
        changer=RoomChangePublisher(
            broker=state.broker,
            rooms=state.connection_rooms,
            replies=state.replies,
            max_rooms_per_connection=settings.max_rooms_per_connection,
            join_wait_seconds=state.join_wait_seconds,
            metrics=factory,
        ),
        publisher=publisher,
        namespaces=settings.namespaces,
        granted_prefixes=granted_prefixes,
    )


def _listings(settings: Settings, state: State) -> ListingHandlers:
    return ListingHandlers(
        listings=state.listings,
        socket_data=SocketDataChanges(store=state.socket_data, listings=state.listings, broker=state.broker),
        presence=state.presence,
        answers=state.acks,
        dedup=state.dedup,
        namespaces=settings.namespaces,
    )
