"""Large bodies are read as small ones are, and in short slices."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_api.errors import Problem
from ingest_api.json_body import InvalidJson, with_timestamp
from ingest_api.large_body import (
    LARGE_BYTES,
    MAX_SLICE_SECONDS,
    BodyReader,
    Result,
    Steps,
    count_values,
    in_slices,
    with_timestamp_in_large,
)
from ingest_api.push import Push, parse_push, read_disconnect, read_large_push
from ingest_api.schemas import DisconnectSchema, EmitSchema, EmitToRoomSchema
from tests.load.attacks.long_requests import BODIES
from tests.support.loop_turns import with_turns

NAMESPACES = ("/", "/events")
SCHEMAS = {False: EmitSchema(namespaces=NAMESPACES), True: EmitToRoomSchema(namespaces=NAMESPACES)}
SLICE_SECONDS = 0.02
"""The longest time for which a request may hold the event loop. CPU time, so that a busy machine does not matter."""
TEXTS = st.text(alphabet='ab"\\[]{},:\u00e9\U0001f600\u0301 ', max_size=6)
VALUES = st.recursive(
    st.one_of(TEXTS, st.none(), st.booleans(), st.integers(), st.floats()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)
MEMBERS = {
    "event": st.one_of(TEXTS, VALUES),
    "data": st.one_of(VALUES, st.just({"timestamp": 1, "a": [1]}), st.just({"a": {"timestamp": 1}})),
    "args": st.one_of(VALUES, st.lists(VALUES, max_size=18)),
    "namespace": st.sampled_from([*NAMESPACES, "/other", 1]),
    "volatile": st.sampled_from([True, False, 1]),
    "timestamp": st.sampled_from([True, False, None]),
    "room": TEXTS,
    "rooms": st.one_of(st.lists(TEXTS, max_size=3), VALUES, st.just(["r"] * 102)),
    "except": st.one_of(st.lists(TEXTS, max_size=3), VALUES),
}
SPACE = st.text(alphabet=" \t\n\r", max_size=2)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Draw a body with some members, perhaps one of them twice, and perhaps with a mistake."""
    names = draw(st.lists(st.sampled_from(list(MEMBERS)), max_size=6, unique=draw(st.integers(0, 5)) > 0))
    ascii_only = draw(st.booleans())
    space = [draw(SPACE) for _ in range(4)]
    members = [
        f"{space[0]}{json.dumps(name)}{space[1]}:{space[2]}{json.dumps(draw(MEMBERS[name]), ensure_ascii=ascii_only)}"
        for name in names
    ]
    text = "{" + ",".join(members) + space[3] + "}"
    if draw(st.integers(0, 9)) == 0:
        cut = draw(st.integers(0, len(text)))
        text = text[:cut] + draw(st.sampled_from(["", ",", "}", "\x00", '"', "NaN"])) + text[cut + 1 :]
    return text.encode()


def run(steps: Steps[Result]) -> Result:
    """Return what the steps return."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result


def outcome(read: Any, *arguments: Any) -> Any:
    """Return the push without its number of values, or the code of the error."""
    try:
        result = read(*arguments, now=1.0)
        push: Push = result if isinstance(result, Push) else run(result)
    except Problem as problem:
        return problem.code
    return push._replace(value_count=0)


@given(bodies(), st.booleans())
def test_large_body_is_read_as_by_the_parser_of_small_ones(body: bytes, to_room: bool) -> None:
    schema = SCHEMAS[to_room]
    large, small = outcome(read_large_push, schema, body), outcome(parse_push, schema, body)
    if small == "invalid_json" and _has_unknown_member(body):
        # Of two mistakes, an unknown member and a repeated one, a large body reports the unknown member.
        assert large in {"invalid_json", "invalid_body"}
    else:
        assert large == small


@given(st.dictionaries(TEXTS | st.just("timestamp"), VALUES, max_size=5), st.booleans())
def test_timestamp_replaces_the_same_member_as_in_small_bodies(data: dict[str, Any], spaced: bool) -> None:
    text = json.dumps(data, allow_nan=False, indent=1 if spaced else None) if _is_finite(data) else "{}"
    members = json.loads(text)
    assert run(with_timestamp_in_large(text, "now")) == with_timestamp(text, members, "now")


def _has_unknown_member(body: bytes) -> bool:
    try:
        members = json.loads(body)
    except ValueError:
        return False
    return isinstance(members, dict) and not members.keys() <= MEMBERS.keys()


def _is_finite(data: object) -> bool:
    try:
        json.dumps(data, allow_nan=False)
    except ValueError:
        return False
    return True


@given(VALUES, st.booleans())
def test_number_of_values_is_not_underestimated(value: object, ascii_only: bool) -> None:
    padded = [value, [[]] * 70]
    text = json.dumps(padded, ensure_ascii=ascii_only).encode()
    assert run(count_values(text)) >= count(padded)


def count(value: object) -> int:
    if isinstance(value, dict):
        return 1 + sum(map(count, value.values()))
    return 1 + sum(map(count, value)) if isinstance(value, list) else 1


@pytest.mark.parametrize(("levels", "is_accepted"), [(64, True), (65, False)])
@pytest.mark.parametrize("filler", ['"]]"', '"\\\\"', '"\\"["', '""', '"[",""', '"\\\\\\"]"'])
def test_levels_are_counted_outside_of_texts(levels: int, is_accepted: bool, filler: str) -> None:
    text = ("[" + f"{filler}," * 70 + "[" * (levels - 1) + "]" * (levels - 1) + "]").encode()
    json.loads(text)
    try:
        run(count_values(text))
    except InvalidJson:
        assert not is_accepted
    else:
        assert is_accepted


@pytest.mark.parametrize("name", BODIES)
def test_no_slice_of_a_body_of_one_mebibyte_takes_long(name: str) -> None:
    body = BODIES[name]
    assert LARGE_BYTES < len(body) <= 1024 * 1024
    reads = [
        read_large_push(SCHEMAS[b'"rooms"' in body[:40]], body, now=1.0),
        read_disconnect(DisconnectSchema(namespaces=NAMESPACES), body),
    ]
    longest = 0.0
    for steps in reads:
        is_read = False
        while not is_read:
            began = time.thread_time()
            try:
                next(steps)
            except (StopIteration, Problem):
                is_read = True
            longest = max(longest, time.thread_time() - began)

    assert longest < SLICE_SECONDS


async def test_other_tasks_run_between_the_slices() -> None:
    body = BODIES["timestamp"]
    push, turns = await with_turns(in_slices(read_large_push(SCHEMAS[False], body, now=1.0)))

    assert push.arguments[0].endswith('"timestamp":"1970-01-01T00:00:01.000Z"}')
    assert turns > 2
    assert MAX_SLICE_SECONDS < SLICE_SECONDS


def logged_steps(name: str, log: list[str]) -> Steps[str]:
    """Log each slice; a slice takes as long as one may, so that other tasks run after it."""
    for number in range(3):
        log.append(f"{name}{number}")
        time.sleep(MAX_SLICE_SECONDS)
        yield
    return name


async def test_large_bodies_are_read_one_after_the_other_and_small_ones_meanwhile() -> None:
    reader, log = BodyReader(), list[str]()
    small, large = b"x" * LARGE_BYTES, b"x" * (LARGE_BYTES + 1)

    results = list[str](
        await asyncio.gather(
            reader.read(large, logged_steps("first", log)),
            reader.read(large, logged_steps("second", log)),
            reader.run_alone(logged_steps("third", log)),
            reader.read(small, logged_steps("small", log)),
        )
    )

    assert results == ["first", "second", "third", "small"]
    large_steps = [each for each in log if not each.startswith("small")]
    assert large_steps == [f"{name}{number}" for name in ("first", "second", "third") for number in range(3)]
    assert log.index("small0") < log.index("first1")


async def test_next_large_body_is_read_after_one_that_breaks_the_rules() -> None:
    reader, log = BodyReader(), list[str]()
    large = b"[" * (LARGE_BYTES + 1)

    with pytest.raises(Problem):
        await reader.read(large, read_disconnect(DisconnectSchema(namespaces=NAMESPACES), large))

    assert await reader.read(large, logged_steps("next", log)) == "next"
