"""Three replicas on one Redis: each client gets exactly its messages, and each replica only those of its clients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from gateway.domain.messages import Address
from gateway.state.redis.redis_keys import RedisKeys
from tests.support.clients import NodeClients
from tests.support.cluster import Cluster, metric
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy

MARK = "for-one-user-alone"
PUSHES = 20
DELIVERIES = 'sio_gateway_deliveries_total{kind="message"}'


@pytest.fixture(scope="module")
def node() -> Iterator[NodeClients]:
    clients = NodeClients()
    yield clients
    clients.stop()


def test_each_of_300_clients_gets_exactly_its_messages_once_and_in_order(
    redis_server: RedisServer, node: NodeClients
) -> None:
    settings = {"redis_prefix": "crowd"}
    with Cluster(
        node, [redis_server.url] * 3, clients=300, per_second=100, transports=["websocket"], **settings
    ) as cluster:
        cluster.traffic.wait_for_answers(500)

        cluster.verify_deliveries()

        assert set(cluster.traffic.first_answers) == {"accepted"}
        assert {len(cluster.clients.at([replica])) for replica in cluster.replicas} == {100}
        targets = {push.target.rpartition("/user-")[0] or push.target for push in cluster.traffic.pushes}
        assert targets == {"/emit/user", "/emit/room", "/broadcast"}
        fields = {name for push in cluster.traffic.pushes for name in push.body}
        assert fields == {"event", "data", "room", "rooms", "except"}
        cluster.verify_and_stop()


def test_push_to_a_user_is_sent_only_to_the_replica_with_that_user(
    redis_server: RedisServer, node: NodeClients
) -> None:
    with ExitStack() as stack:
        proxies = [stack.enter_context(TcpProxy(redis_server.port, count=MARK.encode())) for _ in range(3)]
        replicas = [GatewayProcess(redis_url=proxy.redis_url, redis_prefix="interest") for proxy in proxies]
        for replica in replicas:
            stack.callback(replica.stop)
        ann, *others = [
            node.open(replica.url, token=replica.token(user), transports=["websocket"]).connected()
            for replica, user in zip(replicas, ("ann", "bob", "cid"), strict=True)
        ]

        assert redis_server.numsub(RedisKeys("interest").channel(Address("/", "user:ann"))) == 1
        for number in range(PUSHES):
            replicas[number % 3].push_user("ann", MARK, number)
        assert replicas[0].backend.broadcast("last").body["connections"] == 3
        for client in (ann, *others):
            client.event("last")  # everything else for its replica was received before

        assert len(ann.events(MARK)) == PUSHES
        assert [proxy.counted for proxy in proxies] == [PUSHES, 0, 0]
        delivered = [metric(replica, 'sio_gateway_deliveries_total{kind="message"}') for replica in replicas]
        assert delivered == [PUSHES + 1, 1, 1]
        for replica in replicas:
            assert replica.stop() == 0
            assert replica.failures() == []
