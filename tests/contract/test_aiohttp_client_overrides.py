"""What ``gateway/webhooks/connections.py`` uses of aiohttp's client beyond its documentation."""

from __future__ import annotations

import functools
import inspect

from aiohttp import TCPConnector
from aiohttp.client import IDEMPOTENT_METHODS
from aiohttp.client_proto import ResponseHandler


async def test_connector_makes_its_connections_with_a_factory_of_response_handlers() -> None:
    connector = TCPConnector()
    try:
        factory = connector._factory
        assert isinstance(factory, functools.partial)
        assert factory.func is ResponseHandler
        assert list(factory.keywords) == ["loop"]
    finally:
        await connector.close()


def test_connector_and_response_handler_have_methods_with_the_expected_parameters() -> None:
    assert list(inspect.signature(TCPConnector.connect).parameters) == ["self", "req", "traces", "timeout"]
    assert list(inspect.signature(ResponseHandler.data_received).parameters) == ["self", "data"]


def test_aiohttp_itself_never_sends_a_post_twice() -> None:
    assert "POST" not in IDEMPOTENT_METHODS
