"""Records and frames: what this release and the ones before encode and decode."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.messages import DisconnectCommand, LogEntry, Message, SessionTakeover
from gateway.domain.names import RESERVED_EVENTS
from gateway.domain.positions import Position
from gateway.domain.traces import Trace
from gateway.state.redis.codec import Codec, decode_publish_result
from gateway.state.redis.records import DecodeError
from tests.integration.redis_state.replicas import previous_release

CHARACTERS = st.characters(exclude_categories=["Cs"])
NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)
TRACES = st.builds(
    Trace,
    trace_id=st.integers(1, 16**32 - 1).map("{:032x}".format),
    span_id=st.integers(1, 16**16 - 1).map("{:016x}".format),
    flags=st.integers(0, 3),
)
MESSAGES = st.builds(
    Message,
    id=st.text("abc-_", min_size=1, max_size=22),
    namespace=NAMES.map(lambda name: "/" + name),
    rooms=st.lists(NAMES, max_size=4).map(tuple),
    event=st.text(CHARACTERS, min_size=1, max_size=20) | st.sampled_from(sorted(RESERVED_EVENTS)),
    arguments=st.lists(st.one_of(st.just(" [1,\n2]\t"), NAMES.map(json.dumps)), max_size=4).map(tuple),
    exclude=st.frozensets(NAMES, max_size=3),
    volatile=st.booleans(),
    trace=st.none() | TRACES,
)
DISCONNECT_COMMANDS = st.builds(
    DisconnectCommand,
    id=st.text("abc-_", min_size=1, max_size=22),
    user=NAMES,
    namespaces=st.lists(NAMES, min_size=1, max_size=3).map(tuple),
    at=st.floats(0, 1e11),
    exclude=st.frozensets(NAMES, max_size=3),
    revoke=st.booleans(),
)
SESSION_TAKEOVERS = st.builds(
    SessionTakeover,
    id=st.text("abc-_", min_size=1, max_size=22),
    namespace=NAMES.map(lambda name: "/" + name),
    sid=NAMES,
    owner=NAMES,
)


@given(entry=st.one_of(MESSAGES, DISCONNECT_COMMANDS, SESSION_TAKEOVERS))
def test_entry_is_decoded_as_it_was_encoded(entry: LogEntry) -> None:
    codec = Codec()

    assert codec.decode_entry(codec.encode(entry)) == entry
    assert codec.decode_frame(b"12-3\n" + codec.encode(entry) + b"\x1e77") == (Position("12-3"), entry, "77")
    assert type(codec.decode_entry(codec.encode(entry))) is type(entry)


@given(entry=st.one_of(MESSAGES, DISCONNECT_COMMANDS, SESSION_TAKEOVERS))
def test_entry_encoded_for_the_previous_release_is_decoded_there(entry: LogEntry) -> None:
    ours, theirs = Codec(), previous_release()
    ours.negotiate(theirs.newest)

    read = theirs.decode_entry(ours.encode(entry))

    assert read == entry
    assert ours.encode(entry) == theirs.encode(entry)


@pytest.mark.parametrize(
    "trace",
    [
        b"00-" + b"0" * 32 + b"-" + b"1" * 16 + b"-01",
        b"00-" + b"1" * 32 + b"-" + b"1" * 16,
        b"garbage",
    ],
)
def test_record_with_a_malformed_trace_is_not_decoded(trace: bytes) -> None:
    with pytest.raises(DecodeError):
        Codec().decode_entry(b"3M\x1eid\x1e/\x1e\x1e\x1e\x1enews\x1e" + trace)


@given(data=st.binary(max_size=200))
def test_arbitrary_bytes_are_decoded_or_raise_decode_error(data: bytes) -> None:
    for read in (Codec().decode_frame, Codec().decode_entry, decode_publish_result):
        with suppress(DecodeError):
            read(data)


@settings(max_examples=300)
@given(
    tag=st.sampled_from(
        ["2M", "2K", "2T", "2N", "2C", "3M", "3K", "3T", "3N", "3C", "4M", "4C", "4N", "5M", "1M", "", "M"]
    ),
    fields=st.lists(st.text(max_size=8), max_size=9),
    position=st.sampled_from([b"1-1", b"1-", b"", b"99999999999999999-0", "١-1".encode()]),
)
def test_arbitrary_records_are_decoded_or_raise_decode_error(
    tag: str, fields: list[str], position: bytes
) -> None:
    text = "\x1e".join([tag, *fields]).encode("utf-8", "surrogatepass")
    with suppress(DecodeError):
        Codec().decode_frame(position + b"\n" + text)


def test_session_takeover_is_encoded_as_four_fields() -> None:
    assert (
        Codec().encode(SessionTakeover("id", "/chät", "s1", "b/1"))
        == "4T\x1eid\x1e/chät\x1es1\x1eb/1".encode()
    )


@pytest.mark.parametrize(
    "record",
    [
        b"3T",
        b"3T\x1eid\x1e/\x1es1",
        b"3T\x1eid\x1e/\x1es1\x1eb/1\x1e",
        b"3T\x1eid\x1e/\x1es1\x1eb/1\x1emore",
        b"3T\x1e\x1e/\x1es1\x1eb/1",
        b"3T\x1eid\x1e\x1es1\x1eb/1",
        b"3T\x1eid\x1echat\x1es1\x1eb/1",
        b"3T\x1eid\x1e/\x1e\x1eb/1",
        b"3T\x1eid\x1e/\x1es1\x1e",
        b"3T\x1eid\x1e/\x1es1\x1e\xff",
        b"3t\x1eid\x1e/\x1es1\x1eb/1",
        b"5T\x1eid\x1e/\x1es1\x1eb/1",
        b" 3T\x1eid\x1e/\x1es1\x1eb/1",
    ],
)
def test_malformed_session_takeover_is_not_decoded(record: bytes) -> None:
    with pytest.raises(DecodeError):
        Codec().decode_entry(record)
    with pytest.raises(DecodeError):
        Codec().decode_frame(b"1-1\n" + record)


@pytest.mark.parametrize("field", ["id", "namespace", "sid", "owner"])
@pytest.mark.parametrize("separator", ["\x1e", "\x1f"])
def test_session_takeover_with_a_separator_in_a_field_is_not_encoded(field: str, separator: str) -> None:
    session_takeover = SessionTakeover("id", "/", "s1", "b/1")._replace(**{field: f"/x{separator}y"})

    with pytest.raises(ValueError, match="control character"):
        Codec().encode(session_takeover)


@pytest.mark.parametrize("argument", ["\x1e", '"\x1f"'])
def test_message_with_a_control_character_in_an_argument_is_not_encoded(argument: str) -> None:
    with pytest.raises(ValueError, match="control character"):
        Codec().encode(Message("id", "/", ("a",), "news", (argument,)))
