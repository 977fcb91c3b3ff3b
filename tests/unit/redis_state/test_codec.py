"""Records and frames: what this release and the ones before encode and decode."""

from __future__ import annotations

import json
from base64 import b64encode
from contextlib import suppress
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.acks import AckTerms
from gateway.domain.messages import (
    DisconnectCommand,
    LogEntry,
    Message,
    Reply,
    RoomChange,
    SessionTakeover,
    is_volatile,
    wants_replies,
)
from gateway.domain.names import RESERVED_EVENTS
from gateway.domain.positions import Position
from gateway.domain.traces import Trace
from gateway.state.redis import records
from gateway.state.redis.codec import Codec, decode_publish_result
from gateway.state.redis.records import DecodeError, FormatTooOld, Pointer
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
    all_of=st.just(()),
    reply_to=st.just(""),
    attachments=st.just(()),
    ack=st.none(),
    ttl_seconds=st.just(0),
)
NEW_MESSAGES = st.builds(
    Message._replace,
    MESSAGES,
    all_of=st.lists(NAMES, min_size=1, max_size=4).map(tuple),
    reply_to=st.just("") | NAMES,
    attachments=st.lists(st.binary(min_size=1, max_size=9).map(b64encode).map(bytes.decode), max_size=3).map(
        tuple
    ),
    ttl_seconds=st.integers(0, 604_800),
    ack=st.none() | st.builds(AckTerms, want=st.integers(0, 1000), seconds=st.floats(0.1, 25)),
)
DISCONNECT_COMMANDS = st.builds(
    DisconnectCommand,
    id=st.text("abc-_", min_size=1, max_size=22),
    user=NAMES,
    namespaces=st.lists(NAMES, min_size=1, max_size=3).map(tuple),
    at=st.floats(0, 1e11),
    exclude=st.frozensets(NAMES, max_size=3),
    revoke=st.booleans(),
    room=st.just(""),
    token_id=st.just(""),
    reply_to=st.just(""),
    kept_seconds=st.just(0.0),  # for the state, which keeps the revocation; no record has it
)
NEW_DISCONNECT_COMMANDS = st.one_of(
    st.builds(DisconnectCommand._replace, DISCONNECT_COMMANDS, user=st.just(""), room=NAMES, reply_to=NAMES),
    st.builds(DisconnectCommand._replace, DISCONNECT_COMMANDS, user=st.just(""), token_id=NAMES),
    st.builds(DisconnectCommand._replace, DISCONNECT_COMMANDS, reply_to=NAMES),
)
ROOM_CHANGES = st.builds(
    RoomChange,
    id=st.text("abc-_", min_size=1, max_size=22),
    namespace=NAMES.map(lambda name: "/" + name),
    rooms=st.lists(NAMES, max_size=4).map(tuple),
    changed=st.lists(NAMES, min_size=1, max_size=4).map(tuple),
    is_join=st.booleans(),
    exclude=st.frozensets(NAMES, max_size=3),
    reply_to=st.just("") | NAMES,
)
REPLIES = st.builds(
    Reply,
    entry_id=st.text("abc-_", min_size=1, max_size=22),
    replica=NAMES,
    content=st.recursive(st.none() | st.text(CHARACTERS) | st.integers(), st.lists).map(json.dumps),
)
SESSION_TAKEOVERS = st.builds(
    SessionTakeover,
    id=st.text("abc-_", min_size=1, max_size=22),
    namespace=NAMES.map(lambda name: "/" + name),
    sid=NAMES,
    owner=NAMES,
)
NEW_ENTRIES = st.one_of(NEW_MESSAGES, NEW_DISCONNECT_COMMANDS, ROOM_CHANGES)
"""Those that only a replica that reads format 5 can read."""


@given(entry=st.one_of(MESSAGES, DISCONNECT_COMMANDS, SESSION_TAKEOVERS, NEW_ENTRIES))
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


@given(entry=NEW_ENTRIES)
def test_entry_that_the_previous_release_cannot_read_is_not_encoded_for_it(entry: LogEntry) -> None:
    ours, theirs = Codec(), previous_release()
    ours.negotiate(theirs.newest)

    with pytest.raises(FormatTooOld):
        ours.encode(entry)
    with pytest.raises(DecodeError):
        theirs.decode_entry(Codec().encode(entry))


@given(entry=st.one_of(MESSAGES, DISCONNECT_COMMANDS, SESSION_TAKEOVERS, NEW_ENTRIES))
def test_pointer_has_what_is_needed_to_fetch_its_entry(entry: LogEntry) -> None:
    codec = Codec()

    frame = codec.decode_frame(b"12-3\n" + codec.pointer(entry) + b"\x1e77")

    assert frame.sent == Pointer(entry.id, is_volatile(entry), wants_replies(entry))
    with pytest.raises(DecodeError, match="no entry"):
        codec.decode_entry(codec.pointer(entry))


@given(entry=st.one_of(MESSAGES, DISCONNECT_COMMANDS, SESSION_TAKEOVERS))
def test_pointer_encoded_for_the_previous_release_is_decoded_there(entry: LogEntry) -> None:
    ours, theirs = Codec(), previous_release()
    ours.negotiate(theirs.newest)

    pointer = ours.pointer(entry)

    assert pointer == theirs.pointer(entry)
    assert theirs.decode_frame(b"1-0\n" + pointer + b"\x1e77").sent == Pointer(entry.id, is_volatile(entry))


@pytest.mark.parametrize("record", [b"4N\x1eid\x1er", b"5N\x1eid\x1erv", b"5N\x1eid\x1err", b"5N\x1e\x1er"])
def test_pointer_with_unknown_flags_is_malformed(record: bytes) -> None:
    with pytest.raises(DecodeError, match="malformed"):
        Codec().decode_frame(b"1-0\n" + record + b"\x1e77")


@given(reply=REPLIES)
def test_reply_is_decoded_as_it_was_encoded_and_is_no_entry(reply: Reply) -> None:
    codec = Codec()

    assert codec.decode_frame(b"0-0\n" + codec.reply(reply)) == (Position("0-0"), reply, "")
    with pytest.raises(DecodeError, match="no entry"):
        codec.decode_entry(codec.reply(reply))


@pytest.mark.parametrize("field", Reply._fields)
def test_reply_with_a_separator_in_a_field_is_not_encoded(field: str) -> None:
    reply = Reply("id", "a", "{}")._replace(**{field: "x\x1ey"})

    with pytest.raises(ValueError, match="control character"):
        Codec().reply(reply)


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
    tag=st.sampled_from([number + letter for number in "12356" for letter in "MKTNCJRWL"] + ["", "M", "R"]),
    fields=st.lists(st.text(max_size=8) | st.sampled_from(["/", "a", "1", ""]), max_size=12),
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
        == "5T\x1eid\x1e/chät\x1es1\x1eb/1".encode()
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
        b"6T\x1eid\x1e/\x1es1\x1eb/1",
        b" 3T\x1eid\x1e/\x1es1\x1eb/1",
    ],
)
def test_malformed_session_takeover_is_not_decoded(record: bytes) -> None:
    with pytest.raises(DecodeError):
        Codec().decode_entry(record)
    with pytest.raises(DecodeError):
        Codec().decode_frame(b"1-1\n" + record)


@pytest.mark.parametrize(
    "record",
    [
        b"5K\x1eid\x1e\x1e/\x1e1.0\x1e\x1e\x1e\x1e\x1e",  # neither user, room nor token id
        b"5K\x1eid\x1eann\x1e/\x1e1.0\x1e\x1e\x1eroom\x1e\x1e",
        b"5K\x1eid\x1e\x1e/\x1e1.0\x1e\x1e\x1eroom\x1ejti\x1e",
        b"5K\x1eid\x1eann\x1e/\x1e1.0\x1e\x1e",
        b"4K\x1eid\x1e\x1e/\x1e1.0\x1e\x1e\x1eroom\x1e\x1e",
        b"5J\x1eid\x1e/\x1ej\x1eroom\x1e\x1e\x1e",  # no changed room
        b"5J\x1eid\x1e/\x1e\x1eroom\x1eother\x1e\x1e",
        b"5J\x1e\x1e/\x1ej\x1eroom\x1eother\x1e\x1e",
        b"5J\x1eid\x1echat\x1ej\x1eroom\x1eother\x1e\x1e",
        b"4J\x1eid\x1e/\x1ej\x1eroom\x1eother\x1e\x1e",
        b"5M\x1eid\x1e/\x1e\x1e\x1e\x1enews\x1e",  # without the fields that format 5 added
        b"5R\x1e\x1ea\x1e{}",
        b"5R\x1eid\x1e\x1e{}",
        b"5R\x1eid",
    ],
)
def test_malformed_record_of_format_5_is_not_decoded(record: bytes) -> None:
    with pytest.raises(DecodeError):
        Codec().decode_entry(record)
    with pytest.raises(DecodeError):
        Codec().decode_frame(b"1-1\n" + record + b"\x1e77")


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


ANY_TEXT = st.text(st.sampled_from('a\u00e9~.=%"\\\n\x1e\x1f\x7f ') | CHARACTERS, max_size=6)


@settings(max_examples=2_000)
@given(
    st.sampled_from([3, 4, 5]),
    st.builds(
        Message,
        id=st.just("id") | ANY_TEXT,
        namespace=st.just("/") | ANY_TEXT,
        rooms=st.lists(st.just("org:7") | ANY_TEXT, max_size=2).map(tuple),
        event=st.just("news") | ANY_TEXT | st.sampled_from(sorted(RESERVED_EVENTS)),
        arguments=st.lists(st.just("[1]") | ANY_TEXT, max_size=3).map(tuple),
    ),
)
def test_plain_message_has_the_record_of_any_other_message(number: int, message: Message) -> None:
    """It is encoded by a shorter way; the ordinary one is taken while no message counts as plain."""

    def outcome() -> bytes | str:
        try:
            return records._encode(number, message)
        except (ValueError, FormatTooOld) as error:
            return repr(error)

    encoded = outcome()
    with patch.object(records, "is_plain", lambda _: False):
        assert encoded == outcome()
