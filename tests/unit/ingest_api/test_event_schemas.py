"""Pushes are checked with the event catalogue: by name, by the number of arguments and by their schemas."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import pytest

from gateway.domain.event_catalogue import Arguments, EventCatalogue, NamespaceEvents, ServerEvent
from gateway.domain.messages import Message
from gateway.runtime.events import MAX_CHECKED_VALUES, CurrentPushSchemas
from tests.unit.ingest_api.harness import RestApiServer, run_rest_api


@dataclass(frozen=True)
class TextRequired:
    """A schema of objects whose ``text`` is a string."""

    source: Mapping[str, object] | bool = True

    def accepts(self, value: object) -> bool:
        return not self.problems(value)

    def problems(self, value: object) -> Mapping[str, str]:
        if not isinstance(value, dict):
            return {"": "is not of type object"}
        return {} if isinstance(value.get("text"), str) else {"text": "is missing"}


CATALOGUE = EventCatalogue(
    {
        "/": NamespaceEvents(
            server_events={
                "note": ServerEvent("note", Arguments((TextRequired(),))),
                "pair": ServerEvent("pair", Arguments((None, TextRequired()), optional=1)),
                "free": ServerEvent("free", Arguments(None)),
                "empty": ServerEvent("empty", Arguments(())),
            }
        ),
        "/events": NamespaceEvents(
            server_events={"note": ServerEvent("note", Arguments((TextRequired(),)))},
            allows_undescribed_pushes=False,
        ),
    }
)


@pytest.fixture
async def checking() -> AsyncIterator[RestApiServer]:
    """A server with an event catalogue."""
    async with run_rest_api(event_schemas=CurrentPushSchemas(lambda: CATALOGUE)) as server:
        yield server


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        pytest.param(b'{"event":"note","data":{"title":1}}', {"data.text": ["is missing"]}, id="fast parse"),
        pytest.param(b'{"event":"note","data":7}', {"data": ["is not of type object"]}, id="wrong type"),
        pytest.param(
            b'{"event":"note","data":{},"volatile":true}', {"data.text": ["is missing"]}, id="any body"
        ),
        pytest.param(b'{"event":"note","args":[{}]}', {"args.0.text": ["is missing"]}, id="args"),
        pytest.param(
            b'{"event":"note"}', {"data": ["the event takes 1 argument, not 0"]}, id="no argument at all"
        ),
        pytest.param(
            b'{"event":"note","args":[{"text":""},2]}',
            {"args": ["the event takes 1 argument, not 2"]},
            id="too many",
        ),
        pytest.param(
            b'{"event":"pair","args":[1,{}]}', {"args.1.text": ["is missing"]}, id="second argument"
        ),
        pytest.param(
            b'{"event":"pair","args":[]}', {"args": ["the event takes 1 to 2 arguments, not 0"]}, id="too few"
        ),
        pytest.param(
            b'{"event":"empty","data":1}', {"data": ["the event takes 0 arguments, not 1"]}, id="none wanted"
        ),
    ],
)
async def test_a_push_that_breaks_the_schemas_is_rejected_with_the_paths_in_its_body(
    checking: RestApiServer, body: bytes, errors: dict[str, list[str]]
) -> None:
    response = await checking.post("/emit/user/42", body)

    assert response.problem == (422, "invalid_body")
    assert response.json["errors"] == errors
    assert checking.published == []


@pytest.mark.parametrize(("event", "is_checked"), [("pair", True), ("free", False), ("undescribed", False)])
async def test_push_with_too_many_values_to_check_is_rejected_if_its_event_is_described(
    checking: RestApiServer, event: str, is_checked: bool
) -> None:
    body = {"event": event, "data": [0] * (MAX_CHECKED_VALUES + 1)}
    response = await checking.post("/emit/user/42", body)

    assert response.status == (422 if is_checked else 200)
    if is_checked:
        [sentence] = response.json["errors"]["data"]
        assert sentence == "holds more than 20,000 values, which are too many to check"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"event":"note","data":{"text":"hi"}}', id="valid"),
        pytest.param(b'{"event":"note","args":[{"text":"hi"}]}', id="valid args"),
        pytest.param(b'{"event":"pair","args":[1]}', id="without the optional argument"),
        pytest.param(b'{"event":"pair","data":1}', id="data as the only argument"),
        pytest.param(b'{"event":"free","args":[1,2,3]}', id="any arguments"),
        pytest.param(b'{"event":"empty"}', id="no arguments"),
        pytest.param(b'{"event":"undescribed","data":{"any":"thing"}}', id="an event without a description"),
    ],
)
async def test_other_pushes_are_accepted(checking: RestApiServer, body: bytes) -> None:
    assert (await checking.post("/emit/user/42", body)).status == 200
    assert len(checking.published) == 1


async def test_an_undescribed_event_is_rejected_where_the_catalogue_rejects_such_events(
    checking: RestApiServer,
) -> None:
    body = {"event": "undescribed", "data": 1, "namespace": "/events"}

    rejected = await checking.post("/broadcast", body)
    accepted = await checking.post("/broadcast", body | {"event": "note", "data": {"text": "hi"}})

    assert rejected.problem == (422, "unknown_event")
    assert accepted.status == 200


async def test_rooms_are_checked_like_users(checking: RestApiServer) -> None:
    response = await checking.post("/emit/room", {"room": "org:7", "event": "note", "data": {}})

    assert response.problem == (422, "invalid_body")


async def test_a_rejected_push_does_not_consume_the_idempotency_key(checking: RestApiServer) -> None:
    options = {"idempotency_key": "order-1"}

    assert (await checking.post("/emit/user/42", {"event": "note", "data": {}}, **options)).status == 422
    corrected = await checking.post("/emit/user/42", {"event": "note", "data": {"text": "hi"}}, **options)

    assert corrected.status == 200


async def test_the_text_of_a_valid_push_is_passed_on_unchanged(checking: RestApiServer) -> None:
    data = '{ "text" : "hi",  "n": 1.50, "big": 123456789012345678901234567890 }'

    assert (await checking.post("/emit/user/42", f'{{"event":"note","data":{data}}}'.encode())).status == 200

    [message] = checking.published
    assert isinstance(message, Message)
    assert message.arguments == (data,)


async def test_at_most_twenty_errors_are_listed() -> None:
    @dataclass(frozen=True)
    class AlwaysWrong:
        source: Mapping[str, object] | bool = True

        def accepts(self, value: object) -> bool:
            return False

        def problems(self, value: object) -> Mapping[str, str]:
            assert value == 1
            return {str(index): "is wrong" for index in range(50)}

    event = ServerEvent("many", Arguments((AlwaysWrong(),)))
    catalogue = EventCatalogue({"/": NamespaceEvents(server_events={"many": event})})
    async with run_rest_api(event_schemas=CurrentPushSchemas(lambda: catalogue)) as server:
        response = await server.post("/broadcast", {"event": "many", "data": 1})

    assert len(response.json["errors"]) == 20


async def test_a_new_catalogue_applies_to_the_next_push() -> None:
    in_effect = EventCatalogue()
    async with run_rest_api(event_schemas=CurrentPushSchemas(lambda: in_effect)) as server:
        body = json.dumps({"event": "note", "data": {}}).encode()
        before = await server.post("/broadcast", body)
        in_effect = CATALOGUE
        after = await server.post("/broadcast", body)

    assert (before.status, after.status) == (200, 422)
