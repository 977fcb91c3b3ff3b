"""Calls about the history: pages of messages, what is wrong with a query, scopes, and erasing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest

from gateway.domain import positions
from gateway.domain.errors import BrokerTimeout
from gateway.domain.ingest_keys import IngestKey, Scope
from gateway.domain.messages import DisconnectCommand, Message, MessagePage, new_id
from tests.support.metrics import counted
from tests.unit.ingest_api.harness import SECRET, SHOP, RestApiServer, run_rest_api

ROOM = "/history/room/a"
PATHS = [ROOM, "/history/user/42", "/history/broadcast"]


@pytest.fixture
async def server() -> AsyncIterator[RestApiServer]:
    async with run_rest_api() as server:
        yield server


def key(*scopes: str) -> IngestKey:
    return IngestKey("shop", (SECRET,), tuple(Scope.parse(scope) for scope in scopes))


async def push(
    server: RestApiServer, *rooms: str, arguments: tuple[str, ...] = ("1",), **options: Any
) -> str:
    """Append a message; return its position."""
    message = Message(new_id(), "/", rooms, "news", arguments, **options)
    return (await server.state.broker.append(message)).position


async def read(server: RestApiServer, target: str, **options: Any) -> Any:
    response = await server.send_signed("GET", target, **options)
    assert response.status == 200, response
    return response.json


async def read_all(server: RestApiServer, target: str, *, limit: int) -> list[Any]:
    """Read pages until the last one."""
    messages: list[Any] = []
    after = ""
    while True:
        page = await read(server, f"{target}?limit={limit}{after}")
        messages += page["messages"]
        if page["next"] is None:
            return messages
        assert len(page["messages"]) <= limit
        after = f"&after={page['next']}"


async def test_message_is_listed_as_it_was_pushed(server: RestApiServer) -> None:
    push_body = b'{"event":"moved","room":"a","data":{"x": 1.50,  "long":12345678901234567890}}'
    pushed = await server.post("/emit/room", push_body)

    response = await server.send_signed("GET", ROOM)

    assert b'"data":{"x": 1.50,  "long":12345678901234567890}' in response.body
    (message,) = response.json["messages"]
    assert message == {
        "position": message["position"],
        "id": pushed.json["id"],
        "event": "moved",
        "data": {"x": 1.5, "long": 12345678901234567890},
        "at": "2026-11-21T12:00:00.000Z",
    }
    positions.parse(message["position"])
    assert (response.json["next"], response.json["gap"]) == (None, None)


@pytest.mark.parametrize(
    ("arguments", "payload"),
    [
        (('{"a":1}',), {"data": {"a": 1}}),
        (("null",), {"data": None}),
        ((), {"args": []}),
        (("1", '"two"'), {"args": [1, "two"]}),
    ],
)
async def test_one_argument_is_data_and_others_are_args(
    server: RestApiServer, arguments: tuple[str, ...], payload: dict[str, Any]
) -> None:
    await push(server, "a", arguments=arguments)

    (message,) = (await read(server, ROOM))["messages"]

    assert {name: message[name] for name in ("data", "args") if name in message} == payload


@pytest.mark.parametrize(
    "pushed",
    [
        {"data": {"a/b": [1.50, "AAEC"], "~": "text"}, "binary": ["/data/a~1b/1"]},
        {"data": "AAEC", "binary": ["/data"]},
        {"args": [{"x": "AAEC"}, "AAEC", "/w=="], "binary": ["/args/2", "/args/0/x"]},
        {"data": "AAEC"},
    ],
)
async def test_buffers_are_base64_strings_and_named_as_in_the_push(
    server: RestApiServer, pushed: dict[str, Any]
) -> None:
    assert (await server.post("/emit/room", {"room": "a", "event": "e"} | pushed)).status == 200

    (message,) = (await read(server, ROOM))["messages"]

    assert {name: message[name] for name in ("data", "args", "binary") if name in message} == pushed


async def test_each_path_lists_the_messages_of_its_address(server: RestApiServer) -> None:
    for rooms in (("a",), ("user:42",), (), ("a", "user:42")):
        await push(server, *rooms)
    await push(server, "a", volatile=True)
    await push(server, "a", reply_to="replica-1")
    await server.state.broker.append(DisconnectCommand(new_id(), "42", ("/",), 1.0))

    found = [[each["position"] for each in (await read(server, path))["messages"]] for path in PATHS]

    every = sorted({each for page in found for each in page}, key=positions.order)
    assert found == [[every[0], every[3]], [every[1], every[3]], [every[2]]]


async def test_history_of_a_user_is_that_of_the_room_of_the_user(server: RestApiServer) -> None:
    await push(server, "user:a/b é")

    by_user = await read(server, f"/history/user/{quote('a/b é', safe='')}")

    assert len(by_user["messages"]) == 1
    assert await read(server, f"/history/room/{quote('user:a/b é', safe='')}") == by_user


async def test_namespaces_have_histories_of_their_own(server: RestApiServer) -> None:
    await server.state.broker.append(Message(new_id(), "/events", ("a",), "news", ("1",)))

    assert len((await read(server, f"{ROOM}?namespace=%2Fevents"))["messages"]) == 1
    assert (await read(server, f"{ROOM}?namespace=/"))["messages"] == []


@pytest.mark.parametrize("limit", [1, 3, 7, 100])
async def test_pages_together_are_every_message_once_in_order(server: RestApiServer, limit: int) -> None:
    pushed = [await push(server, "a", arguments=(str(number),)) for number in range(21)]

    messages = await read_all(server, ROOM, limit=limit)

    assert [each["position"] for each in messages] == pushed
    assert [each["data"] for each in messages] == list(range(21))


async def test_page_ends_before_half_a_mebibyte_and_the_next_one_follows(server: RestApiServer) -> None:
    text = json.dumps("x" * 90_000)
    pushed = [await push(server, "a", arguments=(text,)) for _ in range(12)]

    first = await read(server, ROOM)

    assert [each["position"] for each in first["messages"]] == pushed[:5]
    assert [each["position"] for each in await read_all(server, ROOM, limit=100)] == pushed
    newest = await read(server, f"{ROOM}?newest=true")
    assert [each["position"] for each in newest["messages"]] == pushed[-5:]


async def test_newest_messages_are_the_last_ones_oldest_first(server: RestApiServer) -> None:
    pushed = [await push(server, "a") for _ in range(9)]

    page = await read(server, f"{ROOM}?newest=true&limit=4")

    assert [each["position"] for each in page["messages"]] == pushed[-4:]
    assert (page["next"], page["gap"]) == (None, None)
    assert await read(server, f"{ROOM}?newest=false&limit=4") == await read(server, f"{ROOM}?limit=4")


async def test_newest_messages_after_a_position_are_the_last_ones_of_those(server: RestApiServer) -> None:
    pushed = [await push(server, "a") for _ in range(9)]

    for limit, found in ((2, pushed[-2:]), (4, pushed[-4:]), (8, pushed[-4:])):
        page = await read(server, f"{ROOM}?newest=true&limit={limit}&after={pushed[4]}")
        assert [each["position"] for each in page["messages"]] == found
        assert (page["next"], page["gap"]) == (None, None)
    assert (await read(server, f"{ROOM}?newest=true&limit=2&after=5-0"))["gap"] == "data_lost"


async def test_after_is_any_position_that_was_handed_out(server: RestApiServer) -> None:
    first, second, other = await push(server, "a"), await push(server, "a"), await push(server, "b")

    assert [each["position"] for each in (await read(server, f"{ROOM}?after={first}"))["messages"]] == [
        second
    ]
    assert (await read(server, f"{ROOM}?after={other}"))["messages"] == []


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("after=yesterday", "after is not a position that this gateway handed out"),
        ("after=", "after is not a position that this gateway handed out"),
        ("after=1-0%20", "after is not a position that this gateway handed out"),
        ("newest=1", "newest is true or false"),
        ("newest=", "newest is true or false"),
        ("limit=0", "limit is a number from 1 to 100"),
        ("limit=101", "limit is a number from 1 to 100"),
        ("limit=ten", "limit is a number from 1 to 100"),
        ("namespace=/other", "namespace is none of GATEWAY_NAMESPACES"),
        ("namespace=", "namespace is none of GATEWAY_NAMESPACES"),
        ("cursor=x", "the query has namespace, after, limit, newest at most, each once"),
        ("limit=1&limit=2", "the query has namespace, after, limit, newest at most, each once"),
        ("limit", "the query is not name=value, percent-encoded UTF-8"),
    ],
)
@pytest.mark.parametrize("path", PATHS)
async def test_malformed_query_of_a_read_is_rejected_with_what_is_wrong(
    server: RestApiServer, path: str, query: str, detail: str
) -> None:
    response = await server.send_signed("GET", f"{path}?{query}")

    assert response.problem == (400, "invalid_query")
    assert response.json["detail"] == detail


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("", "upto is missing: the position of the newest message to erase"),
        ("?namespace=/", "upto is missing: the position of the newest message to erase"),
        ("?upto=now", "upto is not a position that this gateway handed out"),
        ("?upto=1-0&namespace=/other", "namespace is none of GATEWAY_NAMESPACES"),
        ("?upto=1-0&limit=1", "the query has namespace and upto at most, each once"),
    ],
)
@pytest.mark.parametrize("path", PATHS)
async def test_malformed_query_of_an_erasure_is_rejected_with_what_is_wrong(
    server: RestApiServer, path: str, query: str, detail: str
) -> None:
    response = await server.send_signed("DELETE", path + query)

    assert response.problem == (400, "invalid_query")
    assert response.json["detail"] == detail


@pytest.mark.parametrize("path", ["/history/room/%ff", "/history/room/", "/history/user/.."])
async def test_invalid_name_in_the_path_is_rejected(server: RestApiServer, path: str) -> None:
    for method in ("GET", "DELETE"):
        assert (await server.send_signed(method, path)).problem == (400, "invalid_path")


async def test_other_methods_are_rejected_with_those_there_are(server: RestApiServer) -> None:
    for path in PATHS:
        response = await server.post(path, {})

        assert response.problem == (405, "method_not_allowed")
        assert response.headers["allow"] == "GET, DELETE"


@pytest.mark.parametrize(
    ("scopes", "target", "status"),
    [
        (["history:a"], ROOM, 200),
        (["history:b*"], ROOM, 403),
        (["history:user:*"], "/history/user/42", 200),
        (["history:user:4"], "/history/user/42", 403),
        (["history:org:*"], "/history/user/42", 403),
        (["history:org:*"], "/history/room/user:42", 403),
        (["history:user:42"], "/history/room/user:42", 200),
        (["history:a", "history:b"], "/history/broadcast", 403),
        (["history"], "/history/broadcast", 200),
        (["history:~*"], "/history/room/~Us0vkvkHVoWsjT_pvFDI", 403),
        (["history"], "/history/room/~Us0vkvkHVoWsjT_pvFDI", 200),
        (["admin", "presence", "emit:room", "emit:user", "broadcast", "join"], ROOM, 403),
    ],
)
async def test_scope_limits_which_history_a_key_reads(scopes: list[str], target: str, status: int) -> None:
    async with run_rest_api(keys=(key(*scopes),)) as server:
        response = await server.send_signed("GET", target, key=key(*scopes))

        assert response.status == status
        if status == 403:
            assert response.code == "missing_scope"


async def test_key_with_a_glob_reads_no_room_of_a_sid_of_the_previous_release() -> None:
    former = "Us0vkvkHVoWsjT_pvFDI"
    async with run_rest_api(keys=(key("history:U*"),)) as server:
        target = f"/history/room/{former}"
        assert (await server.send_signed("GET", target, key=key("history:U*"))).status == 200
        await server.register_connection("42", former)

        response = await server.send_signed("GET", target, key=key("history:U*"))

        assert response.problem == (403, "missing_scope")


async def test_trimmed_messages_are_a_gap_for_the_reader() -> None:
    async with run_rest_api(history_length=10) as server:
        first = await push(server, "a")
        for _ in range(20):
            await push(server, "a")

        assert (await read(server, ROOM))["gap"] == "history_trimmed"
        assert (await read(server, f"{ROOM}?after={first}"))["gap"] == "history_trimmed"
        assert (await read(server, "/history/room/b"))["gap"] is None


async def test_messages_that_are_too_old_to_be_held_are_a_gap_after_a_position_alone(
    server: RestApiServer,
) -> None:
    first = await push(server, "a")
    await push(server, "a")
    server.clock.advance(10_000)
    last = await push(server, "b")

    assert (await read(server, f"{ROOM}?after={first}"))["gap"] == "history_trimmed"
    assert (await read(server, f"{ROOM}?after={last}"))["gap"] is None
    assert (await read(server, ROOM))["gap"] is None


async def test_position_of_another_log_is_lost_data(server: RestApiServer) -> None:
    await push(server, "a")

    assert (await read(server, f"{ROOM}?after=5-0"))["gap"] == "data_lost"


async def test_without_recovery_no_message_is_held_and_the_reader_learns_it() -> None:
    async with run_rest_api(recovery_seconds=0.0) as server:
        upto = await push(server, "a")

        for query in ("", "?newest=true", f"?after={upto}"):
            expected: dict[str, Any] = {"messages": [], "next": None, "gap": "history_trimmed"}
            assert await read(server, ROOM + query) == expected
        assert (await server.send_signed("DELETE", f"{ROOM}?upto={upto}")).json == {"removed": 0}


async def test_erased_messages_are_gone_without_a_gap(server: RestApiServer) -> None:
    pushed = [await push(server, "a") for _ in range(5)]
    both = await push(server, "a", "b")

    erased = await server.send_signed("DELETE", f"{ROOM}?upto={pushed[2]}")

    assert erased.json == {"removed": 3}
    page = await read(server, f"{ROOM}?after={pushed[0]}")
    assert [each["position"] for each in page["messages"]] == [*pushed[3:], both]
    assert page["gap"] is None
    assert (await server.send_signed("DELETE", f"{ROOM}?upto={both}")).json == {"removed": 3}
    assert (await read(server, "/history/room/b"))["messages"] == []
    assert counted(server.factory, "messages_erased_total") == {"": 6.0}


async def test_erasing_by_user_and_of_broadcasts_reaches_those_alone(server: RestApiServer) -> None:
    pushed = [await push(server, *rooms) for rooms in (("a",), ("user:42",), ())]

    for path in PATHS[1:]:
        assert (await server.send_signed("DELETE", f"{path}?upto={pushed[-1]}")).json == {"removed": 1}

    assert [len((await read(server, path))["messages"]) for path in PATHS] == [1, 0, 0]


async def test_repeat_of_an_erasure_with_its_key_gets_the_first_answer(server: RestApiServer) -> None:
    first, second = await push(server, "a"), await push(server, "a")
    target = f"{ROOM}?upto={first}"

    answers = [await server.send_signed("DELETE", target, idempotency_key="e") for _ in range(2)]
    other = await server.send_signed("DELETE", f"{ROOM}?upto={second}", idempotency_key="e")

    assert [(each.json, each.headers.get("idempotency-replayed")) for each in answers] == [
        ({"removed": 1}, None),
        ({"removed": 1}, "true"),
    ]
    assert other.problem == (409, "idempotency_conflict")
    assert len((await read(server, ROOM))["messages"]) == 1


class FailingHistory:
    """A history whose first erasure has an unknown outcome."""

    def __init__(self) -> None:
        self.calls = 0

    async def erase(self, *_: Any, **__: Any) -> int:
        self.calls += 1
        if self.calls == 1:
            raise BrokerTimeout("Redis did not answer")
        return 2

    async def read(self, *_: Any, **__: Any) -> MessagePage:
        raise BrokerTimeout("Redis did not answer")


async def test_failed_erasure_may_be_repeated_with_its_key() -> None:
    async with run_rest_api(history=FailingHistory()) as server:
        target = f"{ROOM}?upto=1-0"

        failed = await server.send_signed("DELETE", target, idempotency_key="e")
        repeated = await server.send_signed("DELETE", target, idempotency_key="e")

        assert failed.problem == (503, "broker_timeout")
        assert (repeated.status, repeated.json) == (200, {"removed": 2})
        assert (await server.send_signed("GET", ROOM)).problem == (503, "broker_timeout")


async def test_request_cannot_be_replayed(server: RestApiServer) -> None:
    for method, target in (("GET", ROOM), ("DELETE", f"{ROOM}?upto=1-0")):
        headers = server.sign(method, target)

        assert (await server.send_request(method, target, b"", headers)).status == 200
        assert (await server.send_request(method, target, b"", headers)).problem == (401, "replayed_request")


async def test_erasure_is_logged_without_positions_and_names(
    server: RestApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    upto = await push(server, "a", arguments=('"secret"',))

    await server.send_signed("DELETE", f"{ROOM}?upto={upto}")

    (line,) = [line for line in capsys.readouterr().out.splitlines() if "history.erased" in line]
    assert "messages=1" in line
    assert SHOP.id in line
    assert upto not in line
    assert "secret" not in line
