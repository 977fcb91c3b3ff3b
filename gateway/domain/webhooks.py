"""Webhooks: the HTTP endpoint of a backend, and what an answer of it asks the gateway to do."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple

from gateway.domain.ingest_keys import BROADCAST, EMIT_ROOM, EMIT_USER, JOIN, Scope
from gateway.domain.names import USER_PREFIX, is_nfc, is_sid_room

SECRET_PREFIX: Final = "whsec_"  # noqa: S105  # the beginning of every secret
MIN_KEY_BYTES: Final = 24
MAX_KEY_BYTES: Final = 64
DISCONNECT: Final = "disconnect"
_WITH_GLOB: Final = (EMIT_USER, EMIT_ROOM, JOIN)
_WITHOUT_GLOB: Final = (BROADCAST, DISCONNECT)


@dataclass(frozen=True, kw_only=True, slots=True)
class WebhookTls:
    """The files of TLS. ``digest`` is that of their contents, so that a renewed certificate is a change.

    With ``ca_file`` only its authorities are trusted. ``cert_file`` and ``key_file`` are the client certificate.
    """

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    digest: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Webhook:
    """An HTTP endpoint of a backend.

    Every one of ``secrets`` (``whsec_`` and base64) signs each request. ``timeout_seconds`` bounds a call with its wait
    and its second try. ``in_flight`` is the number of requests at once of this replica. ``may`` is what answers may do
    beyond the sender. ``insecure`` allows plain HTTP to public addresses. ``batch`` is the number of notifications in
    one request, ``keep_seconds`` for how long a notification is tried. Each of the ``partitions`` of its queue has one
    request at a time.
    """

    id: str
    url: str = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    timeout_seconds: float = 5.0
    in_flight: int = 64
    may: tuple[Scope, ...] = ()
    insecure: bool = False
    batch: int = 1
    keep_seconds: float = 86_400.0
    partitions: int = 16
    tls: WebhookTls = field(default_factory=WebhookTls)

    def allows(self, scope: str, target: str | None) -> bool:
        """Return whether answers may do ``scope`` (``emit:user``, ``join`` …) with a user or room; None: with any.

        The room of a user needs ``emit:user``, that of a sid ``emit:user`` for every user. ``join`` never matches the
        room of a user or of a sid, and rooms of other claims only with a glob that begins with their prefix.
        """
        if target is None:
            return any(each.action == scope for each in self.may)
        if scope == EMIT_ROOM and target.startswith(USER_PREFIX):
            scope, target = EMIT_USER, target.removeprefix(USER_PREFIX)
        if scope == EMIT_ROOM and is_sid_room(target):
            return any(each.action == EMIT_USER and each.is_unlimited for each in self.may)
        of_action = [each for each in self.may if each.action == scope]
        if scope == JOIN:
            return any(each.can_join(target) for each in of_action)
        return any(each.matches(target) for each in of_action)


def decode_secret(secret: str) -> bytes:
    """Return the key of a secret.

    Raises: ValueError with one sentence, which quotes nothing of the secret.
    """
    if not secret.startswith(SECRET_PREFIX):
        raise ValueError(f"a secret does not begin with {SECRET_PREFIX}")
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"a secret is not {SECRET_PREFIX} and base64") from None
    if not MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES:
        raise ValueError(f"the base64 of a secret is not that of {MIN_KEY_BYTES} to {MAX_KEY_BYTES} bytes")
    return key


def parse_may(text: str) -> Scope:
    """Parse one scope of ``may``.

    Raises: ValueError with one sentence for anything else.
    """
    if text in _WITHOUT_GLOB or text in _WITH_GLOB:
        return Scope(text)
    if not is_nfc(text):
        raise ValueError(f"{text!r} is not in Unicode form NFC, and so matches no name")
    for action in _WITH_GLOB:
        if text.startswith(action + ":") and len(text) > len(action) + 1:
            return Scope(action, text[len(action) + 1 :])
    raise ValueError(
        f"{text!r} is not something that answers may do: use emit:user[:<glob>], emit:room[:<glob>], broadcast, "
        "join[:<glob>], disconnect"
    )


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


class WebhookEvent(NamedTuple):
    """An event to deliver. ``at`` is in seconds since 1970; ``data`` is the JSON text of an object."""

    id: str
    type: str
    at: float
    data: str


class DeliveryOutcome(Enum):
    """What became of a delivery.

    ACCEPTED: a 2xx answer. REJECTED: the events are bad (400, 409, 413, 422). FAILED: the endpoint is bad, or there was
    no answer.
    """

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    FAILED = "failed"


class Delivery(NamedTuple):
    """The end of one try. ``status`` None: there was no answer. ``retry_after_seconds``: as the answer says."""

    outcome: DeliveryOutcome
    status: int | None = None
    retry_after_seconds: float | None = None
