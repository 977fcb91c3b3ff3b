"""Answers of Redis that are lost: a push is delivered once, and whatever waits for replicas gets what they reply."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

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


def test_acknowledgements_are_collected_although_the_first_answer_of_redis_was_lost(
    own_redis: RedisServer, node: NodeClients, user: str
) -> None:
    with TcpProxy(own_redis.port) as proxy, ThreadPoolExecutor() as pool:
        asking = GatewayProcess(redis_url=proxy.redis_url, redis_prefix="acks", replica_id="asking")
        gateway = GatewayProcess(redis_url=own_redis.url, redis_prefix="acks", replica_id="near")
        client = node.open(gateway.url, token=gateway.token(user), transports=["websocket"]).connected()
        asking.push_user(user, "before")  # so that Redis knows the script
        proxy.pause_answers()
        ack = {"want": "first", "timeout_seconds": 20}
        answer = pool.submit(asking.backend.push_user, user, "ask", 1, ack=ack)
        client.event("ask")
        proxy.cut_connections()
        proxy.resume_answers()
        wait_until(lambda: own_redis.numsub(b"acks:replica:asking") == 1, "it has subscribed again")
        client.answer_kept("here")
        body = answer.result().body
        for each in (gateway, asking):
            each.stop()

    assert (body["complete"], body["asked"], body["acked"], len(client.events("ask"))) == (True, 1, 1, 1)
