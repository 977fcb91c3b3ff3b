"""The REST API in an aiohttp application with other resources."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from ingest_api.app import create_not_found_api, mount
from ingest_api.errors import problem_body
from ingest_api.pipeline import RestApi
from tests.support.clock import FakeClock
from tests.unit.ingest_api.harness import RecordingMetrics, RestApiServer, app_of, run_rest_api


async def health(_: web.Request) -> web.Response:
    return web.Response(text="healthy")


def app_with_health(rest_api: RestApi) -> web.Application:
    app = web.Application()
    app.router.add_get("/health", health)
    mount(rest_api, app)
    return app


@pytest.fixture
async def server() -> AsyncIterator[RestApiServer]:
    async with run_rest_api(create_app=app_with_health) as server:
        yield server


async def test_other_resources_keep_their_paths(server: RestApiServer) -> None:
    assert (await server.send_request("GET", "/health")).body == b"healthy"


async def test_rest_api_handles_every_other_path(server: RestApiServer) -> None:
    assert (await server.post("/emit/user/a%2Fb", {"event": "e"})).status == 200
    assert (await server.send_request("GET", "/healthy")).problem == (404, "not_found")
    assert (await server.send_request("GET", "/")).problem == (404, "not_found")
    assert (await server.send_request("GET", "/emit/room")).problem == (405, "method_not_allowed")
    assert (await server.send_request("GET", "/presence/%FF")).problem == (400, "invalid_path")
    assert (await server.send_request("GET", "/presence/%zz")).problem == (400, "invalid_path")
    assert (await server.send_request("POST", "/broadcast")).problem == (401, "missing_signature")


async def test_not_found_api_has_no_paths() -> None:
    def app_without_paths(_: RestApi) -> web.Application:
        return app_of(create_not_found_api(clock=FakeClock(), metrics=RecordingMetrics()))

    async with run_rest_api(create_app=app_without_paths, aiohttp_options={}) as server:
        for target in ("/broadcast", "/openapi.yaml", "/presence/42"):
            assert (await server.send_signed("GET", target)).problem == (404, "not_found")


def test_rest_api_is_mounted_only_at_the_root() -> None:
    with pytest.raises(ValueError, match="at the root"):
        web.Application().add_subapp(
            "/api", app_of(create_not_found_api(clock=FakeClock(), metrics=RecordingMetrics()))
        )


def test_problem_body_needs_no_request() -> None:
    assert json.loads(problem_body(400, "bad_request", "not HTTP")) == {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "code": "bad_request",
        "detail": "not HTTP",
    }
