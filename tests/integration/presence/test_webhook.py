"""What a backend is notified of by its webhook, while pages reload, replicas are killed and the backend fails."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.integration.presence.conftest import LEASE_SECONDS, SLACK_SECONDS, Deployment, Receiver
from tests.support.raw_clients import RawSocket
from tests.support.redis_server import RedisServer

ONLINE, OFFLINE = "user.online", "user.offline"
LISTED = {"event": "onlineUsers", "each": {"id": "$user"}}


def catalogue(offline_after_seconds: float) -> dict[str, Any]:
    return {"presence": {"offline_after_seconds": offline_after_seconds, "notify": "app"}}


def users(number: int) -> list[str]:
    return [f"user-{each}" for each in range(number)]


async def connect_all(deployment: Deployment, names: list[str], **options: Any) -> dict[str, RawSocket]:
    """Connect users, one after the other in turn at each replica."""
    return {name: await deployment.connect(name, at=number, **options) for number, name in enumerate(names)}


async def test_pages_that_are_loaded_again_are_no_change(deployment: Deployment, receiver: Receiver) -> None:
    deployment.start(catalogue(15))  # longer than it takes to load all pages again, on a busy machine too
    names = users(40)
    pages = await connect_all(deployment, names)
    await deployment.until(lambda: receiver.users(ONLINE) == set(names), "all are online")

    for load in range(1, 6):
        for page in pages.values():
            page.abort()
        # To another replica than before, as behind a load balancer.
        pages = {name: await deployment.connect(name, at=number + load) for number, name in enumerate(names)}

    for page in pages.values():
        page.abort()
    await deployment.until(lambda: receiver.users(OFFLINE) == set(names), "all are offline")
    assert {name: receiver.states(name) for name in names} == {key: [ONLINE, OFFLINE] for key in names}


async def test_each_user_of_a_killed_replica_is_offline_once_unless_connected_elsewhere(
    shared_deployment: Deployment, receiver: Receiver
) -> None:
    deployment = shared_deployment
    deployment.start(catalogue(6), batch=20)
    stay, leave, move = ([f"{kind}-{n}" for n in range(20)] for kind in ("stay", "leave", "move"))
    others = {name: await deployment.connect(name, at=0) for name in stay}
    lost = {name: await deployment.connect(name, at=2) for name in (*leave, *move)}
    await deployment.until(lambda: len(receiver.users(ONLINE)) == 60, "all are online")

    killed_at = deployment.kill(2)
    moved = {name: await deployment.connect(name, at=1) for name in move}
    await deployment.until(
        lambda: receiver.users(OFFLINE) == set(leave), "the users of the killed replica are offline"
    )

    took = max(receiver.at[OFFLINE, name] for name in leave) - killed_at
    assert took <= LEASE_SECONDS + 6 + 1 + SLACK_SECONDS
    # A change that follows: nothing else waits once it has arrived.
    (await deployment.connect("last", at=0)).abort()
    await deployment.until(lambda: "last" in receiver.users(OFFLINE), "the last one is offline")
    assert {name: receiver.distinct_states(name) for name in leave} == {
        key: [ONLINE, OFFLINE] for key in leave
    }
    assert {name: receiver.distinct_states(name) for name in (*stay, *move)} == {
        key: [ONLINE] for key in (*stay, *move)
    }
    assert len(others) + len(lost) + len(moved) == 80


async def test_newest_state_arrives_after_an_outage_and_versions_rise(
    deployment: Deployment, receiver: Receiver
) -> None:
    deployment.start(catalogue(0))
    names = users(30)
    receiver.is_down = True
    ends_at = time.monotonic() + 6
    while time.monotonic() < ends_at:
        sockets = await connect_all(deployment, names)
        for socket in sockets.values():
            socket.abort()
        await asyncio.sleep(0.3)  # so that some of them are offline meanwhile
    last = {name: await deployment.connect(name) for name in names[:15]}
    await deployment.until(lambda: len(receiver.attempts) >= 3, "the webhook was tried")
    receiver.is_down = False

    await deployment.until(
        lambda: receiver.users(ONLINE) == set(names[:15]) and receiver.users(OFFLINE) == set(names[15:]),
        "the newest state of each user arrived",
    )

    for name in names:
        versions = receiver.attempts[name]
        assert versions == sorted(versions), name
        accepted = [version for _, version in receiver.accepted[name]]
        assert len(set(accepted)) == len(accepted), name
    assert len(last) == 15


@pytest.mark.parametrize("batch", [1, 100])
async def test_user_whom_the_webhook_rejects_delays_no_other(
    deployment: Deployment, receiver: Receiver, batch: int
) -> None:
    deployment.start(catalogue(1), batch=batch)
    receiver.rejected = {"poison"}
    names = users(100)
    sockets = await connect_all(deployment, ["poison", *names])

    await deployment.until(lambda: receiver.users(ONLINE) == set(names), "all others are online")
    assert len(receiver.attempts["poison"]) >= 1
    receiver.rejected = set()
    await deployment.until(lambda: "poison" in receiver.users(ONLINE), "the last one is online")

    assert receiver.states("poison") == [ONLINE]
    assert len(sockets) == 101


async def test_user_is_offline_after_the_last_replica_stopped_and_another_one_started(
    shared_deployment: Deployment, receiver: Receiver
) -> None:
    deployment = shared_deployment
    deployment.start(catalogue(2))
    socket = await deployment.connect("ann")
    await deployment.until(lambda: receiver.users(ONLINE) == {"ann"}, "the user is online")

    deployment.stop_all()
    assert receiver.states("ann") == [ONLINE]
    deployment.start(catalogue(2))

    await deployment.until(lambda: receiver.users(OFFLINE) == {"ann"}, "the user is offline")
    assert receiver.states("ann") == [ONLINE, OFFLINE]
    assert socket is not None


async def test_offline_that_a_drain_causes_is_sent_by_the_other_replicas(
    shared_deployment: Deployment, receiver: Receiver
) -> None:
    deployment = shared_deployment
    deployment.start(catalogue(2))
    names = users(30)
    sockets = {name: await deployment.connect(name, at=1) for name in names}
    await deployment.until(lambda: receiver.users(ONLINE) == set(names), "all are online")

    stopping = deployment.replicas.pop(1)
    stopped_at = time.monotonic()
    assert await asyncio.to_thread(stopping.stop) == 0

    await deployment.until(lambda: receiver.users(OFFLINE) == set(names), "all are offline")
    assert {name: receiver.states(name) for name in names} == {key: [ONLINE, OFFLINE] for key in names}
    # The partitions of the stopped replica are taken at once, not when its lease ends.
    assert max(receiver.at[OFFLINE, name] for name in names) - stopped_at < 2 + 2 + SLACK_SECONDS
    assert len(sockets) == 30


# reload


async def test_users_that_are_connected_are_reported_when_a_reload_adds_presence(
    deployment: Deployment, receiver: Receiver
) -> None:
    deployment.start({})
    names = users(60)
    sockets = await connect_all(deployment, names)

    deployment.reload(catalogue(1))
    await deployment.until(lambda: receiver.users(ONLINE) == set(names), "all are online")
    sockets["user-0"].abort()
    await deployment.until(lambda: receiver.users(OFFLINE) == {"user-0"}, "one is offline")

    assert receiver.states("user-1") == [ONLINE]


async def test_reload_changes_the_time_and_ends_presence(deployment: Deployment, receiver: Receiver) -> None:
    deployment.start(catalogue(600))
    names = users(6)
    sockets = await connect_all(deployment, names)
    await deployment.until(lambda: receiver.users(ONLINE) == set(names), "all are online")
    sockets["user-0"].abort()

    deployment.reload(catalogue(1))
    await deployment.until(lambda: receiver.users(OFFLINE) == {"user-0"}, "one is offline")
    deployment.reload({})
    sockets["user-1"].abort()
    extra = await deployment.connect("late")
    await asyncio.sleep(4)  # for changes that must not happen

    assert receiver.states("user-1") == [ONLINE]
    assert receiver.states("late") == []
    assert extra is not None


# stop


async def test_replica_stops_in_time_although_the_webhook_hangs_and_redis_does_not_answer(
    shared_deployment: Deployment, receiver: Receiver, redis_server: RedisServer
) -> None:
    deployment = shared_deployment
    deployment.start(catalogue(1) | {"namespaces": {"/": {"online_users": LISTED}}})
    names = users(30)
    await connect_all(deployment, names)
    await deployment.until(lambda: receiver.users(ONLINE) == set(names), "all are online")
    receiver.delay_seconds = 60.0
    await connect_all(deployment, [f"late-{number}" for number in range(30)])
    await deployment.until(lambda: any(name.startswith("late") for name in receiver.attempts), "it hangs")

    redis_server.freeze()
    try:
        stopped_at = time.monotonic()
        statuses = await asyncio.gather(*[asyncio.to_thread(replica.stop) for replica in deployment.replicas])
    finally:
        redis_server.thaw()

    # DRAIN_SECONDS and the 14 seconds of everything after the drain; the webhook would take a minute.
    assert time.monotonic() - stopped_at < 1 + 14 + SLACK_SECONDS
    assert statuses == [0, 0, 0]
    deployment.replicas = []
