"""Every call of the REST API, and a client, with the user of Redis that examples/redis/users.acl has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.test_bad_input import BODIES, CALLS, ISSUER, REQUIRED, Scene, body_with
from tests.support.clients import NodeClients
from tests.support.gateway_process import GatewayProcess
from tests.support.paths import ROOT
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiter import wait_until
from tests.support.webhook_server import SECRET, WebhookServer

CATALOGUE = """
version: 1
namespaces:
  /:
    rooms: [{match: "*", join: anyone, send: anyone, list_members: true}]
    online_users: {event: onlineUsers, each: {userId: $user}, every_seconds: 1}
    client_events:
      join: {args: [{type: string}], join: $0, dedupe: $0, ack: $0}
      order: {notify: app}
presence:
  notify: app
  announce: [{when: online, namespace: /, to: {own_rooms: "org:*"}, event: "user:online", data: {userId: $user}}]
"""


@pytest.fixture
def webhook() -> Iterator[WebhookServer]:
    server = WebhookServer()
    yield server
    server.stop()


def test_no_call_and_no_event_of_a_client_needs_a_right_that_the_example_does_not_grant(
    own_redis: RedisServer, webhook: WebhookServer, node: NodeClients, tmp_path: Path
) -> None:
    rights = (ROOT / "examples/redis/users.acl").read_text("utf-8").splitlines()
    (line,) = [line for line in rights if line.startswith("user ")]
    words = [word for word in line.split()[2:] if not word.startswith(">")]
    own_redis.execute("ACL", "SETUSER", "sio-gateway", "reset", ">secret", *words)
    catalogue = tmp_path / "events.yaml"
    catalogue.write_text(CATALOGUE, "utf-8")
    webhook.status_of = lambda body: 422 if body["type"] == "client.event" else None
    gateway = GatewayProcess(
        redis_url=f"redis://sio-gateway:secret@127.0.0.1:{own_redis.port}",
        redis_prefix="sio-gateway",
        events_file=catalogue,
        issuers=json.dumps([ISSUER]),
        webhooks=f"app={webhook.url}",
        webhook_secrets=f"app:{SECRET}",
    )
    with ExitStack() as closing:
        closing.callback(gateway.kill)
        proxy = closing.enter_context(TcpProxy(gateway.ports[0]))
        client = node.open(proxy.http_url, token=gateway.token("alice", orgId="7", jti="t-9")).connected()
        assert client.emit_with_acks("join", "chat:1") == ["chat:1"]
        client.emit("order", 1)
        scene = Scene(gateway.backend, client.sid)
        wait_until(lambda: scene.send("GET /webhooks/{id}/dead").body["dead"], "the order is a dead letter")
        proxy.break_connections()
        client.wait("disconnect")
        proxy.accept_connections()
        client.wait("connect", recovered=True)

        statuses = {}
        for call in CALLS:
            fields = BODIES.get(call, {})
            bodies = [body_with(call, path, json.dumps(field.valid)) for path, field in fields.items()]
            for number, body in enumerate(bodies or [b""]):
                query = REQUIRED.get(call, "")
                target = scene.target(call) + (f"?{query}" if query else "")
                key = f"{call} {number}" if number % 2 else ""
                answer = scene.backend.send(call.partition(" ")[0], target, body, idempotency_key=key)
                statuses[call, number] = answer.status
        newest = scene.backend.send("GET", "/history/room/org%3A7?newest=true").body["messages"][-1]
        upto = newest["position"]
        assert scene.backend.send("DELETE", f"/history/room/org%3A7?upto={upto}").body["removed"] > 0

        assert {name: status for name, status in statuses.items() if status != 200} == {}
        assert own_redis.execute("ACL", "LOG") == []
        client.disconnect()
        assert gateway.stop() == 0
        assert gateway.failures() == []
        assert own_redis.execute("ACL", "LOG") == []
