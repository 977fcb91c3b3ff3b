"""Each push arrives once and in order at every addressed client, with every client library and transport."""

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

Transports = list[str] | None
Value = Any


class ClientFactory:
    """Connects clients of one library with one choice of transports."""

    def __init__(self, gateway: GatewayProcess, clients: Clients, transports: Transports) -> None:
        self.gateway, self._clients, self._transports = gateway, clients, transports
        self._open: list[StockClient] = []

    def connect(self, user: str, namespace: str = "/", **claims: Any) -> StockClient:
        token = self.gateway.token(user, **claims)
        client = self._clients.open(
            self.gateway.url, token=token, namespace=namespace, transports=self._transports
        )
        self._open.append(client.connected())
        return client

    def connect_namespaces(self, user: str, namespaces: list[str]) -> list[StockClient]:
        together = self._clients.open_together(
            self.gateway.url, namespaces, token=self.gateway.token(user), transports=self._transports
        )
        self._open += together
        return [client.connected() for client in together]

    def disconnect_all(self) -> None:
        for client in self._open:
            client.disconnect()


@pytest.fixture
def factory(gateway_process: GatewayProcess, clients: Clients, transports: Transports) -> Any:
    factory = ClientFactory(gateway_process, clients, transports)
    yield factory
    factory.disconnect_all()


def test_push_to_a_user_reaches_each_connection_of_that_user_once_and_no_other_client(
    factory: ClientFactory, user: str
) -> None:
    phone, laptop, other = factory.connect(user), factory.connect(user), factory.connect(f"{user}-other")
    data = {"title": "Zażółć gęślą jaźń 🚀 \u2028", "list": [1, -2.5, None, True], "nested": {"": "\x00\x1e"}}

    answer = factory.gateway.push_user(user, "notification:new", data)

    factory.gateway.wait_until_delivered(phone, laptop, other)
    assert (answer["online"], answer["connections"], "exact" in answer) == (True, 2, False)
    assert phone.events("notification:new") == laptop.events("notification:new") == [[data]]
    assert other.events("notification:new") == []


def test_push_to_a_room_reaches_the_clients_whose_claims_grant_the_room(
    factory: ClientFactory, user: str
) -> None:
    one = factory.connect(
        f"{user}-1", orgId=f"{user}-o", tenantId=[1000, "t"], role=[f"{user}-admin", f"{user}-author"]
    )
    two = factory.connect(
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
        answer = factory.gateway.backend.push_room(name, "note", name).body
        assert answer.pop("id")
        assert answer == {
            "room": name,
            "online": bool(members),
            "connections": len(members),
            "recoverable": 0,
        }

    factory.gateway.wait_until_delivered(one, two)
    for client in (one, two):
        assert client.events("note") == [[name] for name, members in pushes.items() if client in members]


def test_broadcast_reaches_every_client_of_its_namespace_that_is_not_excepted(
    factory: ClientFactory, user: str
) -> None:
    in_namespace = trial_user, other_device, reader = (
        factory.connect(user, role=f"{user}-trial"),
        factory.connect(user),
        factory.connect(f"{user}-reader"),
    )
    elsewhere = factory.connect(user, "/events", role=f"{user}-trial")
    event = f"{user}:news"

    answer = factory.gateway.backend.broadcast(event, 1).body
    factory.gateway.backend.broadcast(event, 2, **{"except": [f"role:{user}-trial"]})
    excepted = factory.gateway.backend.broadcast(
        event, 3, **{"except": [other_device.sid, f"user:{user}-reader"]}
    ).body
    factory.gateway.backend.broadcast(event, 4, **{"except": ["an empty room"]})

    factory.gateway.wait_until_delivered(*in_namespace)
    factory.gateway.wait_until_delivered(elsewhere, namespace="/events")
    assert "room" not in answer
    assert answer["connections"] >= len(in_namespace)
    assert excepted["exact"] is False
    assert trial_user.events(event) == [[1], [3], [4]]
    assert other_device.events(event) == [[1], [2], [4]]
    assert reader.events(event) == [[1], [2], [4]]
    assert elsewhere.events(event) == []


def test_client_in_several_of_the_addressed_rooms_gets_a_message_once(
    factory: ClientFactory, user: str
) -> None:
    both = factory.connect(f"{user}-1", rooms=[f"{user}-a", f"{user}-b"])
    one = factory.connect(f"{user}-2", rooms=[f"{user}-b"])
    rooms = [f"{user}-a", f"{user}-b", f"user:{user}-1"]

    answer = factory.gateway.backend.push_room(rooms, "note", 1).body
    factory.gateway.backend.push_room(rooms, "note", 2, **{"except": [f"user:{user}-1"]})

    factory.gateway.wait_until_delivered(both, one)
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
def test_event_has_exactly_the_arguments_that_were_pushed(
    factory: ClientFactory, user: str, payload: dict[str, Value], arguments: list[Value]
) -> None:
    client = factory.connect(user)

    assert factory.gateway.backend.post(f"/emit/user/{user}", {"event": "note"} | payload).status == 200

    assert client.event("note") == arguments


def test_namespaces_on_one_transport_get_only_their_own_messages(factory: ClientFactory, user: str) -> None:
    namespaces = ["/", "/events", "/notifications"]
    together = factory.connect_namespaces(user, namespaces)
    alone = factory.connect(user, "/events")

    for namespace in namespaces:
        factory.gateway.push_user(user, "note", namespace, namespace=namespace)

    for client, namespace in zip(together, namespaces, strict=True):
        factory.gateway.wait_until_delivered(client, namespace=namespace)
        assert client.events("note") == [[namespace]]
    factory.gateway.wait_until_delivered(alone, namespace="/events")
    assert alone.events("note") == [["/events"]]
    assert len({client.sid for client in [*together, alone]}) == 4


def test_pushes_arrive_in_order_from_the_connect_on_and_during_the_upgrade(
    factory: ClientFactory, user: str
) -> None:
    client = factory.connect(user)

    for number in range(60):
        factory.gateway.push_user(user, "note", number)

    factory.gateway.wait_until_delivered(client)
    assert client.events("note") == [[number] for number in range(60)]


def test_message_published_right_after_the_connect_packet_arrives(
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


def test_client_options_that_front_ends_use_work_unchanged(
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


async def test_payload_is_sent_byte_for_byte_as_the_backend_wrote_it(
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


async def test_frames_of_a_new_connection_are_connect_then_authenticated_then_pushes(
    gateway_process: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    socket = await RawSocket.open(http, gateway_process.url)
    authenticated = await socket.join(gateway_process.token(user, email="a@example.com"), "/events")
    other = await RawPolling(http, gateway_process.url).open()
    nameless = await other.join(gateway_process.token(7))

    gateway_process.push_user(user, "note", namespace="/events")

    assert authenticated == {
        "success": True,
        "userId": user,
        "email": "a@example.com",
        "socketId": authenticated["socketId"],
    }
    assert nameless == {"success": True, "userId": "7", "email": None, "socketId": nameless["socketId"]}
    assert await socket.frame() == '42/events,["note",null]'
    await other.close()


async def test_push_does_not_arrive_before_authenticated_under_constant_pushes(
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
        await socket.join(token)  # fails unless CONNECT and `authenticated` come first
        first = json.loads((await socket.frame())[2:])[1]
        assert [json.loads((await socket.frame())[2:])[1] for _ in range(2)] == [first + 1, first + 2]
        await socket.socket.close()
    done.set()
    assert await pushing > 60
