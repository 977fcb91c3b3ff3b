"""A client with ``retries`` over drops and killed replicas: each event takes effect once, and each is acknowledged."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import NodeClients, StockClient
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiter import wait_until
from tests.support.webhook_server import SECRET, WebhookServer

CATALOGUE = """
version: 1
namespaces:
  /:
    rooms: [{match: shop, send: anyone}]
    client_events:
      note:
        args: [{type: object, required: [id]}]
        rate: 1000
        dedupe: $0.id
        emit: [{to: {room: shop}, event: noted, data: $0.id}]
      buy:
        args: [{type: object, required: [id]}]
        rate: 1000
        dedupe: $0.id
        call: app
        emit: [{to: {room: shop}, event: bought, data: $0.id}]
      order:
        args: [{type: object, required: [id]}]
        rate: 1000
        dedupe: $0.id
        notify: app
        emit: [{to: {room: shop}, event: ordered, data: $0.id}]
"""
EVENTS = ("note", "buy", "order")
KILLS = 6
KILL_SECONDS = 10.0
EMIT_SECONDS = 0.05
"""How often each client emits all events."""
DROP_SECONDS = (0.5, 2.5)
"""The time between two drops; each drops the connections of one client."""
WEBHOOK_SECONDS = 0.02
GIVEN_UP = {"operation has timed out", "socket has been disconnected"}
"""Errors of the client itself for an event that was sent four times; its application repeats it."""


@pytest.fixture
def webhook() -> Iterator[WebhookServer]:
    server = WebhookServer()
    server.delay_seconds = WEBHOOK_SECONDS
    yield server
    server.stop()


@dataclass
class Sender:
    """A client with ``retries`` and the dedupe value of each of its events."""

    client: StockClient
    name: str
    sent: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Event and dedupe value by the number of its ack."""

    def emit(self, event: str, value: str) -> tuple[int, tuple[str, str]]:
        """Emit an event; return what ``sent`` has for it."""
        number = self.client.emit_with_retries(event, {"id": value})
        self.sent[number] = event, value
        return number, self.sent[number]

    def emit_until(self, stop: threading.Event) -> None:
        number = 0
        while not stop.wait(EMIT_SECONDS):
            number += 1
            for event in EVENTS:
                self.emit(event, f"{self.name}-{event}-{number}")

    def wait_for_acks(self) -> int:
        """Wait for the ack of each event; repeat those that the client gave up, and return their count."""
        given_up = 0
        waiting = dict(self.sent)
        while waiting:
            last = max(waiting)
            self.client.wait("ack", ackId=last, timeout=120)
            acks = {each["ackId"]: each for each in self.client.entries if each["type"] == "ack"}
            assert waiting.keys() <= acks.keys(), "an event was passed over by the queue"
            errors = {number: error for number in waiting if (error := acks[number].get("error"))}
            answers = [acks[number]["answer"] for number in waiting if number not in errors]
            assert [answer for answer in answers if answer != []] == []
            assert set(errors.values()) <= GIVEN_UP
            given_up += len(errors)
            waiting = dict(self.emit(*self.sent[number]) for number in errors)
        return given_up


@dataclass
class Faults:
    """Drops connections at random, and kills one replica after the other."""

    replicas: list[GatewayProcess]
    proxies: list[TcpProxy]
    choose: random.Random
    alive: list[GatewayProcess] = field(init=False)

    def __post_init__(self) -> None:
        self.alive = list(self.replicas)

    def drop_until(self, stop: threading.Event) -> None:
        """Reset all connections of a client now and then; it reconnects to any replica."""
        while not stop.wait(self.choose.uniform(*DROP_SECONDS)):
            proxy = self.choose.choice(self.proxies)
            proxy.break_connections()
            proxy.forward_to(self.choose.choice(self.alive).ports[0])
            proxy.accept_connections()

    def kill(self, replica: GatewayProcess) -> None:
        """Kill a replica, let every client reconnect to the other one, and start it again."""
        (other,) = [each for each in self.replicas if each is not replica]
        self.alive = [other]
        replica.kill()
        for proxy in self.proxies:
            proxy.forward_to(other.ports[0])
        replica.start()
        self.alive = list(self.replicas)


def test_events_with_retries_act_once_over_drops_and_killed_replicas(
    node: NodeClients, own_redis: RedisServer, webhook: WebhookServer, tmp_path: Path
) -> None:
    events = tmp_path / "events.yaml"
    events.write_text(CATALOGUE)
    with ExitStack() as stack:
        replicas = [
            GatewayProcess(
                redis_url=own_redis.url,
                replica_id=name,
                lease_seconds=5,
                events_file=events,
                webhooks=f"app={webhook.url}",
                webhook_secrets=f"app:{SECRET}",
                message_rate=1000,
                ping_interval_seconds=2,
                ping_timeout_seconds=2,
            )
            for name in ("one", "two")
        ]
        for replica in replicas:
            stack.callback(replica.kill)
        proxies = [stack.enter_context(TcpProxy(replicas[n % 2].ports[0])) for n in range(3)]
        observer = open_client(node, proxies[0], replicas[0].token("observer", rooms=["shop"]), "websocket")
        senders = [
            Sender(open_client(node, proxy, replicas[0].token(name), name, retries=3, ackTimeout=1000), name)
            for proxy, name in zip(proxies[1:], ("websocket", "polling"), strict=True)
        ]
        seed = random.randrange(10**6)
        faults = Faults(replicas, proxies, random.Random(seed))

        run_for_a_minute(senders, faults)
        given_up = [sender.wait_for_acks() for sender in senders]

        replicas[0].wait_until_delivered(observer)
        state = f"seed {seed}, {given_up} of {[len(each.sent) for each in senders]} events were given up"
        assert sum(given_up) <= KILLS * len(senders), state
        assert observer.events("recovery:failed") == [], state
        noted, bought, ordered = (
            {v for each in senders for e, v in each.sent.values() if e == name} for name in EVENTS
        )
        for event, values in (("noted", noted), ("bought", bought), ("ordered", ordered)):
            received = Counter(args[0] for args in observer.events(event))
            assert {value: count for value, count in received.items() if count != 1} == {}, state
            assert received.keys() == values, state
        called = ids_and_values(webhook, "call")
        assert {value for _, value in called} == bought, state
        assert len(called) == len(bought) == len({event_id for event_id, _ in called}), state
        wait_until(lambda: {value for _, value in ids_and_values(webhook, "notify")} >= ordered, state)
        notified = ids_and_values(webhook, "notify")
        assert len(notified) == len(ordered) == len({event_id for event_id, _ in notified}), state
        check_order(webhook)
        for client in (observer, *(each.client for each in senders)):
            client.disconnect()
            client.wait("disconnect", reason="io client disconnect")
        for replica in replicas:
            assert replica.failures() == []


def ids_and_values(webhook: WebhookServer, mode: str) -> set[tuple[str, str]]:
    """Return id and dedupe value of each event that the webhook got by ``call`` or ``notify``."""
    bodies = [(event_id, body["data"]) for event_id, body in list(webhook.seen)]
    return {(event_id, data["args"][0]["id"]) for event_id, data in bodies if data["mode"] == mode}


def check_order(webhook: WebhookServer) -> None:
    """Check that the webhook got the notifications of each user in order, but for repeats of the last ones."""
    first: dict[str, dict[int, None]] = {}
    for _, body in webhook.seen:
        if body["data"]["mode"] == "notify":
            first.setdefault(body["data"]["connection"]["user"], {})[body["data"]["sequence"]] = None
    assert [user for user, sequences in first.items() if list(sequences) != sorted(sequences)] == []


def run_for_a_minute(senders: list[Sender], faults: Faults) -> None:
    """Emit and drop connections, and kill a replica each KILL_SECONDS."""
    stop = threading.Event()
    with ThreadPoolExecutor() as pool:
        running = [pool.submit(sender.emit_until, stop) for sender in senders]
        running.append(pool.submit(faults.drop_until, stop))
        try:
            for number in range(KILLS):
                stop.wait(KILL_SECONDS)
                faults.kill(faults.replicas[number % 2])
        finally:
            stop.set()
    for each in running:
        each.result()


def open_client(
    node: NodeClients, proxy: TcpProxy, token: str, transport: str, **options: Any
) -> StockClient:
    return node.open(proxy.http_url, token=token, transports=[transport], **options).connected()
