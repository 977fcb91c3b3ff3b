"""Acknowledgements of clients: those that were asked for are counted, all others change nothing."""

from __future__ import annotations

import pytest

from gateway.domain.acks import ALL, AckReport, AckTerms
from gateway.domain.messages import Message, new_id
from gateway.domain.positions import START
from gateway.hub import Hub
from tests.unit.socketio_server.harness import MAX_ATTACHMENTS_BYTES, ServerHarness, SocketClient


async def ask(hub: Hub, room: str = "user:alice") -> str:
    """Ask the connections of a room; return the id of the message."""
    message = Message(new_id(), "/", (room,), "ask", (), reply_to="origin", ack=AckTerms(ALL, 5.0))
    await hub.deliver(message, START)
    return message.id


async def reports(hub: Hub, message_id: str) -> list[AckReport]:
    return {ask.message_id: reports for ask, reports in (await hub.asks.changed()).items()}[message_id]


def asked_id(client: SocketClient) -> str:
    """The id in the event that the client got last."""
    event, _, packet_id = client.packets[-1].partition("#")  # as the encoder of these tests writes it
    assert event == "ask"
    return packet_id


async def test_arguments_are_passed_on_as_the_client_wrote_them() -> None:
    harness = ServerHarness()
    client = await harness.connected()
    message_id = await ask(harness.services.hub)

    await client.send(f'3{asked_id(client)}[ {{"n":1.50}} , 12345678901234567890 ]')

    [report] = await reports(harness.services.hub, message_id)
    [ack] = report.acks
    assert (ack.user, ack.arguments, ack.number) == ("alice", '[ {"n":1.50} , 12345678901234567890 ]', 2)
    assert harness.counted("client_acks_total") == {"received": 1}
    assert not client.session.is_closed


@pytest.mark.parametrize(
    "arguments",
    [
        '["\\ud800"]',
        "[NaN]",
        "[-Infinity]",
        "[1e999]",
        "[" * 70 + "]" * 70,
        '[{"a":1,"a":2}]',
        '["x"',
        "[]]",
        "[1" * 500,
        "[" + "1" * 5000 + "]",
    ],
)
async def test_acknowledgement_that_is_not_strict_json_is_dropped(arguments: str) -> None:
    harness = ServerHarness()
    client = await harness.connected()
    message_id = await ask(harness.services.hub)
    packet_id = asked_id(client)

    await client.send(f"3{packet_id}{arguments}")
    await client.send(f"3{packet_id}[1]")

    assert await reports(harness.services.hub, message_id) == [AckReport(1, 0, 0, 1, ())]
    assert harness.counted("client_acks_total") == {"malformed": 1}
    assert not client.session.is_closed


@pytest.mark.parametrize("packet", ["3{}[1]", "3/events,{}[1]", "3{}0[1]", "3/,{}[1]"])
async def test_acknowledgement_of_another_connection_is_ignored(packet: str) -> None:
    harness = ServerHarness()
    harness.verifier.known["bob"] = harness.services.identity("bob")
    client, forger = await harness.connected(), await harness.connected("bob")
    message_id = await ask(harness.services.hub)

    await forger.send(packet.format(asked_id(client)))

    assert await reports(harness.services.hub, message_id) == [AckReport(1, 0, 0, 0, ())]
    assert harness.counted("client_acks_total") == {}
    assert not forger.session.is_closed


async def test_second_acknowledgement_is_ignored() -> None:
    harness = ServerHarness()
    client = await harness.connected()
    message_id = await ask(harness.services.hub)

    for number in (1, 2):
        await client.send(f"3{asked_id(client)}[{number}]")

    [report] = await reports(harness.services.hub, message_id)
    assert [ack.arguments for ack in report.acks] == ["[1]"]


async def test_only_acknowledgements_that_were_asked_for_are_free_of_the_rate() -> None:
    harness = ServerHarness(messages_per_second=1)
    client = await harness.connected()
    for _ in range(20):
        await ask(harness.services.hub)
        await client.send(f"3{asked_id(client)}[]")
    assert not client.packets[-1].startswith("1")

    for _ in range(20):
        await client.send("35[]")

    assert client.packets[-1] == "1"


async def test_connection_that_is_closed_is_gone() -> None:
    harness = ServerHarness()
    client = await harness.connected()
    message_id = await ask(harness.services.hub)

    await client.send("1")

    assert await reports(harness.services.hub, message_id) == [AckReport(1, 0, 1, 0, ())]


PLACEHOLDER = '{"_placeholder":true,"num":0}'


async def test_buffers_of_an_acknowledgement_are_base64_with_pointers() -> None:
    harness = ServerHarness()
    client = await harness.connected()
    message_id = await ask(harness.services.hub)

    await client.send(
        f'62-{asked_id(client)}[{{"a/b":{PLACEHOLDER}}},{{"num":1,"_placeholder":true}}]', b"\0\1", b""
    )

    [report] = await reports(harness.services.hub, message_id)
    [ack] = report.acks
    assert (ack.arguments, ack.number, ack.binary) == ('[{"a/b":"AAE="},""]', 2, ("/args/0/a~1b", "/args/1"))
    assert harness.counted("client_acks_total") == {"received": 1}
    assert not client.session.is_closed


@pytest.mark.parametrize(
    "arguments",
    [f"[{PLACEHOLDER},{PLACEHOLDER}]", f"[{PLACEHOLDER},NaN]", f'[{PLACEHOLDER},{{"_placeholder":1}}]'],
)
async def test_binary_acknowledgement_that_cannot_be_passed_on_is_dropped(arguments: str) -> None:
    harness = ServerHarness()
    client = await harness.connected()
    message_id = await ask(harness.services.hub)

    await client.send(f"61-{asked_id(client)}{arguments}", b"x")

    assert await reports(harness.services.hub, message_id) == [AckReport(1, 0, 0, 1, ())]
    assert harness.counted("client_acks_total") == {"malformed": 1}
    assert not client.session.is_closed


async def test_binary_acknowledgement_after_the_end_or_a_second_one_is_ignored() -> None:
    harness = ServerHarness()
    client = await harness.connected()
    message_id = await ask(harness.services.hub)
    first = asked_id(client)

    await client.send(f"61-{first}[{PLACEHOLDER}]", b"x")
    await client.send(f"61-{first}[{PLACEHOLDER}]", b"y", f"61-99[{PLACEHOLDER}]", b"z")

    [report] = await reports(harness.services.hub, message_id)
    assert [ack.arguments for ack in report.acks] == ['["eA=="]']
    assert not client.session.is_closed


async def test_binary_acknowledgements_that_were_asked_for_are_free_of_the_rate() -> None:
    harness = ServerHarness(messages_per_second=1)
    client = await harness.connected()
    for _ in range(20):
        await ask(harness.services.hub)
        await client.send(f"61-{asked_id(client)}[{PLACEHOLDER}]", b"x")
    assert harness.counted("client_acks_total") == {"received": 20}
    assert not client.packets[-1].startswith("1")

    for _ in range(5):
        await client.send(f"61-5[{PLACEHOLDER}]", b"x")

    assert client.packets[-1] == "1"


async def test_text_and_attachments_of_an_acknowledgement_have_the_size_of_a_message_together() -> None:
    harness = ServerHarness()
    client = await harness.connected()
    sizes = []
    for more in (0, 1):
        message_id = await ask(harness.services.hub)
        text = f"61-{asked_id(client)}[{PLACEHOLDER}]"
        await client.send(text, bytes(MAX_ATTACHMENTS_BYTES - len(text) + more))
        [report] = await reports(harness.services.hub, message_id)
        sizes.append((report.acked, report.gone))

    assert sizes == [(1, 0), (0, 1)]
    assert client.writer.closed == [1009]


async def test_connection_that_is_closed_between_its_attachments_is_gone() -> None:
    harness = ServerHarness()
    client = await harness.connected()
    message_id = await ask(harness.services.hub)

    await client.send(f"62-{asked_id(client)}[{PLACEHOLDER}]", b"x")
    client.session.lost("transport_close")

    assert await reports(harness.services.hub, message_id) == [AckReport(1, 0, 1, 0, ())]
    assert harness.arriving.bytes == 0
