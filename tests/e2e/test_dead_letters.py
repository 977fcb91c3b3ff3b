"""An operator finds what a backend did not accept, and replays or drops it: by REST and command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import NodeClients
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer
from tests.support.waiter import wait_until
from tests.support.webhook_server import SECRET, WebhookServer
from tests.unit.cli.command_line import run
from tests.unit.metrics.scraping import scrape_until

CATALOGUE = """
version: 1
namespaces:
  /:
    client_events:
      order: {notify: app, dedupe: $0.id, ack: {queued: true}}
"""
MANY = 230


class Operator:
    """A gateway, the backend that it notifies, and the command line of an operator."""

    def __init__(self, folder: Path, backend: WebhookServer, redis_url: str | None, **settings: Any) -> None:
        events = folder / "events.yaml"
        events.write_text(CATALOGUE, encoding="utf-8")
        self.backend = backend
        self.gateway = GatewayProcess(
            redis_url=redis_url,
            events_file=events,
            webhooks=f"app={backend.url}",
            webhook_secrets=f"app:{SECRET}",
            message_rate=1_000,
            **settings,
        )

    def command(self, *arguments: str, status: int = 0) -> list[Any]:
        """Run ``sio-gateway webhooks``; return the lines of JSON that it prints."""
        key = f"{self.gateway.key_id}:{self.gateway.secret}"
        done = run("webhooks", *arguments, "--url", self.gateway.ingest_url, INGEST_KEYS=key)
        assert done.returncode == status, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def call(self, method: str, target: str, body: object = None, **options: Any) -> Any:
        text = b"" if body is None else json.dumps(body).encode()
        answer = self.gateway.backend.send(method, target, text, **options)
        assert answer.status == 200, answer
        return answer.body

    def state(self) -> Any:
        [webhook] = self.call("GET", "/webhooks")["webhooks"]
        return webhook

    def dead(self) -> list[str]:
        return [each["id"] for each in self.call("GET", "/webhooks/app/dead")["dead"]]

    def orders(self) -> list[str]:
        """Return the orders that the backend got, repeats included."""
        return [body["data"]["args"][0]["id"] for _, body in self.backend.seen]


@pytest.fixture(params=["memory", "redis"])
def operator(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Operator]:
    redis = RedisServer() if request.param == "redis" else None
    backend = WebhookServer()
    operator = Operator(tmp_path, backend, redis.url if redis else None)
    yield operator
    assert operator.gateway.stop() == 0
    assert operator.gateway.failures() == []
    backend.stop()
    if redis is not None:
        redis.stop()


def order(operator: Operator, node: NodeClients, *ids: str) -> None:
    """Let a client send these orders, each of which is queued."""
    client = node.open(operator.gateway.url, token=operator.gateway.token("42")).connected()
    for each in ids:
        assert client.emit_with_ack("order", {"id": each}) == {"queued": True}
    client.disconnect()


def test_dead_letter_is_listed_and_replayed_by_rest(operator: Operator, node: NodeClients) -> None:
    operator.backend.status_of = lambda body: 422 if body["data"]["args"][0]["id"] == "bad" else None
    order(operator, node, "one", "bad", "two")
    wait_until(lambda: operator.state()["dead_letters"] == 1, "the bad order is a dead letter")

    [letter] = operator.call("GET", "/webhooks/app/dead")["dead"]
    first_id = letter["id"]
    assert (letter["user"], letter["type"], letter["reason"], letter["status"]) == (
        "42", "client.event", "rejected", 422,
    )  # fmt: skip
    assert letter["data"]["args"] == [{"id": "bad"}]

    operator.backend.status_of = lambda _: None
    replay = {"body": {"ids": [first_id]}, "idempotency_key": "replay-1"}
    assert operator.call("POST", "/webhooks/app/replay", **replay) == {"replayed": 1}
    wait_until(lambda: operator.orders().count("bad") == 2, "the replayed order arrives")
    assert operator.call("POST", "/webhooks/app/replay", **replay) == {"replayed": 1}

    assert operator.orders() == ["one", "bad", "two", "bad"]
    assert {id_ for id_, body in operator.backend.seen if body["data"]["args"][0]["id"] == "bad"} == {
        first_id
    }
    sequences = [body["data"]["sequence"] for _, body in operator.backend.seen]
    assert sequences == sorted(sequences)
    assert operator.dead() == []
    wait_until(lambda: operator.state()["entries"] == 0, "the queue is empty")


def test_queue_that_waits_is_visible_in_rest_and_metrics(operator: Operator, node: NodeClients) -> None:
    operator.backend.status_of = lambda _: 503
    order(operator, node, "one", "two")
    wait_until(lambda: operator.orders() != [], "the backend fails once")

    state = operator.state()
    assert (state["entries"], state["dead_letters"], state["partitions"]) == (2, 0, 16)
    assert state["lag_seconds"] > 0
    assert sorted(each for owned in state["owners"].values() for each in owned) == list(range(16))
    assert "http" not in json.dumps(state)
    scrape = scrape_until(
        operator.gateway, lambda each: each.value("webhook_queue_depth", webhook="app") == 2, "it is measured"
    )
    assert scrape.value("webhook_queue_bytes", webhook="app") == state["bytes"]
    assert scrape.value("webhook_queue_oldest_age_seconds", webhook="app") > 0
    assert scrape.value("webhook_partitions", webhook="app") == 16

    operator.backend.status_of = lambda _: None
    scrape_until(
        operator.gateway,
        lambda each: each.value("webhook_queue_depth", webhook="app") == 0,
        "it is delivered",
    )
    assert operator.state()["lag_seconds"] == 0


def test_command_line_lists_replays_and_drops_hundreds(operator: Operator, node: NodeClients) -> None:
    operator.backend.status_of = lambda _: 422
    order(operator, node, *[f"order-{number}" for number in range(MANY)])
    wait_until(lambda: operator.state()["dead_letters"] == MANY, "all orders are dead letters")

    assert [each["dead_letters"] for each in operator.command("list")] == [MANY]
    letters = operator.command("dead", "app", "--json")
    assert [each["data"]["args"][0]["id"] for each in letters] == [
        f"order-{number}" for number in range(MANY)
    ]
    key = f"{operator.gateway.key_id}:{operator.gateway.secret}"
    table = run(
        "webhooks", "dead", "app", "--url", operator.gateway.ingest_url, INGEST_KEYS=key
    ).stdout.splitlines()
    assert table[0].split() == ["ID", "USER", "TYPE", "REASON", "STATUS", "DEAD_AT"]
    assert [line.split()[0] for line in table[1:]] == [each["id"] for each in letters]
    assert table[1].split()[1:5] == ["42", "client.event", "rejected", "422"]

    dropped = [each["id"] for each in letters[:120]]
    assert operator.command("drop", "app", *dropped) == [{"dropped": 120}]
    assert operator.command("drop", "app", *dropped[:5]) == [{"dropped": 0}]
    operator.backend.status_of = lambda _: None
    assert operator.command("replay", "app", "--all") == [{"replayed": MANY - 120}]
    wait_until(lambda: len(operator.orders()) == 2 * MANY - 120, "the replayed orders arrive")

    assert operator.orders()[MANY:] == [f"order-{number}" for number in range(120, MANY)]
    assert operator.command("dead", "app", "--json") == []
    assert operator.command("replay", "app", "--all") == [{"replayed": 0}]


def test_replay_of_all_ends_although_they_fail_again(operator: Operator, node: NodeClients) -> None:
    operator.backend.status_of = lambda _: 400
    order(operator, node, "bad")
    wait_until(lambda: operator.state()["dead_letters"] == 1, "the order is a dead letter")

    assert operator.command("replay", "app", "--all") == [{"replayed": 1}]

    wait_until(lambda: len(operator.orders()) == 2, "it is sent again")
    wait_until(lambda: operator.state()["dead_letters"] == 1, "it is a dead letter again")


def test_unknown_webhook_ends_with_status_1(operator: Operator) -> None:
    for arguments in (("dead", "crm"), ("replay", "crm", "a"), ("drop", "crm", "--all")):
        [problem] = operator.command(*arguments, status=1)
        assert (problem["status"], problem["code"]) == (404, "unknown_webhook")


def partitions_of(operator: Operator) -> dict[str, int]:
    """Return how many partitions each replica sends."""
    return {replica: len(owned) for replica, owned in operator.state()["owners"].items()}


def test_every_replica_reports_the_same_queue_and_which_of_them_send(
    tmp_path: Path, own_redis: RedisServer, node: NodeClients
) -> None:
    backend = WebhookServer()
    backend.status_of = lambda _: 503
    first = Operator(tmp_path, backend, own_redis.url, replica_id="one")
    second = Operator(tmp_path, backend, own_redis.url, replica_id="two")
    try:
        order(second, node, "order-1")
        shares = {"one": 8, "two": 8}
        wait_until(lambda: partitions_of(first) == shares, "each has half of the partitions")

        states = [each.state() for each in (first, second)]
        assert [each["entries"] for each in states] == [1, 1]
        assert [partitions_of(each) for each in (first, second)] == [shares, shares]
        for each in (first, second):
            scrape_until(
                each.gateway,
                lambda found: found.value("webhook_queue_depth", webhook="app") == 1,
                "it is measured",
            )
    finally:
        assert second.gateway.stop() == 0
        wait_until(lambda: partitions_of(first) == {"one": 16}, "the other one has all partitions")
        assert first.gateway.stop() == 0
        backend.stop()
