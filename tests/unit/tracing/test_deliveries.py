"""Log lines about deliveries: their level follows the trace, their number the sampling."""

from __future__ import annotations

from typing import Any

import pytest
import structlog

from gateway.domain.messages import Message
from gateway.domain.sampling import Sampling
from gateway.domain.traces import Trace
from gateway.tracing.telemetry import DeliveryLog

SPAN_ID = "00f067aa0ba902b7"


def lines_of(*traces: Trace | None, sampling: Sampling) -> list[dict[str, Any]]:
    with structlog.testing.capture_logs() as lines:
        log = DeliveryLog(sampling)
        for trace in traces:
            message = Message("m1", "/", ("user:42",), "private", ('"private"',), trace=trace)
            log.delivered(message, 3, 0.25)
            log.replayed(message, "s1")
    return [dict(line) for line in lines]


def test_line_names_message_trace_and_number_of_connections() -> None:
    delivered, replayed = lines_of(Trace("a" * 32, SPAN_ID, 1), sampling=Sampling())

    common = {
        "log_level": "info",
        "message_id": "m1",
        "namespace": "/",
        "trace_id": "a" * 32,
        "span_id": SPAN_ID,
    }
    assert delivered == common | {"event": "message.delivered", "connections": 3, "seconds": 0.25}
    assert replayed == common | {"event": "message.replayed", "sid": "s1"}


@pytest.mark.parametrize(("flags", "level"), [(0, "debug"), (2, "debug"), (1, "info"), (3, "info")])
def test_trace_that_is_not_sampled_is_logged_at_debug(flags: int, level: str) -> None:
    lines = lines_of(Trace("a" * 32, SPAN_ID, flags), sampling=Sampling())

    assert [line["log_level"] for line in lines] == [level, level]


def test_message_without_a_trace_is_not_logged() -> None:
    assert lines_of(None, sampling=Sampling()) == []


def test_sampling_keeps_whole_traces() -> None:
    sampling = Sampling(0.5)
    traces = [Trace(f"{number:032x}", SPAN_ID, 1) for number in range(1, 41)]

    lines = lines_of(*traces, sampling=sampling)

    assert {line["trace_id"] for line in lines} == {
        each.trace_id for each in traces if sampling.should_log(each.trace_id)
    }
    assert {line["sample_rate"] for line in lines} == {0.5}
    assert 0 < len(lines) < 2 * len(traces)
