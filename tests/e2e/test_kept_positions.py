"""A page that is loaded again sends the position that it kept, and gets what it may have."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.clients import NodeClients, StockClient
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer
from tests.support.waiter import wait_until


@pytest.fixture(scope="module")
def node() -> Iterator[NodeClients]:
    clients = NodeClients()
    yield clients
    clients.stop()


@pytest.fixture(scope="module", params=["memory", "redis"])
def replicas(request: pytest.FixtureRequest) -> Iterator[list[GatewayProcess]]:
    """The gateway that has the old page, and the one that gets the new page: with Redis another replica."""
    redis = RedisServer() if request.param == "redis" else None
    names = ["one", "two"] if redis is not None else ["one"]
    url = None if redis is None else redis.url
    processes = [GatewayProcess(redis_url=url, replica_id=name) for name in names]
    yield [processes[0], processes[-1]]
    for process in processes:
        assert process.failures() == []
        process.stop()
    if redis is not None:
        redis.stop()


def open_page(
    node: NodeClients, gateway: GatewayProcess, user: str, *, resume: str | None = None, **claims: Any
) -> StockClient:
    """Open a page with a token that is issued now, and the position that it kept."""
    auth = {"token": gateway.token(user, **claims), "resume": resume}
    return node.open(gateway.url, auth=auth, transports=["websocket"], reconnection=False).connected()


def close_page(page: StockClient, *replicas: GatewayProcess, user: str) -> None:
    """Leave the page, and wait until the gateway knows."""
    page.close_engine()
    wait_until(lambda: not replicas[0].backend.presence(user)["online"], "the page is closed")


def kept_position(page: StockClient, gateway: GatewayProcess, user: str) -> str:
    """Push to the page; return the position that came with the event."""
    gateway.push_user(user, "seen", 0)
    entry = page.wait("event", event="seen")
    assert entry["args"] == [0]
    return str(entry["offset"])


def next_second() -> None:
    """Let the second pass in which tokens were issued: ``iat`` has no fractions."""
    second = int(time.time())
    wait_until(lambda: int(time.time()) > second, "the next second begins")


def events_of(page: StockClient) -> list[Any]:
    return [entry["event"] for entry in page.entries if entry["type"] == "event"]


@pytest.mark.parametrize("is_closed", [True, False], ids=["closed", "open"])
def test_page_that_is_loaded_again_with_a_new_token_gets_what_its_rooms_missed(
    replicas: list[GatewayProcess], node: NodeClients, user: str, is_closed: bool
) -> None:
    one, two = replicas
    old = open_page(node, one, user, orgId=7)
    position = kept_position(old, one, user)
    if is_closed:
        close_page(old, one, user=user)
    one.backend.push_room("org:7", "missed", 1)
    next_second()

    new = open_page(node, two, user, resume=position, orgId=7)
    assert new.wait("event", event="authenticated")["args"][0]["recovered"] is True
    two.backend.push_room("org:7", "live", 2)
    new.event("live")

    assert events_of(new) == ["missed", "authenticated", "live"]
    assert new.sid != old.sid


def test_user_that_got_a_role_later_gets_nothing_from_before_and_learns_it(
    replicas: list[GatewayProcess], node: NodeClients, user: str
) -> None:
    one, two = replicas
    old = open_page(node, one, user)
    position = kept_position(old, one, user)
    one.backend.push_room("role:admin", "secret", 1)
    next_second()

    new = open_page(node, two, user, resume=position, role="admin")
    assert new.event("recovery:failed") == [{"code": "grant_unknown"}]
    two.backend.push_room("role:admin", "after", 2)
    new.event("after")

    assert "recovered" not in new.wait("event", event="authenticated")["args"][0]
    assert events_of(new) == ["authenticated", "recovery:failed", "after"]


def test_user_that_got_a_role_in_which_nothing_was_sent_before_is_recovered(
    replicas: list[GatewayProcess], node: NodeClients, user: str
) -> None:
    one, two = replicas
    old = open_page(node, one, user)
    position = kept_position(old, one, user)
    close_page(old, one, user=user)
    one.push_user(user, "own", 1)
    next_second()

    new = open_page(node, two, user, resume=position, role=f"of {user}")

    assert new.wait("event", event="authenticated")["args"][0]["recovered"] is True
    assert events_of(new) == ["own", "authenticated"]
