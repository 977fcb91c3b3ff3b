"""No session outlives the history: its window begins when the connection can have been lost, not when it is parked."""

from __future__ import annotations

import pytest

from gateway.domain.errors import BrokerTimeout, BrokerUnavailable
from gateway.domain.positions import START
from gateway.domain.sessions import RecoverySession, ResumedSession
from tests.contract.session_resume import resume, resume_failure
from tests.integration.redis_state.replicas import Replica, await_answer, replicas
from tests.support.redis_clock import shift_clock
from tests.support.redis_server import RedisServer

LEASE_SECONDS = 20.0


def session(pid: str) -> RecoverySession:
    return RecoverySession(pid, f"sid of {pid}", "ann", "/", "a/1", frozenset({"own"}), START)


async def suspend(replica: Replica, seconds: float) -> None:
    """Let a time pass without a heartbeat of the replica, and then send one."""
    shift_clock(replica.state, seconds)
    await replica.state.membership.heartbeat()


async def test_session_parked_late_ends_by_the_time_of_the_loss(
    server: RedisServer,
) -> None:
    # With so long a lease nothing else ends the session.
    async with replicas(server, "a", lease_seconds=600.0, subscription_timeout_seconds=3_000.0) as [a]:
        await a.state.sessions.save(session("p"))
        server.freeze()
        with pytest.raises((BrokerTimeout, BrokerUnavailable)):
            await a.state.sessions.park("p", owner="a/1")
        server.thaw()
        shift_clock(a.state, 70.0)

        await await_answer(lambda: failure_after_parking(a), "session_expired")


async def failure_after_parking(replica: Replica) -> str:
    await replica.state.sessions.end()
    return await resume_failure(replica.state.sessions, "p")


async def test_replica_dead_for_longer_than_the_recovery_window_does_not_revive_sessions(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", lease_seconds=LEASE_SECONDS) as [a]:
        await a.state.sessions.save(session("old"))
        await suspend(a, LEASE_SECONDS + 61.0)

        await a.state.sessions.save(session("new"))
        a.state.sessions.mark_all_dirty()
        await a.state.sessions.flush()

        assert await resume_failure(a.state.sessions, "old") == "session_expired"
        assert await resume(a.state.sessions, "new") == ResumedSession(session("new"), in_use=True)


async def test_replica_unknown_to_an_emptied_redis_does_not_revive_ended_sessions(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", lease_seconds=LEASE_SECONDS) as [a]:
        await a.state.sessions.save(session("old"))
        server.execute("FLUSHALL")
        await suspend(a, LEASE_SECONDS + 61.0)

        await a.state.membership.maintain(0)

        assert await resume_failure(a.state.sessions, "old") == "unknown_session"


async def test_session_parked_soon_after_its_replica_was_dead_ends_by_the_end_of_the_lease(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", lease_seconds=LEASE_SECONDS) as [a]:
        await a.state.sessions.save(session("old"))
        await suspend(a, LEASE_SECONDS + 40.0)
        await a.state.sessions.save(session("new"))
        for pid in ("old", "new"):
            await a.state.sessions.park(pid, owner="a/1")

        shift_clock(a.state, 30.0)

        assert await resume_failure(a.state.sessions, "old") == "session_expired"
        assert await resume(a.state.sessions, "new") == ResumedSession(session("new"), in_use=False)


async def test_session_parked_long_after_its_replica_was_dead_ends_by_its_own_time(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", lease_seconds=LEASE_SECONDS, history_slack_seconds=10.0) as [a]:
        await a.state.sessions.save(session("p"))
        await suspend(a, LEASE_SECONDS + 40.0)
        await suspend(a, 11.0)
        await a.state.sessions.park("p", owner="a/1")

        shift_clock(a.state, 30.0)

        assert await resume(a.state.sessions, "p") == ResumedSession(session("p"), in_use=False)
