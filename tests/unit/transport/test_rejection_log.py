"""What is written of requests to the Engine.IO path that are refused."""

from __future__ import annotations

from typing import Any

import aiohttp
import structlog

from gateway.transport.errors import unavailable
from gateway.transport.server import MAX_ORIGIN_CHARACTERS
from tests.unit.transport.harness import PATH, EngineHarness, running_engine


async def asked(server: EngineHarness, query: str, **headers: str) -> list[dict[str, Any]]:
    """The lines about one request."""
    address = f"http://127.0.0.1:{server.port}{PATH}?{query}"
    with structlog.testing.capture_logs() as lines:
        async with aiohttp.ClientSession() as http, http.get(address, headers=headers) as answer:
            assert answer.status >= 400
    return [dict(line) for line in lines]


async def test_a_handshake_that_is_not_let_in_has_one_line_without_its_query() -> None:
    async with running_engine(trusted_proxies=["127.0.0.0/8"]) as (server, _):
        forwarded = {"X-Forwarded-For": "203.0.113.9"}
        [line] = await asked(server, "EIO=3&transport=polling&token=private", **forwarded)

    assert line == {
        "event": "handshake.rejected",
        "log_level": "info",
        "reason": "unsupported_protocol",
        "status": 400,
        "address": "203.0.113.9",
    }


async def test_one_that_finds_no_place_says_why() -> None:
    async with running_engine() as (server, _):
        server.engine._check_admission = lambda _: unavailable("full", "there is no place", 5)
        [line] = await asked(server, "EIO=4&transport=polling")

    assert (line["event"], line["reason"], line["status"]) == ("handshake.rejected", "full", 503)


async def test_an_origin_that_may_not_connect_is_named_as_far_as_it_is_short() -> None:
    origin = "https://" + "x" * 1000
    async with running_engine() as (server, _):
        [line] = await asked(server, "EIO=4&transport=polling", Origin=origin)

    assert (line["reason"], line["origin"]) == ("forbidden_origin", origin[:MAX_ORIGIN_CHARACTERS])


async def test_a_poll_of_a_session_that_is_gone_is_for_those_who_debug() -> None:
    async with running_engine() as (server, _):
        [line] = await asked(server, "EIO=4&transport=polling&sid=private")

    assert (line["event"], line["log_level"], line["reason"]) == ("request.rejected", "debug", "unknown_sid")
    assert "private" not in str(line)
