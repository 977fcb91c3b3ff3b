"""Webhooks: the request for a client event, and what an answer asks the gateway to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class WebhookEmission:
    """One message that an answer asks for. ``to`` as in the answer; None is the sender."""

    event: str
    arguments: tuple[object, ...]
    to: object = None


@dataclass(frozen=True, slots=True)
class WebhookAnswer:
    """A 2xx answer of a webhook. ``has_ack`` is false when ``ack`` is absent, and true when it is null."""

    ack: object = None
    has_ack: bool = False
    emit: tuple[WebhookEmission, ...] = ()
    join: tuple[str, ...] = ()
    leave: tuple[str, ...] = ()
    set: Mapping[str, object] = field(default_factory=dict)
    disconnect: bool = False
