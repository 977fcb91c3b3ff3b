"""What happens at the Socket.IO door; satisfies ``socketio_door.door.Meter``.

The label of a namespace is ``nsp``, as Socket.IO calls it on the wire: ``namespace`` is that of Kubernetes, which
whoever scrapes there writes over ours.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from itertools import product

from prometheus_client import CollectorRegistry

from gateway.domain.errors import (
    BrokerTimeout,
    BrokerUnavailable,
    KeysUnavailable,
    NotRecovered,
    TokenRefused,
    TooManyConnections,
)
from gateway.hub import Hub
from gateway.metrics.tallies import Shelf, singles

_FAILURES = (BrokerTimeout.code, BrokerUnavailable.code, KeysUnavailable.code, "internal_error")
REFUSALS = (*sorted(TokenRefused.CODES), TooManyConnections.code, "invalid_namespace", *_FAILURES)
"""Codes that a connection is refused with; but for the last four the client hears them."""
REFRESHES = ("refreshed", *sorted(TokenRefused.CODES), *_FAILURES)
RECOVERIES = ("recovered", *sorted(NotRecovered.CODES))


class ConnectionMetrics:
    """Connections of clients: how many there are, how they came in, and how they ended."""

    def __init__(self, registry: CollectorRegistry, volatile_skipped: Callable[[str], None]) -> None:
        """``volatile_skipped`` is told of each volatile message that a transport did not take."""
        self.volatile_skipped = volatile_skipped
        shelf = Shelf(registry)
        self._open = shelf.level("open_connections", "Socket.IO connections open now.", ("nsp",))
        self._users = shelf.reading("connected_users", "Users with a connection to this replica now.")
        self._rooms = shelf.reading(
            "occupied_rooms", "Rooms with a connection to this replica now, those of single sids not counted."
        )
        self._opened = shelf.tally(
            "connections_opened",
            "Connections accepted, by the transport they began on.",
            ("nsp", "transport"),
        )
        self._closed = shelf.tally("connections_closed", "Connections ended, by reason.", ("nsp", "reason"))
        self._refused = shelf.tally(
            "connections_refused", "Connections refused, by code.", ("code",), singles(REFUSALS)
        )
        self._refreshes = shelf.tally(
            "token_refreshes", "Newer tokens shown on open connections.", ("outcome",), singles(REFRESHES)
        )
        self._recoveries = shelf.tally(
            "recoveries",
            "Clients that asked to go on where they were: recovered, or why not.",
            ("outcome",),
            singles(RECOVERIES),
        )
        self._received = shelf.tally(
            "client_messages", "Messages received from clients, by the kind of their packet.", ("kind",)
        )

    def expect(
        self,
        *,
        namespaces: Collection[str],
        transports: Collection[str],
        reasons: Iterable[str],
        kinds: Iterable[str],
    ) -> None:
        """Show these from the start; ``reasons`` are those that connections end for, ``kinds`` those of messages."""
        self._open.expect(singles(namespaces))
        self._opened.expect(product(namespaces, transports))
        self._closed.expect(product(namespaces, reasons))
        self._received.expect(singles(kinds))

    def watch_hub(self, hub: Hub) -> None:
        """Where to look when somebody asks."""
        self._users.read = lambda: {(): hub.users}
        self._rooms.read = lambda: {(): hub.rooms}

    def connection_opened(self, namespace: str, transport: str) -> None:
        self._opened.count((namespace, transport))
        self._open.count((namespace,))

    def connection_closed(self, namespace: str, reason: str) -> None:
        self._closed.count((namespace, reason))
        self._open.count((namespace,), -1)

    def connection_refused(self, code: str) -> None:
        self._refused.count((code,))

    def token_refreshed(self, outcome: str) -> None:
        self._refreshes.count((outcome,))

    def recovery_told(self, outcome: str) -> None:
        self._recoveries.count((outcome,))

    def message_received(self, kind: str) -> None:
        self._received.count((kind,))
