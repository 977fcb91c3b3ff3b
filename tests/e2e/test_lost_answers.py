"""A push without an answer, on a Redis that then loses it: its repeat is delivered once."""

from __future__ import annotations

from tests.support.clients import NodeClients
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiter import wait_until


def test_repeat_of_a_push_that_redis_lost_reaches_each_client_once(
    own_redis: RedisServer, node: NodeClients, user: str
) -> None:
    with TcpProxy(own_redis.port) as proxy:
        cut_off = GatewayProcess(redis_url=proxy.redis_url, replica_id="cut-off")
        gateway = GatewayProcess(redis_url=own_redis.url, replica_id="near")
        client = node.open(gateway.url, token=gateway.token(user)).connected()
        gateway.push_user(user, "before", 1)
        client.event("before")
        own_redis.execute("SAVE")
        push = {"event": "order", "data": 1}
        proxy.pause_answers()
        unknown = cut_off.backend.post(f"/emit/user/{user}", push, idempotency_key="k-1")
        assert (unknown.status, unknown.body["code"]) == (503, "broker_timeout")
        client.event("order")
        own_redis.restart()
        proxy.resume_answers()
        client.wait("event", event="recovery:failed")

        def repeat() -> bool:
            answer = gateway.backend.post(f"/emit/user/{user}", push, idempotency_key="k-1")
            return answer.status == 200 and "idempotency-replayed" not in answer.headers

        late = node.open(gateway.url, token=gateway.token(user)).connected()
        wait_until(repeat, "the repeat is accepted as a new message")
        late.event("order")
        gateway.push_user(user, "after", 2)
        client.event("after")

        assert len(client.events("order")) == 1
        for each in (gateway, cut_off):
            each.stop()
