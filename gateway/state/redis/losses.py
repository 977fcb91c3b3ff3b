"""Entries that Redis accepted and lost: find them, and mark the loss in the log, so that every replica reports it.

A primary that is replaced by one with older data loses what it accepted last. Only replicas that saw some of that can
know, but clients of every replica may have missed it. So a replica that finds a loss appends a ``LossMarker``. Every
replica reads it in its place among the entries and notifies its clients; a session that is resumed later finds it in
its history.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from typing import Any, Final

import structlog

from gateway.domain.errors import DATA_LOST, BrokerTimeout, BrokerUnavailable
from gateway.domain.messages import Address
from gateway.domain.positions import Position
from gateway.state.redis.codec import Codec
from gateway.state.redis.commands import Argument, Commands
from gateway.state.redis.guards import NO_DEDUP_KEY
from gateway.state.redis.records import LossMarker
from gateway.state.redis.redis_keys import LOSSES, address_name

RETRY_SECONDS: Final = 0.25
_NOTHING_LOST: Final = 0
_NOT_MARKED: Final = 1
"""What lua/find_loss.lua returns."""

log = structlog.get_logger(__name__)


class Losses:
    """What this replica knows of entries that are lost.

    It knows of an entry because Redis accepted it from here (``accepted``), or because it was delivered here: the
    ``LogReader`` calls ``found`` when the log does not hold what it has read. What was accepted is looked for when
    another server is reached (``server_changed``), because it need not have been delivered here.
    """

    def __init__(
        self, *, commands: Commands, codec: Codec, namespaces: Collection[str], on_marked: Callable[[], None]
    ) -> None:
        """``on_marked`` is called at each marker of a loss that was not reported here when it was found.

        A replica of a former release finds a marker in ``namespaces``.
        """
        self._commands = commands
        self._codec = codec
        self._addresses = (LOSSES, *(address_name(Address(namespace, None)) for namespace in namespaces))
        self._on_marked = on_marked
        self._loop = asyncio.get_running_loop()
        self._accepted: Position | None = None
        self._to_verify: Position | None = None
        self._seen_until: float | None = None
        """When an entry of the log before was last seen, while it is not known whether the one reached now has it."""
        self._is_resynced = True
        self._wake = asyncio.Event()
        self._own_marker = ""
        """The id of the marker that is appended from here, for a loss that was reported to the clients here."""
        self._is_own_marker_read = False
        self.seen_at = self._loop.time()
        """When an entry was last delivered here or accepted from here (clock of the loop)."""
        self.is_unmarked = False
        """Whether a loss was found here and the log has no marker yet."""

    def accepted(self, position: Position) -> None:
        """Record the position of an entry that was accepted from here."""
        self._accepted = position
        self.seen_at = self._loop.time()

    def server_changed(self) -> None:
        """Look for what was accepted from here on the server that is reached now."""
        self._to_verify = self._accepted
        self._is_resynced = False
        self._begin()

    def found(self) -> None:
        """Mark a loss that was found in the log, and reported to the clients here."""
        self.is_unmarked = True
        self._begin()

    def resynced(self) -> None:
        """Record that the log was read to its end: what is delivered from now on is of the server reached now."""
        self._is_resynced = True
        self._end()

    def marker_read(self, marker: LossMarker) -> None:
        """Report the loss of a marker, which was read in its place among the entries."""
        if marker.id == self._own_marker:
            self._is_own_marker_read = True
        else:
            self._report()

    def _report(self) -> None:
        log.warning("history.gap", code=DATA_LOST)
        self._on_marked()

    def _begin(self) -> None:
        if self._seen_until is None:
            self._seen_until = self.seen_at
        self._wake.set()

    def _end(self) -> None:
        if self._is_resynced and not self.is_unmarked and self._to_verify is None:
            self._seen_until = None

    async def run(self) -> None:
        """Mark losses until cancelled. A loss that cannot be marked now is marked as soon as Redis accepts it."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self.is_unmarked or self._to_verify is not None:
                try:
                    await self._mark()
                except (BrokerUnavailable, BrokerTimeout):
                    await asyncio.sleep(RETRY_SECONDS)

    async def _mark(self) -> None:
        """Append a marker if something is lost and no newer marker reports it."""
        found, accepted, seen_until = self.is_unmarked, self._to_verify, self._seen_until
        age_ms = int((self._loop.time() - (self.seen_at if seen_until is None else seen_until)) * 1000)
        known: tuple[Argument, ...] = () if accepted is None else (accepted,)
        verdict, name = await self._commands.call("find_loss", age_ms, int(found), *known)
        if verdict == _NOT_MARKED:
            await self._append_marker(name.decode())
        if verdict != _NOTHING_LOST and self._accepted == accepted:
            self._accepted = None
        if self._to_verify == accepted:
            self._to_verify = None
        if found:
            self.is_unmarked = False
        self._end()

    async def _append_marker(self, name: str) -> None:
        """Append a marker, unless a replica that looked at the same time has appended one with the same name.

        What another replica marks is reported here: it may have found more.
        """
        marker = LossMarker(f"loss.{name}")
        self._own_marker, self._is_own_marker_read = marker.id if self.is_unmarked else "", False
        status: bytes | None = None
        try:
            status, *details = await self._append(marker)
        finally:
            if status != b"OK":
                self._own_marker = ""
                if self._is_own_marker_read:
                    self._report()
        if status == b"OK":
            position = Position(details[0].decode())
            log.warning("redis.loss_marked", position=position)
            self.accepted(position)

    def _append(self, marker: LossMarker) -> Coroutine[Any, Any, list[Any]]:
        record = self._codec.loss_marker(marker)
        return self._commands.call(
            "append",
            *("", "", *NO_DEDUP_KEY),  # no revocation, no dedup key
            self._commands.branch,
            "",  # no notifications
            *(marker.id, record, "0", 0, len(record), "", "1", "0"),
            len(self._addresses),
            *self._addresses,
        )
