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
from tests.support.cluster import LEASE_SECONDS, Several, metric, until
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer, Sentinels
from tests.support.tcp_proxy import TcpProxy

pytestmark = pytest.mark.timeout(90)


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
    with Several(node, [own_redis.url] * 3) as all_:
        killed = time.monotonic()
        own_redis.kill()
        all_.traffic.flows(20, answer="broker_unavailable")
        own_redis.start()
        back = time.monotonic()

        all_.is_whole(since=back)
        all_.settle(lost=(killed - 0.1, time.monotonic()))
        heard = all_.audience.heard()
        assert {tuple(each.gaps) for each in heard.values()} == {("data_lost",)}
        all_.end()


def test_redis_stands_still_for_ten_seconds(own_redis: RedisServer, node: NodeClients) -> None:
    with Several(node, [own_redis.url] * 3) as all_:
        frozen = time.monotonic()
        own_redis.freeze()
        all_.traffic.flows(1, answer="broker_timeout")
        all_.traffic.flows(20, answer="broker_unavailable")
        time.sleep(max(0.0, frozen + 10 - time.monotonic()))
        own_redis.thaw()

        all_.is_whole(since=time.monotonic())
        all_.settle()
        all_.end()


def test_the_link_of_one_replica_is_cut(own_redis: RedisServer, node: NodeClients) -> None:
    with (
        TcpProxy(own_redis.port) as proxy,
        Several(node, [own_redis.url, own_redis.url, proxy.redis_url]) as all_,
    ):
        proxy.break_connections()
        all_.traffic.flows(20, answer="broker_unavailable")
        time.sleep(LEASE_SECONDS + 1)
        proxy.accept_connections()

        all_.is_whole(since=time.monotonic())
        all_.settle()
        all_.end()


def test_the_primary_dies_and_sentinel_names_another(node: NodeClients) -> None:
    with Sentinels() as watched:
        url = f"redis+sentinel://{watched.sentinels}/main"
        with Several(node, [url] * 3) as all_:
            killed = time.monotonic()
            watched.primary.kill()
            until(lambda: watched.replica.ask("ROLE")[0] == b"master", "another primary", killed + 20)

            all_.is_whole(since=time.monotonic())
            all_.settle(lost=(killed - 0.5, time.monotonic()))
            all_.end()


def test_a_primary_is_replaced_while_it_lives_and_accepts(node: NodeClients) -> None:
    with Sentinels() as watched, Several(node, [f"redis+sentinel://{watched.sentinels}/main"] * 3) as all_:
        one, two, _ = all_.replicas
        leaving = node.open(one.url, token=one.token("leaving"), transports=["websocket"]).connected()
        begun = time.monotonic()
        watched.fail_over()
        until(lambda: watched.replica.ask("ROLE")[0] == b"master", "another primary", begun + 20)
        # For some seconds the replicas are with the former primary, and what it accepts is lost to the new one.
        coming = node.open(two.url, token=two.token("coming"), transports=["websocket"]).connected()
        leaving.disconnect()
        all_.traffic.flows(60)
        assert watched.primary.ask("ROLE")[0] == b"master"
        until(lambda: watched.primary.ask("ROLE")[0] == b"slave", "the former one follows", begun + 40)
        replaced = time.monotonic()

        all_.is_whole(since=replaced)
        deadline = replaced + LEASE_SECONDS + 2
        until(lambda: all_.presence_of("leaving", two) == set(), "who left is gone", deadline)
        until(lambda: all_.presence_of("coming", one) == {("r1", coming.sid)}, "who came is there", deadline)
        all_.settle(lost=(begun, time.monotonic()))
        coming.disconnect()
        all_.end()


def test_everybody_who_listens_is_cut_off_again_and_again(own_redis: RedisServer, node: NodeClients) -> None:
    with Several(node, [own_redis.url] * 3, per_second=150) as all_:  # so that each cut hides some of it
        for _ in range(6):
            own_redis.ask("CLIENT", "KILL", "TYPE", "pubsub")
            all_.traffic.flows(50)

        all_.is_whole(since=time.monotonic())
        all_.settle()
        assert set(all_.traffic.first_answers) == {"accepted"}
        for replica in all_.replicas:
            caught_up = [line for line in replica.log.entries if line["event"] == "redis.resynced"]
            assert len(caught_up) >= 6
            assert sum(line["entries"] for line in caught_up) > 0
        all_.end()


def test_redis_is_at_its_memory_limit(own_redis: RedisServer, node: NodeClients) -> None:
    with Several(node, [own_redis.url] * 3) as all_:
        own_redis.ask("CONFIG", "SET", "maxmemory", 1_000_000)
        all_.traffic.flows(100, answer="broker_unavailable")
        time.sleep(LEASE_SECONDS + 1)
        own_redis.ask("CONFIG", "SET", "maxmemory", 0)

        all_.is_whole(since=time.monotonic())
        all_.settle()
        assert set(all_.traffic.first_answers) == {"accepted", "broker_unavailable"}
        all_.end()


def test_a_replica_is_killed(own_redis: RedisServer, node: NodeClients) -> None:
    with Several(
        node, [own_redis.url] * 3, per_second=150
    ) as all_:  # so that it dies of some before it answers
        dead = all_.replicas[1]
        dead.kill()
        killed = time.monotonic()
        all_.traffic.flows(1, answer="no_answer")
        all_.bury(dead)

        all_.is_whole(since=killed, reached_in=0.5)
        all_.settle()
        until(
            lambda: cleaned_up(all_.living) == 1,
            "one of the others cleaned up after it",
            killed + 2 * LEASE_SECONDS,
        )
        all_.end()


def test_a_replica_stands_still_past_its_lease(own_redis: RedisServer, node: NodeClients) -> None:
    with Several(node, [own_redis.url] * 3) as all_:
        still = all_.replicas[2]
        still.signal(signal.SIGSTOP)
        all_.traffic.flows(5, answer="no_answer")
        others = all_.replicas[:2]
        until(
            lambda: cleaned_up(others) == 1,
            "one of the others cleaned up after it",
            time.monotonic() + 2 * LEASE_SECONDS,
        )
        still.signal(signal.SIGCONT)

        all_.is_whole(since=time.monotonic())
        all_.settle()
        assert cleaned_up(all_.replicas) == 1
        all_.end()
