"""Emits with acknowledgement on one replica: what a backend gets of what stock clients answer."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from gateway.services.acks import MAX_WAITS
from tests.support.backend import Answer
from tests.support.clients import NodeClients, StockClient
from tests.support.cluster import metric
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_clients import RawSocket
from tests.support.waiter import await_until, wait_until

FIRST = {"want": "first", "timeout_seconds": 20}
ALL = {"want": "all", "timeout_seconds": 20}


@pytest.fixture(scope="module")
def gateway() -> Iterator[GatewayProcess]:
    process = GatewayProcess(message_rate=5, request_timeout_seconds=60)
    yield process
    assert process.stop() == 0
    assert process.failures() == []


def opened(
    node: NodeClients, gateway: GatewayProcess, user: str, *rooms: str, transports: list[str] | None = None
) -> StockClient:
    token = gateway.token(user, rooms=list(rooms))
    return node.open(gateway.url, token=token, transports=transports or ["websocket"]).connected()


def push(gateway: GatewayProcess, user: str, ack: dict[str, Any], **more: Any) -> Any:
    return gateway.push_user(user, "ask", {"n": 1}, ack=ack, **more)


def sums_up(body: Any) -> bool:
    """Whether the counts of an answer add up."""
    return bool(body["asked"] == body["acked"] + body["gone"] + body["silent"])


def waits(gateway: GatewayProcess) -> float:
    """How many requests wait for acknowledgements."""
    return metric(gateway, "sio_gateway_ack_waits")


@pytest.mark.parametrize(
    "answer",
    [
        ([{"ok": True}], {"data": {"ok": True}}),
        ([], {"data": None}),
        ([None], {"data": None}),
        ([[1, 2]], {"data": [1, 2]}),
        (["ä\u2028", 12345678901234567890], {"args": ["ä\u2028", 12345678901234567000]}),
    ],
)
def test_backend_gets_what_the_client_answers(
    gateway: GatewayProcess,
    node: NodeClients,
    user: str,
    transports: list[str] | None,
    answer: tuple[list[Any], dict[str, Any]],
) -> None:
    arguments, members = answer
    client = opened(node, gateway, user, transports=transports).answer_all(*arguments)

    body = push(gateway, user, FIRST)

    [ack] = body.pop("acks")
    assert 0 < ack.pop("seconds") < 20
    assert ack == {"sid": client.sid, "user": user} | members
    assert body.pop("id")
    assert body == {
        "room": f"user:{user}",
        "online": True,
        "connections": 1,
        "recoverable": 0,
        "complete": True,
        "asked": 1,
        "acked": 1,
        "gone": 0,
        "silent": 0,
        "unheard": [],
    }
    assert client.wait("event", event="ask")["args"] == [{"n": 1}]


def test_user_without_a_connection_is_answered_at_once(gateway: GatewayProcess, user: str) -> None:
    started = time.monotonic()

    body = push(gateway, user, ALL)

    assert time.monotonic() - started < 10
    assert (body["online"], body["complete"], body["asked"], body["acks"]) == (False, False, 0, [])


def test_all_ends_with_the_timeout_if_a_client_is_silent(
    gateway: GatewayProcess, node: NodeClients, user: str
) -> None:
    opened(node, gateway, user).answer_all("yes")
    opened(node, gateway, user)

    body = push(gateway, user, {"want": "all", "timeout_seconds": 1})

    assert (body["complete"], body["asked"], body["acked"], body["gone"], body["silent"]) == (
        False,
        2,
        1,
        0,
        1,
    )
    assert [ack["data"] for ack in body["acks"]] == ["yes"]


def test_wait_for_a_number_ends_with_that_many(gateway: GatewayProcess, node: NodeClients, user: str) -> None:
    for number in range(4):
        client = opened(node, gateway, user)
        if number < 3:
            client.answer_all(number)

    body = push(gateway, user, {"want": 3, "timeout_seconds": 20})

    assert (body["complete"], body["asked"], body["acked"], body["silent"]) == (True, 4, 3, 1)
    assert sorted(ack["data"] for ack in body["acks"]) == [0, 1, 2]


def test_client_that_leaves_is_counted_at_once(gateway: GatewayProcess, node: NodeClients, user: str) -> None:
    opened(node, gateway, user).answer_all()
    leaving = opened(node, gateway, user)

    with ThreadPoolExecutor() as pool:
        answer = pool.submit(push, gateway, user, ALL)
        leaving.wait("event", event="ask")
        leaving.disconnect()
        body = answer.result()

    assert (body["complete"], body["asked"], body["acked"], body["gone"], body["silent"]) == (
        False,
        2,
        1,
        1,
        0,
    )


def test_push_to_rooms_and_users_asks_each_connection_once(
    gateway: GatewayProcess, node: NodeClients, user: str
) -> None:
    rooms = [f"org:{user}", f"role:{user}"]
    users = [f"{user}-{n}" for n in range(4)]
    clients = [opened(node, gateway, f"{user}-{n}", *rooms).answer_all(n) for n in range(3)]

    answers = [
        gateway.backend.push_room(rooms, "ask", ack=ALL).body,
        gateway.backend.push_room(rooms[0], "ask", ack=ALL, **{"except": [clients[0].sid]}).body,
        gateway.backend.post("/emit/users", {"users": users, "event": "ask", "ack": ALL}).body,
    ]

    assert [(each["complete"], each["asked"]) for each in answers] == [(True, 3), (True, 2), (True, 3)]
    assert {ack["user"]: ack["data"] for ack in answers[2]["acks"]} == {f"{user}-{n}": n for n in range(3)}
    assert answers[2]["users"] == {f"{user}-0": 1, f"{user}-1": 1, f"{user}-2": 1, f"{user}-3": 0}


def test_late_doubled_and_forged_acknowledgements_change_nothing(
    gateway: GatewayProcess, node: NodeClients, user: str
) -> None:
    client, forger = opened(node, gateway, user), opened(node, gateway, f"{user}-forger", f"org:{user}")

    late = push(gateway, user, {"want": "all", "timeout_seconds": 0.1})
    client.answer_kept("late")
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(push, gateway, user, {"want": 2, "timeout_seconds": 3})
        client.wait("event", event="ask", count=2)
        for number in range(3):
            forger.send_raw(f'3{number}["forged"]')
        client.answer_kept("right")
        body = answer.result()

    assert (late["acked"], late["silent"], late["acks"]) == (0, 1, [])
    assert (body["complete"], body["asked"], body["acked"]) == (False, 1, 1)
    assert [ack["data"] for ack in body["acks"]] == ["right"]
    assert forger.emit_with_ack("unknown")["error"]["code"] == "unknown_event"  # it is connected


def test_acknowledgements_do_not_count_towards_the_rate_of_messages(
    gateway: GatewayProcess, node: NodeClients, user: str
) -> None:
    client = opened(node, gateway, user).answer_all()

    acked = [push(gateway, user, FIRST)["acked"] for _ in range(40)]

    assert acked == [1] * 40
    assert client.entries[-1]["type"] != "disconnect"


def test_repeat_gets_the_receipt_and_no_acknowledgements(
    gateway: GatewayProcess, node: NodeClients, user: str
) -> None:
    client = opened(node, gateway, user).answer_all("once")
    body = {"event": "ask", "ack": FIRST}

    first, repeat = [gateway.backend.post(f"/emit/user/{user}", body, idempotency_key=user) for _ in range(2)]

    assert first.body["complete"]
    assert repeat.headers["idempotency-replayed"] == "true"
    assert repeat.body["id"] == first.body["id"]
    assert (repeat.body["complete"], repeat.body["asked"], repeat.body["acks"]) == (False, 0, [])
    gateway.wait_until_delivered(client)
    assert len(client.events("ask")) == 1


def test_repeat_is_answered_while_the_first_request_waits(
    gateway: GatewayProcess, node: NodeClients, user: str
) -> None:
    client = opened(node, gateway, user)
    body = {"event": "ask", "ack": {"want": "first", "timeout_seconds": 25}}

    with ThreadPoolExecutor() as pool:
        first = pool.submit(gateway.backend.post, f"/emit/user/{user}", body, idempotency_key=user)
        client.wait("event", event="ask")
        repeat = gateway.backend.post(f"/emit/user/{user}", body, idempotency_key=user)
        client.answer_kept("now")

    assert (repeat.status, repeat.body["complete"]) == (200, False)
    assert first.result().body["acks"][0]["data"] == "now"


@contextmanager
def calling(gateway: GatewayProcess, user: str, *, timeout_seconds: float, **more: str) -> Iterator[None]:
    """A caller that waits for the first acknowledgement, and closes its connection at the end."""
    body = json.dumps({"event": "ask", "ack": {"want": "first", "timeout_seconds": timeout_seconds}}).encode()
    target = f"/emit/user/{user}"
    address = urlsplit(gateway.url)
    headers = gateway.backend.sign("POST", target, body) | more
    headers |= {"Host": "gateway", "Content-Type": "application/json", "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall(f"POST {target} HTTP/1.1\r\n{head}\r\n".encode() + body)
        yield


@pytest.mark.parametrize("more", [{}, {"Connection": "close"}], ids=["fast path", "aiohttp"])
def test_caller_that_hangs_up_ends_the_wait(
    gateway: GatewayProcess, node: NodeClients, user: str, more: dict[str, str]
) -> None:
    opened(node, gateway, user)

    for _ in range(3):
        with calling(gateway, user, timeout_seconds=25, **more):
            wait_until(lambda: waits(gateway) == 1, "the request waits")
        started = time.monotonic()
        wait_until(lambda: waits(gateway) == 0, "the wait has ended")
        assert time.monotonic() - started < 10


def test_clients_of_a_caller_that_hung_up_are_awaited_until_the_timeout(
    gateway: GatewayProcess, node: NodeClients, user: str
) -> None:
    def asks() -> float:
        return metric(gateway, "sio_gateway_emit_asks_open")

    opened(node, gateway, user)
    wait_until(lambda: asks() == 0, "no ask of another test is open")

    with calling(gateway, user, timeout_seconds=3):
        wait_until(lambda: asks() == 1, "the client is asked")

    wait_until(lambda: waits(gateway) == 0, "the wait has ended")
    wait_until(lambda: asks() == 0, "the timeout has closed the ask")


def test_other_requests_are_answered_while_one_waits(
    gateway: GatewayProcess, node: NodeClients, user: str
) -> None:
    client = opened(node, gateway, user)

    with ThreadPoolExecutor() as pool:
        answer = pool.submit(push, gateway, user, FIRST)
        client.wait("event", event="ask")
        for number in range(20):
            gateway.push_user(user, "plain", number)
        gateway.wait_until_delivered(client)
        client.answer_kept()
        assert answer.result()["complete"]
    assert client.events("plain") == [[number] for number in range(20)]


def test_too_many_open_acknowledgements_of_a_connection_are_silent(
    gateway: GatewayProcess, node: NodeClients, user: str
) -> None:
    client = opened(node, gateway, user)

    with ThreadPoolExecutor(70) as pool:
        answers = [
            pool.submit(push, gateway, user, {"want": "first", "timeout_seconds": 20}) for _ in range(64)
        ]
        client.wait("event", event="ask", count=64)
        further = push(gateway, user, {"want": "first", "timeout_seconds": 20})
        client.wait("event", event="ask", count=65)
        client.answer_kept("at last")
        bodies = [answer.result() for answer in answers]

    assert (further["complete"], further["asked"], further["silent"]) == (False, 1, 1)
    assert [body["acked"] for body in bodies] == [1] * 64
    client.answer_all("again")
    assert push(gateway, user, FIRST)["acked"] == 1


def test_acknowledgements_are_bounded_by_the_largest_body(
    gateway: GatewayProcess, node: NodeClients, user: str
) -> None:
    room = f"org:{user}"
    for number in range(30):
        opened(node, gateway, f"{user}-{number}", room).answer_all(repeat={"text": "x", "times": 99_000})

    answer: Answer = gateway.backend.push_room(room, "ask", ack=ALL)

    assert (answer.status, answer.body["complete"], answer.body["asked"]) == (200, True, 30)
    assert answer.body["truncated"] is True
    assert len(answer.body["acks"]) == 10
    assert len(answer.text) <= 1024 * 1024


def test_number_that_is_larger_than_that_of_the_clients_ends_with_their_answers(
    gateway: GatewayProcess, node: NodeClients, user: str
) -> None:
    for number in range(2):
        opened(node, gateway, user).answer_all(number)

    body = push(gateway, user, {"want": 5, "timeout_seconds": 25})

    assert (body["complete"], body["asked"], body["acked"], body["silent"]) == (False, 2, 2, 0)
    assert sorted(ack["data"] for ack in body["acks"]) == [0, 1]


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_acknowledgement_that_is_larger_than_a_message_closes_its_connection_which_is_gone(
    gateway: GatewayProcess, node: NodeClients, user: str, transport: str
) -> None:
    client = opened(node, gateway, user, transports=[transport])
    client.answer_all(repeat={"text": "x", "times": 100_001})

    body = push(gateway, user, ALL)

    assert (body["complete"], body["asked"], body["acked"], body["gone"]) == (False, 1, 0, 1)
    client.wait("disconnect")
    client.disconnect()


def test_connection_that_is_resumed_meanwhile_is_gone_and_its_late_answer_changes_nothing(
    gateway: GatewayProcess, node: NodeClients, user: str
) -> None:
    client = opened(node, gateway, user)

    with ThreadPoolExecutor() as pool:
        answer = pool.submit(push, gateway, user, ALL)
        client.wait("event", event="ask")
        client.close_engine()
        body = answer.result()
    client.wait("connect", count=2)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(push, gateway, user, ALL)
        client.wait("event", event="ask", count=2)
        client.answer_kept("both")
        again = answer.result()

    assert client.entries[-1]["type"] == "event"
    assert [entry["recovered"] for entry in client.entries if entry["type"] == "connect"] == [False, True]
    assert (body["complete"], body["asked"], body["acked"], body["gone"]) == (False, 1, 0, 1)
    assert (again["complete"], again["asked"], [ack["data"] for ack in again["acks"]]) == (True, 1, ["both"])
    assert len(client.events("ask")) == 2, "an event that was to be acknowledged is not replayed"


def test_wait_ends_with_what_was_received_when_the_gateway_stops(node: NodeClients, user: str) -> None:
    process = GatewayProcess()
    answering = opened(node, process, user).answer_all("yes")
    silent = opened(node, process, user)

    with ThreadPoolExecutor() as pool:
        answer = pool.submit(push, process, user, {"want": "all", "timeout_seconds": 25})
        for client in (answering, silent):
            client.wait("event", event="ask")
        wait_until(
            lambda: metric(process, 'sio_gateway_client_acks_total{outcome="received"}') == 1,
            "one acknowledged",
        )
        process.signal(signal.SIGTERM)
        body = answer.result()
        assert process.wait() == 0

    assert (body["complete"], body["asked"], body["acked"]) == (False, 2, 1)
    assert body["gone"] + body["silent"] == 1
    assert [ack["data"] for ack in body["acks"]] == ["yes"]
    assert process.failures() == []
    for client in (answering, silent):
        client.disconnect()


class RawCaller:
    """A connection of a backend, which is open before its request is sent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
        self._reader = reader
        self._writer = writer
        self._request = request

    @classmethod
    async def open(cls, gateway: GatewayProcess, user: str) -> RawCaller:
        """Connect; the request will ask all connections of a user."""
        target = f"/emit/user/{user}"
        body = json.dumps({"event": "ask", "ack": {"want": "all", "timeout_seconds": 25}}).encode()
        headers = gateway.backend.sign("POST", target, body)
        headers |= {"Host": "gateway", "Content-Type": "application/json", "Content-Length": str(len(body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        address = urlsplit(gateway.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        return cls(reader, writer, f"POST {target} HTTP/1.1\r\n{head}\r\n".encode() + body)

    def send(self) -> None:
        self._writer.write(self._request)

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        """Return the status, the headers and the body of the answer, and close the connection."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
        body = await self._reader.readexactly(int(headers["content-length"]))
        self._writer.close()
        return int(head[0].split()[1]), headers, json.loads(body)


async def test_number_of_requests_that_wait_is_limited_and_nothing_is_left_of_them(
    gateway: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    # A connection has at most 64 open acknowledgements.
    clients = [await RawSocket.open(http, gateway.url) for _ in range(17)]
    for number, client in enumerate(clients):
        await client.join(gateway.token(f"{user}-{number}"))
    callers = [await RawCaller.open(gateway, f"{user}-{number % 16}") for number in range(MAX_WAITS)]
    further = await RawCaller.open(gateway, f"{user}-16")

    for caller in callers:
        caller.send()
    await await_until(lambda: waits(gateway) == MAX_WAITS, "all requests wait")
    further.send()
    status, headers, problem = await further.answer()
    for client in clients:
        await client.socket.close()
    answers = [await caller.answer() for caller in callers]

    assert (status, problem["code"], headers["retry-after"]) == (503, "overloaded", "1")
    ended = [(status, body["complete"], body["asked"], body["gone"]) for status, _, body in answers]
    assert ended == [(200, False, 1, 1)] * MAX_WAITS
    assert waits(gateway) == 0
    # Those of callers that hung up stay open until their timeout.
    await await_until(lambda: metric(gateway, "sio_gateway_emit_asks_open") == 0, "no ask is open")
