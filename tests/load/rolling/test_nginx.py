"""Debian's nginx in front of three replicas, as examples/compose configures it: requests reach their sessions."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from tests.load.rolling.restart import ORIGIN, behind_nginx, restart
from tests.load.soak.backends import PushLoad
from tests.load.soak.clients import ClientBehaviour, ClientResult, SoakClients
from tests.load.soak.comparison import compare
from tests.support.gateway_process import GatewayProcess
from tests.support.nginx import Nginx
from tests.support.raw_clients import http_session
from tests.support.waiter import TIMEOUT_SECONDS, wait_until

pytestmark = [pytest.mark.proxies, pytest.mark.timeout(400)]

BY_SID = {"a": "a", "b": "b", "c": "c"}
"""Names in nginx equal to REPLICA_ID, so that nginx finds the replica by the sid."""
BY_COOKIE = {"a": "one", "b": "two", "c": "three"}
"""Names in nginx that differ from REPLICA_ID, as where replicas generate it: nginx finds the replica by the cookie."""
CLIENTS, PER_SECOND = 200, 40.0
BEFORE, PUSHES = 80, 400
"""Pushes before a replica is restarted, and in total."""
DRAIN_SECONDS = 5.0
POLLING, UPGRADING = ("polling",), ("polling", "websocket")
HANDSHAKE = "/socket.io/?EIO=4&transport=polling"

Front = tuple[Nginx, list[GatewayProcess]]


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with http_session() as session:
        yield session


@pytest.mark.parametrize(
    ("names", "keeps_cookies"), [(BY_SID, False), (BY_COOKIE, True)], ids=["by the sid", "by the cookie"]
)
def test_200_clients_connect_upgrade_send_and_lose_nothing_while_a_replica_restarts(
    names: dict[str, str], keeps_cookies: bool
) -> None:
    # Under Node the stock client keeps cookies only with `withCredentials`.
    behaviour = ClientBehaviour(
        {"withCredentials": keeps_cookies}, transports=(POLLING, UPGRADING), up_seconds=None
    )
    with (
        behind_nginx(names, drain_seconds=DRAIN_SECONDS) as (nginx, replicas),
        SoakClients(CLIENTS, behaviour) as clients,
    ):
        clients.connect(replicas, nginx.url)
        clients.wait_until_connected()
        clients.emit_with_ack()
        with PushLoad(clients, [nginx], per_second=PER_SECOND) as load:
            wait_until(lambda: len(load.pushes) > BEFORE, "pushes are accepted before the restart")
            restarted = restart(replicas[0], drain_seconds=DRAIN_SECONDS)
            clients.wait_until_connected()
            clients.emit_with_ack()
            wait_until(lambda: len(load.pushes) > PUSHES, "pushes are accepted after the restart")
        clients.stop_dropping()
        load.push_last()
        assert clients.wait_for_last()
        results = clients.results()
        assert nginx.severe_errors() == []

    comparison = compare(load.pushes, results)
    assert comparison.wrong[:12] == [], comparison
    assert comparison.errors == {}, "a client was rejected, or reached a replica without its session"
    assert comparison.due == comparison.delivered > PUSHES
    assert (restarted.status, restarted.failures) == (0, [])
    for number, client in enumerate(results.values()):
        _check_client(client, restarted.replica, best=(POLLING, UPGRADING)[number % 2][-1])


def _check_client(client: ClientResult, restarted: str, best: str) -> None:
    """Check that only a client of the restarted replica reconnected, once, and that each client upgraded."""
    has_reconnected = client.replicas[0] == restarted
    assert len(client.replicas) == (2 if has_reconnected else 1), client
    assert client.acknowledged == 2, client
    assert client.transport == best, client
    assert client.upgrades == (len(client.replicas) if best == "websocket" else 0), client


@pytest.fixture
def by_sid() -> Iterator[Front]:
    with behind_nginx(BY_SID) as front:
        yield front


@pytest.fixture
def by_cookie() -> Iterator[Front]:
    with behind_nginx(BY_COOKIE) as front:
        yield front


async def open_session(http: aiohttp.ClientSession, url: str, cookie: str = "") -> tuple[str, str]:
    """Open a session; return its sid, and the name of the replica in the cookie."""
    async with http.get(f"{url}{HANDSHAKE}", headers={"Cookie": cookie}) as answer:
        assert answer.status == 200, await answer.text()
        sid = json.loads((await answer.text())[1:])["sid"]
        return sid, answer.cookies["gateway_replica"].value


async def wait_until_rejecting(http: aiohttp.ClientSession, replica: GatewayProcess) -> None:
    """Wait until the replica rejects handshakes with 503."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while True:
            async with http.get(f"{replica.url}{HANDSHAKE}") as answer:
                if answer.status == 503:
                    return
            await asyncio.sleep(0.02)


async def test_handshake_with_the_cookie_of_a_draining_replica_gets_another_one_and_its_cookie(
    by_cookie: Front, http: aiohttp.ClientSession
) -> None:
    nginx, (one, *_) = by_cookie
    sid, cookie = await open_session(http, nginx.url, "gateway_replica=a")
    assert (sid.split(".")[0], cookie) == ("one", "a")

    one.signal(signal.SIGTERM)
    await wait_until_rejecting(http, one)

    sid, cookie = await open_session(http, nginx.url, "gateway_replica=a")
    assert (sid.split(".")[0], cookie) in [("two", "b"), ("three", "c")]
    again, same = await open_session(http, nginx.url, f"gateway_replica={cookie}")
    assert (again.split(".")[0], same) == (sid.split(".")[0], cookie)


async def test_handshake_with_the_cookie_of_a_killed_replica_gets_another_one_and_its_cookie(
    by_cookie: Front, http: aiohttp.ClientSession
) -> None:
    nginx, (one, *_) = by_cookie
    await asyncio.to_thread(one.kill)

    sid, cookie = await open_session(http, nginx.url, "gateway_replica=a")

    assert (sid.split(".")[0], cookie) in [("two", "b"), ("three", "c")]


async def test_request_with_a_sid_reaches_its_draining_replica_with_any_cookie(
    by_sid: Front, http: aiohttp.ClientSession
) -> None:
    nginx, (a, *_) = by_sid
    sid, _ = await open_session(http, nginx.url, "gateway_replica=a")
    joining = await http.post(f"{nginx.url}{HANDSHAKE}&sid={sid}", data=f'40{{"token":"{a.token("ann")}"}}')
    assert (joining.status, await joining.text()) == (200, "ok")

    a.signal(signal.SIGTERM)
    await wait_until_rejecting(http, a)

    async with http.get(f"{nginx.url}{HANDSHAKE}&sid={sid}", headers={"Cookie": "gateway_replica=b"}) as poll:
        assert (poll.status, (await poll.text())[:2]) == (200, "40")


async def test_session_without_replica_name_and_cookie_is_unknown_to_the_other_replicas(
    by_cookie: Front, http: aiohttp.ClientSession
) -> None:
    nginx, _ = by_cookie
    sid, _ = await open_session(http, nginx.url)
    requests = [http.post(f"{nginx.url}{HANDSHAKE}&sid={sid}", data="3") for _ in range(3)]

    answers = [answer.status for answer in await asyncio.gather(*requests)]

    assert sorted(answers) == [200, 400, 400]


async def test_handshake_at_a_full_replica_is_passed_on_and_rejected_with_cors_headers_when_all_are_full(
    http: aiohttp.ClientSession,
) -> None:
    with behind_nginx(BY_SID, max_connections=1, max_unauthenticated=1) as (nginx, _):
        sessions = [await open_session(http, nginx.url, "gateway_replica=a") for _ in range(3)]
        assert [sid.split(".")[0] for sid, _ in sessions] == [cookie for _, cookie in sessions]
        assert {cookie for _, cookie in sessions} == {"a", "b", "c"}

        async with http.get(f"{nginx.url}{HANDSHAKE}", headers={"Origin": ORIGIN}) as answer:
            assert (answer.status, (await answer.json())["code"]) == (503, 4)
            assert answer.headers["Retry-After"] == "5"
            assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
            assert "Set-Cookie" not in answer.headers


async def test_path_without_its_last_slash_is_served_at_the_same_replica(
    by_cookie: Front, http: aiohttp.ClientSession
) -> None:
    nginx, _ = by_cookie
    url = f"{nginx.url}{HANDSHAKE.replace('/?', '?')}"
    async with http.get(url, allow_redirects=False) as opened:
        assert opened.status == 200
        cookie = opened.cookies["gateway_replica"]
        sid = json.loads((await opened.text())[1:])["sid"]
    assert cookie["path"] == "/socket.io"
    for _ in range(3):
        async with http.post(
            f"{url}&sid={sid}", data="3", headers={"Cookie": f"gateway_replica={cookie.value}"}
        ) as post:
            assert (post.status, await post.text()) == (200, "ok")


async def test_port_of_clients_serves_socketio_alone(by_sid: Front, http: aiohttp.ClientSession) -> None:
    nginx, _ = by_sid
    for path in ("/", "/broadcast", "/emit/user/ann", "/health/ready", "/metrics", "/openapi.yaml"):
        for method in ("GET", "POST"):
            async with http.request(method, f"{nginx.url}{path}") as answer:
                assert (answer.status, answer.headers["Server"]) == (404, "nginx")
    async with http.get(f"{nginx.url}/socket.io/socket.io.min.js") as client:
        assert (client.status, "Set-Cookie" in client.headers) == (200, False)
