"""The sessions that have joined no namespace yet, and which of them makes room for another client.

A flood of handshakes must not keep others out. So at the limit a session that had time enough for its CONNECT makes
room for a new one. It is the oldest one of the address that has most of them; if each has one,
as in a flood from many addresses, it is the oldest of all. A client that sends its CONNECT at once is never among them.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from gateway.interfaces import Clock
from gateway.transport.admission import rate_limit_key
from gateway.transport.session import EngineSession

GRACE_SECONDS: Final = 2.0
"""How long a session is safe: several round trips, on a slow network too."""


class UnauthenticatedSessions:
    """Sessions that have joined no namespace yet, by the address of their client. Every operation takes constant time.

    ``overdue`` are those that have been open for longer than GRACE_SECONDS.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._recent: OrderedDict[EngineSession, float] = OrderedDict()
        """When each was opened, the oldest first."""
        self._overdue: dict[str, OrderedDict[EngineSession, None]] = {}
        """By address, the oldest first."""
        self._addresses: dict[int, OrderedDict[str, None]] = {}
        """Addresses by the number of their overdue sessions, the first one that reached it first."""
        self._most = 0
        """The largest number that an address has."""
        self._overdue_total = 0

    def __len__(self) -> int:
        return len(self._recent) + self._overdue_total

    def add(self, session: EngineSession) -> None:
        """Add a session that has just been opened."""
        self._recent[session] = self._clock.monotonic()

    def remove(self, session: EngineSession) -> None:
        """Remove a session that has joined or is closed."""
        if self._recent.pop(session, None) is not None:
            return
        address = rate_limit_key(session.handshake.address)
        sessions = self._overdue.get(address)
        if sessions is not None and session in sessions:
            self._move(address, len(sessions), len(sessions) - 1)
            del sessions[session]
            self._overdue_total -= 1
            if not sessions:
                del self._overdue[address]

    def next_to_close(self) -> EngineSession | None:
        """Return the session that makes room for another one; None if all are recent."""
        self._find_overdue()
        if not self._most:
            return None
        address = next(iter(self._addresses[self._most]))
        return next(iter(self._overdue[address]))

    def _find_overdue(self) -> None:
        latest = self._clock.monotonic() - GRACE_SECONDS
        while self._recent:
            session, opened_at = next(iter(self._recent.items()))
            if opened_at > latest:
                return
            del self._recent[session]
            address = rate_limit_key(session.handshake.address)
            sessions = self._overdue.setdefault(address, OrderedDict())
            self._move(address, len(sessions), len(sessions) + 1)
            sessions[session] = None
            self._overdue_total += 1

    def _move(self, address: str, former: int, number: int) -> None:
        """Note that the number of sessions of an address has changed by one."""
        if former:
            del self._addresses[former][address]
            if not self._addresses[former]:
                del self._addresses[former]
        if number:
            self._addresses.setdefault(number, OrderedDict())[address] = None
        if number > self._most or (former == self._most and former not in self._addresses):
            self._most = number
