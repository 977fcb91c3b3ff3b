"""Garbage on the channels or in the log does not stop delivery; two releases deliver each other's messages."""

from __future__ import annotations

from gateway.domain import positions
from gateway.domain.positions import START
from gateway.state.redis.redis_keys import RedisKeys
from tests.contract.values import at, newest_position
from tests.integration.redis_state.replicas import PREFIX, await_answer, ids, make, previous_release, replicas
from tests.support.redis_server import RedisServer
from tests.support.waiter import await_until


async def test_garbage_on_the_channels_is_counted_and_delivery_continues(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        await a.subscribe("room")
        channel, probe_channel = RedisKeys(PREFIX).channel(at("room")), RedisKeys(PREFIX).probe("a")
        garbage = [
            b"",
            b"\n",
            b"x" * 1000,
            b"1-1\n2M",
            b"1-1\n2K\x1ea\x1eb\x1e/\x1enan\x1e\x1e",
            b"1-1\n2T\x1ea\x1e/\x1es1",
            b"\xff\xfe",
            b"1-1\n9M",
        ]
        for data in garbage:
            server.execute("PUBLISH", channel, data)
            server.execute("PUBLISH", probe_channel, data)
        server.execute("PUBLISH", probe_channel, b"9999999999999-0\n2C\x1eforged\x1eforged")

        await a.receives(await a.push("room"))

        assert a.decode_errors == 2 * len(garbage)
        assert len(a.received) == 1


def milliseconds(server: RedisServer) -> int:
    seconds, microseconds = server.execute("TIME")
    return int(seconds) * 1000 + int(microseconds) // 1000


async def test_garbage_in_the_log_is_skipped_and_reported_as_a_gap(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        await a.subscribe("room")
        await a.push("room")
        newest, sequence = positions.order(await newest_position(a.state.broker))
        await await_until(lambda: milliseconds(server) > newest, "the next position has another time")
        server.execute("XADD", f"{PREFIX}:log", f"{newest}-{sequence + 77}", "r", "garbage", "s", 1)
        server.execute("RPUSH", f"{PREFIX}:index:/,room", f"{newest}-{sequence + 77}")

        page = await a.state.broker.history(START, [at("room")], max_entries=10, max_bytes=1000)
        a.state.subscriber.reconnect()

        assert (len(page.entries), page.gap) == (1, "data_lost")
        await await_until(lambda: a.decode_errors == 1, "it was skipped")
        await a.receives(await a.push("room"))
        assert a.gaps == ["data_lost"]


# --- two releases ---


async def test_replicas_of_two_releases_deliver_messages_of_both(server: RedisServer) -> None:
    async with replicas(server, "old", codec=previous_release()) as [old], replicas(server, "new") as [new]:
        for each in (old, new):
            await each.subscribe("room")

        news = [await old.push("room"), await new.push("room"), await old.push("room")]

        for each in (old, new):
            await each.receives(*news)
            assert ids(each.received) == ids(news)
            page = await each.state.broker.history(START, [at("room")], max_entries=10, max_bytes=1000)
            assert ids(entry for _, entry in page.entries) == ids(news)
        assert (old.decode_errors, new.decode_errors) == (0, 0)


async def test_newer_format_is_written_once_no_replica_needs_the_older_one(server: RedisServer) -> None:
    async with replicas(server, "new", lease_seconds=1.0) as [new]:
        async with replicas(server, "old", codec=previous_release(), lease_seconds=1.0) as [old]:
            await old.push("room")
            await await_until(lambda: new.state.membership.sizes.replicas == 2, "both live")
            assert new.state.codec.encode(make("room")).startswith(b"4M")
            await old.shut_down()
        await new.subscribe("room")

        await await_until(
            lambda: new.state.codec.encode(make("room")).startswith(b"5M"), "the old one has shut down"
        )

        await new.receives(await new.push("room"))
        page = await new.state.broker.history(START, [at("room")], max_entries=10, max_bytes=1000)
        assert len(page.entries) == 2


async def test_malformed_presence_is_ignored(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        await a.register("s1", "ann")
        for number, value in enumerate(
            [b"a {", b"a []", b'a {"v":9}', b'a {"v":1,"n":1,"t":1,"c":"x"}', b"a \xff", b"", b"a"]
        ):
            server.execute("HSET", f"{PREFIX}:user:ann", f"garbage{number}", value)

        await await_answer(lambda: sids(a), ["s1"])


async def sids(replica) -> list[str]:
    return [each.sid for each in (await replica.state.presence.of_user("ann")).connections]
