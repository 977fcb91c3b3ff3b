"""What a backend pushes arrives: once, in order, at those it is for, whatever their client and their transport."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import aiohttp
import pytest

from tests.support.clients import Clients, NodeClients, StockClient
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_clients import RawPolling, RawSocket

pytestmark = pytest.mark.core

Transports = list[str] | None
Value = Any


class Room:
    """Opens clients of one kind with one choice of transports, and says who of them got an event."""

    def __init__(self, gateway: GatewayProcess, clients: Clients, transports: Transports) -> None:
        self.gateway, self._clients, self._transports = gateway, clients, transports
        self._open: list[StockClient] = []

    def enter(self, user: str, namespace: str = "/", **claims: Any) -> StockClient:
        token = self.gateway.token(user, **claims)
        client = self._clients.open(
            self.gateway.url, token=token, namespace=namespace, transports=self._transports
        )
        self._open.append(client.connected())
        return client

    def enter_together(self, user: str, namespaces: list[str]) -> list[StockClient]:
        together = self._clients.open_together(
            self.gateway.url, namespaces, token=self.gateway.token(user), transports=self._transports
        )
        self._open += together
        return [client.connected() for client in together]

    def leave(self) -> None:
        for client in self._open:
            client.disconnect()


@pytest.fixture
def room(gateway_process: GatewayProcess, clients: Clients, transports: Transports) -> Any:
    room = Room(gateway_process, clients, transports)
    yield room
    room.leave()


def test_a_push_to_a_user_reaches_each_of_their_devices_once_and_nobody_else(room: Room, user: str) -> None:
    phone, laptop, stranger = room.enter(user), room.enter(user), room.enter(f"{user}-stranger")
    data = {"title": "Zażółć gęślą jaźń 🚀 \u2028", "list": [1, -2.5, None, True], "nested": {"": "\x00\x1e"}}

    answer = room.gateway.push_user(user, "notification:new", data)

    room.gateway.wait_until_delivered(phone, laptop, stranger)
    assert (answer["online"], answer["connections"], "exact" in answer) == (True, 2, False)
    assert phone.events("notification:new") == laptop.events("notification:new") == [[data]]
    assert stranger.events("notification:new") == []


def test_a_push_to_a_room_reaches_those_whose_claims_grant_it(room: Room, user: str) -> None:
    one = room.enter(
        f"{user}-1", orgId=f"{user}-o", tenantId=[1000, "t"], role=[f"{user}-admin", f"{user}-author"]
    )
    two = room.enter(
        f"{user}-2", org_id=f"{user}-o", tenant_id="t", role=f"{user}-author", rooms=[f"{user}-lobby"]
    )
    pushes = {
        f"org:{user}-o": (one, two),
        "tenant:1000": (one,),
        "tenant:t": (one, two),
        f"role:{user}-admin": (one,),
        f"role:{user}-author": (one, two),
        f"{user}-lobby": (two,),
        f"role:{user}-lobby": (),
        f"user:{user}-2": (two,),
    }

    for name, members in pushes.items():
        answer = room.gateway.backend.push_room(name, "note", name).body
        assert answer.pop("id")
        assert answer == {"room": name, "online": bool(members), "connections": len(members)}

    room.gateway.wait_until_delivered(one, two)
    for client in (one, two):
        assert client.events("note") == [[name] for name, members in pushes.items() if client in members]


def test_a_broadcast_reaches_everybody_in_its_namespace_but_those_excepted(room: Room, user: str) -> None:
    everybody = guest, other_device, reader = (
        room.enter(user, role=f"{user}-guest"),
        room.enter(user),
        room.enter(f"{user}-reader"),
    )
    elsewhere = room.enter(user, "/events", role=f"{user}-guest")
    event = f"{user}:news"

    answer = room.gateway.backend.broadcast(event, 1).body
    room.gateway.backend.broadcast(event, 2, **{"except": [f"role:{user}-guest"]})
    partly = room.gateway.backend.broadcast(
        event, 3, **{"except": [other_device.sid, f"user:{user}-reader"]}
    ).body
    room.gateway.backend.broadcast(event, 4, **{"except": ["nobody is here"]})

    room.gateway.wait_until_delivered(*everybody)
    room.gateway.wait_until_delivered(elsewhere, namespace="/events")
    assert "room" not in answer
    assert answer["connections"] >= len(everybody)
    assert partly["exact"] is False
    assert guest.events(event) == [[1], [3], [4]]
    assert other_device.events(event) == [[1], [2], [4]]
    assert reader.events(event) == [[1], [2], [4]]
    assert elsewhere.events(event) == []


def test_a_client_in_several_of_the_rooms_gets_one_message_once(room: Room, user: str) -> None:
    both = room.enter(f"{user}-1", rooms=[f"{user}-a", f"{user}-b"])
    one = room.enter(f"{user}-2", rooms=[f"{user}-b"])
    rooms = [f"{user}-a", f"{user}-b", f"user:{user}-1"]

    answer = room.gateway.backend.push_room(rooms, "note", 1).body
    room.gateway.backend.push_room(rooms, "note", 2, **{"except": [f"user:{user}-1"]})

    room.gateway.wait_until_delivered(both, one)
    assert (answer["rooms"], answer["connections"], answer["exact"]) == (rooms, 4, False)
    assert both.events("note") == [[1]]
    assert one.events("note") == [[1], [2]]


@pytest.mark.parametrize(
    ("payload", "arguments"),
    [
        ({}, []),
        ({"data": None}, [None]),
        ({"data": []}, [[]]),
        ({"data": False}, [False]),
        ({"data": "text"}, ["text"]),
        ({"args": []}, []),
        ({"args": [None]}, [None]),
        ({"args": [1, "two", {"three": [4]}, None]}, [1, "two", {"three": [4]}, None]),
    ],
)
def test_an_event_has_exactly_the_arguments_that_were_pushed(
    room: Room, user: str, payload: dict[str, Value], arguments: list[Value]
) -> None:
    client = room.enter(user)

    assert room.gateway.backend.post(f"/emit/user/{user}", {"event": "note"} | payload).status == 200

    assert client.event("note") == arguments


def test_namespaces_on_one_transport_are_separate_worlds(room: Room, user: str) -> None:
    namespaces = ["/", "/events", "/notifications"]
    together = room.enter_together(user, namespaces)
    alone = room.enter(user, "/events")

    for namespace in namespaces:
        room.gateway.push_user(user, "note", namespace, namespace=namespace)

    for client, namespace in zip(together, namespaces, strict=True):
        room.gateway.wait_until_delivered(client, namespace=namespace)
        assert client.events("note") == [[namespace]]
    room.gateway.wait_until_delivered(alone, namespace="/events")
    assert alone.events("note") == [["/events"]]
    assert len({client.sid for client in [*together, alone]}) == 4


def test_pushes_arrive_in_order_from_the_first_moment_on_and_while_the_client_upgrades(
    room: Room, user: str
) -> None:
    client = room.enter(user)

    for number in range(60):
        room.gateway.push_user(user, "note", number)

    room.gateway.wait_until_delivered(client)
    assert client.events("note") == [[number] for number in range(60)]


def test_a_message_published_when_the_client_just_saw_connect_always_arrives(
    gateway_process: GatewayProcess, node: NodeClients, user: str
) -> None:
    token = gateway_process.token(user)
    for number in range(100):
        client = node.open(
            gateway_process.url, token=token, transports=[("polling", "websocket")[number % 2]]
        )
        client.wait("connect")
        assert gateway_process.push_user(user, "note", number)["online"]
        assert client.event("note") == [number]
        client.disconnect()


def test_the_options_that_front_ends_of_the_field_use_work_unchanged(
    gateway_process: GatewayProcess, node: NodeClients, user: str
) -> None:
    client = node.open(
        gateway_process.url,
        token=gateway_process.token(user),
        path="/socket.io/",
        transports=["websocket", "polling"],
        withCredentials=True,
    ).connected()

    gateway_process.push_user(user, "notification:new", {"title": "hi"})

    assert client.event("notification:new") == [{"title": "hi"}]
    assert client.wait("engine")["transport"] == "websocket"
    client.disconnect()


async def test_payloads_reach_the_wire_as_the_backend_wrote_them(
    gateway_process: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    socket = await RawSocket.open(http, gateway_process.url)
    await socket.join(gateway_process.token(user))
    polling = await RawPolling(http, gateway_process.url).open()
    await polling.join(gateway_process.token(user))
    texts = [
        "12345678901234567890",
        "1e400",
        "-0.0",
        "1.10",
        '{"a":1,"a":2}',
        '{ "b" : [ ] }',
        r'"\u00e9\ud83d\ude80"',
        '"é"',
    ]

    for text in texts:
        body = f'{{"event":"note","data": {text} }}'.encode()
        assert gateway_process.backend.send("POST", f"/emit/user/{user}", body).status == 200

    expected = [f'42["note",{text}]' for text in texts]
    assert [await socket.frame() for _ in texts] == expected
    assert await polling.packets() == expected
    await polling.close()


async def test_the_frames_of_a_fresh_connection_are_connect_then_authenticated_then_what_is_pushed(
    gateway_process: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    socket = await RawSocket.open(http, gateway_process.url)
    greeting = await socket.join(gateway_process.token(user, email="a@example.com"), "/events")
    other = await RawPolling(http, gateway_process.url).open()
    nameless = await other.join(gateway_process.token(7))

    gateway_process.push_user(user, "note", namespace="/events")

    assert greeting == {
        "success": True,
        "userId": user,
        "email": "a@example.com",
        "socketId": greeting["socketId"],
    }
    assert nameless == {"success": True, "userId": "7", "email": None, "socketId": nameless["socketId"]}
    assert await socket.frame() == '42/events,["note",null]'
    await other.close()


async def test_nothing_comes_before_the_greeting_however_much_is_pushed(
    gateway_process: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    token, done = gateway_process.token(user), asyncio.Event()

    async def keep_pushing() -> int:
        for number in itertools.count():
            await asyncio.to_thread(gateway_process.push_user, user, "note", number)
            if done.is_set():
                return number
        raise AssertionError

    pushing = asyncio.create_task(keep_pushing())
    for _ in range(60):
        socket = await RawSocket.open(http, gateway_process.url)
        await socket.join(token)  # CONNECT, then the greeting, or it fails
        first = json.loads((await socket.frame())[2:])[1]
        assert [json.loads((await socket.frame())[2:])[1] for _ in range(2)] == [first + 1, first + 2]
        await socket.socket.close()
    done.set()
    assert await pushing > 60
