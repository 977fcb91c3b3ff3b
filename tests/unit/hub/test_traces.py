"""The hub notifies its observer of messages that belong to a trace."""

from __future__ import annotations

from gateway.domain.messages import DisconnectCommand, Message, new_id
from gateway.domain.positions import Position
from gateway.domain.traces import Trace
from gateway.hub import ConnectionState, Hub
from gateway.metrics import MetricFactory
from tests.support.metrics import counted
from tests.unit.hub.transports import connection, encode

TRACE = Trace("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", 1)
POSITION = Position("1-0")


class RecordingObserver:
    """Keeps the calls of ``delivered``."""

    def __init__(self) -> None:
        self.delivered_messages: list[tuple[str, int]] = []

    def delivered(self, message: Message, connections: int, seconds: float) -> None:
        assert seconds >= 0
        self.delivered_messages.append((message.id, connections))

    def replayed(self, message: Message, sid: str) -> None:
        raise AssertionError("the hub delivers nothing from the history")


def news(*, trace: Trace | None, exclude: frozenset[str] = frozenset()) -> Message:
    return Message(new_id(), "/", ("room",), "news", (), exclude, trace=trace)


async def test_observer_gets_each_traced_message_once_with_its_connections() -> None:
    deliveries, metrics = RecordingObserver(), MetricFactory()
    hub = Hub(encode, metrics=metrics, deliveries=deliveries)
    for sid in ("s1", "s2"):
        hub.add(connection(sid)[0], {"room"})
    declining, _ = connection("s3")
    declining.wants_offsets = False
    hub.add(declining, {"room"})
    replaying, _ = connection("s4", state=ConnectionState.REPLAYING)
    hub.add(replaying, {"room"})
    traced, plain = news(trace=TRACE), news(trace=None)

    totals = []
    for each in (traced, plain):
        await hub.deliver(each, POSITION)
        totals.append(counted(metrics, "deliveries_total"))

    assert deliveries.delivered_messages == [(traced.id, 3)]
    assert totals == [{"message": 3}, {"message": 6}]


async def test_observer_gets_a_traced_message_without_recipients_too() -> None:
    deliveries, metrics = RecordingObserver(), MetricFactory()
    hub = Hub(encode, metrics=metrics, deliveries=deliveries)
    hub.add(connection("s1")[0], {"room"})
    excluded = news(trace=TRACE, exclude=frozenset({"room"}))

    await hub.deliver(excluded, POSITION)

    assert deliveries.delivered_messages == [(excluded.id, 0)]
    assert counted(metrics, "deliveries_total") == {}


async def test_observer_is_optional() -> None:
    hub = Hub(encode, metrics=MetricFactory())
    made, transport = connection("s1")
    hub.add(made, {"room"})

    await hub.deliver(news(trace=TRACE), POSITION)
    await hub.deliver(DisconnectCommand(new_id(), "alice", ("/",), 0.0), POSITION)

    assert transport.events == ["news"]
