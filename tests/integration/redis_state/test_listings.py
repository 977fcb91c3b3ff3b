"""Lists and socket data over replicas: one is killed, Redis is emptied, a former release is beside."""

from __future__ import annotations

import asyncio

from gateway.domain.errors import BrokerUnavailable
from gateway.domain.event_catalogue import Glob, RoomRule
from gateway.domain.listings import MemberRules, RoomSummary, Slice
from gateway.domain.messages import DataChange
from gateway.domain.presence import PresentConnection
from gateway.domain.socket_data import StoredData, encode_data
from gateway.interfaces import DataSource
from gateway.services.socket_data import SocketDataChanges
from tests.integration.redis_state.replicas import PREFIX, Replica, former_release
from tests.support.redis_server import RedisServer
from tests.support.waiter import await_until
from tests.unit.hub.transports import connection

RULES = MemberRules({"/": (RoomRule(Glob("chat:*"), list_members=True),)})
ALL = Slice(100)


class Client:
    """The data of a connection, as its replica has it."""

    def __init__(self) -> None:
        self.stored_data = StoredData()


async def connect(
    replica: Replica, sid: str, user: str, *rooms: str, client: DataSource | None = None
) -> None:
    present = PresentConnection(sid, user, "/", replica.name, "websocket", 1000.0)
    await replica.state.presence.register(present, [f"user:{user}", *rooms], data=client)


def changes(replica: Replica) -> SocketDataChanges:
    state = replica.state
    return SocketDataChanges(store=state.socket_data, listings=state.listings, broker=state.broker)


async def rooms(replica: Replica) -> dict[str, int]:
    page = await replica.state.listings.rooms("/", "", ALL)
    assert page.next == ""
    return dict(page.names)


async def members(replica: Replica, room: str) -> list[str]:
    page = await replica.state.listings.members("/", room, ALL)
    return [each.connection.sid for each in page.connections]


def list_keys(server: RedisServer) -> set[str]:
    """Return the keys that lists are made of."""
    families = ("rooms:*", "users", "members:*", "room_users:*", "data:*", "sids:*")
    found = [server.execute("KEYS", f"{PREFIX}:{family}") for family in families]
    return {key.decode() if isinstance(key, bytes) else str(key) for keys in found for key in keys}


async def two_replicas(server: RedisServer) -> tuple[Replica, Replica]:
    first, second = Replica(server, "a"), Replica(server, "b")
    for replica in (first, second):
        await replica.start()
        replica.state.listings.configure(RULES)
    return first, second


async def test_killed_replica_leaves_no_rows_behind(server: RedisServer) -> None:
    first, second = await two_replicas(server)
    await connect(first, "~1", "ann", "chat:1", "org:7")
    await connect(second, "~2", "bob", "chat:1", "chat:2", "x")
    await second.state.socket_data.replace("~2", '{"a":1}', expected=0)

    assert await rooms(first) == {"chat:1": 2, "chat:2": 1, "org:7": 1, "user:ann": 1, "user:bob": 1, "x": 1}
    await second.stop()
    await await_until(lambda: second.name in first.reaped, "the killed replica is reaped")
    await await_until(
        lambda: not server.execute("EXISTS", f"{PREFIX}:conns:b"), "its connections are removed"
    )

    assert await rooms(first) == {"chat:1": 1, "org:7": 1, "user:ann": 1}
    assert await members(first, "chat:1") == ["~1"]
    assert await first.state.listings.room("/", "chat:1") == RoomSummary(1, users=1)
    assert (await first.state.listings.stats(["/"])).users == 1
    await first.state.presence.unregister("~1")
    assert list_keys(server) == set()
    await first.shut_down()


async def test_connections_of_a_killed_replica_are_in_no_list_before_it_is_reaped(
    server: RedisServer,
) -> None:
    first, second = await two_replicas(server)
    await connect(first, "~1", "ann", "chat:1")
    await connect(second, "~2", "bob", "chat:1", "x")
    await second.stop()
    server.execute("ZADD", f"{PREFIX}:leases", 1, "b")

    assert await rooms(first) == {"chat:1": 1, "user:ann": 1}
    assert await members(first, "chat:1") == ["~1"]
    assert await first.state.listings.connection("~2") is None
    page = await first.state.listings.users(["/", "/chat"], "", ALL)
    assert page.names == (("ann", 1),)
    assert [each.id for each in (await first.state.listings.stats(["/"])).replicas] == ["a"]
    await first.shut_down()


async def test_lists_are_right_again_after_redis_was_emptied(server: RedisServer) -> None:
    first, second = await two_replicas(server)
    client = Client()
    await connect(first, "~1", "ann", "chat:1", "org:7", client=client)
    await connect(second, "~2", "bob", "chat:1")
    replaced = await first.state.socket_data.replace("~1", '{"a":1}', expected=0, is_here=True)
    assert replaced is not None
    client.stored_data = replaced[1]
    before = await rooms(first)

    server.execute("FLUSHALL")

    async def is_restored() -> bool:
        return await rooms(second) == before and await members(second, "chat:1") == ["~1", "~2"]

    for _ in range(200):
        if await is_restored():
            break
        await asyncio.sleep(0.1)
    assert await rooms(second) == before
    assert await members(second, "chat:1") == ["~1", "~2"]
    assert await second.state.listings.room("/", "chat:1") == RoomSummary(2, users=2)
    assert await second.state.socket_data.read("~1") == replaced[1]
    assert (await second.state.listings.stats(["/"])).users == 2
    for replica in (first, second):
        await replica.shut_down()
    assert list_keys(server) == set()


async def test_older_data_of_a_replica_does_not_replace_newer_data(server: RedisServer) -> None:
    first, second = await two_replicas(server)
    client = Client()
    await connect(first, "~1", "ann", client=client)
    old = await first.state.socket_data.replace("~1", '{"a":1}', expected=0)
    assert old is not None
    client.stored_data = old[1]
    new = await second.state.socket_data.replace("~1", '{"a":2}', expected=old[1].version)
    assert new is not None

    await first.state.presence.register_again({"~1": None})

    assert await second.state.socket_data.read("~1") == new[1]
    for replica in (first, second):
        await replica.stop()


async def test_connection_that_moves_to_another_replica_keeps_its_data_and_rows(server: RedisServer) -> None:
    first, second = await two_replicas(server)
    await connect(first, "~1", "ann", "chat:1")
    replaced = await first.state.socket_data.replace("~1", '{"a":1}', expected=0)
    assert replaced is not None
    await first.stop()
    server.execute("ZADD", f"{PREFIX}:leases", 1, "a")

    await connect(second, "~1", "ann", "chat:1")

    assert await rooms(second) == {"chat:1": 1, "user:ann": 1}
    assert await members(second, "chat:1") == ["~1"]
    assert await second.state.socket_data.read("~1") == replaced[1]
    await second.shut_down()


async def test_patches_at_the_same_time_on_two_replicas_are_all_kept_and_delivered(
    server: RedisServer,
) -> None:
    first, second = await two_replicas(server)
    await connect(first, "~1", "ann")
    await first.subscribe("~1")

    writers = [changes(first), changes(second)]
    await asyncio.gather(*(writers[n % 2].patch("~1", {f"m{n}": {"n": n}}) for n in range(8)))

    stored = await second.state.socket_data.read("~1")
    assert stored.data == {f"m{n}": {"n": n} for n in range(8)}

    def newest() -> DataChange | None:
        found = [entry for entry in first.received if isinstance(entry, DataChange)]
        return max(found, key=lambda entry: entry.version, default=None)

    await await_until(
        lambda: (newest() or DataChange("", "", "", 0, "")).version == stored.version, "it arrives"
    )
    change = newest()
    assert change is not None
    assert change.data == stored.text == encode_data(stored.data)
    for replica in (first, second):
        await replica.shut_down()


async def test_patches_of_three_replicas_and_answers_of_webhooks_at_the_same_time_are_all_kept(
    server: RedisServer,
) -> None:
    replicas = [Replica(server, name) for name in "abc"]
    for replica in replicas:
        await replica.start()
    client, _ = connection("~1", "ann")
    await connect(replicas[0], "~1", "ann", client=client)
    writers = [changes(replica) for replica in replicas]

    await asyncio.gather(
        *(writers[n % 3].patch("~1", {"shared": {f"p{n}": n}, f"p{n}": n}) for n in range(60)),
        *(writers[0].set_members(client, {f"s{n}": n}) for n in range(20)),
    )
    await writers[1].patch("~1", {"p7": None, "shared": {"p7": None}})
    await writers[0].set_members(client, {"s7": None})

    patched = {f"p{n}": n for n in range(60) if n != 7}
    expected = {"shared": patched, **patched, **{f"s{n}": n for n in range(20) if n != 7}}
    stored = await replicas[2].state.socket_data.read("~1")
    assert stored.data == expected
    assert client.stored_data.data == expected
    for replica in replicas:
        await replica.shut_down()


async def test_patch_is_kept_while_a_connection_is_away_and_is_rejected_meanwhile(
    server: RedisServer,
) -> None:
    first, second = await two_replicas(server)
    await connect(first, "~1", "ann")
    assert await changes(second).patch("~1", {"a": {"b": 1}}) == '{"a":{"b":1}}'

    await first.state.presence.unregister("~1", is_parked=True)
    assert await changes(second).patch("~1", {"c": 2}) is None
    assert await changes(first).patch("~1", {"c": 2}) is None
    await connect(second, "~1", "ann")

    assert (await second.state.socket_data.read("~1")).data == {"a": {"b": 1}}
    assert await changes(first).patch("~1", {"a": {"d": 3, "b": None}}) == '{"a":{"d":3}}'
    for replica in (first, second):
        await replica.shut_down()


async def test_lists_are_incomplete_and_data_is_not_patched_beside_a_former_release(
    server: RedisServer,
) -> None:
    new, former = Replica(server, "new"), Replica(server, "former", codec=former_release())
    await former.start()
    await new.start()
    await connect(new, "~1", "ann")
    await new.state.membership.heartbeat()

    assert not (await new.state.listings.rooms("/", "", ALL)).is_complete
    assert not (await new.state.listings.stats(["/"])).is_complete
    try:
        await changes(new).patch("~1", {"a": 1})
        raise AssertionError("it was patched")
    except BrokerUnavailable:
        pass
    assert await new.state.socket_data.read("~1") == StoredData()

    await former.shut_down()
    await new.state.membership.heartbeat()
    assert (await new.state.listings.rooms("/", "", ALL)).is_complete
    assert await changes(new).patch("~1", {"a": 1}) == '{"a":1}'
    await new.shut_down()


async def test_names_that_a_former_release_left_behind_are_removed_by_the_page_that_finds_them(
    server: RedisServer,
) -> None:
    first, second = await two_replicas(server)
    await connect(first, "~1", "ann", "chat:1")
    for key, name in (("rooms:/", "left"), ("users", "left"), ("members:/,chat:1", "~0")):
        server.execute("ZADD", f"{PREFIX}:{key}", 0, name)

    assert await rooms(first) == {"chat:1": 1, "user:ann": 1}
    assert (await first.state.listings.users(["/", "/chat"], "", ALL)).names == (("ann", 1),)
    assert await members(first, "chat:1") == ["~1"]
    assert server.execute("ZSCORE", f"{PREFIX}:rooms:/", "left") is None
    assert server.execute("ZSCORE", f"{PREFIX}:users", "left") is None
    assert server.execute("ZSCORE", f"{PREFIX}:members:/,chat:1", "~0") is None
    for replica in (first, second):
        await replica.stop()


async def test_sids_of_a_user_that_a_former_release_did_not_write_are_found(server: RedisServer) -> None:
    first, second = await two_replicas(server)
    everyone = [f"~{number:03}" for number in range(120)]
    for sid in everyone:
        await connect(first, sid, "ann")
    key = f"{PREFIX}:sids:ann"
    server.execute("ZREM", key, "~003", "~119")

    page = await second.state.listings.connections_of("ann", None, ALL)

    assert [each.connection.sid for each in page.connections] == everyone[:100]
    assert server.execute("ZCARD", key) == 120
    assert int(str(server.execute("PTTL", key))) > 0
    server.execute("ZADD", key, 0, "~0005")
    page = await second.state.listings.connections_of("ann", None, ALL)
    assert [each.connection.sid for each in page.connections] == everyone[:99]
    assert (page.next, server.execute("ZCARD", key)) == ("~098", 120)
    for sid in everyone[:20]:
        await first.state.presence.unregister(sid)
    assert not server.execute("EXISTS", key)
    for replica in (first, second):
        await replica.stop()


async def test_users_of_very_many_namespaces_come_in_shorter_pages(server: RedisServer) -> None:
    first, second = await two_replicas(server)
    namespaces = [f"/n{number}" for number in range(200)]
    for number in range(12):
        for namespace in namespaces[number : number + 2]:
            present = PresentConnection(
                f"~{number}{namespace}", f"u{number:02}", namespace, "a", "polling", 1.0
            )
            await first.state.presence.register(present, [f"user:u{number:02}"])

    page = await second.state.listings.users(namespaces, "", ALL)

    assert [each.name for each in page.names] == ["u00", "u01", "u02", "u03", "u04"]
    assert page.next == "u04"
    rest = await second.state.listings.users(namespaces, "", Slice(100, "u09"))
    assert (rest.names, rest.next) == ((("u10", 2), ("u11", 2)), "")
    for replica in (first, second):
        await replica.stop()


async def test_stats_name_each_replica_with_its_release(server: RedisServer) -> None:
    first = Replica(server, "a", release_version="1.2.3")
    await first.start()

    (replica,) = (await first.state.listings.stats(["/"])).replicas

    assert (replica.id, replica.version) == ("a", "1.2.3")
    await first.shut_down()
    assert server.execute("HGETALL", f"{PREFIX}:versions") in ({}, [])
