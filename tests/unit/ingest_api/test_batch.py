"""``POST /batch``: several messages, all or none."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.ingest_keys import IngestKey, Scope
from gateway.domain.messages import Message
from ingest_api.batch import cut, fast_message, read_batch
from ingest_api.batch_schemas import BatchMessageSchema
from ingest_api.errors import Problem
from ingest_api.interfaces import UnknownEvent
from ingest_api.large_body import in_slices, large_elements
from ingest_api.push import Push, parse_large_body, parse_push
from tests.unit.ingest_api.harness import SECRET, RestApiServer, run_rest_api

SID = "~Us0vkvkHVoWsjT_pvFDI"
SCHEMA = BatchMessageSchema(namespaces={"/", "/events"})


def batch(*messages: Any) -> dict[str, Any]:
    return {"messages": list(messages)}


def message(to: Any = "everyone", **fields: Any) -> dict[str, Any]:
    return {"to": to, "event": "e"} | fields


def sent(server: RestApiServer) -> list[Message]:
    return [each for each in server.published if isinstance(each, Message)]


async def test_messages_are_accepted_in_their_order_and_each_has_a_result(server: RestApiServer) -> None:
    await server.register_connection("42", "a", rooms=("org:7",))
    await server.register_connection("43", "b", rooms=("org:7", "org:8"))
    body = batch(
        message({"user": "42"}, data={"n": 1}),
        message({"users": ["42", "43"]}, args=["x", 2]),
        message({"room": "org:8"}, data=None, volatile=True),
        message({"rooms": ["org:7", "org:8"]}, **{"except": ["user:43"], "all": ["role:a"]}),
        message("everyone", namespace="/events", data={}, timestamp=True),
    )

    response = await server.post("/batch", body)

    assert response.status == 200
    messages = sent(server)
    assert [(each.rooms, each.arguments) for each in messages] == [
        (("user:42",), ('{"n": 1}',)),
        (("user:42", "user:43"), ('"x"', "2")),
        (("org:8",), ("null",)),
        (("org:7", "org:8"), ()),
        ((), ('{"timestamp":"2026-11-21T12:00:00.000Z"}',)),
    ]
    assert [each.volatile for each in messages] == [False, False, True, False, False]
    assert (messages[3].exclude, messages[3].all_of) == (frozenset({"user:43"}), ("role:a",))
    assert [each.namespace for each in messages] == ["/", "/", "/", "/", "/events"]
    counts = [
        {"connections": 1},
        {"connections": 2},
        {"connections": 1},
        {"connections": 3, "exact": False},
        {"connections": 0},
    ]
    assert response.json == {
        "results": [
            {"id": each.id, "online": count["connections"] > 0, "recoverable": 0} | count
            for each, count in zip(messages, counts, strict=True)
        ]
    }
    assert len({each.id for each in messages}) == 5


async def test_payloads_are_passed_on_as_they_were_written(server: RestApiServer) -> None:
    large = b'{"a": [' + b"1.50 ," * 4000 + b'"\xc3\xbc"], "a":2}'
    body = (
        b'{ "messages" :[ {"to":{"user":"42"},"event":"e","data": {"b":1.50, "a":[ 1e400 ],"b":2} } ,'
        b'{"event":"e","args":[ 1 ,"\\ud83d\\ude00"],"to":"everyone"},{"to":"everyone","event":"e","data":'
        + large
        + b"}]}"
    )

    assert (await server.post("/batch", body)).status == 200

    assert [each.arguments for each in sent(server)] == [
        ('{"b":1.50, "a":[ 1e400 ],"b":2}',),
        ("1", '"\\ud83d\\ude00"'),
        (large.decode(),),
    ]


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ({}, ["messages"]),
        ({"messages": None}, ["messages"]),
        ({"messages": {}}, ["messages"]),
        ({"messages": []}, ["messages"]),
        (batch(*[message()] * 101), ["messages"]),
        (batch(message()) | {"event": "e"}, ["event"]),
        (batch(message()) | {"x": 1}, ["x"]),
        (batch(message(), 1, message()), ["messages.1"]),
        (batch(message(), None, []), ["messages.1", "messages.2"]),
        (batch(*[message()] * 3, {"to": "everyone"}), ["messages.3.event"]),
        (batch(message(event="connect")), ["messages.0.event"]),
        (batch(message(x=1)), ["messages.0.x"]),
        (batch(message(ack={"want": "first"})), ["messages.0.ack"]),
        (batch(message(data=1, args=[])), ["messages.0.args"]),
        (batch(message(namespace="/none")), ["messages.0.namespace"]),
        (batch(message(room="a")), ["messages.0.room"]),
        (batch(message(timestamp=True, data=1)), ["messages.0.timestamp"]),
        (batch(message(volatile=1), message(all="a")), ["messages.0.volatile", "messages.1.all"]),
        (batch(message(**{"except": ["a", ""]})), ["messages.0.except.1"]),
        (batch({"event": "e"}), ["messages.0.to"]),
        (batch(message(None)), ["messages.0.to"]),
        (batch(message("all")), ["messages.0.to"]),
        (batch(message({})), ["messages.0.to"]),
        (batch(message({"user": "a", "room": "b"})), ["messages.0.to"]),
        (batch(message({"sid": "a"})), ["messages.0.to.sid"]),
        (batch(message({"user": ["a"]})), ["messages.0.to.user"]),
        (batch(message({"user": "."})), ["messages.0.to.user"]),
        (batch(message({"room": ""})), ["messages.0.to.room"]),
        (batch(message({"users": []})), ["messages.0.to.users"]),
        (batch(message({"users": ["a", "a"]})), ["messages.0.to.users"]),
        (batch(message({"rooms": ["a", 1]})), ["messages.0.to.rooms.1"]),
        (batch(message({"rooms": [str(number) for number in range(101)]})), ["messages.0.to.rooms"]),
    ],
)
@pytest.mark.parametrize("size", [0, 20_000], ids=["small", "large"])
async def test_error_of_one_message_is_named_by_its_path_and_nothing_is_accepted(
    body: dict[str, Any], paths: list[str], size: int
) -> None:
    # White space makes each message large, so that it is parsed in slices.
    text = json.dumps(body).replace('"event"', " " * size + '"event"')
    async with run_rest_api(max_body_bytes=3_000_000) as server:
        response = await server.post("/batch", text.encode())

        assert response.problem == (422, "invalid_body")
        assert list(response.json["errors"]) == paths
        assert server.published == []


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ('{"messages":[{"to":"everyone","event":"e","event":"f"}]}', "messages.0: a member is repeated"),
        ('{"messages":[{"to":{"user":"a","user":"b"},"event":"e"}]}', "messages.0: a member is repeated"),
        ('{"messages":[],"messages":[]}', "a member is repeated"),
        ('{"messages":[{]}', ""),
        ('{"messages":[{"to":"everyone","event":"e","data":NaN}]}', ""),
        ('{"messages":[{"to":"everyone","event":"e","data":"\\ud800"}]}', ""),
        ('{"messages":[' + "[" * 63 + "]" * 63 + "]}", "the body is nested more than 64 deep"),
    ],
)
@pytest.mark.parametrize("size", [0, 20_000], ids=["small", "large"])
async def test_ambiguous_json_is_rejected(server: RestApiServer, text: str, detail: str, size: int) -> None:
    response = await server.post("/batch", text.replace("[{", "[{" + " " * size).encode())

    assert response.problem == (400, "invalid_json")
    assert response.json["detail"].startswith(detail)
    assert server.published == []


async def test_messages_have_256_addresses_in_all(server: RestApiServer) -> None:
    hundred = message({"users": [str(number) for number in range(100)]})
    others = [message(), *[message({"room": "a"})] * 55]

    assert (await server.post("/batch", batch(hundred, hundred, *others))).status == 200

    response = await server.post("/batch", batch(hundred, hundred, *others, message()))
    assert (response.problem, list(response.json["errors"])) == ((422, "invalid_body"), ["messages"])
    assert len(server.published) == 58


async def test_at_most_twenty_errors_are_listed(server: RestApiServer) -> None:
    response = await server.post("/batch", batch(*[message(event="")] * 100))

    assert list(response.json["errors"]) == [f"messages.{number}.event" for number in range(20)]


@pytest.mark.parametrize(
    ("scopes", "to", "status"),
    [
        (["emit:user:4*"], {"users": ["42", "43"]}, 200),
        (["emit:user:4*"], {"users": ["42", "53"]}, 403),
        (["emit:user"], {"room": "org:7"}, 403),
        (["emit:user"], "everyone", 403),
        (["emit:room"], {"user": "42"}, 403),
        (["emit:room"], {"room": "user:42"}, 403),
        (["emit:room"], {"room": SID}, 403),
        (["emit:room", "emit:user"], {"room": SID}, 200),
        (["emit:room:org:*"], {"rooms": ["org:7", "tenant:1"]}, 403),
        (["emit:room:org:*"], {"rooms": ["org:7", "org:8"]}, 200),
        (["broadcast"], "everyone", 200),
        (["broadcast"], {"room": "org:7"}, 403),
        (["presence", "admin"], "everyone", 403),
        (["emit:room"], {"room": "Us0vkvkHVoWsjT_pvFDI"}, 403),
    ],
)
async def test_key_needs_the_scope_of_each_target(scopes: list[str], to: Any, status: int) -> None:
    key = IngestKey("shop", (SECRET,), tuple(map(Scope.parse, scopes)))
    async with run_rest_api(keys=(key,)) as server:
        await server.register_connection("42", "Us0vkvkHVoWsjT_pvFDI")
        allowed = {"users": {"user": "42"}, "room:": {"room": "org:1"}, "broad": "everyone"}
        first = next((to for name, to in allowed.items() if name[:5] in str(scopes)), to)

        response = await server.post("/batch", batch(message(first), message(to)), key=key)

        assert response.status == status
        assert len(server.published) == (2 if status == 200 else 0)
        if status == 403 and first != to:
            assert response.code == "missing_scope"
            assert response.json["detail"].startswith("messages.1: ") or first == "everyone"


async def test_repeat_of_an_idempotency_key_gets_the_first_results(server: RestApiServer) -> None:
    body = batch(message({"user": "42"}), message({"user": "42"}))
    first = await server.post("/batch", body, idempotency_key="k")
    await server.register_connection("42", "a")

    again = await server.post("/batch", body, idempotency_key="k")

    assert (again.status, again.json) == (200, first.json)
    assert again.headers["idempotency-replayed"] == "true"
    assert len(server.published) == 2
    other = await server.post("/batch", batch(message()), idempotency_key="k")
    assert other.problem == (409, "idempotency_conflict")


async def test_log_line_of_a_batch_has_the_number_of_messages_and_all_connections(
    server: RestApiServer, log_lines: list[Any]
) -> None:
    await server.register_connection("42", "a")

    await server.post(
        "/batch", batch(message({"user": "42"}), message({"user": "42"}), message({"user": "1"}))
    )

    [line] = [line for line in log_lines if line["event"] == "request.answered"]
    assert (line["messages"], line["connections"]) == (3, 2)
    assert line["message_id"] == sent(server)[0].id


class Catalogue:
    """Describes the event ``known``, whose argument is 1."""

    def check(self, namespace: str, event: str, arguments: tuple[str, ...], *, value_count: int) -> Any:
        if event != "known":
            raise UnknownEvent
        return None if arguments == ("1",) else {"0.text": "is wrong"}


async def test_messages_are_checked_with_the_event_catalogue() -> None:
    async with run_rest_api(event_schemas=Catalogue) as server:
        good = message(event="known", data=1)

        assert (await server.post("/batch", batch(good, good))).status == 200
        wrong = await server.post(
            "/batch", batch(good, message(event="known", data=2), message(event="known", args=[3]))
        )
        assert wrong.problem == (422, "invalid_body")
        assert wrong.json["errors"] == {
            "messages.1.data.text": ["is wrong"],
            "messages.2.args.0.text": ["is wrong"],
        }
        unknown = await server.post("/batch", batch(good, message(event="other")))
        assert unknown.problem == (422, "unknown_event")
        assert unknown.json["detail"].startswith("messages.1: ")
        assert len(server.published) == 2


NAMES = st.sampled_from(["a", "42", "org:7", ".", "..", "", "ü", "x" * 256, 'q"', "~s"])
VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "to": st.just("everyone")
        | st.builds(lambda kind, name: {kind: name}, st.sampled_from(["user", "room", "rooms"]), NAMES)
        | VALUES,
        "event": st.sampled_from(["e", "connect", "", "notification:new", 'q"']) | VALUES,
        "data": VALUES,
        "volatile": st.booleans(),
        "namespace": st.just("/events"),
    },
)


@settings(max_examples=500, deadline=None)
@given(fields=FIELDS, spaces=st.sampled_from([(", ", ": "), (",", ":"), (" ,\n", "\t: ")]), data=st.data())
def test_usual_messages_are_read_as_by_the_schema(fields: dict[str, Any], spaces: Any, data: Any) -> None:
    ordered = {name: fields[name] for name in data.draw(st.permutations(list(fields)))}
    text = json.dumps(ordered, separators=spaces, ensure_ascii=False)

    fast = fast_message(text.encode())

    try:
        expected: Push | None = parse_push(SCHEMA, text.encode(), now=0.0)
    except Problem:
        expected = None
    assert fast is None or fast == expected


def test_usual_messages_are_read_without_the_schema() -> None:
    for to in ('{"user":"42"}', '{ "room" : "org:7" }', '"everyone"'):
        for text in (f'{{"to":{to},"event":"e","data":1}}', f'{{"event":"e", "to": {to}, "data": {{}} }}'):
            assert fast_message(text.encode()) is not None


@pytest.mark.parametrize(
    "text",
    [
        b'{"to":"everyone","event":"e","event":"f","data":1}',
        b'{"to":{"user":"a","user":"b"},"event":"e","data":1}',
        b'{"to":{"user":"a"},"to":{"user":"b"},"event":"e","data":"\\"}',
        b'{"to":{"user":"a"},"event":"e","d\\u0061ta":1,"data":1}',
        b'{"to":{"user":"to"},"to":0,"event":"e","data":1}',
        b'{ "to" : {"room":"a"},"event":"e","data":{"to":1},"data":{"to":1} }',
    ],
)
def test_message_that_repeats_a_member_is_left_to_the_schema(text: bytes) -> None:
    assert fast_message(text) is None


PARTS = st.sampled_from(
    [
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b" ",
        b"\n",
        b'"messages":',
        b'"x":1',
        b"1",
        b'"a"',
        b"\xff",
        b"[" * 40,
        b"]" * 40,
    ]
)


@settings(max_examples=500, deadline=None)
@given(parts=st.lists(PARTS, max_size=12), usual=st.booleans())
def test_body_is_cut_into_the_messages_of_the_schema(parts: list[bytes], usual: bool) -> None:
    middle = b"".join(parts)
    body = b'{"messages" :[' + middle + b"] }\n" if usual else middle

    messages = cut(body)

    if messages is not None:
        raw = asyncio.run(in_slices(parse_large_body(body))).raw
        assert list(raw) == ["messages"]
        assert messages == [each.encode() for each in large_elements(raw["messages"])]


def test_usual_body_is_cut_without_the_schema() -> None:
    assert cut(b' {"messages": [1 , {"to":2}]\n}\n') == [b"1", b'{"to":2}']
    assert cut(b'{"messages":[]}') is None
    assert cut(b'{"messages":[' + b"1," * 100 + b"1]}") is None
    assert cut(b'{"messages":[1],"messages":[2]}') is None


async def test_large_batch_is_read_in_slices() -> None:
    data = json.dumps([[1, 2, 3]] * 1_000)
    text = ",".join(f'{{"to":"everyone","event":"e","data":{data}}}' for _ in range(80))
    longest, turns = 0.0, 0

    async def watch() -> None:
        nonlocal longest, turns
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0)
            longest, turns = max(longest, time.perf_counter() - began), turns + 1

    watcher = asyncio.create_task(watch())
    body = f'{{"messages":[{text}]}}'.encode()
    async with run_rest_api(max_body_bytes=2_000_000) as server:
        response = await server.post("/batch", body)
    watcher.cancel()

    assert response.status == 200
    steps = read_batch(SCHEMA, body, now=0.0, event_schemas=None)
    assert sum(1 for _ in steps) >= 80
