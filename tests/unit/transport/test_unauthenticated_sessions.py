"""Which session makes room when too many have joined no namespace."""

from __future__ import annotations

from random import Random

import pytest

from gateway.transport.admission import Handshake
from gateway.transport.session import EngineSession
from gateway.transport.unauthenticated import GRACE_SECONDS, UnauthenticatedSessions
from tests.support.clock import FakeClock
from tests.unit.transport.recording import RecordingObserver

LATER = GRACE_SECONDS + 0.1


def open_session(sessions: UnauthenticatedSessions, address: str) -> EngineSession:
    handshake = Handshake(authorization=None, query_token=None, address=address)
    session = EngineSession(address, handshake=handshake, observer=RecordingObserver(), send_buffer_bytes=100)
    sessions.add(session)
    return session


def closing_order(sessions: UnauthenticatedSessions) -> list[EngineSession]:
    order = []
    while (session := sessions.next_to_close()) is not None:
        order.append(session)
        sessions.remove(session)
    return order


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def sessions(clock: FakeClock) -> UnauthenticatedSessions:
    return UnauthenticatedSessions(clock)


def test_session_has_time_for_its_connect(sessions: UnauthenticatedSessions, clock: FakeClock) -> None:
    open_session(sessions, "192.0.2.1")

    clock.advance(GRACE_SECONDS - 0.1)
    assert sessions.next_to_close() is None
    clock.advance(0.2)
    assert sessions.next_to_close() is not None


def test_oldest_of_the_address_with_most_sessions_is_closed_first(
    sessions: UnauthenticatedSessions, clock: FakeClock
) -> None:
    honest = open_session(sessions, "192.0.2.1")
    flood = [open_session(sessions, "192.0.2.9") for _ in range(3)]
    clock.advance(LATER)

    assert closing_order(sessions) == [*flood[:2], honest, flood[2]]


def test_oldest_of_all_is_closed_first_if_each_address_has_one(
    sessions: UnauthenticatedSessions, clock: FakeClock
) -> None:
    opened = []
    for number in range(5):
        opened.append(open_session(sessions, f"192.0.2.{number}"))
        clock.advance(1.0)
    clock.advance(LATER)

    assert closing_order(sessions) == opened


def test_addresses_of_one_ipv6_network_count_together(
    sessions: UnauthenticatedSessions, clock: FakeClock
) -> None:
    open_session(sessions, "192.0.2.1")
    first = open_session(sessions, "2001:db8::1")
    open_session(sessions, "2001:db8::2")
    clock.advance(LATER)

    assert sessions.next_to_close() is first


def test_recent_sessions_of_a_large_office_are_not_closed_for_its_number(
    sessions: UnauthenticatedSessions, clock: FakeClock
) -> None:
    flood = [open_session(sessions, "203.0.113.9") for _ in range(2)]
    clock.advance(LATER)
    for _ in range(100):
        open_session(sessions, "198.51.100.1")

    assert closing_order(sessions) == flood
    assert len(sessions) == 100


def test_numbers_stay_right_whatever_joins_and_closes(
    sessions: UnauthenticatedSessions, clock: FakeClock
) -> None:
    random, opened = Random(7), list[EngineSession]()
    for _ in range(3_000):
        if opened and random.random() < 0.45:
            session = opened.pop(random.randrange(len(opened)))
            sessions.remove(session)
        else:
            opened.append(open_session(sessions, f"192.0.2.{random.randrange(20)}"))
        clock.advance(random.random() / 10)
        assert len(sessions) == len(opened)
        chosen = sessions.next_to_close() if random.random() < 0.2 else None
        if chosen is not None:
            overdue = [each.handshake.address for each in opened if each in overdue_of(sessions)]
            assert overdue.count(chosen.handshake.address) == max(map(overdue.count, overdue))

    clock.advance(LATER)
    assert set(closing_order(sessions)) == set(opened)
    assert len(sessions) == 0


def overdue_of(sessions: UnauthenticatedSessions) -> set[EngineSession]:
    return {session for group in sessions._overdue.values() for session in group}
