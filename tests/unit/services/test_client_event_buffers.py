"""Binary arguments of client events: in messages, for webhooks, in answers, and in what is kept for repeats."""

from __future__ import annotations

import base64
import json

import pytest

from gateway.domain.errors import ClientEventRejected
from gateway.domain.event_catalogue import Arguments
from gateway.domain.webhooks import WebhookAnswer, WebhookEmission
from gateway.events.schemas import compile_schema
from gateway.services.client_events.buffers import encode_arguments
from gateway.services.client_events.rules import check_arguments
from gateway.webhooks.answers import parse_answer
from tests.unit.services.catalogue import catalogue, entry
from tests.unit.services.senders import Setup

IMAGE = bytes(range(256))


def test_messages_have_the_buffers_that_they_use_numbered_anew() -> None:
    texts, attachments = encode_arguments([{"b": [IMAGE]}, "text", b""])

    assert texts == (
        '{"b":[{"_placeholder":true,"num":0}]}',
        '"text"',
        '{"_placeholder":true,"num":1}',
    )
    assert attachments == (base64.b64encode(IMAGE).decode(), "")
    assert encode_arguments([1, {"_placeholder": True}]) == (("1", '{"_placeholder":true}'), ())


def test_placeholder_beside_a_buffer_and_too_many_buffers_are_rejected() -> None:
    for values in ([b"", {"a": {"_placeholder": False}}], [b""] * 11):
        with pytest.raises(ClientEventRejected) as rejected:
            encode_arguments(values)
        assert rejected.value.code == "invalid_payload"


def test_schemas_see_a_buffer_as_its_base64() -> None:
    file = {"type": "object", "properties": {"file": {"type": "string", "maxLength": 4}}}
    expected = Arguments((compile_schema(file, {}),))

    check_arguments(expected, ({"file": b"\x00\x01"},))
    with pytest.raises(ClientEventRejected) as rejected:
        check_arguments(expected, ({"file": bytes(4)},))
    assert rejected.value.message.startswith("$0.file: ")


async def test_webhook_gets_base64_and_pointers_and_its_buffers_are_emitted_and_acknowledged(
    setup: Setup,
) -> None:
    setup.use(catalogue(entry("file", call="app", dedupe="$1")))
    alice = await setup.connect("alice")
    answer = WebhookAnswer(
        ack={"thumbnail": b"\x00"}, has_ack=True, emit=(WebhookEmission("saved", ([IMAGE],)),)
    )
    setup.webhooks.answer = lambda _: answer

    acks = [await alice.ask("file", {"a/b": IMAGE}, "once") for _ in range(2)]

    assert acks == [{"thumbnail": b"\x00"}] * 2
    ((_, _, data),) = setup.webhooks.calls
    assert (data["args"], data["binary"]) == (
        [{"a/b": base64.b64encode(IMAGE).decode()}, "once"],
        ["/args/0/a~1b"],
    )


async def test_event_without_buffers_has_no_pointers(setup: Setup) -> None:
    setup.use(catalogue(entry("file", call="app")))
    alice = await setup.connect("alice")

    await alice.ask_all("file", {"a": 1})

    ((_, _, data),) = setup.webhooks.calls
    assert "binary" not in data


def test_answer_names_its_buffers_by_pointers() -> None:
    answer = parse_answer(
        json.dumps(
            {
                "ack": {"image": "AAE="},
                "binary": ["/ack/image"],
                "emit": [
                    {"event": "e", "data": ["AAE=", "AAE="], "binary": ["/data/1"]},
                    {"event": "f", "data": "x"},
                ],
            }
        ).encode()
    )

    assert answer.ack == {"image": b"\x00\x01"}
    assert [each.arguments for each in answer.emit] == [(["AAE=", b"\x00\x01"],), ("x",)]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"ack": "AAE=", "binary": ["/emit/0/data"]}, "binary names something outside of ack"),
        ({"ack": "AAE=", "binary": [1]}, "binary names something outside of ack"),
        ({"ack": "AAE=", "binary": ["/acks"]}, "binary names something outside of ack"),
        ({"binary": ["/ack"]}, "binary: /ack points to no string"),
        (
            {"ack": "AA", "binary": ["/ack"]},
            "binary: /ack points to a string that is not base64 with padding",
        ),
        ({"ack": "AAE=", "binary": ["/ack"] * 2}, "binary: /ack points to no string"),
        (
            {"ack": ["AAE="] * 11, "binary": [f"/ack/{n}" for n in range(11)]},
            "binary is no list of at most 10 items",
        ),
        (
            {"ack": {"a": "AAE=", "b": [{"_placeholder": True, "num": 0}]}, "binary": ["/ack/a"]},
            "ack has a member '_placeholder', which clients take for an attachment",
        ),
        (
            {"emit": [{"event": "e", "data": "AAE=", "binary": ["/ack"]}]},
            "emit.0.binary names something outside of data",
        ),
        (
            {"emit": [{"event": "e", "data": "AAE=\n", "binary": ["/data"]}]},
            "emit.0.binary: /data points to a string that is not base64 with padding",
        ),
        (
            {"emit": [{"event": "e", "data": ["AAE=", {"_placeholder": 1}], "binary": ["/data/0"]}]},
            "emit.0.data has a member '_placeholder', which clients take for an attachment",
        ),
    ],
)
def test_answer_with_a_wrong_pointer_is_rejected_with_the_reason(
    answer: dict[str, object], reason: str
) -> None:
    with pytest.raises(ClientEventRejected) as rejected:
        parse_answer(json.dumps(answer).encode())

    assert (rejected.value.code, rejected.value.__notes__) == ("backend_error", [reason])
