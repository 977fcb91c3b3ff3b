"""The load generator of the benchmark counts every delivery, and each part measures its figures."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest

from benchmarks import (
    batches,
    client_events,
    comparison,
    curves,
    notifications,
    replicated,
    scaling,
    servers,
    tables,
)
from benchmarks.comparison import Figures
from benchmarks.floors import ROWS
from benchmarks.load import frames
from benchmarks.load.client_events import Emits
from benchmarks.load.clients import Client
from benchmarks.load.deliveries import FIRST, DeliveryRecorder
from benchmarks.load.generator import LoadGenerator
from benchmarks.machine import cores
from benchmarks.servers import Server
from benchmarks.webhook_receiver import WebhookReceiver

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the benchmark needs Linux")

SMALL = {
    "CLIENTS": 30,
    "BROADCASTS": 5,
    "BROADCASTS_ALONE": 5,
    "EMITS": 60,
    "RATE_SECONDS": 1,
    "PUSH_RATE": 60,
    "CONNECTIONS": 30,
}


@pytest.fixture(autouse=True)
def short_idle_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "IDLE_SECONDS", 0.05)


@pytest.mark.parametrize("workers", [1, 2])
def test_load_generator_counts_every_broadcast_and_every_push(workers: int) -> None:
    with servers.gateway() as server, LoadGenerator(server, cores()[1], at_least=workers) as load:
        load.connect(30, role="staff-{}")
        small = load.broadcast(20)
        large = load.broadcast(3, size=70_000)
        single = load.emit(40, connections=4)

    assert (small["deliveries"], small["missing"]) == (600, 0)
    assert (large["deliveries"], large["missing"]) == (90, 0)
    assert (single["deliveries"], single["missing"], single["bad"]) == (40, 0, 0)
    assert 0 < single["latency"]["p50"] <= single["latency"]["p99"]


def test_worker_without_clients_does_not_hold_up_broadcasts_that_follow_one_another() -> None:
    with servers.gateway() as server, LoadGenerator(server, cores()[1], at_least=2) as load:
        empty, full = load.workers[0], load.workers[-1]
        full.clients = 10
        load.start_connect(full)
        full.read_result()
        answer = load.broadcast(5, window=1, connections=1, pause=0.0)

    assert empty.clients == 0
    assert (answer["deliveries"], answer["missing"]) == (50, 0)


def test_load_generator_counts_messages_to_users_and_those_of_batches() -> None:
    with servers.gateway() as server, LoadGenerator(server, cores()[1]) as load:
        load.connect(30)
        to_users = load.emit_to_users(20, recipients=10, connections=2)
        batched = load.emit_batches(250, together=100, connections=2)

    assert (to_users["deliveries"], to_users["missing"], to_users["bad"]) == (200, 0, 0)
    assert (batched["deliveries"], batched["missing"], batched["bad"]) == (250, 0, 0)


@pytest.mark.parametrize("scenario", [client_events.relay, client_events.acknowledge_and_call])
def test_events_of_clients_are_relayed_acknowledged_and_sent_to_the_webhook(
    monkeypatch: pytest.MonkeyPatch, scenario: Callable[[Server], Figures]
) -> None:
    sizes = {"CLIENTS": 30, "RELAYS": 60, "ACKS": 60, "CALLS": 60, "PACED": 60}
    for name, size in sizes.items():
        monkeypatch.setattr(client_events, name, size)
    with servers.webhook_receiver() as receiver, client_events.gateway(receiver.url) as server:
        figures = scenario(server)

    assert all(value > 0 for row, value in figures.items() if row != "call_added_p50")


def test_event_that_the_server_rejects_ends_the_measurement() -> None:
    with servers.gateway() as server, LoadGenerator(server, cores()[1]) as load:
        load.connect(2)
        with pytest.raises(RuntimeError, match=r"rejected 2 events: .*unknown_event"):
            load.join(2)


def test_clients_emit_in_turn_and_no_room_twice_in_succession() -> None:
    clients = [cast("Client", SimpleNamespace(number=number)) for number in range(6)]
    prepared = Emits("message", 7, 1, 2, ack=False).prepare(clients)

    assert [client.number for client, _ in prepared] == [0, 2, 4, 1, 3, 5, 0]
    assert prepared[1][1].endswith(b'42["message",{"room":"room-1","seq":1000001,"text":"x"}]')


def test_validation_of_an_argument_is_measured() -> None:
    assert client_events.validation_microseconds() > 0


def test_webhook_answers_each_complete_request_with_its_number() -> None:
    written: list[bytes] = []
    receiver = WebhookReceiver()
    receiver.connection_made(cast("asyncio.Transport", SimpleNamespace(write=written.append)))
    request = b'POST / HTTP/1.1\r\nContent-Length: 15\r\n\r\n{"seq":1000007}'
    receiver.data_received(request + request[:-1])

    assert [answer.partition(b"\r\n\r\n")[2] for answer in written] == [b'{"ack":{"ok":true,"seq":1000007}}']
    receiver.data_received(request[-1:])
    assert len(written) == 2


def test_webhook_counts_notifications_and_changes_of_presence() -> None:
    written: list[bytes] = []
    receiver = WebhookReceiver()
    receiver.connection_made(cast("asyncio.Transport", SimpleNamespace(write=written.append)))
    before = WebhookReceiver.notifications
    batch = b'[{"mode":"notify","seq":1},{"mode":"notify","seq":2},{"version":3}]'
    receiver.data_received(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(batch), batch))
    receiver.data_received(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")

    assert [answer.partition(b"\r\n\r\n")[2] for answer in written] == [b"", b"%d" % (before + 3)]


@pytest.mark.parametrize("state", ["memory", "Redis"])
def test_notifications_and_the_cost_of_presence_events_are_measured(
    monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    sizes = {"CLIENTS": 30, "WARM_UP": 30, "NOTIFICATIONS": 60, "STEPS": 30, "ROUNDS": 1, "LATER_SECONDS": 0}
    for name, size in sizes.items():
        monkeypatch.setattr(notifications, name, size)

    delivered = notifications.delivered(state, 2)
    connections = notifications.connections(state)

    assert all(value > 0 for value in delivered.values())
    assert len(connections) == 4
    assert all(figures["connect µs"] > 0 for figures in connections.values())


def test_batches_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in {"CLIENTS": 30, "MESSAGES": 200, "RECIPIENTS": 10, "TO_USERS": 20}.items():
        monkeypatch.setattr(batches, name, size)
    figures: Figures = {}
    for scenario in (batches.batches, batches.to_users):
        with servers.gateway() as server:
            figures |= scenario(server)

    assert set(figures) == {*batches.ROWS, *(row.cpu for row in batches.ROWS.values()), *batches.LOAD}
    assert all(figure > 0 for figure in figures.values())


def test_each_figure_of_the_floors_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in SMALL.items():
        monkeypatch.setattr(comparison, name, size)
    figures: Figures = {}
    for scenario in comparison.SCENARIOS:
        with servers.gateway() as server:
            figures |= scenario(server)
    for replicas in replicated.SCENARIOS:
        with replicated.start_pair("gateway") as pair:
            figures |= replicas(pair)

    named = {*ROWS, *(row.cpu for row in ROWS.values() if row.cpu)}
    assert named <= set(figures)
    assert {name for name in figures if name.startswith("load")} == set(tables.WORK)
    assert [name for name in named - {"memory"} if figures[str(name)] <= 0] == []


def test_cost_curves_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    small: dict[object, dict[str, object]] = {
        scaling: {"LEVELS": (20, 60), "STEPS": 20, "EMITS": 40, "DELIVERIES": 120, "ROUNDS": 1},
        curves: {
            "ROUNDS": 1,
            "CLIENTS": 120,
            "EMITS": 40,
            "BROADCASTS": 2,
            "TO_ROOMS": 5,
            "SIZES": (64, 16_384),
            "ROOMS": (1, 1000),
            "WITH_ROOMS": 20,
        },
    }
    for module, sizes in small.items():
        for name, size in sizes.items():
            monkeypatch.setattr(module, name, size)
    reported: list[str] = []

    found = curves.measure(reported.append)

    assert [list(curve.costs) for curve in found.curves()] == [
        [20, 60],
        [64, 16_384],
        [1, 1000],
        [1, 10, 100],
    ]
    assert all(
        cost > 0 for curve in found.curves() for costs in curve.costs.values() for cost in costs.values()
    )
    assert len(found.kinds) == 4
    assert len(reported) == 2 + 2 + 2 + 3 + 4


def test_delivering_time_leaves_out_what_the_load_takes_between_messages() -> None:
    recorder = DeliveryRecorder(2, 3)
    recorder.sent_at[0], recorder.sent_at[1] = 10.0, 20.0
    for seq, at in ((0, 10.5), (0, 11.0), (0, 10.25), (1, 20.5), (1, 20.5), (1, 22.0)):
        recorder.record(FIRST + seq, at)

    assert recorder.delivering_seconds() == 3.0


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_frame_ends_where_its_header_states(size: int) -> None:
    head = {size < 126: bytes((0x81, size & 127))}.get(True) or (
        b"\x81\x7e" + size.to_bytes(2, "big") if size < 65_536 else b"\x81\x7f" + size.to_bytes(8, "big")
    )
    data = b"??" + head + b"x" * size + b"more"

    assert frames.split(data, 2) == (2 + len(head), 2 + len(head) + size)
    assert all(frames.split(data[:end], 2)[1] > end for end in range(2, 2 + len(head)))
