"""Parsing and formatting of traceparent headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.traces import Trace, find_trace, format_traceparent, parse_traceparent

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SENT = f"00-{TRACE_ID}-{SPAN_ID}-01"


@pytest.mark.parametrize(
    ("flags", "kept", "sampled"),
    [("00", 0, False), ("01", 1, True), ("02", 2, False), ("03", 3, True), ("ff", 3, True), ("fc", 0, False)],
)
def test_traceparent_has_a_trace_a_span_and_the_flags_of_level_2(
    flags: str, kept: int, sampled: bool
) -> None:
    trace = parse_traceparent(f"00-{TRACE_ID}-{SPAN_ID}-{flags}")

    assert trace == Trace(TRACE_ID, SPAN_ID, kept)
    assert trace.is_sampled is sampled


@pytest.mark.parametrize("rest", ["", "-", "-what-the-future-will-be-like", "-00"])
def test_later_version_is_read_as_far_as_it_is_known(rest: str) -> None:
    assert parse_traceparent(f"cc-{TRACE_ID}-{SPAN_ID}-01{rest}") == Trace(TRACE_ID, SPAN_ID, 1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        SENT + "-",
        SENT + "-00",
        SENT + " ",
        SENT + "\n",
        " " + SENT,
        SENT[:-1],
        SENT.upper(),
        SENT.replace("-", "_"),
        f"ff-{TRACE_ID}-{SPAN_ID}-01",
        f"0-{TRACE_ID}-{SPAN_ID}-01",
        f"00-{'0' * 32}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"00-{TRACE_ID[:-1]}-{SPAN_ID}-01",
        f"00-{TRACE_ID[:-1]}g-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{SPAN_ID[:-1]}٣-01",
        f"00-{TRACE_ID}-{SPAN_ID}-0x",
        f"cc-{TRACE_ID}-{SPAN_ID}-01.what-the-future-will-not-be-like",
        f"cc-{TRACE_ID}-{SPAN_ID}-01-\n",
    ],
)
def test_malformed_traceparent_has_no_trace(text: str) -> None:
    assert parse_traceparent(text) is None


@given(text=st.text(max_size=80) | st.from_regex(r"[0-9a-f-]{50,60}", fullmatch=True))
def test_any_text_is_parsed_or_ignored(text: str) -> None:
    trace = parse_traceparent(text)

    assert trace is None or parse_traceparent(format_traceparent(trace)) == trace


def test_several_traceparents_count_as_none() -> None:
    assert find_trace([]) is None
    assert find_trace([SENT]) == Trace(TRACE_ID, SPAN_ID, 1)
    assert find_trace([SENT, SENT]) is None
    assert find_trace(["rubbish"]) is None


def test_trace_is_formatted_as_version_00() -> None:
    assert format_traceparent(Trace(TRACE_ID, SPAN_ID, 1)) == SENT
