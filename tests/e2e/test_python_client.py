"""The synchronous client of python-socketio. The asynchronous one runs in the tests that have the fixture `clients`."""

from __future__ import annotations

import gc
import queue
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import socketio

from tests.support.gateway_process import GatewayProcess
from tests.support.waiter import TIMEOUT_SECONDS, wait_until

Events = queue.Queue[tuple[str, tuple[Any, ...]]]


class SyncClient:
    """A client whose events wait in a queue."""

    def __init__(self, **options: Any) -> None:
        self.client = socketio.Client(reconnection_delay=0.05, reconnection_delay_max=0.5, **options)
        self.events: Events = queue.Queue()
        self.client.on("*", lambda event, *args: self.events.put((event, args)))

    def connect(self, url: str, transports: list[str], **auth: Any) -> None:
        self.client.connect(url, auth=auth, transports=transports, wait_timeout=TIMEOUT_SECONDS)

    def wait_for(self, name: str) -> tuple[Any, ...]:
        """Return the arguments of the next event of this name."""
        while True:
            event, args = self.events.get(timeout=TIMEOUT_SECONDS)
            if event == name:
                return args


@pytest.fixture
def client() -> Iterator[SyncClient]:
    client = SyncClient()
    yield client
    client.client.shutdown()
    # python-engineio never closes the socket of a connection that it lost.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.mark.parametrize("transports", [["polling"], ["websocket"], ["polling", "websocket"]], ids=" ".join)
def test_client_connects_receives_and_gets_an_acknowledgement(
    gateway_process: GatewayProcess, client: SyncClient, user: str, transports: list[str]
) -> None:
    client.connect(gateway_process.url, transports, token=gateway_process.token(user), recovery=False)
    assert client.wait_for("authenticated")[0]["userId"] == user

    gateway_process.push_user(user, "hello", {"text": "ü"})

    assert client.wait_for("hello") == ({"text": "ü"},)
    assert client.client.call("unknown", timeout=TIMEOUT_SECONDS)["error"]["code"] == "unknown_event"


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # that socket, collected earlier
@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_client_reconnects_after_a_restart_of_the_gateway(
    client: SyncClient, user: str, transport: str
) -> None:
    gateway = GatewayProcess()
    try:
        client.connect(gateway.url, [transport], token=gateway.token(user), recovery=False)
        client.wait_for("authenticated")
        assert gateway.stop() == 0
        gateway.start()
        client.wait_for("authenticated")

        gateway.push_user(user, "after")

        assert client.wait_for("after") == (None,)
        wait_until(lambda: client.client.connected, "the client knows that it is connected")
    finally:
        gateway.kill()
