"""No session outlives the history: the window begins when the connection can have gone, not when Redis hears of it."""

from __future__ import annotations

import pytest

from gateway.domain.errors import BrokerTimeout, BrokerUnavailable
from gateway.domain.positions import START
from gateway.domain.sessions import RecoverySession, ResumedSession
from tests.contract.session_resume import resume, resume_failure
from tests.integration.redis_state.replicas import Replica, replicas, until_redis_says
from tests.support.redis_clock import shift_clock
from tests.support.redis_server import RedisServer

LEASE_SECONDS = 20.0


def session(pid: str) -> RecoverySession:
    return RecoverySession(pid, f"sid of {pid}", "ann", "/", "a/1", frozenset({"own"}), START)


async def stand_still(replica: Replica, seconds: float) -> None:
    """The replica gives no sign of life for that long, and then one."""
    shift_clock(replica.state, seconds)
    await replica.state.membership.heartbeat()


async def test_a_leaving_that_is_told_late_counts_from_when_the_connection_was_left(
    server: RedisServer,
) -> None:
    # With a lease that long nothing else ends the session.
    async with replicas(server, "a", lease_seconds=600.0, subscription_timeout_seconds=3_000.0) as [a]:
        await a.state.sessions.save(session("p"))
        server.freeze()
        with pytest.raises((BrokerTimeout, BrokerUnavailable)):
            await a.state.sessions.park("p", owner="a/1")
        server.thaw()
        shift_clock(a.state, 70.0)

        await until_redis_says(lambda: refusal_after_telling(a), "session_expired")


async def refusal_after_telling(replica: Replica) -> str:
    await replica.state.sessions.end()
    return await resume_failure(replica.state.sessions, "p")


async def test_a_replica_that_was_dead_for_longer_than_the_window_does_not_revive_its_sessions(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", lease_seconds=LEASE_SECONDS) as [a]:
        await a.state.sessions.save(session("old"))
        await stand_still(a, LEASE_SECONDS + 61.0)

        await a.state.sessions.save(session("new"))
        a.state.sessions.mark_all_dirty()
        await a.state.sessions.flush()

        assert await resume_failure(a.state.sessions, "old") == "session_expired"
        assert await resume(a.state.sessions, "new") == ResumedSession(session("new"), in_use=True)


async def test_a_replica_that_was_forgotten_while_it_was_dead_does_not_revive_its_sessions(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", lease_seconds=LEASE_SECONDS) as [a]:
        await a.state.sessions.save(session("old"))
        server.ask("FLUSHALL")
        await stand_still(a, LEASE_SECONDS + 61.0)

        await a.state.membership.maintain(0)

        assert await resume_failure(a.state.sessions, "old") == "unknown_session"


async def test_who_is_left_soon_after_its_replica_was_dead_may_have_gone_when_that_died(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", lease_seconds=LEASE_SECONDS) as [a]:
        await a.state.sessions.save(session("old"))
        await stand_still(a, LEASE_SECONDS + 40.0)
        await a.state.sessions.save(session("new"))
        for pid in ("old", "new"):
            await a.state.sessions.park(pid, owner="a/1")

        shift_clock(a.state, 30.0)

        assert await resume_failure(a.state.sessions, "old") == "session_expired"
        assert await resume(a.state.sessions, "new") == ResumedSession(session("new"), in_use=False)


async def test_who_is_left_long_after_its_replica_was_dead_was_there_until_then(server: RedisServer) -> None:
    async with replicas(server, "a", lease_seconds=LEASE_SECONDS, history_slack_seconds=10.0) as [a]:
        await a.state.sessions.save(session("p"))
        await stand_still(a, LEASE_SECONDS + 40.0)
        await stand_still(a, 11.0)
        await a.state.sessions.park("p", owner="a/1")

        shift_clock(a.state, 30.0)

        assert await resume(a.state.sessions, "p") == ResumedSession(session("p"), in_use=False)
