"""Whatever breaks during steady traffic over three replicas, no answer turns out to have been a lie.

Each test breaks one thing, lets it heal, and then holds what every client heard against what every backend was
answered (tests/support/assertions.py), presence against who is connected, and memory against what it was.
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
    """Stock clients of this module alone: what happened to them is read again and again."""
    clients = NodeClients()
    yield clients
    clients.stop()


def cleaned_up(replicas: Sequence[GatewayProcess]) -> float:
    """How often one of these took a dead replica out of presence."""
    return sum(metric(replica, "sio_gateway_replicas_reaped_total") for replica in replicas)


def test_redis_is_killed_and_comes_back_empty(own_redis: RedisServer, node: NodeClients) -> None:
    with Cluster(node, [own_redis.url] * 3) as cluster:
        killed = time.monotonic()
        own_redis.kill()
        cluster.traffic.wait_for_answers(20, answer="broker_unavailable")
        own_redis.start()
        back = time.monotonic()

        cluster.wait_until_consistent(since=back)
        cluster.verify_deliveries(lost=(killed - 0.1, time.monotonic()))
        heard = cluster.clients.received()
        assert {tuple(each.gaps) for each in heard.values()} == {("data_lost",)}
        cluster.verify_and_stop()


def test_redis_stands_still_for_ten_seconds(own_redis: RedisServer, node: NodeClients) -> None:
    with Cluster(node, [own_redis.url] * 3) as cluster:
        frozen = time.monotonic()
        own_redis.freeze()
        cluster.traffic.wait_for_answers(1, answer="broker_timeout")
        cluster.traffic.wait_for_answers(20, answer="broker_unavailable")
        time.sleep(max(0.0, frozen + 10 - time.monotonic()))
        own_redis.thaw()

        cluster.wait_until_consistent(since=time.monotonic())
        cluster.verify_deliveries()
        cluster.verify_and_stop()


def test_the_link_of_one_replica_is_cut(own_redis: RedisServer, node: NodeClients) -> None:
    with (
        TcpProxy(own_redis.port) as proxy,
        Cluster(node, [own_redis.url, own_redis.url, proxy.redis_url]) as cluster,
    ):
        proxy.break_connections()
        cluster.traffic.wait_for_answers(20, answer="broker_unavailable")
        time.sleep(LEASE_SECONDS + 1)
        proxy.accept_connections()

        cluster.wait_until_consistent(since=time.monotonic())
        cluster.verify_deliveries()
        cluster.verify_and_stop()


def test_the_primary_dies_and_sentinel_names_another(node: NodeClients) -> None:
    with Sentinels() as watched:
        url = f"redis+sentinel://{watched.sentinels}/main"
        with Cluster(node, [url] * 3) as cluster:
            killed = time.monotonic()
            watched.primary.kill()
            wait_until(lambda: watched.replica.execute("ROLE")[0] == b"master", "another primary")

            cluster.wait_until_consistent(since=time.monotonic())
            cluster.verify_deliveries(lost=(killed - 0.5, time.monotonic()))
            cluster.verify_and_stop()


def test_a_primary_is_replaced_while_it_lives_and_accepts(node: NodeClients) -> None:
    with Sentinels() as watched, Cluster(node, [f"redis+sentinel://{watched.sentinels}/main"] * 3) as cluster:
        one, two, _ = cluster.replicas
        leaving = node.open(one.url, token=one.token("leaving"), transports=["websocket"]).connected()
        begun = time.monotonic()
        watched.fail_over()
        wait_until(lambda: watched.replica.execute("ROLE")[0] == b"master", "another primary")
        # For some seconds the replicas are with the former primary, and what it accepts is lost to the new one.
        coming = node.open(two.url, token=two.token("coming"), transports=["websocket"]).connected()
        leaving.disconnect()
        cluster.traffic.wait_for_answers(60)
        assert watched.primary.execute("ROLE")[0] == b"master"
        wait_until(lambda: watched.primary.execute("ROLE")[0] == b"slave", "the former one follows")
        replaced = time.monotonic()

        cluster.wait_until_consistent(since=replaced)
        wait_until(
            lambda: cluster.presence_of("leaving", two) == set(),
            "who left is gone",
            seconds=LEASE_SECONDS + SLACK_SECONDS,
        )
        wait_until(
            lambda: cluster.presence_of("coming", one) == {("r1", coming.sid)},
            "who came is there",
            seconds=LEASE_SECONDS + SLACK_SECONDS,
        )
        cluster.verify_deliveries(lost=(begun, time.monotonic()))
        coming.disconnect()
        cluster.verify_and_stop()


def test_everybody_who_listens_is_cut_off_again_and_again(own_redis: RedisServer, node: NodeClients) -> None:
    with Cluster(node, [own_redis.url] * 3, per_second=150) as cluster:  # so that each cut hides some of it
        for _ in range(6):
            own_redis.execute("CLIENT", "KILL", "TYPE", "pubsub")
            cluster.traffic.wait_for_answers(50)

        cluster.wait_until_consistent(since=time.monotonic())
        cluster.verify_deliveries()
        assert set(cluster.traffic.first_answers) == {"accepted"}
        for replica in cluster.replicas:
            caught_up = [line for line in replica.log.entries if line["event"] == "redis.resynced"]
            assert len(caught_up) >= 6
            assert sum(line["entries"] for line in caught_up) > 0
        cluster.verify_and_stop()


def test_redis_is_at_its_memory_limit(own_redis: RedisServer, node: NodeClients) -> None:
    with Cluster(node, [own_redis.url] * 3) as cluster:
        own_redis.execute("CONFIG", "SET", "maxmemory", 1_000_000)
        cluster.traffic.wait_for_answers(100, answer="broker_unavailable")
        time.sleep(LEASE_SECONDS + 1)
        own_redis.execute("CONFIG", "SET", "maxmemory", 0)

        cluster.wait_until_consistent(since=time.monotonic())
        cluster.verify_deliveries()
        assert set(cluster.traffic.first_answers) == {"accepted", "broker_unavailable"}
        cluster.verify_and_stop()


def test_a_replica_is_killed(own_redis: RedisServer, node: NodeClients) -> None:
    with Cluster(
        node, [own_redis.url] * 3, per_second=150
    ) as cluster:  # so that it dies of some before it answers
        dead = cluster.replicas[1]
        dead.kill()
        killed = time.monotonic()
        cluster.traffic.wait_for_answers(1, answer="no_answer")
        cluster.remove_killed(dead)

        cluster.wait_until_consistent(since=killed)
        cluster.verify_deliveries()
        wait_until(
            lambda: cleaned_up(cluster.living) == 1,
            "one of the others cleaned up after it",
            seconds=2 * LEASE_SECONDS + SLACK_SECONDS,
        )
        cluster.verify_and_stop()


def test_a_replica_stands_still_past_its_lease(own_redis: RedisServer, node: NodeClients) -> None:
    with Cluster(node, [own_redis.url] * 3) as cluster:
        still = cluster.replicas[2]
        still.signal(signal.SIGSTOP)
        cluster.traffic.wait_for_answers(5, answer="no_answer")
        others = cluster.replicas[:2]
        wait_until(
            lambda: cleaned_up(others) == 1,
            "one of the others cleaned up after it",
            seconds=2 * LEASE_SECONDS + SLACK_SECONDS,
        )
        still.signal(signal.SIGCONT)

        cluster.wait_until_consistent(since=time.monotonic())
        cluster.verify_deliveries()
        assert cleaned_up(cluster.replicas) == 1
        cluster.verify_and_stop()
