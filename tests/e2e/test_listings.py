"""Lists and socket data over two replicas, with stock clients and a webhook."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import NodeClients
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiter import wait_until
from tests.support.webhook_server import SECRET, WebhookServer

CATALOGUE = """
version: 1
namespaces:
  /:
    rooms: [{match: "chat:*", join: anyone, list_members: true}]
    client_events:
      join: {args: [{type: string}], join: $0, ack: $0}
      ask: {call: app}
      mine: {ack: $data}
"""


@pytest.fixture
def webhook() -> Iterator[WebhookServer]:
    server = WebhookServer()
    yield server
    server.stop()


def test_lists_and_data_are_those_of_all_replicas_and_survive_a_resumption_elsewhere(
    node: NodeClients, webhook: WebhookServer, own_redis: RedisServer, tmp_path: Path
) -> None:
    events = tmp_path / "events.yaml"
    events.write_text(CATALOGUE, "utf-8")
    with ExitStack() as closing:
        one, two = (_start(webhook, own_redis, events, name) for name in ("one", "two"))
        closing.callback(one.kill)
        closing.callback(two.kill)
        proxy = closing.enter_context(TcpProxy(one.ports[0]))
        alice = node.open(proxy.http_url, token=one.token("alice", orgId="7")).connected()
        bob = node.open(two.url, token=two.token("bob")).connected()
        for client in (alice, bob):
            assert client.emit_with_acks("join", "chat:1") == ["chat:1"]

        assert _get(two, "/rooms?prefix=chat%3A")["rooms"] == [{"name": "chat:1", "connections": 2}]
        assert _get(one, "/rooms/chat:1") == {
            "room": "chat:1",
            "connections": 2,
            "users": 2,
            "recoverable": 0,
        }
        assert [each["name"] for each in _get(one, "/users")["users"]] == ["alice", "bob"]
        found = _get(two, "/connections?room=chat%3A1")["connections"]
        assert {each["sid"]: each["replica"] for each in found} == {alice.sid: "one", bob.sid: "two"}
        assert {each["id"]: each["connections"] for each in _get(one, "/stats")["replicas"]} == {
            "one": 1,
            "two": 1,
        }

        webhook.answers["ask"] = (200, {"set": {"seat": 4}, "ack": "seated"})
        assert alice.emit_with_acks("ask") == ["seated"]
        body = json.dumps({"data": {"cart": {"n": 1}}}).encode()
        answer = two.backend.send("PATCH", f"/connections/{alice.sid}", body)
        assert answer.body == {"data": {"seat": 4, "cart": {"n": 1}}}
        wait_until(
            lambda: alice.emit_with_acks("mine") == [{"seat": 4, "cart": {"n": 1}}],
            "its replica has the data",
        )
        assert alice.emit_with_acks("ask") == ["seated"]
        assert webhook.seen[-1][1]["data"]["connection"]["data"] == {"seat": 4, "cart": {"n": 1}}
        assert _get(one, f"/connections/{alice.sid}")["data"] == {"seat": 4, "cart": {"n": 1}}

        proxy.break_connections()
        alice.wait("disconnect")
        proxy.lead_to(two.ports[0])
        proxy.accept_connections()
        alice.wait("connect", recovered=True)
        moved = _get(one, f"/connections/{alice.sid}")
        assert (moved["replica"], moved["rooms"]) == ("two", ["chat:1", "org:7", "user:alice"])
        assert moved["data"] == {"seat": 4, "cart": {"n": 1}}
        assert alice.emit_with_acks("mine") == [{"seat": 4, "cart": {"n": 1}}]

        two.kill()
        wait_until(lambda: _get(one, "/stats")["users"] == 0, "the killed replica is reaped")
        assert (_get(one, "/rooms")["rooms"], _get(one, "/users")["users"]) == ([], [])


def _start(webhook: WebhookServer, redis: RedisServer, events: Path, name: str) -> GatewayProcess:
    return GatewayProcess(
        redis_url=redis.url,
        replica_id=name,
        lease_seconds=5,
        events_file=events,
        webhooks=f"app={webhook.url}",
        webhook_secrets=f"app:{SECRET}",
    )


def _get(gateway: GatewayProcess, target: str) -> Any:
    answer = gateway.backend.send("GET", target)
    assert answer.status == 200, answer
    return answer.body
