"""What the transport uses of aiohttp beyond its documentation; an upgrade that changes any of it fails here.

``serial_requests.py``, ``http.py`` and ``fast_path.py`` of ``gateway/transport`` use aiohttp's handler of one
connection, as it is in the release that requirements/runtime.txt pins. ``pyproject.toml`` allows no other minor one.
"""

from __future__ import annotations

import inspect

import pytest
from aiohttp import StreamReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpRequestParser, RawRequestMessage

SLOTS = [
    "_close",
    "_current_request",
    "_force_close",
    "_handler_waiter",
    "_keepalive_handle",
    "_keepalive_timeout",
    "_messages",
    "_next_keepalive_close_time",
    "_parser",
    "_paused",
    "_reading_paused",
    "_upgraded",
    "_request_in_progress",
    "_waiter",
    "transport",
]
METHODS = {
    "_handle_request": ["self", "request", "start_time", "request_handler"],
    "_pause_transport_reading": ["self"],
    "_process_keepalive": ["self"],
    "_resume_transport_reading": ["self"],
    "close": ["self"],
    "connection_lost": ["self", "exc"],
    "data_received": ["self", "data"],
    "eof_received": ["self"],
    "finish_response": ["self", "request", "resp", "start_time"],
    "force_close": ["self"],
    "handle_error": ["self", "request", "status", "exc", "message"],
    "log_exception": ["self", "args", "kw"],
    "resume_reading": ["self", "resume_parser"],
    "shutdown": ["self", "timeout"],
}


@pytest.mark.parametrize("name", SLOTS)
def test_request_handler_has_the_attributes_that_are_used(name: str) -> None:
    assert name in {*web.RequestHandler.__slots__, *BaseProtocol.__slots__}


@pytest.mark.parametrize("name", METHODS)
def test_request_handler_has_methods_with_the_expected_parameters(name: str) -> None:
    assert list(inspect.signature(getattr(web.RequestHandler, name)).parameters) == METHODS[name]


@pytest.mark.parametrize("name", ["message_consumed", "set_upgraded"])
def test_parser_has_the_methods_that_are_used(name: str) -> None:
    assert callable(getattr(HttpRequestParser, name))


@pytest.mark.parametrize(
    "name", ["method", "path", "version", "headers", "should_close", "upgrade", "chunked"]
)
def test_parsed_head_has_the_attributes_that_are_used(name: str) -> None:
    assert hasattr(RawRequestMessage, name)


def test_body_counts_its_content() -> None:
    assert "total_bytes" in StreamReader.__slots__
