"""Each event is counted once, under its name, and no other counter grows; with the state in memory and in Redis."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.backend import Backend
from tests.support.clients import NodeClients, StockClient
from tests.support.gateway_process import KEY_ID, KEY_SECRET, GatewayProcess
from tests.support.raw_clients import RawPolling, RawSocket, connect_packet
from tests.support.redis_server import RedisServer
from tests.unit.metrics.scraping import Scrape, scrape_until

SEND_BUFFER_BYTES = 400_000
KEYS = f"{KEY_ID}:{KEY_SECRET},idle:the secret of a key that is never used here"


@pytest.fixture(scope="module", params=["memory", "redis"])
def gateway(request: pytest.FixtureRequest) -> Iterator[GatewayProcess]:
    settings: dict[str, Any] = {}
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        settings["redis_url"] = server.url
    process = GatewayProcess(
        namespaces="/,/events",
        max_body_bytes=200_000,
        send_buffer_bytes=SEND_BUFFER_BYTES,
        max_connections=500,
        ingest_keys=KEYS,
        **settings,
    )
    yield process
    assert process.stop() == 0
    assert process.failures() == []


def is_about_redis(name: str) -> bool:
    """Whether a counter is about Redis connections, which are in use all the time."""
    return name.startswith(("redis_", "resyncs", "resynced"))


class CounterGrowth:
    """The growth of the counters of a gateway since this object was created."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._gateway = gateway
        self._before = Scrape(gateway)

    def wait_until_exactly(self, expected: dict[str, float]) -> Scrape:
        """Wait until the counters grew by these values, and check that no other counter grew; the last scrape."""
        scrape_until(
            self._gateway, lambda now: expected.items() <= self._grown(now).items(), f"{expected} are counted"
        )
        # A scrape is not atomic: its first values may be older than its last ones.
        last = Scrape(self._gateway)
        assert self._grown(last) == expected
        return last

    def _grown(self, now: Scrape) -> dict[str, float]:
        return {name: value for name, value in now.grown(self._before).items() if not is_about_redis(name)}


def request(route: str, status: int = 200, code: str = "ok", *, times: int = 1) -> dict[str, float]:
    """The counters of a request with the key of the tests."""
    return {
        f'requests_total{{code="{code}",route="{route}",status="{status}"}}': times,
        f'ingest_key_requests_total{{code="{code}",key="tests"}}': times,
    }


def opened(transport: str, nsp: str = "/") -> dict[str, float]:
    """The counters of a connection that was opened."""
    return {
        f'connections_opened_total{{nsp="{nsp}",transport="{transport}"}}': 1,
        'client_messages_total{kind="connect"}': 1,
    }


def closed(reason: str, nsp: str = "/") -> dict[str, float]:
    """The counters of a connection and of an Engine.IO session that were closed."""
    return {
        f'connections_closed_total{{nsp="{nsp}",reason="{reason}"}}': 1,
        f'engineio_sessions_closed_total{{reason="{reason}"}}': 1,
    }


def open_stock(node: NodeClients, gateway: GatewayProcess, user: str, **options: object) -> StockClient:
    claims = options.pop("claims", {})
    assert isinstance(claims, dict)
    token = gateway.token(user, **claims)
    return node.open(gateway.url, token=token, transports=["websocket"], **options).connected()  # type: ignore[arg-type]


def test_connection_push_and_disconnect_are_each_counted_once(
    gateway: GatewayProcess, node: NodeClients, user: str
) -> None:
    growth, before = CounterGrowth(gateway), Scrape(gateway)
    client = open_stock(node, gateway, user)
    gateway.push_user(user, "news", 1)
    client.event("news")

    during = growth.wait_until_exactly(
        opened("websocket")
        | request("/emit/user/{id}")
        | {'messages_published_total{kind="message"}': 1, 'deliveries_total{kind="message"}': 1}
    )
    assert during.value("connections", nsp="/") == 1
    assert during.value("connections", nsp="/events") == 0
    assert (during.value("users"), during.value("rooms")) == (1, 1)
    assert during.value("engineio_sessions", transport="websocket") == 1
    assert during.value("engineio_sessions", transport="polling") == 0
    for histogram, labels in (
        ("delivery_duration_seconds", {}),
        ("request_duration_seconds", {"route": "/emit/user/{id}"}),
    ):
        assert (
            during.value(f"{histogram}_count", **labels) - before.value(f"{histogram}_count", **labels) == 1
        )
        took = during.value(f"{histogram}_sum", **labels) - before.value(f"{histogram}_sum", **labels)
        assert 0 < took < 5

    growth = CounterGrowth(gateway)
    client.disconnect()
    after = growth.wait_until_exactly(
        {
            'client_messages_total{kind="disconnect"}': 1,
            'connections_closed_total{nsp="/",reason="client_disconnect"}': 1,
            'engineio_sessions_closed_total{reason="transport_close"}': 1,
        }
    )
    assert after.value("connections", nsp="/") == 0
    assert (after.value("users"), after.value("rooms")) == (0, 0)
    assert after.value("engineio_sessions", transport="websocket") == 0


def test_push_to_rooms_is_counted_once_per_connection_that_is_not_excepted(
    gateway: GatewayProcess, node: NodeClients, user: str
) -> None:
    rooms = {"rooms": [f"{user}-a", f"{user}-b"]}
    both = [open_stock(node, gateway, f"{user}-{number}", claims=rooms) for number in range(3)]
    growth = CounterGrowth(gateway)

    gateway.backend.push_room([f"{user}-a", f"{user}-b"], "news", 1, **{"except": [f"user:{user}-0"]})
    gateway.backend.broadcast("all", 1)
    for client in both:
        client.event("all")

    now = growth.wait_until_exactly(
        {
            'requests_total{code="ok",route="/emit/room",status="200"}': 1,
            'requests_total{code="ok",route="/broadcast",status="200"}': 1,
            'ingest_key_requests_total{code="ok",key="tests"}': 2,
            'messages_published_total{kind="message"}': 2,
            'deliveries_total{kind="message"}': 2 + 3,
        }
    )
    # The two shared rooms, and the room of each user.
    assert (now.value("users"), now.value("rooms")) == (3, 2 + 3)
    disconnect(gateway, *both)


def test_sessions_are_counted_by_their_transport_before_and_after_an_upgrade(
    gateway: GatewayProcess, node: NodeClients, user: str
) -> None:
    poller = node.open(gateway.url, token=gateway.token(user), transports=["polling"]).connected()
    assert Scrape(gateway).value("engineio_sessions", transport="polling") == 1
    growth = CounterGrowth(gateway)

    upgraded = node.open(gateway.url, token=gateway.token(user)).connected()
    upgraded.wait("upgrade")

    now = growth.wait_until_exactly(opened("polling"))
    assert now.value("engineio_sessions", transport="websocket") == 1
    assert now.value("engineio_sessions", transport="polling") == 1
    assert (now.value("connections", nsp="/"), now.value("users")) == (2, 1)
    disconnect(gateway, poller, upgraded)


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda _: {}, "token_missing"),
        (lambda _: {"token": "rubbish"}, "token_malformed"),
        (lambda gateway: {"token": gateway.token("ann", lifetime_seconds=-1)}, "token_expired"),
        (lambda gateway: {"token": gateway.token("ann")[:-4] + "AAAA"}, "token_signature_invalid"),
        (lambda gateway: {"token": gateway.token("ann", nbf=int(time.time()) + 600)}, "token_not_active"),
    ],
)
def test_rejected_token_is_counted_by_its_code(
    gateway: GatewayProcess, node: NodeClients, make: Callable[[GatewayProcess], dict[str, str]], code: str
) -> None:
    growth = CounterGrowth(gateway)

    client = node.open(gateway.url, auth=make(gateway), transports=["websocket"])
    assert client.wait("connect_error")["data"]["code"] == code
    client.disconnect()

    growth.wait_until_exactly(
        {
            f'connections_rejected_total{{code="{code}"}}': 1,
            'client_messages_total{kind="connect"}': 1,
            'engineio_sessions_closed_total{reason="transport_close"}': 1,
        }
    )


def test_connect_to_an_unknown_namespace_is_counted(
    gateway: GatewayProcess, node: NodeClients, user: str
) -> None:
    growth = CounterGrowth(gateway)

    client = node.open(gateway.url, token=gateway.token(user), namespace="/nowhere", transports=["websocket"])
    client.wait("connect_error")
    client.disconnect()

    growth.wait_until_exactly(
        {
            'connections_rejected_total{code="invalid_namespace"}': 1,
            'client_messages_total{kind="connect"}': 1,
            'engineio_sessions_closed_total{reason="transport_close"}': 1,
        }
    )


def test_token_refreshes_are_counted_by_outcome(
    gateway: GatewayProcess, node: NodeClients, user: str
) -> None:
    client = open_stock(node, gateway, user)
    growth = CounterGrowth(gateway)

    assert client.emit_with_ack("auth:refresh", gateway.token(user))["ok"] is True
    assert client.emit_with_ack("auth:refresh", gateway.token("another"))["code"] == "token_invalid"
    assert (
        client.emit_with_ack("auth:refresh", gateway.token(user, lifetime_seconds=-1))["code"]
        == "token_expired"
    )

    growth.wait_until_exactly(
        {
            'token_refreshes_total{outcome="refreshed"}': 1,
            'token_refreshes_total{outcome="token_invalid"}': 1,
            'token_refreshes_total{outcome="token_expired"}': 1,
            'client_messages_total{kind="event"}': 3,
        }
    )
    disconnect(gateway, client)


async def test_connection_closed_by_token_expiry_is_counted(
    gateway: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    growth = CounterGrowth(gateway)
    raw = await RawSocket.open(http, gateway.url)
    await raw.join(gateway.token(user, lifetime_seconds=6))

    assert (await raw.closed())[0] == 4401

    await asyncio.to_thread(growth.wait_until_exactly, opened("websocket") | closed("token_expired"))


async def test_connection_disconnected_by_a_backend_is_counted(
    gateway: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    raw = await RawSocket.open(http, gateway.url)
    await raw.join(gateway.token(user))
    growth = CounterGrowth(gateway)

    answer = await asyncio.to_thread(gateway.backend.disconnect, user)
    assert answer.body["disconnected"] == 1
    await raw.frame()

    await asyncio.to_thread(
        growth.wait_until_exactly,
        request("/disconnect/user/{id}")
        | {
            'messages_published_total{kind="disconnect"}': 1,
            'connections_closed_total{nsp="/",reason="disconnected_by_backend"}': 1,
        },
    )
    growth = CounterGrowth(gateway)
    raw.abort()
    await asyncio.to_thread(
        growth.wait_until_exactly, {'engineio_sessions_closed_total{reason="transport_close"}': 1}
    )


async def test_volatile_messages_are_counted_as_delivered_or_as_skipped(
    gateway: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    listens = await RawSocket.open(http, gateway.url)
    await listens.join(gateway.token(user))
    unread = await RawPolling(http, gateway.url).open()
    await unread.join(gateway.token(user))
    growth = CounterGrowth(gateway)

    await asyncio.to_thread(gateway.push_user, user, "now", 1, volatile=True)
    await listens.frame()

    await asyncio.to_thread(
        growth.wait_until_exactly,
        request("/emit/user/{id}")
        | {
            'messages_published_total{kind="volatile"}': 1,
            'deliveries_total{kind="volatile"}': 1,
            'volatile_skipped_total{reason="no_poll"}': 1,
        },
    )
    growth = CounterGrowth(gateway)
    await unread.close()
    listens.abort()
    await asyncio.to_thread(
        growth.wait_until_exactly,
        closed("client_close") | closed("transport_close"),
    )


async def test_slow_consumer_shows_in_the_send_buffer_metrics_and_is_counted_once_when_closed(
    gateway: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    unread = await RawPolling(http, gateway.url).open()
    await unread.join(gateway.token(user))
    growth = CounterGrowth(gateway)

    await asyncio.to_thread(gateway.push_user, user, "much", "x" * 150_000)
    now = await asyncio.to_thread(
        scrape_until,
        gateway,
        lambda now: now.value("send_buffer_waiting_sessions") == 1,
        "a session has data in its send buffer",
    )
    assert 150_000 < now.value("send_buffer_bytes") == now.value("send_buffer_largest_bytes") < 151_000
    assert now.value("send_buffer_limit_bytes") == SEND_BUFFER_BYTES
    for _ in range(2):
        await asyncio.to_thread(gateway.push_user, user, "much", "x" * 150_000)

    now = await asyncio.to_thread(
        growth.wait_until_exactly,
        request("/emit/user/{id}", times=3)
        | {'messages_published_total{kind="message"}': 3, 'deliveries_total{kind="message"}': 2}
        | closed("slow_consumer"),
    )
    assert (now.value("send_buffer_waiting_sessions"), now.value("send_buffer_bytes")) == (0, 0)


async def test_recoveries_are_counted_by_outcome_and_their_replayed_messages_as_recovered(
    gateway: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    first = await RawSocket.open(http, gateway.url)
    await first.send(connect_packet(gateway.token(user), recovery=True))
    pid = json.loads((await first.frame())[2:])["pid"]
    await first.frame()
    first.abort()
    await asyncio.to_thread(
        scrape_until, gateway, lambda now: now.value("connections", nsp="/") == 0, "the connection is closed"
    )
    for number in range(3):
        await asyncio.to_thread(gateway.push_user, user, "missed", number)
    growth = CounterGrowth(gateway)

    again = await RawSocket.open(http, gateway.url)
    await again.send(connect_packet(gateway.token(user), recovery=True, pid=pid))
    frames = [await again.frame() for _ in range(5)]
    assert [json.loads(frame[2:])[1] for frame in frames[1:4]] == [0, 1, 2]
    unknown = await RawSocket.open(http, gateway.url)
    await unknown.send(connect_packet(gateway.token(user), recovery=True, pid="unknown"))
    for _ in range(3):
        await unknown.frame()

    await asyncio.to_thread(
        growth.wait_until_exactly,
        {
            'recoveries_total{outcome="recovered"}': 1,
            'recoveries_total{outcome="unknown_session"}': 1,
            'deliveries_total{kind="recovered"}': 3,
            'connections_opened_total{nsp="/",transport="websocket"}': 2,
            'client_messages_total{kind="connect"}': 2,
        },
    )
    for raw in (again, unknown):
        raw.abort()


def test_requests_are_counted_by_code_and_by_the_key_that_they_name(
    gateway: GatewayProcess, user: str
) -> None:
    backend = gateway.backend
    path, body = f"/emit/user/{user}", b'{"event":"e"}'
    forger = Backend(gateway.ingest_url, "tests", "another secret that is long enough to be one")
    unknown_key = Backend(gateway.ingest_url, f"unknown-{secrets.token_hex(4)}", forger.secret)
    growth, before = CounterGrowth(gateway), Scrape(gateway)
    used_before = before.value("ingest_key_last_used_timestamp_seconds", key="tests")

    headers = backend.sign("POST", path, body)
    assert forger.send("POST", path, body).body["code"] == "bad_signature"
    assert unknown_key.send("POST", path, body).body["code"] == "unknown_key"
    assert backend.send("POST", path, body, headers={"X-Gateway-Timestamp": "1"}).status == 401
    rejected = Scrape(gateway)
    assert rejected.value("ingest_key_last_used_timestamp_seconds", key="tests") == used_before
    assert backend.send("POST", path, body, headers=headers).status == 200
    assert backend.send("POST", path, body, headers=headers).body["code"] == "replayed_request"
    assert backend.send("POST", path, b"{").body["code"] == "invalid_json"
    assert backend.send("GET", "/nowhere").status == 404

    def sent(code: str, status: int, route: str = "/emit/user/{id}") -> dict[str, float]:
        return {f'requests_total{{code="{code}",route="{route}",status="{status}"}}': 1}

    now = growth.wait_until_exactly(
        request("/emit/user/{id}")
        | request("/emit/user/{id}", 401, "bad_signature")
        | request("/emit/user/{id}", 401, "timestamp_out_of_range")
        | request("/emit/user/{id}", 401, "replayed_request")
        | request("/emit/user/{id}", 400, "invalid_json")
        | sent("unknown_key", 401)
        | sent("not_found", 404, "unmatched")
        | {'messages_published_total{kind="message"}': 1}
    )
    used = now.value("ingest_key_last_used_timestamp_seconds", key="tests")
    assert used > used_before
    assert abs(time.time() - used) < 15
    assert now.value("ingest_key_last_used_timestamp_seconds", key="idle") == 0
    assert now.value("ingest_key_requests_total", key="idle", code="ok") == 0


def test_repeated_push_is_counted_as_one_message(gateway: GatewayProcess, user: str) -> None:
    growth = CounterGrowth(gateway)

    for _ in range(2):
        answer = gateway.backend.post(f"/emit/user/{user}", {"event": "e"}, idempotency_key=f"once-{user}")
        assert answer.status == 200

    growth.wait_until_exactly(
        request("/emit/user/{id}", times=2)
        | {'messages_published_total{kind="message"}': 1, "idempotent_replays_total": 1}
    )


async def test_requests_that_the_transport_rejects_are_counted_by_reason(
    gateway: GatewayProcess, http: aiohttp.ClientSession
) -> None:
    growth = CounterGrowth(gateway)
    for query in (
        "EIO=4&transport=polling&sid=unknown",
        "EIO=4&transport=carrier-pigeon",
        "EIO=3&transport=polling",
    ):
        async with http.get(f"{gateway.url}/socket.io/?{query}") as answer:
            assert answer.status == 400

    await asyncio.to_thread(
        growth.wait_until_exactly,
        {
            f'engineio_requests_rejected_total{{reason="{reason}"}}': 1
            for reason in ("unknown_sid", "unknown_transport", "unsupported_protocol")
        },
    )


def test_limits_and_readiness_are_exposed(gateway: GatewayProcess) -> None:
    now = Scrape(gateway)

    assert now.value("engineio_sessions_limit") == 500
    assert now.value("engineio_sessions_unauthenticated_limit") == 5_000
    assert (now.value("replica_ready"), now.value("replica_draining")) == (1, 0)
    assert now.value("replica_status", status="healthy") == 1
    assert now.value("event_loop_lag_seconds_count") > 0


@pytest.mark.parametrize("state", ["memory", "redis"])
def test_history_is_exposed_in_entries_bytes_and_age(
    redis_server: RedisServer, state: str, user: str
) -> None:
    settings: dict[str, Any] = {"redis_url": redis_server.url} if state == "redis" else {}
    # With Redis the values are updated at each heartbeat, three times per lease.
    gateway = GatewayProcess(redis_prefix="seen", lease_seconds=5, history_length=1_000, **settings)
    pushed_at = time.monotonic()
    for _ in range(3):
        gateway.push_user(user, "kept", "x" * 1_000)
    gateway.push_user(user, "not kept", "x" * 1_000, volatile=True)

    now = scrape_until(
        gateway,
        lambda now: now.value("history_entries") >= 3 and now.value("history_oldest_age_seconds") > 1,
        "the history metrics show the messages",
    )

    assert now.value("history_entries") == 3
    # Each entry, and the index of the room, count with what they take beside the payload.
    assert 3 * 1_000 < now.value("history_bytes") < 3 * 2_000
    assert now.value("history_oldest_age_seconds") <= time.monotonic() - pushed_at + 0.1
    assert (now.value("history_limit_entries"), now.value("history_limit_bytes")) == (1_000, 64 * 1024 * 1024)
    assert gateway.stop() == 0


def test_metrics_of_ingest_keys_follow_a_reload(tmp_path: Path, user: str) -> None:
    config, secret = tmp_path / "gateway.yaml", "the secret of a backend, thirty-two bytes and more"

    def configure(key: str) -> None:
        config.write_text(f"ingest_keys: [{{id: {key}, secret: {secret!r}}}]\n")

    configure("shop")
    gateway = GatewayProcess(ingest_keys="", config=config)
    assert Backend(gateway.url, "shop", secret).push_user(user, "news").status == 200
    assert Scrape(gateway).value("ingest_key_requests_total", key="shop", code="ok") == 1

    configure("billing")
    gateway.signal(signal.SIGHUP)
    gateway.log.wait(lambda line: line.get("event") == "settings.reloaded")

    now = Scrape(gateway)
    assert now.value("ingest_key_requests_total", key="billing", code="ok") == 0
    assert now.value("ingest_key_last_used_timestamp_seconds", key="billing") == 0
    assert not now.has("ingest_key_requests_total", key="shop", code="ok")
    assert now.value("requests_total", route="/emit/user/{id}", status="200", code="ok") == 1
    assert gateway.stop() == 0


async def test_drain_is_exposed_while_it_lasts(http: aiohttp.ClientSession, user: str) -> None:
    gateway = await asyncio.to_thread(GatewayProcess, shutdown_delay_seconds=60, drain_seconds=1)
    raw = await RawSocket.open(http, gateway.url)
    await raw.join(gateway.token(user))

    gateway.signal(signal.SIGTERM)

    now = await asyncio.to_thread(
        scrape_until, gateway, lambda now: now.value("replica_draining") == 1, "the replica drains"
    )
    assert now.value("replica_ready") == 0
    assert now.value("connections", nsp="/") == 1
    gateway.signal(signal.SIGTERM)  # a second signal exits at once
    assert await asyncio.to_thread(gateway.wait) != 0


def disconnect(gateway: GatewayProcess, *clients: StockClient) -> None:
    """Disconnect the clients and wait until no connection or session is left."""
    for client in clients:
        client.disconnect()
    scrape_until(
        gateway,
        lambda now: (
            now.value("connections", nsp="/") == 0
            and now.value("engineio_sessions", transport="websocket") == 0
            and now.value("engineio_sessions", transport="polling") == 0
        ),
        "every client is disconnected",
    )
