"""Events of stock clients are queued for a webhook, which gets them in order whatever happens meanwhile."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import NodeClients
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer
from tests.support.waiter import wait_until
from tests.support.webhook_server import SECRET, WebhookServer
from tests.unit.metrics.scraping import Scrape

CATALOGUE = """
version: 1
namespaces:
  /:
    rooms: [{match: "chat:*", join: anyone, send: members}]
    client_events:
      say:
        args: [{type: object, required: [room, text]}]
        rate: 1000
        notify: app
        emit: [{to: {room: $0.room}, event: message, data: $0.text}]
        ack: {id: $id}
      join: {args: [{type: string}], notify: app, join: $0}
      note: {args: [{type: integer}], rate: 1000, notify: app}
"""
PARTITIONS = 8
Start = Callable[..., GatewayProcess]


@pytest.fixture
def webhook() -> Iterator[WebhookServer]:
    server = WebhookServer()
    yield server
    server.stop()


@pytest.fixture
def start(tmp_path: Path, webhook: WebhookServer) -> Iterator[Start]:
    """Return a function that starts a gateway; ``fields`` are further ones of the webhook."""
    (tmp_path / "events.yaml").write_text(CATALOGUE, encoding="utf-8")
    started: list[GatewayProcess] = []

    def start(fields: dict[str, Any] | None = None, **settings: Any) -> GatewayProcess:
        write_webhook(tmp_path, webhook, **(fields or {}))
        started.append(
            GatewayProcess(config=tmp_path / "gateway.yaml", events_file=tmp_path / "events.yaml", **settings)
        )
        return started[-1]

    yield start
    for gateway in started:
        gateway.kill()


def write_webhook(folder: Path, webhook: WebhookServer, **fields: object) -> None:
    settings = {"id": "app", "url": webhook.url, "secret": SECRET} | fields
    (folder / "gateway.yaml").write_text(json.dumps({"webhooks": [settings]}), encoding="utf-8")


def numbers(webhook: WebhookServer) -> list[int]:
    """Return the arguments of the notes that the backend got."""
    return [body["data"]["args"][0] for _, body in list(webhook.seen) if body["data"]["event"] == "note"]


@pytest.mark.parametrize("has_redis", [False, True])
def test_client_gets_its_event_and_ack_before_the_backend_has_answered(
    start: Start,
    webhook: WebhookServer,
    node: NodeClients,
    user: str,
    redis_server: RedisServer,
    *,
    has_redis: bool,
) -> None:
    gateway = start(redis_url=redis_server.url if has_redis else None, redis_prefix=user)
    client = node.open(gateway.url, token=gateway.token(user)).connected()
    webhook.status_of = lambda _: 503
    assert client.emit_with_acks("join", "chat:1") == []

    ack = client.emit_with_ack("say", {"room": "chat:1", "text": "hello"})

    assert client.event("message")[0] == "hello"
    kinds = [each["type"] for each in client.entries if each["type"] in {"event", "ack"}]
    assert kinds[-2:] == ["event", "ack"]
    webhook.status_of = lambda _: None
    wait_until(lambda: any(event_id == ack["id"] for event_id, _ in webhook.seen), "the backend gets it")
    (event_id, body) = webhook.seen[-1]
    data = body["data"]
    assert event_id == ack["id"]
    assert (body["type"], data["mode"], data["event"]) == ("client.event", "notify", "say")
    assert data["args"] == [{"room": "chat:1", "text": "hello"}]
    assert "chat:1" in data["connection"]["rooms"]
    assert 0 < data["sequence"] < 2**53
    assert gateway.stop() == 0


@pytest.mark.parametrize("batch", [1, 10])
def test_events_of_a_client_arrive_in_order_while_the_backend_fails_and_a_replica_is_killed(  # noqa: PLR0917  # fixtures
    start: Start, webhook: WebhookServer, node: NodeClients, user: str, own_redis: RedisServer, batch: int
) -> None:
    webhook.delay_seconds = 0.002
    gateways = [
        start(
            {"batch": batch}, redis_url=own_redis.url, replica_id=name, lease_seconds=5, message_rate=10_000
        )
        for name in ("one", "two")
    ]
    clients = [
        node.open(gateways[1].url, token=gateways[1].token(f"{user}-{number}")).connected()
        for number in range(8)
    ]
    for number in range(100):
        for client in clients:
            client.emit("note", number)
    wait_until(lambda: bool(received(webhook)), "the first arrive")
    gateways[0].kill()
    webhook.status_of = lambda _: 500
    for number in range(100, 200):
        for client in clients:
            client.emit("note", number)
    for client in clients:
        client.emit_with_acks("note", 200)
    webhook.status_of = lambda _: None

    wanted = {(f"{user}-{client}", number) for client in range(8) for number in range(201)}
    wait_until(lambda: {(each[0], each[1]) for each in received(webhook)} >= wanted, "all arrive")

    check_order(webhook, 201)
    assert gateways[1].stop() == 0


def check_order(webhook: WebhookServer, number: int) -> None:
    """Check that each user's notes came in order, where each came first, and that repeats are the same events."""
    by_user: dict[str, dict[tuple[int, int, str], None]] = {}
    for name, argument, sequence, event_id in received(webhook):
        by_user.setdefault(name, {})[sequence, argument, event_id] = None
    for events in by_user.values():
        assert [argument for _, argument, _ in events] == list(range(number))
        assert list(events) == sorted(events)


@pytest.mark.parametrize("batch", [1, 10])
def test_suspended_owner_overlaps_with_the_next_one_by_a_request_of_each_partition(  # noqa: PLR0917  # fixtures
    start: Start, webhook: WebhookServer, node: NodeClients, user: str, own_redis: RedisServer, batch: int
) -> None:
    webhook.delay_seconds = 0.05
    fields = {"batch": batch, "partitions": PARTITIONS}
    gateways = [
        start(fields, redis_url=own_redis.url, replica_id=name, lease_seconds=5, message_rate=10_000)
        for name in ("one", "two")
    ]
    for gateway in gateways:
        owns(gateway, PARTITIONS / 2)
    users = [f"{user}-{number}" for number in range(12)]
    clients = [node.open(gateways[1].url, token=gateways[1].token(name)).connected() for name in users]

    def send(first: int, end: int) -> None:
        for number in range(first, end):
            for client in clients:
                client.emit("note", number)
        for client in clients:
            client.emit_with_acks("note", end)

    def all_arrive(end: int) -> None:
        wanted = {(name, number) for name in users for number in range(end + 1)}
        wait_until(lambda: {(each[0], each[1]) for each in received(webhook)} >= wanted, "all arrive")

    send(0, 30)
    wait_until(lambda: len(webhook.requests) > 20, "the first arrive")
    gateways[0].signal(signal.SIGSTOP)
    owns(gateways[1], PARTITIONS)
    send(31, 60)
    gateways[0].signal(signal.SIGCONT)
    send(61, 90)
    all_arrive(90)
    for gateway in gateways:
        owns(gateway, PARTITIONS / 2)
    send(91, 100)
    all_arrive(100)

    check_order(webhook, 101)
    repeats = Counter(event_id for event_id, _ in webhook.requests)
    assert sum(repeats.values()) - len(repeats) <= PARTITIONS
    for gateway in gateways:
        assert gateway.stop() == 0


def owns(gateway: GatewayProcess, number: float) -> None:
    """Wait until a gateway delivers the notifications of so many partitions."""
    wait_until(lambda: Scrape(gateway).value("webhook_partitions", webhook="app") == number, "it owns them")


def received(webhook: WebhookServer) -> list[tuple[str, int, int, str]]:
    """Return user, number, sequence and id of each note that the backend got, also in batches."""
    found = []
    for event_id, body in list(webhook.requests):
        events = body["data"] if body["type"] == "batch" else [body | {"id": event_id}]
        for each in events:
            data = each["data"]
            found.append((data["connection"]["user"], data["args"][0], data["sequence"], each["id"]))
    return found


def test_queue_outlives_a_restart_and_a_reload_with_another_url(  # noqa: PLR0917  # fixtures
    start: Start, webhook: WebhookServer, node: NodeClients, user: str, own_redis: RedisServer, tmp_path: Path
) -> None:
    webhook.status_of = lambda _: 404
    gateway = start(redis_url=own_redis.url)
    client = node.open(gateway.url, token=gateway.token(user)).connected()
    for number in range(20):
        client.emit_with_acks("note", number)
    wait_until(lambda: bool(webhook.seen), "the backend rejects the first")
    client.disconnect()
    assert gateway.stop() == 0
    gateway.start()
    other = WebhookServer()

    write_webhook(tmp_path, other)
    gateway.signal(signal.SIGHUP)
    wait_until(lambda: len(numbers(other)) >= 20, "the new backend gets all")

    assert numbers(other) == list(range(20))
    assert set(numbers(webhook)) == {0}
    assert gateway.stop() == 0
    other.stop()


def test_bad_event_is_counted_as_a_dead_letter_and_the_others_arrive(
    start: Start, webhook: WebhookServer, node: NodeClients, user: str
) -> None:
    webhook.status_of = lambda body: 422 if body["data"]["args"] == [3] else 200
    gateway = start()
    client = node.open(gateway.url, token=gateway.token(user)).connected()

    for number in range(6):
        client.emit_with_acks("note", number)
    wait_until(lambda: numbers(webhook)[-1:] == [5], "all were sent")

    assert numbers(webhook) == list(range(6))
    line = gateway.log.wait(lambda line: line.get("event") == "webhook.dead_letters")
    assert (line["reason"], line["status"], line["notifications"]) == ("rejected", 422, 1)

    def counted(outcome: str) -> float:
        return Scrape(gateway).value("webhook_notifications_total", webhook="app", outcome=outcome)

    wait_until(lambda: counted("accepted") == 5, "five are counted")
    assert counted("rejected") == 1
    assert all(webhook.url not in json.dumps(line) for line in gateway.log.entries)
    assert gateway.stop() == 0


def test_gateway_stops_in_time_while_the_backend_hangs(
    start: Start, webhook: WebhookServer, node: NodeClients, user: str
) -> None:
    webhook.delay_seconds = 60
    gateway = start()
    client = node.open(gateway.url, token=gateway.token(user)).connected()
    client.emit_with_acks("note", 1)
    wait_until(lambda: bool(webhook.seen), "the request is under way")

    assert gateway.stop() == 0
