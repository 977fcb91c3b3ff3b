"""Rooms that a connection joined, on any replica; and when they may be joined beside the previous release."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from gateway.domain.identity import Identity
from gateway.domain.messages import Address
from gateway.domain.sessions import RecoveryRequest
from gateway.hub import Connection, Hub
from gateway.metrics import MetricFactory
from gateway.services.connect import Connector
from gateway.services.disconnect import Disconnector
from gateway.services.memberships import Memberships
from gateway.services.recovery import Recovery
from gateway.services.replay_budget import ReplayBudget
from gateway.state.redis.sessions import decode_session, encode_session
from tests.integration.redis_state.replicas import MANUAL_HEARTBEATS, Replica, release_without_joins, replicas
from tests.support.clock import FakeSchedule
from tests.support.redis_clock import shift_clock
from tests.support.redis_server import RedisServer
from tests.support.waiter import await_until
from tests.unit.hub.transports import RecordingTransport, encode

FORMER_SID = "a-sid_of-the_former1"
OTHER_ROOM = "match:7"


class Services:
    """The services of one replica that connect clients and change their rooms."""

    def __init__(self, replica: Replica) -> None:
        state, schedule = replica.state, FakeSchedule()
        clock = schedule.clock
        self.replica = replica
        self.hub = Hub(encode, metrics=MetricFactory())
        self.disconnector = Disconnector(
            hub=self.hub,
            broker=state.broker,
            presence=state.presence,
            disconnects=state.disconnects,
            clock=clock,
            max_connections_per_user=None,
            metrics=MetricFactory(),
        )
        self.memberships = Memberships(
            hub=self.hub,
            broker=state.broker,
            presence=state.presence,
            sessions=state.sessions,
            max_rooms_per_connection=200,
            join_wait_seconds=state.join_wait_seconds,
        )
        recovery = Recovery(
            broker=state.broker,
            presence=state.presence,
            sessions=state.sessions,
            clock=clock,
            recovery_seconds=60.0,
            send_buffer_bytes=40_960,
            budget=ReplayBudget(clock=clock, schedule=schedule, metrics=MetricFactory()),
        )
        self.connector = Connector(
            hub=self.hub,
            broker=state.broker,
            presence=state.presence,
            connects=state.connects,
            offline_queue=state.offline_queue,
            sessions=state.sessions,
            revocations=state.revocations,
            socket_data=state.socket_data,
            memberships=self.memberships,
            recovery=recovery,
            disconnector=self.disconnector,
            clock=clock,
            replica=replica.name,
            max_connections_per_user=None,
            max_rooms_per_connection=200,
        )

    async def connect(self, *rooms: str, resumed: Connection | None = None) -> Connection:
        """Connect Ann with a token for these rooms, or resume a connection of hers."""
        pid = None if resumed is None or resumed.session is None else resumed.session.pid
        result = await self.connector.connect(
            Identity("ann", frozenset({"user:ann", *rooms}), expires_at=None, issued_at=2e9),
            "/",
            RecordingTransport(),
            RecoveryRequest(owner=f"{self.replica.name}/{id(resumed)}", pid=pid),
        )
        assert result.failure is None
        return result.connection


@asynccontextmanager
async def disconnecting(*services: Services) -> AsyncIterator[None]:
    """Write the ends of connections to Redis for the length of the block."""
    tasks = [asyncio.create_task(each.disconnector.run()) for each in services]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks)


async def recipients(replica: Replica, room: str) -> int:
    news = await replica.push("elsewhere")
    return (await replica.state.broker.append(news._replace(id=news.id + "'", rooms=(room,)))).connections


async def test_connection_resumed_on_another_replica_keeps_the_rooms_that_it_joined(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        first, second = Services(a), Services(b)
        async with disconnecting(first, second):
            before = await first.connect("granted", "revoked")
            assert await first.memberships.join(before, ["match:1", "match:2"]) == ("match:1", "match:2")
            assert await first.memberships.leave(before, ["match:2"]) == ("match:2",)
            first.disconnector.disconnect(before)
            await first.disconnector.flush()

            after = await second.connect("granted", resumed=before)

            assert after.rooms == {after.sid, "user:ann", "granted", "match:1"}
            assert second.hub.has(Address("/", "match:1"))
            assert (await recipients(a, "match:1"), await recipients(a, "match:2")) == (1, 0)
            assert await second.memberships.leave(after, ["match:1", "granted"]) == ("match:1",)


async def test_rooms_joined_on_a_killed_replica_are_kept(server: RedisServer) -> None:
    async with replicas(server, "b") as [b]:
        killed = Replica(server, "a")
        await killed.start()
        first, second = Services(killed), Services(b)
        before = await first.connect("granted")
        await first.memberships.join(before, ["match:1"])
        await killed.stop()
        missed = await b.push("match:1")

        after = await second.connect("granted", resumed=before)

        assert after.rooms == {after.sid, "user:ann", "granted", "match:1"}
        assert after.first_position is not None
        page = await b.state.broker.history(
            after.first_position, [Address("/", "match:1")], max_entries=10, max_bytes=10_000
        )
        assert [entry for _, entry in page.entries] == [missed]


async def test_record_of_a_session_has_a_field_for_joined_rooms_only_if_there_are_some(
    server: RedisServer,
) -> None:
    async with replicas(server, "a") as [a]:
        services = Services(a)
        connection = await services.connect("granted")
        assert connection.session is not None
        assert '"j"' not in encode_session(connection.session)

        await services.memberships.join(connection, ["match:1"])

        record = server.execute("HGET", "t:sessions:a", connection.session.pid)
        assert decode_session(connection.session.pid, record) == connection.session
        assert connection.session.joined_rooms == {"match:1"}


# beside the previous release


async def test_rooms_can_be_joined_at_once_in_a_new_deployment(server: RedisServer) -> None:
    async with replicas(server, "n", **MANUAL_HEARTBEATS) as [n]:
        assert n.state.join_wait_seconds(OTHER_ROOM) == 0
        assert n.state.join_wait_seconds(FORMER_SID) == 0


async def test_no_room_is_joined_while_a_replica_of_a_release_without_joins_lives(
    server: RedisServer,
) -> None:
    async with replicas(server, "n") as [n]:
        older = Replica(server, "o", codec=release_without_joins())
        await older.start()
        await await_until(lambda: n.state.join_wait_seconds(OTHER_ROOM) > 0, "the older one is noticed")

        await older.shut_down()

        await await_until(lambda: n.state.join_wait_seconds(OTHER_ROOM) == 0, "the older one has left")
        assert n.state.join_wait_seconds(FORMER_SID) > 0
        assert n.state.join_wait_seconds("~" + FORMER_SID) == 0


async def test_name_of_a_former_sid_is_joined_once_such_a_session_cannot_be_resumed(
    server: RedisServer,
) -> None:
    async with replicas(server, "n", **MANUAL_HEARTBEATS, history_slack_seconds=10.0) as [n]:
        older = Replica(
            server, "o", codec=release_without_joins(), lease_seconds=0.5, subscription_timeout_seconds=300.0
        )
        await older.start()
        await n.state.membership.heartbeat()
        await older.shut_down()
        await n.state.membership.heartbeat()
        assert n.state.join_wait_seconds(FORMER_SID) > 60.0

        # The lease, the recovery window and the slack.
        shift_clock(n.state, 60.0 + 60.0 + 60.0)
        await n.state.membership.heartbeat()

        assert n.state.join_wait_seconds(FORMER_SID) == 0


async def test_connection_that_keeps_its_former_sid_keeps_its_name_from_being_joined(
    server: RedisServer,
) -> None:
    async with replicas(server, "n", "m", **MANUAL_HEARTBEATS) as [n, m]:
        await n.register(FORMER_SID, "ann")
        await n.state.membership.heartbeat()
        await m.state.membership.heartbeat()

        for each in (n, m):
            assert each.state.join_wait_seconds(FORMER_SID) > 60.0
            assert each.state.join_wait_seconds(OTHER_ROOM) == 0

        await n.state.presence.unregister(FORMER_SID)
        for each in (n, m):
            shift_clock(each.state, 300.0)
            await each.state.membership.heartbeat()
            assert each.state.join_wait_seconds(FORMER_SID) == 0


async def test_data_of_an_unknown_release_may_hold_former_sids(server: RedisServer) -> None:
    async with replicas(server, "o", **MANUAL_HEARTBEATS):
        pass
    server.execute("DEL", "t:former_sids")  # which the previous release does not write

    async with replicas(server, "n", **MANUAL_HEARTBEATS) as [n]:
        assert n.state.join_wait_seconds(FORMER_SID) > 60.0
        assert n.state.join_wait_seconds(OTHER_ROOM) == 0


async def test_emptied_redis_does_not_make_a_replica_forget_former_sids(server: RedisServer) -> None:
    async with replicas(server, "n", **MANUAL_HEARTBEATS) as [n]:
        await n.register(FORMER_SID, "ann")
        await n.state.membership.heartbeat()
        await n.state.presence.unregister(FORMER_SID)

        server.execute("FLUSHALL")
        await n.state.membership.heartbeat()

        assert n.state.join_wait_seconds(FORMER_SID) > 60.0
