"""The log lines about rejected requests to the Engine.IO path."""

from __future__ import annotations

from typing import Any

import aiohttp
import structlog

from gateway.transport.errors import unavailable
from gateway.transport.server import MAX_ORIGIN_CHARACTERS
from tests.unit.transport.harness import PATH, EngineHarness, running_engine


async def log_lines_of(server: EngineHarness, query: str, **headers: str) -> list[dict[str, Any]]:
    """Return the log lines about one request."""
    address = f"http://127.0.0.1:{server.port}{PATH}?{query}"
    with structlog.testing.capture_logs() as lines:
        async with aiohttp.ClientSession() as http, http.get(address, headers=headers) as answer:
            assert answer.status >= 400
    return [dict(line) for line in lines]


async def test_rejected_handshake_has_one_log_line_without_its_query() -> None:
    async with running_engine(trusted_proxies=["127.0.0.0/8"]) as (server, _):
        forwarded = {"X-Forwarded-For": "203.0.113.9"}
        [line] = await log_lines_of(server, "EIO=3&transport=polling&token=private", **forwarded)

    assert line == {
        "event": "handshake.rejected",
        "log_level": "info",
        "reason": "unsupported_protocol",
        "status": 400,
        "address": "203.0.113.9",
    }


async def test_handshake_over_a_limit_is_logged_with_its_reason() -> None:
    async with running_engine() as (server, _):
        server.engine._check_admission = lambda _: unavailable("full", "there is no place", 5)
        [line] = await log_lines_of(server, "EIO=4&transport=polling")

    assert (line["event"], line["reason"], line["status"]) == ("handshake.rejected", "full", 503)


async def test_rejected_origin_is_logged_up_to_its_maximum_length() -> None:
    origin = "https://" + "x" * 1000
    async with running_engine() as (server, _):
        [line] = await log_lines_of(server, "EIO=4&transport=polling", Origin=origin)

    assert (line["reason"], line["origin"]) == ("forbidden_origin", origin[:MAX_ORIGIN_CHARACTERS])


async def test_poll_of_an_unknown_session_is_logged_at_debug_level() -> None:
    async with running_engine() as (server, _):
        [line] = await log_lines_of(server, "EIO=4&transport=polling&sid=private")

    assert (line["event"], line["log_level"], line["reason"]) == ("request.rejected", "debug", "unknown_sid")
    assert "private" not in str(line)
