"""What clients get of other users: announcements in rooms and to everyone, and lists."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from contextlib import suppress
from functools import partial
from typing import Any

import aiohttp

from tests.integration.presence.conftest import LEASE_SECONDS, SLACK_SECONDS, Deployment
from tests.support.raw_clients import RawPolling, RawSocket

EVERYONE_PER_SECOND = 20
LISTS = "sio_gateway_user_lists_total"


def announced(offline_after_seconds: float = 1) -> dict[str, Any]:
    data = {"userId": "$user"}
    return {
        "presence": {
            "offline_after_seconds": offline_after_seconds,
            "announce": [
                {"when": "online", "namespace": "/", "to": {"own_rooms": "org:*"}, "event": "in:room", "data": data},
                {"when": "offline", "namespace": "/", "to": {"own_rooms": "org:*"}, "event": "out:room", "data": data},
                {"when": "online", "namespace": "/", "to": "everyone", "event": "in:all", "data": data},
            ],
        }
    }  # fmt: skip


def listed(**options: Any) -> dict[str, Any]:
    return {
        "namespaces": {
            "/": {"online_users": {"event": "onlineUsers", "each": {"id": "$user", "sid": "$sid"}} | options}
        }
    }


class Watcher:
    """A connected client that records the events that it gets, with the time."""

    def __init__(self, socket: RawSocket) -> None:
        self._socket = socket
        self.events: list[tuple[float, str, list[Any]]] = []
        self._began = time.monotonic()
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while True:
            frame = await self._socket.frame()
            name, *arguments = json.loads(frame.removeprefix("42"))
            self.events.append((time.monotonic(), name, arguments))

    def of(self, name: str) -> list[list[Any]]:
        """Return the arguments of each event of a name."""
        return [arguments for _, event, arguments in self.events if event == name]

    def users(self, name: str) -> list[str]:
        """Return the users of announcements."""
        return [arguments[0]["userId"] for arguments in self.of(name)]

    def lists(self, users: set[str]) -> bool:
        """Whether the last list has exactly these users."""
        lists = self.of("onlineUsers")
        return bool(lists) and {each["id"] for each in lists[-1][0]} == users

    def at(self, name: str) -> list[float]:
        """Return when each event of a name arrived."""
        return [at for at, event, _ in self.events if event == name]

    def got_lists_at_most_once_a_second(self) -> None:
        """Check the number of lists. A busy machine delays one and not the next, so their distances show nothing."""
        lists = self.at("onlineUsers")
        assert len(lists) <= lists[-1] - self._began + 3

    async def close(self) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._socket.abort()


async def watch(deployment: Deployment, user: str, *, at: int = 0, **claims: Any) -> Watcher:
    return Watcher(await deployment.connect(user, at=at, **claims))


async def test_rooms_get_announcements_at_once_and_everyone_at_most_20_a_second(
    deployment: Deployment,
) -> None:
    deployment.start(announced())
    colleague = await watch(deployment, "colleague", orgId=7)
    began = time.monotonic()
    outsider = await watch(deployment, "outsider", at=1, orgId=8)
    names = [f"user-{number}" for number in range(80)]
    sockets = [
        await deployment.connect(name, at=number, orgId=7) for number, name in enumerate(names)
    ]  # fmt: skip
    connected_at = time.monotonic()

    await deployment.until(lambda: set(colleague.users("in:room")) >= set(names), "the room knows all")
    assert time.monotonic() - connected_at < 2 + SLACK_SECONDS
    await deployment.until(lambda: set(outsider.users("in:all")) >= set(names), "everyone knows all")

    assert len(colleague.users("in:room")) == len(set(colleague.users("in:room")))
    assert len(outsider.users("in:all")) == len(set(outsider.users("in:all")))
    assert set(outsider.users("in:room")) <= {"outsider"}
    at = outsider.at("in:all")
    assert at[-1] - began >= len(at) / EVERYONE_PER_SECOND - 2  # a busy machine delays one and not the next
    for socket in sockets:
        socket.abort()
    await deployment.until(lambda: set(colleague.users("out:room")) == set(names), "the room knows all")
    await colleague.close()
    await outsider.close()


async def test_list_is_sent_once_a_second_at_most_by_all_replicas_together(deployment: Deployment) -> None:
    deployment.start(listed())
    watchers = [await watch(deployment, f"watcher-{number}", at=number) for number in range(3)]
    sockets = []
    for number in range(60):
        sockets.append(await deployment.connect(f"user-{number}", at=number))
        await asyncio.sleep(0.05)

    everyone = {f"watcher-{number}" for number in range(3)} | {f"user-{number}" for number in range(60)}
    for watcher in watchers:
        await deployment.until(
            partial(watcher.lists, everyone),
            "the list is complete",
        )
        watcher.got_lists_at_most_once_a_second()
        await watcher.close()


async def test_list_reaches_a_client_that_had_no_poll_or_upgraded_when_it_was_sent(
    deployment: Deployment,
) -> None:
    deployment.start(listed())
    polling, upgrading = [await _join_by_polling(deployment, user) for user in ("polling", "upgrading")]
    candidate = await _start_upgrade(deployment, upgrading)
    watcher = await watch(deployment, "watcher")
    everyone = {"polling", "upgrading", "watcher"}
    await deployment.until(lambda: watcher.lists(everyone), "the list was sent")

    await candidate.send_str("5")
    upgraded = Watcher(RawSocket(candidate))
    await deployment.until(lambda: upgraded.lists(everyone), "the client that upgraded has it")
    listed_users: set[str] = set()
    while listed_users != everyone:
        for packet in await polling.packets():
            listed_users = {each["id"] for each in json.loads(packet.removeprefix("42"))[1]}

    for each in (watcher, upgraded):
        await each.close()
    await polling.close()


async def _join_by_polling(deployment: Deployment, user: str) -> RawPolling:
    """Connect a user that polls no more once it is connected."""
    replica = deployment.replicas[0]
    client = await RawPolling(deployment.http, replica.url).open()
    await client.join(replica.token(user))
    return client


async def _start_upgrade(deployment: Deployment, client: RawPolling) -> aiohttp.ClientWebSocketResponse:
    """Open the WebSocket of an upgrade and probe it; the client sends ``5`` to complete the upgrade."""
    address = client.address.replace("http", "ws", 1).replace("polling", "websocket")
    socket = await deployment.http.ws_connect(address)
    await socket.send_str("2probe")
    assert await socket.receive_str() == "3probe"
    return socket


async def test_list_shows_users_of_a_killed_replica_no_more_and_another_replica_sends_it(
    shared_deployment: Deployment,
) -> None:
    deployment = shared_deployment
    deployment.start(listed())
    owner = await _owner_of_lists(deployment)
    other = next(number for number in range(3) if number != owner)
    watcher = await watch(deployment, "watcher", at=other)
    lost = [await deployment.connect(f"lost-{number}", at=owner) for number in range(5)]
    await deployment.until(
        lambda: (lists := watcher.of("onlineUsers")) and len(lists[-1][0]) == 6, "all are listed"
    )

    deployment.kill(owner)
    await deployment.until(
        lambda: [each["id"] for each in watcher.of("onlineUsers")[-1][0]] == ["watcher"],
        "the list is right again",
        seconds=2 * LEASE_SECONDS + SLACK_SECONDS,
    )

    watcher.got_lists_at_most_once_a_second()
    assert len(lost) == 5
    await watcher.close()


async def test_owner_of_lists_that_is_suspended_past_its_lease_sends_none_beside_the_next_owner(
    shared_deployment: Deployment,
) -> None:
    deployment = shared_deployment
    deployment.start(listed())
    owner = await _owner_of_lists(deployment)
    suspended = deployment.replicas[owner]
    others = [number for number in range(3) if number != owner]
    watcher = await watch(deployment, "watcher", at=others[0])
    await deployment.until(lambda: watcher.lists({"watcher"}), "the watcher is listed")
    await asyncio.sleep(3)  # for a list that is due
    lists = deployment.metric(owner, LISTS)

    suspended.signal(signal.SIGSTOP)
    try:
        users = {"watcher"}
        for number in range(3):
            await deployment.connect(f"user-{number}", at=others[1])
            users.add(f"user-{number}")
            await deployment.until(
                partial(watcher.lists, set(users)), "another replica sends", seconds=3 * LEASE_SECONDS
            )
    finally:
        suspended.signal(signal.SIGCONT)
    for number in range(3, 8):
        await deployment.connect(f"user-{number}", at=others[1])
        users.add(f"user-{number}")
        await deployment.until(partial(watcher.lists, set(users)), "the list is complete")

    watcher.got_lists_at_most_once_a_second()
    assert deployment.metric(owner, LISTS) == lists
    await watcher.close()


async def test_long_list_is_cut_and_client_that_connects_gets_it_within_its_period(
    deployment: Deployment,
) -> None:
    deployment.start(listed(max=3, every_seconds=2))
    sockets = [await deployment.connect(f"user-{number}") for number in range(5)]

    watcher = await watch(deployment, "late")
    connected_at = time.monotonic()
    await deployment.until(lambda: watcher.of("onlineUsers"), "it has a list")

    assert watcher.at("onlineUsers")[0] - connected_at < 2 + SLACK_SECONDS
    entries, cut = watcher.of("onlineUsers")[-1]
    assert ([each["id"] for each in entries], cut) == (["user-0", "user-1", "user-2"], {"truncated": True})
    assert len(sockets) == 5
    await watcher.close()


async def test_clients_that_are_connected_are_listed_when_a_reload_adds_the_list(
    deployment: Deployment,
) -> None:
    deployment.start({})
    watchers = [await watch(deployment, f"watcher-{number}", at=number) for number in range(6)]
    names = {f"watcher-{number}" for number in range(6)}

    deployment.reload(listed())
    for watcher in watchers:
        await deployment.until(
            partial(watcher.lists, names),
            "all are listed",
        )
    deployment.reload(listed(each={"name": "$user"}))
    await deployment.until(
        lambda: {each.get("name") for each in watchers[0].of("onlineUsers")[-1][0]} == names,
        "all have the new entry",
    )

    for watcher in watchers:
        await watcher.close()


async def _owner_of_lists(deployment: Deployment) -> int:
    """Return the number of the replica that sends lists: the one that counts them."""
    first = await watch(deployment, "first")
    await deployment.until(lambda: first.of("onlineUsers"), "a list was sent")
    await first.close()
    counts = [deployment.metric(number, LISTS) for number in range(3)]
    assert sum(count > 0 for count in counts) == 1
    return counts.index(max(counts))
