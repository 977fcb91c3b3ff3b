"""Debian's nginx in front of three replicas, as examples/compose sets it up: nobody is led astray or trapped."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from tests.load.rolling.restart import ORIGIN, behind_nginx, roll
from tests.load.soak.backends import Pushing
from tests.load.soak.clients import Crowd, Manner, Told
from tests.load.soak.verdict import judge
from tests.support.gateway_process import GatewayProcess
from tests.support.nginx import Nginx
from tests.support.raw_clients import http_session
from tests.support.waiter import wait_until

pytestmark = [pytest.mark.proxies, pytest.mark.timeout(150)]

BY_SID = {"a": "a", "b": "b", "c": "c"}
"""nginx calls replicas as they call themselves, so that each sid tells it where to."""
BY_COOKIE = {"a": "one", "b": "two", "c": "three"}
"""Their names mean nothing to it, as where they make them up."""
CLIENTS, PER_SECOND = 200, 40.0
BEFORE, PUSHES = 80, 400
"""Pushes before a replica is rolled, and in all."""
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
def test_200_clients_connect_upgrade_send_and_lose_nothing_while_a_replica_is_rolled(
    names: dict[str, str], keeps_cookies: bool
) -> None:
    # With credentials the stock client keeps cookies under Node too, and else none.
    manner = Manner({"withCredentials": keeps_cookies}, transports=(POLLING, UPGRADING), up_seconds=None)
    with (
        behind_nginx(names, drain_seconds=DRAIN_SECONDS) as (nginx, replicas),
        Crowd(CLIENTS, manner) as crowd,
    ):
        crowd.come(replicas, nginx.url)
        crowd.settle()
        crowd.ask()
        with Pushing(crowd, [nginx], per_second=PER_SECOND) as pushing:
            wait_until(lambda: len(pushing.pushes) > BEFORE, "pushes flow steadily")
            rolled = roll(replicas[0], drain_seconds=DRAIN_SECONDS)
            crowd.settle()
            crowd.ask()
            wait_until(lambda: len(pushing.pushes) > PUSHES, "pushes go on")
        crowd.calm()
        pushing.last()
        assert crowd.hears_last()
        told = crowd.tell()
        assert nginx.severe_errors() == []

    verdict = judge(pushing.pushes, told)
    assert verdict.wrong[:12] == [], verdict
    assert verdict.errors == {}, "a client was refused, or led to a replica that did not know it"
    assert verdict.due == verdict.came > PUSHES
    assert (rolled.status, rolled.complaints) == (0, [])
    for number, client in enumerate(told.values()):
        _followed(client, rolled.replica, best=(POLLING, UPGRADING)[number % 2][-1])


def _followed(client: Told, rolled: str, best: str) -> None:
    """It came back once if it was at the replica that was rolled; everybody else stayed where they were."""
    moved = client.replicas[0] == rolled
    assert len(client.replicas) == (2 if moved else 1), client
    assert client.answered == 2, client
    assert client.carrier == best, client
    assert client.upgrades == (len(client.replicas) if best == "websocket" else 0), client


@pytest.fixture
def by_sid() -> Iterator[Front]:
    with behind_nginx(BY_SID) as front:
        yield front


@pytest.fixture
def by_cookie() -> Iterator[Front]:
    with behind_nginx(BY_COOKIE) as front:
        yield front


async def shake_hands(http: aiohttp.ClientSession, url: str, cookie: str = "") -> tuple[str, str]:
    """The sid of a new session, and the replica that the cookie names then."""
    async with http.get(f"{url}{HANDSHAKE}", headers={"Cookie": cookie}) as answer:
        assert answer.status == 200, await answer.text()
        sid = json.loads((await answer.text())[1:])["sid"]
        return sid, answer.cookies["gateway_replica"].value


async def refuses(http: aiohttp.ClientSession, replica: GatewayProcess) -> None:
    """Wait until it takes nobody new."""
    async with asyncio.timeout(10):
        while True:
            async with http.get(f"{replica.url}{HANDSHAKE}") as answer:
                if answer.status == 503:
                    return
            await asyncio.sleep(0.02)


async def test_whoever_asks_for_a_replica_that_drains_gets_another_one_and_its_cookie(
    by_cookie: Front, http: aiohttp.ClientSession
) -> None:
    nginx, (one, *_) = by_cookie
    sid, cookie = await shake_hands(http, nginx.url, "gateway_replica=a")
    assert (sid.split(".")[0], cookie) == ("one", "a")

    one.signal(signal.SIGTERM)
    await refuses(http, one)

    sid, cookie = await shake_hands(http, nginx.url, "gateway_replica=a")
    assert (sid.split(".")[0], cookie) in [("two", "b"), ("three", "c")]
    again, same = await shake_hands(http, nginx.url, f"gateway_replica={cookie}")
    assert (again.split(".")[0], same) == (sid.split(".")[0], cookie)


async def test_whoever_asks_for_a_replica_that_is_gone_gets_another_one_and_its_cookie(
    by_cookie: Front, http: aiohttp.ClientSession
) -> None:
    nginx, (one, *_) = by_cookie
    await asyncio.to_thread(one.kill)

    sid, cookie = await shake_hands(http, nginx.url, "gateway_replica=a")

    assert (sid.split(".")[0], cookie) in [("two", "b"), ("three", "c")]


async def test_the_sid_leads_to_its_replica_while_that_drains_whatever_the_cookie_says(
    by_sid: Front, http: aiohttp.ClientSession
) -> None:
    nginx, (a, *_) = by_sid
    sid, _ = await shake_hands(http, nginx.url, "gateway_replica=a")
    joining = await http.post(f"{nginx.url}{HANDSHAKE}&sid={sid}", data=f'40{{"token":"{a.token("ann")}"}}')
    assert (joining.status, await joining.text()) == (200, "ok")

    a.signal(signal.SIGTERM)
    await refuses(http, a)

    async with http.get(f"{nginx.url}{HANDSHAKE}&sid={sid}", headers={"Cookie": "gateway_replica=b"}) as poll:
        assert (poll.status, (await poll.text())[:2]) == (200, "40")


async def test_without_a_name_and_a_cookie_a_session_falls_apart(
    by_cookie: Front, http: aiohttp.ClientSession
) -> None:
    nginx, _ = by_cookie
    sid, _ = await shake_hands(http, nginx.url)
    tried = [http.post(f"{nginx.url}{HANDSHAKE}&sid={sid}", data="3") for _ in range(3)]

    answers = [answer.status for answer in await asyncio.gather(*tried)]

    assert sorted(answers) == [200, 400, 400]


async def test_a_replica_that_is_full_passes_newcomers_on_and_when_all_are_the_page_reads_why(
    http: aiohttp.ClientSession,
) -> None:
    with behind_nginx(BY_SID, max_connections=1, max_unauthenticated=1) as (nginx, _):
        came_in = [await shake_hands(http, nginx.url, "gateway_replica=a") for _ in range(3)]
        assert [sid.split(".")[0] for sid, _ in came_in] == [cookie for _, cookie in came_in]
        assert {cookie for _, cookie in came_in} == {"a", "b", "c"}

        async with http.get(f"{nginx.url}{HANDSHAKE}", headers={"Origin": ORIGIN}) as answer:
            assert (answer.status, (await answer.json())["code"]) == (503, 4)
            assert answer.headers["Retry-After"] == "5"
            assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
            assert "Set-Cookie" not in answer.headers


async def test_the_door_of_clients_leads_to_socketio_and_nowhere_else(
    by_sid: Front, http: aiohttp.ClientSession
) -> None:
    nginx, _ = by_sid
    for path in ("/", "/broadcast", "/emit/user/ann", "/health/ready", "/metrics", "/openapi.yaml"):
        for method in ("GET", "POST"):
            async with http.request(method, f"{nginx.url}{path}") as answer:
                assert (answer.status, answer.headers["Server"]) == (404, "nginx")
    async with http.get(f"{nginx.url}/socket.io/socket.io.min.js") as client:
        assert (client.status, "Set-Cookie" in client.headers) == (200, False)
