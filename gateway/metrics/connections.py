"""What happens at the Socket.IO door; satisfies ``socketio_door.door.Meter``.

The label of a namespace is ``nsp``, as Socket.IO calls it on the wire: ``namespace`` is that of Kubernetes, which
whoever scrapes there writes over ours.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from itertools import product

from gateway.domain.errors import (
    BrokerTimeout,
    BrokerUnavailable,
    KeysUnavailable,
    RecoveryFailed,
    TokenRejected,
    TooManyConnections,
)
from gateway.metrics.primitives import MetricFactory, one_label

_FAILURES = (BrokerTimeout.code, BrokerUnavailable.code, KeysUnavailable.code, "internal_error")
REJECTIONS = (*sorted(TokenRejected.CODES), TooManyConnections.code, "invalid_namespace", *_FAILURES)
"""Codes that a connection is refused with; but for the last four the client hears them."""
REFRESHES = ("refreshed", *sorted(TokenRejected.CODES), *_FAILURES)
RECOVERIES = ("recovered", *sorted(RecoveryFailed.CODES))


class ConnectionMetrics:
    """Connections of clients: how many there are, how they came in, and how they ended."""

    def __init__(self, factory: MetricFactory, volatile_skipped: Callable[[str], None]) -> None:
        """``volatile_skipped`` is told of each volatile message that a transport did not take."""
        self.volatile_skipped = volatile_skipped
        self._open = factory.gauge("connections", "Socket.IO connections open now.", ("nsp",))
        self._opened = factory.counter(
            "connections_opened",
            "Connections accepted, by the transport they began on.",
            ("nsp", "transport"),
        )
        self._closed = factory.counter(
            "connections_closed", "Connections ended, by reason.", ("nsp", "reason")
        )
        self._rejected = factory.counter(
            "connections_rejected", "Connections refused, by code.", ("code",), one_label(REJECTIONS)
        )
        self._refreshes = factory.counter(
            "token_refreshes", "Newer tokens shown on open connections.", ("outcome",), one_label(REFRESHES)
        )
        self._recoveries = factory.counter(
            "recoveries",
            "Clients that asked to go on where they were: recovered, or why not.",
            ("outcome",),
            one_label(RECOVERIES),
        )
        self._received = factory.counter(
            "client_messages", "Messages received from clients, by the kind of their packet.", ("kind",)
        )

    def init_labels(
        self,
        *,
        namespaces: Collection[str],
        transports: Collection[str],
        reasons: Iterable[str],
        kinds: Iterable[str],
    ) -> None:
        """Show these from the start; ``reasons`` are those that connections end for, ``kinds`` those of messages."""
        self._open.init_labels(one_label(namespaces))
        self._opened.init_labels(product(namespaces, transports))
        self._closed.init_labels(product(namespaces, reasons))
        self._received.init_labels(one_label(kinds))

    def connection_opened(self, namespace: str, transport: str) -> None:
        self._opened.count((namespace, transport))
        self._open.count((namespace,))

    def connection_closed(self, namespace: str, reason: str) -> None:
        self._closed.count((namespace, reason))
        self._open.count((namespace,), -1)

    def connection_rejected(self, code: str) -> None:
        self._rejected.count((code,))

    def token_refreshed(self, outcome: str) -> None:
        self._refreshes.count((outcome,))

    def recovery_finished(self, outcome: str) -> None:
        self._recoveries.count((outcome,))

    def message_received(self, kind: str) -> None:
        self._received.count((kind,))
