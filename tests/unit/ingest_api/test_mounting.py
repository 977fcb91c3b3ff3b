"""The door in a house with other doors."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from ingest_api.app import create_app, create_not_found_api, mount
from ingest_api.errors import problem_body
from ingest_api.pipeline import RestApi
from tests.unit.ingest_api.harness import Door, RecordingMeter, SettableClock, running


async def health(_: web.Request) -> web.Response:
    return web.Response(text="healthy")


def in_a_house(door: RestApi) -> web.Application:
    house = web.Application()
    house.router.add_get("/health", health)
    mount(door, house)
    return house


@pytest.fixture
async def house() -> AsyncIterator[Door]:
    async with running(mount=in_a_house) as door:
        yield door


async def test_what_others_answer_stays_theirs(house: Door) -> None:
    assert (await house.ask("GET", "/health")).body == b"healthy"


async def test_everything_else_is_answered_by_the_door(house: Door) -> None:
    assert (await house.post("/emit/user/a%2Fb", {"event": "e"})).status == 200
    assert (await house.ask("GET", "/healthy")).refusal == (404, "not_found")
    assert (await house.ask("GET", "/")).refusal == (404, "not_found")
    assert (await house.ask("GET", "/emit/room")).refusal == (405, "method_not_allowed")
    assert (await house.ask("GET", "/presence/%FF")).refusal == (400, "invalid_path")
    assert (await house.ask("GET", "/presence/%zz")).refusal == (400, "invalid_path")
    assert (await house.ask("POST", "/broadcast")).refusal == (401, "missing_signature")


async def test_a_port_without_the_door_knows_no_path() -> None:
    def instead(_: RestApi) -> web.Application:
        house = web.Application()
        mount(create_not_found_api(clock=SettableClock(), meter=RecordingMeter()), house)
        return house

    async with running(mount=instead, server={}) as door:
        for target in ("/broadcast", "/openapi.yaml", "/presence/42"):
            assert (await door.call("GET", target)).refusal == (404, "not_found")


def test_the_door_stands_nowhere_but_at_the_root() -> None:
    with pytest.raises(ValueError, match="at the root"):
        web.Application().add_subapp(
            "/api", create_app(create_not_found_api(clock=SettableClock(), meter=RecordingMeter()))
        )


def test_a_problem_can_be_written_where_there_is_no_request() -> None:
    assert json.loads(problem_body(400, "bad_request", "not HTTP")) == {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "code": "bad_request",
        "detail": "not HTTP",
    }
