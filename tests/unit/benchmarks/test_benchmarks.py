"""The load generator of the benchmark counts every delivery, and the results are formatted."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast
from xml.etree import ElementTree as ET

import pytest

from benchmarks import batches, client_events, comparison, document, notifications, plot, servers, tables
from benchmarks.comparison import ROWS, Comparison, Figures
from benchmarks.load import frames
from benchmarks.load.client_events import Emits
from benchmarks.load.clients import Client
from benchmarks.load.deliveries import FIRST, DeliveryRecorder
from benchmarks.load.generator import LoadGenerator
from benchmarks.machine import cores
from benchmarks.servers import Server
from benchmarks.webhook_receiver import WebhookReceiver

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the benchmark needs Linux")

LOAD = {"load_broadcast": 0.25, "load_emit": 0.3, "load_paced": 0.1}


def results() -> Comparison:
    figures = dict.fromkeys(ROWS, 1234.5)
    return Comparison(
        medians={"gateway": figures, "node": {key: value / 2 for key, value in figures.items()}},
        spread={name: dict.fromkeys(ROWS, (1.0, 2.0)) for name in ("gateway", "node")},
        load={"gateway": LOAD, "node": LOAD, "bare sender": {"deliveries": 150_000, "load_broadcast": 0.3}},
        rounds=3,
    )


def one_sided() -> Comparison:
    found = results()
    found.medians["node"] = dict.fromkeys(ROWS, float("nan"))
    found.spread["node"] = dict.fromkeys(ROWS, (float("nan"), float("nan")))
    return found


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


def test_delivering_time_leaves_out_what_the_load_takes_between_messages() -> None:
    recorder = DeliveryRecorder(2, 3)
    recorder.sent_at[0], recorder.sent_at[1] = 10.0, 20.0
    for seq, at in ((0, 10.5), (0, 11.0), (0, 10.25), (1, 20.5), (1, 20.5), (1, 22.0)):
        recorder.record(FIRST + seq, at)

    assert recorder.delivering_seconds() == 3.0


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


def test_cpu_time_of_connects_and_disconnects_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "CONNECTIONS", 50)
    with servers.gateway() as server:
        figures = comparison.connect_and_disconnect(server)

    assert set(figures) == {"connect", "memory", "disconnect"}
    assert figures["connect"] > 0


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_frame_ends_where_its_header_states(size: int) -> None:
    head = {size < 126: bytes((0x81, size & 127))}.get(True) or (
        b"\x81\x7e" + size.to_bytes(2, "big") if size < 65_536 else b"\x81\x7f" + size.to_bytes(8, "big")
    )
    data = b"??" + head + b"x" * size + b"more"

    assert frames.split(data, 2) == (2 + len(head), 2 + len(head) + size)
    assert all(frames.split(data[:end], 2)[1] > end for end in range(2, 2 + len(head)))


def test_plot_is_svg_with_two_bars_for_each_row() -> None:
    picture = ET.fromstring(plot.bars(results()))  # noqa: S314  # made by this project

    assert len(picture.findall("{http://www.w3.org/2000/svg}rect")) == 2 * len(ROWS)


def test_table_shows_ratios_and_rounded_figures() -> None:
    first = tables.comparison(results())[1]

    assert first[2:5] == ["1 230", "617", "2.00×"]
    assert tables.comparison(one_sided())[1][3:5] == ["–", "–"]
    assert tables.markdown([["", "a"], ["b", "1"]]) == "|  | a |\n| --- | ---: |\n| b | 1 |"


def run(**found: object) -> document.Run:
    return document.Run("2026-11-30", {"CPU": "one, 2 cores"}, 6.0, 1.5, found)


def whole_run() -> document.Run:
    kinds = {"memory": {"new": 1.0}}
    parts = dict.fromkeys(document.SECTIONS, kinds) | {"scale": {1_000: {"connect": 1.0}}}
    notify = notifications.Found(delivered=kinds, connections=kinds)
    return run(**parts | {"compare": results(), "batch": batch(), "events": events(), "notify": notify})


def batch() -> Comparison:
    found = results()
    figures = dict.fromkeys(batches.ROWS, 9876.0)
    return Comparison(
        medians={"gateway": figures, "node": figures},
        spread={name: dict.fromkeys(batches.ROWS, (1.0, 2.0)) for name in ("gateway", "node")},
        load={name: dict.fromkeys(batches.LOAD, 0.2) for name in ("gateway", "node")},
        rounds=found.rounds,
    )


def events(figure: float = 4321.0) -> Comparison:
    rows = client_events.ROWS
    return Comparison(
        medians={name: dict.fromkeys(rows, figure) for name in ("gateway", "node")},
        spread={name: dict.fromkeys(rows, (1.0, 2.0)) for name in ("gateway", "node")},
        load={name: dict.fromkeys(client_events.LOAD, 0.25) for name in ("gateway", "node")},
        rounds=3,
    )


def test_page_has_the_sections_of_the_committed_one_and_those_measured_by_themselves() -> None:
    headings = [line for line in document.page(whole_run()).splitlines() if line.startswith("## ")]
    committed = [line for line in document.PAGE.read_text("utf-8").splitlines() if line.startswith("## ")]

    assert [heading for heading in headings if heading in committed] == committed
    assert headings[-3:] == [
        "## Events of clients",
        "## Notifications and presence events",
        "## Repeat it",
    ]


def test_run_of_one_part_replaces_its_section_and_no_other() -> None:
    page = document.page(whole_run())

    changed = document.with_parts(page, run(events=events(8765.0)))

    head, _, rest = page.partition("## Events of clients\n")
    assert changed.startswith(head)
    assert changed.endswith(rest[rest.index("## Notifications and presence events") :])
    assert "8 760" in changed.removeprefix(head)
    assert "4 320" not in changed
    assert "Measured by itself on 2026-11-30. CPU: one, 2 cores." in changed
    assert document.with_parts(changed, run(events=events(8765.0))) == changed


def test_run_of_one_part_adds_a_section_that_the_page_lacks() -> None:
    page = document.page(whole_run())
    start, end = page.index("## Notifications and presence events"), page.index("## Repeat it")

    changed = document.with_parts(page[:start] + page[end:], run(notify=whole_run().found["notify"]))

    assert changed[:start] == page[:start]
    assert changed[start:].startswith("## Notifications and presence events\n")
    assert changed.endswith(page[end:])


def test_text_that_is_not_the_page_is_not_written() -> None:
    with pytest.raises(ValueError, match="Repeat it"):
        document.with_parts("# Something else\n", run(events=events()))
