"""What ``gateway/socketio_server/python_socketio.py`` uses of python-socketio.

A failure here after an upgrade means: read what changed there, adapt the overrides, then adapt this module.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import pytest
import socketio
from socketio import base_server, packet

from gateway import interfaces
from gateway.domain.attachments import MAX_ATTACHMENTS
from gateway.domain.bounded_body import ArrivingBodies
from gateway.socketio_server.python_socketio import (
    Acknowledge,
    ClientManager,
    EngineAdapter,
    PacketServer,
)
from gateway.socketio_server.unfinished_packets import AttachmentLimits, AttachmentsTooLarge
from tests.support.clock import FakeSchedule
from tests.support.waiter import finished

MAX_ATTACHMENTS_BYTES = 100

SIGNATURES = {
    "_engineio_server_class": "(self)",
    "_handle_connect": "(self, eio_sid, namespace, data)",
    "_handle_disconnect": "(self, eio_sid, namespace, reason=None)",
    "_handle_event": "(self, eio_sid, namespace, id, data)",
    "_send_packet": "(self, eio_sid, pkt)",
}
"""Every overridden method, with its signature in python-socketio."""

KEPT = {
    "_handle_eio_message": "(self, eio_sid, data)",
    "_handle_ack": "(self, eio_sid, namespace, id, data)",
}
"""Every method that is used unchanged."""


class RecordingEvents:
    """Keeps the calls that packets caused; every connection has the sid ``sid``."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.sent: list[bytes] = []

    async def on_connect(self, engine_sid: str, namespace: str, auth: object) -> None:
        self.calls.append(("connect", engine_sid, namespace, auth))

    def on_disconnect(self, engine_sid: str, namespace: str) -> None:
        self.calls.append(("disconnect", engine_sid, namespace))

    def on_event(
        self,
        engine_sid: str,
        namespace: str,
        data: list[object],
        acknowledge: Acknowledge | None,
        *,
        are_plain: bool,
    ) -> None:
        self.calls.append(("event", engine_sid, namespace, data))
        if acknowledge is not None:
            acknowledge(*data[1:])

    def is_asked(self, engine_sid: str, text: str) -> bool:
        return False

    def on_binary_ack(self, engine_sid: str, text: str, attachments: Sequence[bytes]) -> None:
        self.calls.append(("binary_ack", engine_sid, text, attachments))

    def on_failure(self, engine_sid: str, error: Exception) -> None:
        self.calls.append(("failure", engine_sid, error))

    def connection_of(self, engine_sid: str, namespace: str) -> str | None:
        return "sid"

    def send(self, engine_sid: str, frames: interfaces.Frames) -> None:
        self.sent.append(frames.record)


@pytest.fixture
def events() -> RecordingEvents:
    return RecordingEvents()


@pytest.fixture
def server(events: RecordingEvents) -> PacketServer:
    return PacketServer(
        events,
        namespaces=["/", "/custom"],
        limits=AttachmentLimits(max_bytes=MAX_ATTACHMENTS_BYTES, timeout_seconds=10.0),
        schedule=FakeSchedule(),
        arriving=ArrivingBodies(),
    )


def attributes_of(name: str, function: Callable[..., Any]) -> set[str]:
    """Return the ``x`` of every ``self.<name>.x`` in a function."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Attribute)
        and node.value.attr == name
        and isinstance(node.value.value, ast.Name)
        and node.value.value.id == "self"
    }


def own_methods(kind: type) -> set[str]:
    return {name for name, value in vars(kind).items() if callable(value) and not name.startswith("__")}


# overrides


def test_minor_release_is_the_one_that_was_checked() -> None:
    assert version("python-socketio").split(".")[:2] == ["5", "18"]


def test_every_override_is_listed_and_overrides_a_method() -> None:
    overridden = {name for name in own_methods(PacketServer) if hasattr(socketio.AsyncServer, name)}

    assert overridden == set(SIGNATURES)


@pytest.mark.parametrize(("name", "signature"), [*SIGNATURES.items(), *KEPT.items()])
def test_used_method_has_the_expected_signature(name: str, signature: str) -> None:
    assert str(inspect.signature(getattr(socketio.AsyncServer, name))) == signature


@pytest.mark.parametrize("name", sorted(SIGNATURES))
def test_override_has_the_parameters_of_the_original(name: str) -> None:
    theirs = inspect.signature(getattr(socketio.AsyncServer, name)).parameters.values()
    ours = inspect.signature(getattr(PacketServer, name)).parameters.values()

    assert [(p.kind, p.default) for p in ours] == [(p.kind, p.default) for p in theirs]


@pytest.mark.parametrize("name", sorted(set(SIGNATURES) - {"_engineio_server_class"}))
def test_override_is_a_coroutine_like_the_original(name: str) -> None:
    assert inspect.iscoroutinefunction(getattr(PacketServer, name))
    assert inspect.iscoroutinefunction(getattr(socketio.AsyncServer, name))


# calls


def test_client_manager_has_exactly_the_methods_that_are_called() -> None:
    called = {
        name for method in KEPT for name in attributes_of("manager", getattr(socketio.AsyncServer, method))
    }
    called |= attributes_of("manager", base_server.BaseServer.__init__)

    assert called == own_methods(ClientManager)


def test_engine_adapter_has_exactly_the_methods_that_are_called_and_a_mode() -> None:
    kept = [getattr(socketio.AsyncServer, name) for name in KEPT]
    called = {name for method in kept for name in attributes_of("eio", method)}
    called |= attributes_of("eio", base_server.BaseServer.__init__)

    assert called == own_methods(EngineAdapter) | {"async_mode"}


def test_adapter_replaces_the_engine(server: PacketServer) -> None:
    assert isinstance(server.eio, EngineAdapter)
    assert isinstance(server.manager, ClientManager)
    assert server.async_handlers is False


# packets


async def test_connect_and_disconnect_packets_become_calls(
    server: PacketServer, events: RecordingEvents
) -> None:
    for text in ("0", '0{"token":"x"}', "0/custom,", '0/custom?a=b,{"token":"x"}', "1", "1/custom,"):
        await finished(server.message_received("engine", text))

    assert events.calls == [
        ("connect", "engine", "/", None),
        ("connect", "engine", "/", {"token": "x"}),
        ("connect", "engine", "/custom", None),
        ("connect", "engine", "/custom", {"token": "x"}),
        ("disconnect", "engine", "/"),
        ("disconnect", "engine", "/custom"),
    ]


async def test_event_packets_become_calls_and_acknowledgements_are_sent(
    server: PacketServer, events: RecordingEvents
) -> None:
    await finished(server.message_received("engine", '2["message",1]'))
    await finished(server.message_received("engine", '2/custom,7["message",1,"two"]'))

    assert events.calls == [
        ("event", "engine", "/", ["message", 1]),
        ("event", "engine", "/custom", ["message", 1, "two"]),
    ]
    assert events.sent == [b'43/custom,7[1,"two"]']


async def test_attachments_are_decoded(server: PacketServer, events: RecordingEvents) -> None:
    await finished(server.message_received("engine", '51-["message",{"_placeholder":true,"num":0}]'))
    await finished(server.message_received("engine", b"\x01"))

    assert events.calls == [("event", "engine", "/", ["message", b"\x01"])]


async def test_incomplete_packet_is_dropped_with_its_session(
    server: PacketServer, events: RecordingEvents
) -> None:
    await finished(server.message_received("engine", '51-["message",{"_placeholder":true,"num":0}]'))

    server.forget("engine")
    await finished(server.message_received("engine", '2["message"]'))

    assert events.calls == [("event", "engine", "/", ["message"])]


async def test_acknowledgements_without_attachments_are_ignored(
    server: PacketServer, events: RecordingEvents
) -> None:
    for text in ("37[1]", "60-7[1]", "67[1]"):
        await finished(server.message_received("engine", text))

    assert (events.calls, events.sent) == ([], [])


async def test_acknowledgement_with_attachments_becomes_a_call(
    server: PacketServer, events: RecordingEvents
) -> None:
    text = '62-7[{"_placeholder":true,"num":1}]'
    for message in (text, b"\x01", b"\x02"):
        await finished(server.message_received("engine", message))

    assert (events.calls, events.sent) == ([("binary_ack", "engine", text, [b"\x01", b"\x02"])], [])


@pytest.mark.parametrize(
    "messages",
    [
        ["2"],
        ["2{}"],
        ["2[]"],
        ["2[{}]"],
        ["2[1.5]"],
        ["x"],
        ["9[]"],
        ["4{}"],
        [b"\x01"],
        ['51-["message",{"_placeholder":true,"num":0}]', "text"],
        ['51-["message",{"_placeholder":true,"num":0}]', '2["message"]'],
        ['51-["message",{"_placeholder":true,"num":5}]', b"\x01"],
        [f'5{MAX_ATTACHMENTS + 1}-["message"]'],
        ["2" + "[" * 100_000],
    ],
)
async def test_malformed_packet_raises_and_calls_nothing(
    server: PacketServer, events: RecordingEvents, messages: list[str | bytes]
) -> None:
    *before, last = messages
    for message in before:
        await finished(server.message_received("engine", message))

    with pytest.raises((ValueError, TypeError, LookupError, RecursionError)):
        await finished(server.message_received("engine", last))
    assert events.calls == []


async def test_maximum_of_attachments_is_accepted(server: PacketServer, events: RecordingEvents) -> None:
    await finished(server.message_received("engine", f'5{MAX_ATTACHMENTS}-["message"]'))
    for _ in range(MAX_ATTACHMENTS):
        await finished(server.message_received("engine", b""))

    assert len(events.calls) == 1


async def test_attachments_that_are_too_large_together_are_rejected_before_they_are_kept(
    server: PacketServer, events: RecordingEvents
) -> None:
    await finished(server.message_received("engine", '53-["message"]'))
    await finished(server.message_received("engine", b"x" * 60))
    await finished(server.message_received("engine", b"x" * 40))

    with pytest.raises(AttachmentsTooLarge):
        await finished(server.message_received("engine", b"x"))
    assert events.calls == []


def test_packet_types_have_the_numbers_of_the_protocol() -> None:
    assert (packet.CONNECT, packet.DISCONNECT, packet.EVENT, packet.ACK, packet.CONNECT_ERROR) == (
        0,
        1,
        2,
        3,
        4,
    )
    assert (packet.BINARY_EVENT, packet.BINARY_ACK) == (5, 6)
