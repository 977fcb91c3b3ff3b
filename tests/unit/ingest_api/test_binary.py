"""Pushes with ``binary``: placeholders and attachments in the message, and the error of each mistake."""

from __future__ import annotations

import base64
import json
import os
from typing import Any

import pytest

from gateway.domain.attachments import placeholder
from gateway.domain.event_catalogue import Arguments, EventCatalogue, NamespaceEvents, ServerEvent
from gateway.domain.messages import Message
from gateway.events.schemas import compile_schema
from gateway.runtime.events import CurrentPushSchemas
from ingest_api.large_body import LARGE_BYTES, in_slices
from ingest_api.push import attach_buffers, parse_push, read_large_push
from ingest_api.schemas import EmitSchema
from tests.support.loop_turns import with_turns
from tests.unit.ingest_api.harness import RestApiServer, run_rest_api

LARGE = base64.b64encode(os.urandom(2 * LARGE_BYTES)).decode()
SCHEMA = EmitSchema(namespaces=("/",))


def message_of(server: RestApiServer) -> Message:
    """The only entry that was published."""
    (message,) = server.published
    assert isinstance(message, Message)
    return message


@pytest.mark.parametrize(
    ("target", "address"),
    [
        ("/emit/user/42", {}),
        ("/emit/room", {"room": "org:7"}),
        ("/emit/users", {"users": ["42"]}),
        ("/broadcast", {}),
    ],
)
@pytest.mark.parametrize("text", ["AAE=", LARGE], ids=["small", "large"])
async def test_each_push_turns_strings_into_attachments(
    server: RestApiServer, target: str, address: dict[str, Any], text: str
) -> None:
    body = {**address, "event": "e", "data": {"a": 1, "image": text}, "binary": ["/data/image"]}

    response = await server.post(target, body)

    assert response.status == 200
    message = message_of(server)
    assert message.arguments == ('{"a": 1, "image": ' + placeholder(0) + "}",)
    assert message.attachments == (text,)


async def test_timestamp_is_added_beside_attachments(server: RestApiServer) -> None:
    body = {"event": "e", "data": {"image": "AAE="}, "timestamp": True, "binary": ["/data/image"]}

    assert (await server.post("/broadcast", body)).status == 200

    data = json.loads(message_of(server).arguments[0])
    assert data == {"image": {"_placeholder": True, "num": 0}, "timestamp": "2026-11-21T12:00:00.000Z"}


async def test_push_without_pointers_may_hold_anything(server: RestApiServer) -> None:
    body = {"event": "e", "data": {"_placeholder": True, "num": 0}, "binary": []}

    assert (await server.post("/broadcast", body)).status == 200

    assert message_of(server).attachments == ()


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({"data": {"a": "AAE="}, "binary": ["/data/b"]}, {"binary.0": ["points to no string"]}),
        ({"data": {"a": 1}, "binary": ["/data/a"]}, {"binary.0": ["points to no string"]}),
        ({"binary": ["/data"]}, {"binary.0": ["points to no string"]}),
        ({"args": ["AAE="], "binary": ["/args/1"]}, {"binary.0": ["points to no string"]}),
        ({"args": ["AAE="], "binary": ["/data"]}, {"binary.0": ["points to no string"]}),
        (
            {"args": ["AAE=", "AAE"], "binary": ["/args/0", "/args/1"]},
            {"binary.1": ["points to a string that is not base64 with padding"]},
        ),
        (
            {"data": LARGE[:-4] + "AA-_", "binary": ["/data"]},
            {"binary.0": ["points to a string that is not base64 with padding"]},
        ),
        (
            {"data": ["AAE="], "binary": ["/data/0", "/data/0"]},
            {"binary.1": ["names the same string as binary.0"]},
        ),
        (
            {"data": {"a": "AAE=", "b": {"_placeholder": True, "num": 0}}, "binary": ["/data/a"]},
            {"data": ["has a member '_placeholder', which clients take for an attachment"]},
        ),
        (
            {"data": list(range(11)), "binary": [f"/data/{n}" for n in range(11)]},
            {"binary": ["Between 0 and 10 elements."]},
        ),
        ({"data": "AAE=", "binary": "/data"}, {"binary": ["Not a valid list."]}),
        ({"data": "AAE=", "binary": [1]}, {"binary.0": ["Not a valid string."]}),
        (
            {"data": "AAE=", "binary": ["/event"]},
            {"binary.0": ["Not a JSON pointer that begins with /data or with /args/ and an index."]},
        ),
        (
            {"data": {"timestamp": "AAE="}, "timestamp": True, "binary": ["/data/timestamp"]},
            {"binary.0": ["points to a string that is not base64 with padding"]},
        ),
    ],
)
async def test_mistake_is_reported_with_its_path(
    server: RestApiServer, body: dict[str, Any], errors: dict[str, list[str]]
) -> None:
    response = await server.post("/broadcast", {"event": "e", **body})

    assert response.problem == (422, "invalid_body")
    assert response.json["errors"] == errors
    assert server.published == []


async def test_event_catalogue_checks_the_base64_as_it_is_in_the_body() -> None:
    image = {"type": "object", "properties": {"image": {"type": "string", "maxLength": 8}}}
    compiled = compile_schema(image, {})
    catalogue = EventCatalogue(
        {"/": NamespaceEvents(server_events={"e": ServerEvent("e", Arguments((compiled,)))})}
    )
    async with run_rest_api(event_schemas=CurrentPushSchemas(lambda: catalogue)) as server:
        body = {"event": "e", "data": {"image": "AAE="}, "binary": ["/data/image"]}
        accepted = await server.post("/broadcast", body)
        rejected = await server.post("/broadcast", body | {"data": {"image": "A" * 12}})

    assert (accepted.status, rejected.problem) == (200, (422, "invalid_body"))
    assert message_of(server).attachments == ("AAE=",)


async def test_buffers_of_large_pushes_are_found_in_slices_with_the_same_result() -> None:
    values = [[n, {"n": n}] for n in range(20_000)] + [LARGE]
    body = json.dumps({"event": "e", "args": ["AAE=", values], "binary": ["/args/1/20000", "/args/0"]})

    large = await in_slices(read_large_push(SCHEMA, body.encode(), now=1.0))
    attached, turns = await with_turns(in_slices(attach_buffers(large)))

    small = await in_slices(attach_buffers(parse_push(SCHEMA, body.encode(), now=1.0)))
    assert attached._replace(value_count=0) == small
    assert attached.attachments == (LARGE, "AAE=")
    assert turns > 1


async def test_messages_of_a_batch_have_attachments_and_errors_of_their_own(server: RestApiServer) -> None:
    good = {"to": {"user": "42"}, "event": "e", "data": ["AAE="], "binary": ["/data/0"]}
    bad = {"to": "everyone", "event": "e", "args": ["AA"], "binary": ["/args/0"]}

    rejected = await server.post("/batch", {"messages": [good, bad]})
    accepted = await server.post("/batch", {"messages": [good, good | {"data": [LARGE]}]})

    assert rejected.json["errors"] == {
        "messages.1.binary.0": ["points to a string that is not base64 with padding"]
    }
    assert accepted.status == 200
    published = [entry for entry in server.published if isinstance(entry, Message)]
    assert [entry.attachments for entry in published] == [("AAE=",), (LARGE,)]
