"""Whatever stands on the channels or in the log, a replica goes on; two releases understand each other."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain import positions
from gateway.domain.messages import DisconnectCommand, LogEntry, Message, SessionTakeover
from gateway.domain.positions import START, Position
from gateway.domain.traces import Trace
from gateway.state.redis.codec import (
    Codec,
    DecodeError,
    decode_publish_result,
)
from gateway.state.redis.redis_keys import RedisKeys
from tests.contract.values import at, newest_position
from tests.integration.redis_state.replicas import (
    PREFIX,
    ids,
    make,
    previous_release,
    replicas,
    until,
    until_redis_says,
)
from tests.support.redis_server import RedisServer

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
    event=st.text(CHARACTERS, min_size=1, max_size=20),
    arguments=st.lists(st.one_of(st.just(" [1,\n2]\t"), NAMES.map(json.dumps)), max_size=4).map(tuple),
    exclude=st.frozensets(NAMES, max_size=3),
    volatile=st.booleans(),
    trace=st.none() | TRACES,
)
KICKS = st.builds(
    DisconnectCommand,
    id=st.text("abc-_", min_size=1, max_size=22),
    user=NAMES,
    namespaces=st.lists(NAMES, min_size=1, max_size=3).map(tuple),
    at=st.floats(0, 1e11),
    exclude=st.frozensets(NAMES, max_size=3),
    revoke=st.booleans(),
)
MOVES = st.builds(
    SessionTakeover,
    id=st.text("abc-_", min_size=1, max_size=22),
    namespace=NAMES.map(lambda name: "/" + name),
    sid=NAMES,
    owner=NAMES,
)


@given(entry=st.one_of(MESSAGES, KICKS, MOVES))
def test_an_entry_is_read_as_it_was_written(entry: LogEntry) -> None:
    codec = Codec()

    assert codec.decode_entry(codec.encode(entry)) == entry
    assert codec.decode_frame(b"12-3\n" + codec.encode(entry)) == (Position("12-3"), entry)
    assert type(codec.decode_entry(codec.encode(entry))) is type(entry)


@given(entry=st.one_of(MESSAGES, KICKS, MOVES))
def test_what_is_written_for_the_release_before_is_read_there_without_its_trace(entry: LogEntry) -> None:
    ours, theirs = Codec(), previous_release()
    ours.negotiate(theirs.newest)

    read = theirs.decode_entry(ours.encode(entry))

    assert read == (entry._replace(trace=None) if isinstance(entry, Message) else entry)
    assert ours.encode(entry) == theirs.encode(entry)


@pytest.mark.parametrize(
    "trace",
    [
        b"00-" + b"0" * 32 + b"-" + b"1" * 16 + b"-01",
        b"00-" + b"1" * 32 + b"-" + b"1" * 16,
        b"rubbish",
    ],
)
def test_a_record_with_a_malformed_trace_is_unreadable(trace: bytes) -> None:
    with pytest.raises(DecodeError):
        Codec().decode_entry(b"2M\x1eid\x1e/\x1e\x1e\x1e\x1enews\x1e" + trace)


@given(data=st.binary(max_size=200))
def test_bytes_of_anybody_are_read_or_unreadable_and_nothing_else(data: bytes) -> None:
    for read in (Codec().decode_frame, Codec().decode_entry, decode_publish_result):
        with suppress(DecodeError):
            read(data)


@settings(max_examples=300)
@given(
    tag=st.sampled_from(["1M", "1K", "1T", "1N", "1C", "2M", "2K", "2T", "2N", "2C", "3M", "", "M"]),
    fields=st.lists(st.text(max_size=8), max_size=9),
    position=st.sampled_from([b"1-1", b"1-", b"", b"99999999999999999-0", "١-1".encode()]),
)
def test_records_of_anybody_are_read_or_unreadable_and_nothing_else(
    tag: str, fields: list[str], position: bytes
) -> None:
    text = "\x1e".join([tag, *fields]).encode("utf-8", "surrogatepass")
    with suppress(DecodeError):
        Codec().decode_frame(position + b"\n" + text)


def test_a_move_is_written_as_four_fields() -> None:
    assert (
        Codec().encode(SessionTakeover("id", "/chät", "s1", "b/1"))
        == "2T\x1eid\x1e/chät\x1es1\x1eb/1".encode()
    )


@pytest.mark.parametrize(
    "record",
    [
        b"1T",
        b"1T\x1eid\x1e/\x1es1",
        b"1T\x1eid\x1e/\x1es1\x1eb/1\x1e",
        b"1T\x1eid\x1e/\x1es1\x1eb/1\x1emore",
        b"1T\x1e\x1e/\x1es1\x1eb/1",
        b"1T\x1eid\x1e\x1es1\x1eb/1",
        b"1T\x1eid\x1echat\x1es1\x1eb/1",
        b"1T\x1eid\x1e/\x1e\x1eb/1",
        b"1T\x1eid\x1e/\x1es1\x1e",
        b"1T\x1eid\x1e/\x1es1\x1e\xff",
        b"1t\x1eid\x1e/\x1es1\x1eb/1",
        b"3T\x1eid\x1e/\x1es1\x1eb/1",
        b" 1T\x1eid\x1e/\x1es1\x1eb/1",
    ],
)
def test_a_malformed_move_is_unreadable(record: bytes) -> None:
    with pytest.raises(DecodeError):
        Codec().decode_entry(record)
    with pytest.raises(DecodeError):
        Codec().decode_frame(b"1-1\n" + record)


@pytest.mark.parametrize("field", ["id", "namespace", "sid", "owner"])
@pytest.mark.parametrize("separator", ["\x1e", "\x1f"])
def test_a_move_that_would_be_read_as_another_is_not_written(field: str, separator: str) -> None:
    session_takeover = SessionTakeover("id", "/", "s1", "b/1")._replace(**{field: f"/x{separator}y"})

    with pytest.raises(ValueError, match="control character"):
        Codec().encode(session_takeover)


@pytest.mark.parametrize("argument", ["\x1e", '"\x1f"'])
def test_what_no_door_lets_in_is_not_written(argument: str) -> None:
    with pytest.raises(ValueError, match="control character"):
        Codec().encode(Message("id", "/", ("a",), "news", (argument,)))


async def test_garbage_on_the_channels_is_counted_and_all_goes_on(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        await a.subscribe("room")
        channel, canary = RedisKeys(PREFIX).channel(at("room")), RedisKeys(PREFIX).probe("a")
        rubbish = [
            b"",
            b"\n",
            b"x" * 1000,
            b"1-1\n1M",
            b"1-1\n1K\x1ea\x1eb\x1e/\x1enan\x1e\x1e",
            b"1-1\n1T\x1ea\x1e/\x1es1",
            b"\xff\xfe",
            b"1-1\n9M",
        ]
        for data in rubbish:
            server.ask("PUBLISH", channel, data)
            server.ask("PUBLISH", canary, data)
        server.ask("PUBLISH", canary, b"9999999999999-0\n1C\x1eforged\x1eforged")

        await a.hears(await a.push("room"))

        assert a.unreadable == 2 * len(rubbish)
        assert len(a.heard) == 1


def milliseconds(server: RedisServer) -> int:
    seconds, microseconds = server.ask("TIME")
    return int(seconds) * 1000 + int(microseconds) // 1000


async def test_garbage_in_the_log_is_passed_over_and_told_as_a_gap(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        await a.subscribe("room")
        await a.push("room")
        newest, sequence = positions.order(await newest_position(a.state.broker))
        await until(lambda: milliseconds(server) > newest, "the next position has another time")
        server.ask("XADD", f"{PREFIX}:log", f"{newest}-{sequence + 77}", "r", "rubbish", "s", 1)
        server.ask("RPUSH", f"{PREFIX}:index:/,room", f"{newest}-{sequence + 77}")

        page = await a.state.broker.history(START, [at("room")], max_entries=10, max_bytes=1000)
        a.state.subscriber.reconnect()

        assert (len(page.entries), page.gap) == (1, "data_lost")
        await until(lambda: a.unreadable == 1, "it was passed over")
        await a.hears(await a.push("room"))
        assert a.gaps == ["data_lost"]


# --- two releases ---


async def test_replicas_of_two_releases_understand_each_other(server: RedisServer) -> None:
    async with replicas(server, "old", codec=previous_release()) as [old], replicas(server, "new") as [new]:
        for each in (old, new):
            await each.subscribe("room")

        news = [await old.push("room"), await new.push("room"), await old.push("room")]

        for each in (old, new):
            await each.hears(*news)
            assert ids(each.heard) == ids(news)
            page = await each.state.broker.history(START, [at("room")], max_entries=10, max_bytes=1000)
            assert ids(entry for _, entry in page.entries) == ids(news)
        assert (old.unreadable, new.unreadable) == (0, 0)


async def test_the_newer_format_is_written_once_nobody_needs_the_older_one(server: RedisServer) -> None:
    async with replicas(server, "new", lease_seconds=1.0) as [new]:
        async with replicas(server, "old", codec=previous_release(), lease_seconds=1.0) as [old]:
            await old.push("room")
            await until(lambda: new.state.membership.sizes.replicas == 2, "both live")
            assert new.state.codec.encode(make("room")).startswith(b"1M")
            await old.leave()
        await new.subscribe("room")

        await until(lambda: new.state.codec.encode(make("room")).startswith(b"2M"), "the old one has left")

        await new.hears(await new.push("room"))
        page = await new.state.broker.history(START, [at("room")], max_entries=10, max_bytes=1000)
        assert len(page.entries) == 2


async def test_presence_of_anybody_is_passed_over(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        await a.register("s1", "ann")
        for number, value in enumerate(
            [b"a {", b"a []", b'a {"v":9}', b'a {"v":1,"n":1,"t":1,"c":"x"}', b"a \xff", b"", b"a"]
        ):
            server.ask("HSET", f"{PREFIX}:user:ann", f"rubbish{number}", value)

        await until_redis_says(lambda: sids(a), ["s1"])


async def sids(replica) -> list[str]:
    return [each.sid for each in (await replica.state.presence.of_user("ann")).connections]
