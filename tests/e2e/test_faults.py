"""One fault during steady traffic over three replicas: every answer to a backend stays true.

Each test causes one fault and ends it. Then it compares the messages of each client with the answers to the backends
(tests/support/assertions.py), presence with the open connections, and the memory of each process with that before.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence

import pytest

from tests.support.clients import NodeClients
from tests.support.cluster import LEASE_SECONDS, SLACK_SECONDS, Cluster, metric
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer, Sentinels
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiter import wait_until

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def node() -> Iterator[NodeClients]:
    """Stock clients of this module only: the tests read their whole journal many times."""
    clients = NodeClients()
    yield clients
    clients.stop()


def reaped(replicas: Sequence[GatewayProcess]) -> float:
    """How many times one of these replicas reaped another."""
    return sum(metric(replica, "sio_gateway_replicas_reaped_total") for replica in replicas)


def test_deliveries_stay_correct_when_redis_is_killed_and_restarts_empty(
    own_redis: RedisServer, node: NodeClients
) -> None:
    with Cluster(node, [own_redis.url] * 3) as cluster:
        killed = time.monotonic()
        own_redis.kill()
        cluster.traffic.wait_for_answers(20, answer="broker_unavailable")
        own_redis.start()
        restarted = time.monotonic()

        cluster.wait_until_consistent(since=restarted)
        cluster.verify_deliveries(lost=(killed - 0.1, time.monotonic()))
        received = cluster.clients.received()
        assert {tuple(each.gaps) for each in received.values()} == {("data_lost",)}
        cluster.verify_and_stop()


def test_deliveries_stay_correct_when_redis_is_frozen_for_ten_seconds(
    own_redis: RedisServer, node: NodeClients
) -> None:
    with Cluster(node, [own_redis.url] * 3) as cluster:
        frozen = time.monotonic()
        own_redis.freeze()
        cluster.traffic.wait_for_answers(1, answer="broker_timeout")
        cluster.traffic.wait_for_answers(20, answer="broker_unavailable")
        time.sleep(max(0.0, frozen + 10 - time.monotonic()))  # two leases
        own_redis.thaw()

        cluster.wait_until_consistent(since=time.monotonic())
        cluster.verify_deliveries()
        cluster.verify_and_stop()


def test_deliveries_stay_correct_when_one_replica_loses_its_redis_connections(
    own_redis: RedisServer, node: NodeClients
) -> None:
    with (
        TcpProxy(own_redis.port) as proxy,
        Cluster(node, [own_redis.url, own_redis.url, proxy.redis_url]) as cluster,
    ):
        proxy.break_connections()
        cluster.traffic.wait_for_answers(20, answer="broker_unavailable")
        wait_until(lambda: reaped(cluster.replicas[:2]) == 1, "another replica reaped it")
        proxy.accept_connections()

        cluster.wait_until_consistent(since=time.monotonic())
        cluster.verify_deliveries()
        cluster.verify_and_stop()


def test_deliveries_stay_correct_when_the_primary_dies_and_sentinel_promotes_another(
    node: NodeClients,
) -> None:
    with Sentinels() as watched:
        url = f"redis+sentinel://{watched.sentinels}/main"
        with Cluster(node, [url] * 3) as cluster:
            killed = time.monotonic()
            watched.primary.kill()
            wait_until(
                lambda: watched.replica.execute("ROLE")[0] == b"master", "the replica of Redis is promoted"
            )

            cluster.wait_until_consistent(since=time.monotonic())
            cluster.verify_deliveries(lost=(killed - 0.5, time.monotonic()))
            cluster.verify_and_stop()


def test_deliveries_stay_correct_when_a_primary_that_still_accepts_writes_is_replaced(
    node: NodeClients,
) -> None:
    with Sentinels() as watched, Cluster(node, [f"redis+sentinel://{watched.sentinels}/main"] * 3) as cluster:
        one, two, _ = cluster.replicas
        leaving = node.open(one.url, token=one.token("leaving"), transports=["websocket"]).connected()
        begun = time.monotonic()
        watched.fail_over()
        wait_until(
            lambda: watched.replica.execute("ROLE")[0] == b"master", "the replica of Redis is promoted"
        )
        # For some seconds the replicas use the former primary; the new one does not get the writes accepted there.
        coming = node.open(two.url, token=two.token("coming"), transports=["websocket"]).connected()
        leaving.disconnect()
        cluster.traffic.wait_for_answers(60)
        assert watched.primary.execute("ROLE")[0] == b"master"
        wait_until(lambda: watched.primary.execute("ROLE")[0] == b"slave", "the former primary is demoted")
        replaced = time.monotonic()

        cluster.wait_until_consistent(since=replaced)
        wait_until(
            lambda: cluster.presence_of("leaving", two) == set(),
            "the disconnected client is offline",
            seconds=LEASE_SECONDS + SLACK_SECONDS,
        )
        wait_until(
            lambda: cluster.presence_of("coming", one) == {("r1", coming.sid)},
            "the connected client is online",
            seconds=LEASE_SECONDS + SLACK_SECONDS,
        )
        cluster.verify_deliveries(lost=(begun, time.monotonic()))
        coming.disconnect()
        cluster.verify_and_stop()


def test_deliveries_stay_correct_when_subscriptions_are_killed_repeatedly(
    own_redis: RedisServer, node: NodeClients
) -> None:
    with Cluster(node, [own_redis.url] * 3, per_second=150) as cluster:  # so that each cut hides some entries
        for _ in range(6):
            own_redis.execute("CLIENT", "KILL", "TYPE", "pubsub")
            cluster.traffic.wait_for_answers(50)

        cluster.wait_until_consistent(since=time.monotonic())
        cluster.verify_deliveries()
        assert set(cluster.traffic.first_answers) == {"accepted"}
        for replica in cluster.replicas:
            resyncs = [line for line in replica.log.entries if line["event"] == "redis.resynced"]
            assert len(resyncs) >= 6
            assert sum(line["entries"] for line in resyncs) > 0
        cluster.verify_and_stop()


def test_deliveries_stay_correct_when_redis_is_at_its_memory_limit(
    own_redis: RedisServer, node: NodeClients
) -> None:
    with Cluster(node, [own_redis.url] * 3) as cluster:
        own_redis.execute("CONFIG", "SET", "maxmemory", 1_000_000)
        cluster.traffic.wait_for_answers(100, answer="broker_unavailable")
        time.sleep(LEASE_SECONDS + 1)  # no lease is renewed meanwhile
        own_redis.execute("CONFIG", "SET", "maxmemory", 0)

        cluster.wait_until_consistent(since=time.monotonic())
        cluster.verify_deliveries()
        assert set(cluster.traffic.first_answers) == {"accepted", "broker_unavailable"}
        cluster.verify_and_stop()


def test_deliveries_stay_correct_when_a_replica_is_killed(own_redis: RedisServer, node: NodeClients) -> None:
    with Cluster(node, [own_redis.url] * 3, per_second=150) as cluster:  # so that some pushes get no answer
        killed_replica = cluster.replicas[1]
        killed_replica.kill()
        killed = time.monotonic()
        cluster.traffic.wait_for_answers(1, answer="no_answer")
        cluster.remove_killed(killed_replica)

        cluster.wait_until_consistent(since=killed)
        cluster.verify_deliveries()
        wait_until(
            lambda: reaped(cluster.running) == 1,
            "another replica reaped it",
            seconds=2 * LEASE_SECONDS + SLACK_SECONDS,
        )
        cluster.verify_and_stop()


def test_deliveries_stay_correct_when_a_replica_is_stopped_past_its_lease(
    own_redis: RedisServer, node: NodeClients
) -> None:
    with Cluster(node, [own_redis.url] * 3) as cluster:
        paused = cluster.replicas[2]
        paused.signal(signal.SIGSTOP)
        cluster.traffic.wait_for_answers(5, answer="no_answer")
        others = cluster.replicas[:2]
        wait_until(
            lambda: reaped(others) == 1,
            "another replica reaped it",
            seconds=2 * LEASE_SECONDS + SLACK_SECONDS,
        )
        paused.signal(signal.SIGCONT)

        cluster.wait_until_consistent(since=time.monotonic())
        cluster.verify_deliveries()
        assert reaped(cluster.replicas) == 1
        cluster.verify_and_stop()
