"""The log lines about connections."""

from __future__ import annotations

from typing import Any

import pytest
import structlog

from gateway.domain.disconnects import DISCONNECTED_BY_BACKEND, DRAINING, SLOW_CONSUMER, TOKEN_EXPIRED
from gateway.domain.identity import Identity
from gateway.domain.sampling import Sampling
from gateway.hub import Connection
from gateway.socketio_server.access_log import AccessLog
from gateway.socketio_server.client import Client
from gateway.transport.admission import Handshake
from gateway.transport.session import EngineSession
from tests.support.clock import FakeClock
from tests.unit.hub.transports import RecordingTransport
from tests.unit.socketio_server.harness import ServerHarness, connect

ADDRESS = "192.0.2.1"


class Timer:
    """A timer that never fires."""

    def cancel(self) -> None:
        """Do nothing."""


def closed(*sids: str, reason: str, sampling: Sampling) -> list[dict[str, Any]]:
    with structlog.testing.capture_logs() as lines:
        log = AccessLog(clock=FakeClock(1000.0, 1000.0), sampling=sampling)
        handshake = Handshake(authorization=None, query_token=None, address=ADDRESS)
        session = EngineSession("engine", handshake=handshake, observer=None, send_buffer_bytes=1)  # type: ignore[arg-type]
        client = Client(session, Timer(), events=None)  # type: ignore[arg-type]
        for sid in sids:
            identity = Identity("ann", frozenset())
            log.closed(client, Connection(sid, "/", identity, RecordingTransport(), 998.5), reason)
    return [dict(line) for line in lines]


def test_closed_connection_is_logged_with_all_fields() -> None:
    [line] = closed("s1", reason="client_close", sampling=Sampling())

    assert line == {
        "event": "connection.closed",
        "log_level": "info",
        "sid": "s1",
        "user": "ann",
        "namespace": "/",
        "transport": "websocket",
        "address": ADDRESS,
        "recovery": "none",
        "reason": "client_close",
        "seconds": 1.5,
    }


@pytest.mark.parametrize(
    "reason", ["client_close", "transport_close", DRAINING.reason, TOKEN_EXPIRED.reason, "client_disconnect"]
)
def test_routine_disconnects_are_sampled_and_log_the_sample_rate(reason: str) -> None:
    sampling = Sampling(0.5)
    sids = [f"s{number}" for number in range(40)]

    lines = closed(*sids, reason=reason, sampling=sampling)

    assert [line["sid"] for line in lines] == [sid for sid in sids if sampling.should_log(sid)]
    assert 0 < len(lines) < len(sids)
    assert {line["sample_rate"] for line in lines} == {0.5}


@pytest.mark.parametrize(
    "reason",
    [
        SLOW_CONSUMER.reason,
        DISCONNECTED_BY_BACKEND.reason,
        "ping_timeout",
        "protocol_error",
        "of a later release",
    ],
)
def test_other_disconnects_are_always_logged(reason: str) -> None:
    [line] = closed("s1", reason=reason, sampling=Sampling(0.0))

    assert line["reason"] == reason
    assert "sample_rate" not in line


async def test_connection_has_one_log_line_above_debug_level(harness: ServerHarness) -> None:
    with structlog.testing.capture_logs() as lines:
        client = harness.open()
        await client.send(connect("alice"))
        client.session.lost("transport_close")

    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("connection.accepted", "debug"),
        ("connection.closed", "info"),
    ]
    assert {line["address"] for line in lines} == {ADDRESS}


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        (connect("unknown-token"), "token_signature_invalid"),
        ("0/private,{}", "invalid_namespace"),
        ("0", "token_missing"),
    ],
)
async def test_rejected_connection_has_one_log_line_with_its_code_and_none_of_its_text(
    harness: ServerHarness, packet: str, code: str
) -> None:
    with structlog.testing.capture_logs() as lines:
        await harness.open().send(packet)

    [line] = lines
    assert (line["event"], line["log_level"], line["address"]) == ("connection.rejected", "info", ADDRESS)
    assert line["code"] == code
    assert "private" not in str(line)
    assert "unknown-token" not in str(line)
