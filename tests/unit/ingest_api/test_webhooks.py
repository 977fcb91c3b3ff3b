"""Calls about webhooks: their queues, and their dead letters in pages, replayed and dropped."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.domain.dedup import MAX_USER_ACKS
from gateway.domain.errors import BrokerTimeout, BrokerUnavailable
from gateway.domain.ingest_keys import IngestKey
from gateway.domain.notifications import DeadReason, Notification, partition_of
from gateway.domain.webhooks import Webhook
from gateway.runtime.webhook_queues import MAX_PAGE_BYTES, ConfiguredQueues
from ingest_api.interfaces import DeadLetterPosition
from tests.support.waiter import TIMEOUT_SECONDS
from tests.unit.ingest_api.harness import NOW, SHOP, RestApiServer, WebhookSettings, run_rest_api

PARTITIONS = 4
WEBHOOKS = {
    each: Webhook(id=each, url=f"http://127.0.0.1/{each}", secrets=("whsec_x",), partitions=PARTITIONS)
    for each in ("app", "crm")
}


@pytest.fixture
async def server() -> AsyncIterator[RestApiServer]:
    async with run_rest_api() as server:
        server.webhooks.by_id.update(WEBHOOKS)
        yield server


def notification(number: int, *, webhook: str = "app", data: str | None = None) -> Notification:
    user = str(number)
    partition = partition_of(user, PARTITIONS)
    text = f'{{"n":{number}}}' if data is None else data
    return Notification(f"n-{number}", webhook, partition, user, "client.event", NOW, text)


async def queue(server: RestApiServer, *notifications: Notification) -> None:
    for each in notifications:
        await server.state.broker.append_all((), notifications=[each])


async def bury(server: RestApiServer, *notifications: Notification, status: int | None = 422) -> None:
    """Put notifications into the queue and move them to the dead letters, as a replica that owns the queue does."""
    await queue(server, *notifications)
    for webhook in {each.webhook for each in notifications}:
        claim = await server.state.partitions.claim(webhook, PARTITIONS)
        for partition in claim.waiting:
            page = await server.state.webhook_queues.read(
                webhook, partition, max_entries=1000, max_bytes=10**9
            )
            await server.state.webhook_queues.bury(
                webhook,
                partition,
                [each.sequence for each in page.notifications],
                reason=DeadReason.REJECTED,
                status=status,
            )


async def dead_ids(server: RestApiServer, webhook: str = "app", query: str = "") -> list[str]:
    response = await server.send_signed("GET", f"/webhooks/{webhook}/dead{query}")
    return [each["id"] for each in response.json["dead"]]


async def test_every_configured_webhook_is_listed_without_its_url_and_secrets(server: RestApiServer) -> None:
    await bury(server, notification(1))
    await queue(server, notification(2), notification(3))
    server.clock.advance(90)
    server.webhooks.open_circuits.add("crm")

    response = await server.send_signed("GET", "/webhooks")

    [app, crm] = response.json["webhooks"]
    assert app.pop("bytes") > 0
    assert app == {
        "id": "app",
        "entries": 2,
        "lag_seconds": 90.0,
        "dead_letters": 1,
        "partitions": PARTITIONS,
        "owners": {"replica-1": [0, 1, 2, 3]},
        "circuit_open": False,
    }
    assert crm == {
        "id": "crm",
        "entries": 0,
        "bytes": 0,
        "lag_seconds": 0.0,
        "dead_letters": 0,
        "partitions": PARTITIONS,
        "owners": {},
        "circuit_open": True,
    }
    assert "127.0.0.1" not in response.body.decode()
    assert "whsec" not in response.body.decode()


async def test_dead_letter_has_its_data_as_the_webhook_got_it(server: RestApiServer) -> None:
    await bury(server, notification(7, data='{"args":[1.10,"é"]}'), status=None)

    response = await server.send_signed("GET", "/webhooks/app/dead")

    assert response.json == {
        "dead": [
            {
                "id": "n-7",
                "user": "7",
                "type": "client.event",
                "timestamp": "2026-11-21T12:00:00.000Z",
                "reason": "rejected",
                "status": None,
                "dead_at": "2026-11-21T12:00:00.000Z",
                "data": {"args": [1.1, "é"]},
            }
        ],
        "next": None,
    }
    assert '"data":{"args":[1.10,"é"]}' in response.body.decode()


async def test_pages_have_every_dead_letter_once_and_in_order(server: RestApiServer) -> None:
    for number in range(7):
        await bury(server, notification(number))
        server.clock.advance(1)

    pages, query = [], "?limit=3"
    while True:
        page = (await server.send_signed("GET", f"/webhooks/app/dead{query}")).json
        pages.append([each["id"] for each in page["dead"]])
        if page["next"] is None:
            break
        query = f"?limit=3&cursor={page['next']}"

    assert pages == [["n-0", "n-1", "n-2"], ["n-3", "n-4", "n-5"], ["n-6"]]


async def test_page_that_ends_with_the_last_dead_letter_has_no_next_one(server: RestApiServer) -> None:
    for number in range(3):
        await bury(server, notification(number))

    page = (await server.send_signed("GET", "/webhooks/app/dead?limit=3")).json

    assert (len(page["dead"]), page["next"]) == (3, None)


async def test_walk_goes_past_a_dead_letter_that_was_dropped_meanwhile(server: RestApiServer) -> None:
    for number in range(5):
        await bury(server, notification(number))
        server.clock.advance(1)
    page = (await server.send_signed("GET", "/webhooks/app/dead?limit=2")).json
    await server.post("/webhooks/app/drop", {"ids": ["n-0", "n-1"]})

    assert await dead_ids(server, query=f"?cursor={page['next']}") == ["n-2", "n-3", "n-4"]


async def test_page_of_large_dead_letters_ends_after_a_mebibyte(server: RestApiServer) -> None:
    data = json.dumps({"text": "x" * (MAX_PAGE_BYTES // 4)})
    await bury(server, *[notification(number, data=data) for number in range(5)])

    first = (await server.send_signed("GET", "/webhooks/app/dead")).json
    second = (await server.send_signed("GET", f"/webhooks/app/dead?cursor={first['next']}")).json

    assert (len(first["dead"]), len(second["dead"]), second["next"]) == (3, 2, None)


async def test_replayed_dead_letters_are_in_the_queue_again(server: RestApiServer) -> None:
    await bury(server, *[notification(number) for number in range(3)])

    response = await server.post("/webhooks/app/replay", {"ids": ["n-0", "n-2", "unknown", "n-0"]})

    assert (response.status, response.json) == (200, {"replayed": 2})
    assert await dead_ids(server) == ["n-1"]
    summary = (await server.state.webhook_queues.summaries(["app"]))["app"]
    assert summary.entries == 2


async def test_dropped_dead_letters_are_gone(server: RestApiServer) -> None:
    await bury(server, *[notification(number) for number in range(3)])

    response = await server.post("/webhooks/app/drop", {"ids": ["n-1", "unknown"]})

    assert (response.status, response.json) == (200, {"dropped": 1})
    assert sorted(await dead_ids(server)) == ["n-0", "n-2"]
    assert (await server.state.webhook_queues.summaries(["app"]))["app"].entries == 0


async def test_calls_touch_no_other_webhook(server: RestApiServer) -> None:
    await bury(server, notification(1), notification(2, webhook="crm"))

    assert (await server.post("/webhooks/crm/replay", {"ids": ["n-1"]})).json == {"replayed": 0}
    assert (await server.post("/webhooks/crm/drop", {"ids": ["n-1"]})).json == {"dropped": 0}
    assert (await dead_ids(server), await dead_ids(server, "crm")) == (["n-1"], ["n-2"])


async def test_full_queue_rejects_a_replay_and_keeps_the_dead_letters(server: RestApiServer) -> None:
    data = json.dumps({"text": "x" * 8_000_000})
    await bury(server, notification(0, data=data))
    for number in range(1, 9):
        await queue(server, notification(number, data=data))

    response = await server.post("/webhooks/app/replay", {"ids": ["n-0"]})

    assert response.problem == (503, "webhook_queue_full")
    assert response.headers["retry-after"] == "5"
    assert await dead_ids(server) == ["n-0"]


@pytest.mark.parametrize(("method", "call"), [("GET", "dead"), ("POST", "replay"), ("POST", "drop")])
@pytest.mark.parametrize("webhook", ["other", "APP", "app%20"])
async def test_webhook_that_is_not_configured_is_unknown(
    server: RestApiServer, method: str, call: str, webhook: str
) -> None:
    body: Any = {"ids": ["a"]} if method == "POST" else b""
    response = await server.send_signed(method, f"/webhooks/{webhook}/{call}", body)

    assert response.problem == (404, "unknown_webhook")


async def test_webhook_that_is_removed_from_the_settings_is_unknown(server: RestApiServer) -> None:
    await bury(server, notification(1))
    del server.webhooks.by_id["app"]

    assert (await server.send_signed("GET", "/webhooks/app/dead")).problem == (404, "unknown_webhook")
    assert [each["id"] for each in (await server.send_signed("GET", "/webhooks")).json["webhooks"]] == ["crm"]


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "limit=-1",
        "limit=1.0",
        "limit=",
        "limit=%D9%A1",
        "limit=1&limit=2",
        "limit",
        "x=1",
        "limit=1&x=1",
        "cursor=",
        "cursor=!",
        "cursor=%FF",
        "cursor=WzEsMl0",
        "cursor=e30",
        "cursor=" + "A" * 3000,
    ],
)
async def test_query_with_a_mistake_is_rejected(server: RestApiServer, query: str) -> None:
    response = await server.send_signed("GET", f"/webhooks/app/dead?{query}")

    assert response.problem == (400, "invalid_query")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "ids"),
        ({"ids": []}, "ids"),
        ({"ids": ["a"] * 101}, "ids"),
        ({"ids": "a"}, "ids"),
        ({"ids": [1]}, "ids.0"),
        ({"ids": ["a", ""]}, "ids.1"),
        ({"ids": ["a"], "all": True}, "all"),
        ({"ids": ["a"] * 10_000}, "ids"),
        ({"ids": ["a"], "more": ["x" * 20_000]}, "more"),
    ],
)
@pytest.mark.parametrize("call", ["replay", "drop"])
async def test_body_with_a_mistake_is_rejected(
    server: RestApiServer, call: str, body: dict[str, Any], field: str
) -> None:
    response = await server.post(f"/webhooks/app/{call}", body)

    assert response.problem == (422, "invalid_body")
    assert list(response.json["errors"]) == [field]


async def test_hundred_long_ids_are_accepted(server: RestApiServer) -> None:
    await bury(server, notification(1))
    ids = ["x" * 255] * 99 + ["n-1"]

    assert (await server.post("/webhooks/app/replay", {"ids": ids})).json == {"replayed": 1}


async def test_checks_run_in_the_documented_order(server: RestApiServer) -> None:
    wrong = IngestKey(SHOP.id, ("another secret, long enough as well, but another",))
    for target, body, options, expected in (
        ("/webhooks/none/replay", b"{", {"key": wrong}, (401, "bad_signature")),
        ("/webhooks/none/replay", b"{", {"media_type": "text/plain"}, (415, "unsupported_media_type")),
        ("/webhooks/none/replay", b"{", {}, (400, "invalid_json")),
        ("/webhooks/none/replay", b"{}", {}, (422, "invalid_body")),
        ("/webhooks/none/replay", b'{"ids":["a"]}', {"nonce": "used-once"}, (404, "unknown_webhook")),
        ("/webhooks/app/replay", b'{"ids":["a"]}', {"nonce": "used-once"}, (200, None)),
        ("/webhooks/app/replay", b'{"ids":["b"]}', {"nonce": "used-once"}, (401, "replayed_request")),
    ):
        response = await server.post(target, body, **options)
        assert (response.status, None if response.status == 200 else response.code) == expected


@pytest.mark.parametrize("target", ["/webhooks", "/webhooks/app/dead"])
async def test_read_consumes_its_nonce(server: RestApiServer, target: str) -> None:
    assert (await server.send_signed("GET", target, nonce="used-once")).status == 200
    assert (await server.send_signed("GET", target, nonce="used-once")).problem == (401, "replayed_request")


async def test_repeat_gets_the_first_response_and_has_no_effect(server: RestApiServer) -> None:
    await bury(server, notification(1))
    first = await server.post("/webhooks/app/replay", {"ids": ["n-1"]}, idempotency_key="one")
    claim = await server.state.partitions.claim("app", PARTITIONS)
    [partition] = claim.waiting
    page = await server.state.webhook_queues.read("app", partition, max_entries=9, max_bytes=10**6)
    sequences = [each.sequence for each in page.notifications]
    await server.state.webhook_queues.bury("app", partition, sequences, reason=DeadReason.FAILED, status=500)

    second = await server.post("/webhooks/app/replay", {"ids": ["n-1"]}, idempotency_key="one")

    assert (second.status, second.json) == (200, first.json) == (200, {"replayed": 1})
    assert (first.headers.get("idempotency-replayed"), second.headers["idempotency-replayed"]) == (
        None,
        "true",
    )
    assert await dead_ids(server) == ["n-1"]


async def test_idempotency_key_belongs_to_ingest_key_path_and_body(server: RestApiServer) -> None:
    await bury(server, notification(1), notification(2))
    await server.post("/webhooks/app/replay", {"ids": ["n-1"]}, idempotency_key="one")

    other_path = await server.post("/webhooks/app/drop", {"ids": ["n-2"]}, idempotency_key="one")
    other_body = await server.post("/webhooks/app/replay", {"ids": ["n-2"]}, idempotency_key="one")

    assert other_path.json == {"dropped": 1}
    assert other_body.problem == (409, "idempotency_conflict")
    assert "retry-after" not in other_body.headers


async def test_rejected_request_does_not_consume_the_idempotency_key(server: RestApiServer) -> None:
    await bury(server, notification(1))
    await server.post("/webhooks/app/drop", {"ids": []}, idempotency_key="one")

    response = await server.post("/webhooks/app/drop", {"ids": ["n-1"]}, idempotency_key="one")

    assert response.json == {"dropped": 1}


class BlockedQueues(ConfiguredQueues):
    """The real queues, whose changes wait until the test sets ``release``. ``error`` is raised instead of a change."""

    def __init__(self, queues: ConfiguredQueues) -> None:
        self.__dict__.update(queues.__dict__)
        self.entered, self.release = asyncio.Event(), asyncio.Event()
        self.error: Exception | None = None

    async def replay(self, webhook: str, ids: tuple[str, ...]) -> int:
        self.entered.set()
        await self.release.wait()
        if self.error is not None:
            raise self.error
        return await super().replay(webhook, ids)


class LateQueues:
    """Passes everything to the queues that the test sets, which need the state of the server."""

    target: ConfiguredQueues

    def __getattr__(self, name: str) -> Any:
        return getattr(self.target, name)


@pytest.fixture
async def blocked() -> AsyncIterator[tuple[RestApiServer, BlockedQueues]]:
    late = LateQueues()
    async with run_rest_api(queues=late) as server:
        server.webhooks.by_id.update(WEBHOOKS)
        late.target = blocked = BlockedQueues(ConfiguredQueues(server.state, server.webhooks))
        yield server, blocked


async def test_concurrent_repeat_is_a_conflict_with_retry_after(
    blocked: tuple[RestApiServer, BlockedQueues],
) -> None:
    server, queues = blocked
    await bury(server, notification(1))
    async with asyncio.timeout(TIMEOUT_SECONDS), asyncio.TaskGroup() as tasks:
        request = {"ids": ["n-1"]}
        first = tasks.create_task(server.post("/webhooks/app/replay", request, idempotency_key="one"))
        await queues.entered.wait()

        meanwhile = await server.post("/webhooks/app/replay", request, idempotency_key="one")

        assert meanwhile.problem == (409, "idempotency_conflict")
        assert meanwhile.headers["retry-after"] == "1"
        queues.release.set()
    assert first.result().json == {"replayed": 1}


async def test_request_of_another_replica_in_progress_is_a_conflict_with_retry_after(
    server: RestApiServer,
) -> None:
    name = f"rest {SHOP.id} POST /webhooks/app/drop one"
    await server.state.acks.claim(name, "another replica", user=f"rest {SHOP.id} webhooks", seconds=30)

    response = await server.post("/webhooks/app/drop", {"ids": ["n-1"]}, idempotency_key="one")

    assert response.problem == (409, "idempotency_conflict")
    assert response.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    ("error", "code"),
    [(BrokerUnavailable("redis is away"), "broker_unavailable"), (BrokerTimeout("late"), "broker_timeout")],
)
async def test_idempotency_key_is_usable_again_after_a_failure(
    blocked: tuple[RestApiServer, BlockedQueues], error: Exception, code: str
) -> None:
    server, queues = blocked
    await bury(server, notification(1))
    queues.release.set()
    queues.error = error
    failed = await server.post("/webhooks/app/replay", {"ids": ["n-1"]}, idempotency_key="one")
    queues.error = None

    repeated = await server.post("/webhooks/app/replay", {"ids": ["n-1"]}, idempotency_key="one")

    assert failed.problem == (503, code)
    assert repeated.json == {"replayed": 1}


async def test_key_with_too_many_idempotency_keys_is_rate_limited(server: RestApiServer) -> None:
    for number in range(MAX_USER_ACKS):
        owner = f"rest {SHOP.id} webhooks"
        await server.state.acks.claim(f"{number}", "holder", user=owner, seconds=30)
        await server.state.acks.keep(f"{number}", "holder", "{}", user=owner)
    await bury(server, notification(1))

    rejected = await server.post("/webhooks/app/drop", {"ids": ["n-1"]}, idempotency_key="one")

    assert rejected.problem == (429, "rate_limited")
    assert rejected.headers["retry-after"] == "60"
    assert (await server.post("/webhooks/app/drop", {"ids": ["n-1"]})).json == {"dropped": 1}


async def test_access_log_has_the_webhook_and_no_user(server: RestApiServer, log_lines: list[Any]) -> None:
    await server.send_signed("GET", "/webhooks/app/dead")

    [line] = [each for each in log_lines if each.get("route") == "/webhooks/{id}/dead"]
    assert (line["webhook"], line["user"]) == ("app", None)


async def test_letter_that_died_with_the_last_one_of_a_page_is_not_skipped(server: RestApiServer) -> None:
    await bury(server, *[notification(number) for number in range(4)])
    ids = await dead_ids(server)
    queues = ConfiguredQueues(server.state, WebhookSettings(WEBHOOKS))
    await server.state.webhook_queues.drop("app", [ids[1]])

    found, has_more = await queues.dead_letters("app", after=DeadLetterPosition(NOW, ids[1]), limit=10)

    assert ([each.id for each in found], has_more) == ([ids[0], *ids[2:]], False)
