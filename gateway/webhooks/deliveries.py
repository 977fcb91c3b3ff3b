"""Deliveries: the request of one or several notifications, and the outcome of its answer. Pure."""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from typing import Final

from gateway.domain.times import iso_timestamp
from gateway.domain.webhooks import Delivery, DeliveryOutcome, WebhookEvent
from gateway.webhooks.answers import Answer, find_retry_after
from gateway.webhooks.signing import is_event_id

DELIVERY_SECONDS: Final = 15.0
"""Limit of a delivery, from the moment at which it has its slot."""
BATCH: Final = "batch"
_REJECTING: Final = frozenset({400, 409, 413, 422})
"""Statuses that reject the events themselves; with every other one the endpoint is at fault."""
_ID_CHARACTERS: Final = 32
NO_ANSWER: Final = Delivery(DeliveryOutcome.FAILED)


def delivery_id(events: Sequence[WebhookEvent]) -> str:
    """Return the ``webhook-id``: that of the only event, or one that is made of the ids of all."""
    if len(events) == 1:
        return events[0].id
    digest = hashlib.sha256(".".join([event.id for event in events]).encode()).digest()
    return f"{BATCH}-{urlsafe_b64encode(digest)[:_ID_CHARACTERS].decode()}"


def encode_delivery(events: Sequence[WebhookEvent]) -> bytes:
    """Return the body: the same for each try of the same events. The time of a batch is that of its last event.

    Raises: ValueError for an id with other characters than ``A-Z a-z 0-9 _ -``, and for text that UTF-8 cannot hold.
    """
    for event in events:
        if not is_event_id(event.id):
            raise ValueError("the id of an event has other characters than A-Z a-z 0-9 _ -")
    if len(events) == 1:
        return f"{{{_members(events[0])}}}".encode()
    texts = [f'{{"id":"{event.id}",{_members(event)}}}' for event in events]
    at = iso_timestamp(events[-1].at)
    return f'{{"type":"{BATCH}","timestamp":"{at}","data":[{",".join(texts)}]}}'.encode()


def read_delivery(answer: Answer, *, now: float) -> Delivery:
    """Return what an answer means for the events. ``now`` is in seconds since 1970."""
    status = answer.status
    if 200 <= status < 300:
        return Delivery(DeliveryOutcome.ACCEPTED, status)
    if status in _REJECTING:
        return Delivery(DeliveryOutcome.REJECTED, status)
    return Delivery(DeliveryOutcome.FAILED, status, find_retry_after(answer.retry_after, now=now))


def _members(event: WebhookEvent) -> str:
    return f'"type":{json.dumps(event.type)},"timestamp":"{iso_timestamp(event.at)}","data":{event.data}'
