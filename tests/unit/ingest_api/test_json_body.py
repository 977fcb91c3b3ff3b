"""The JSON parser: accepted values keep their bytes, and mean the same as in ``json.loads``."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_api import json_body
from ingest_api.json_body import InvalidJson, NotAnObject

NUMBERS = st.one_of(
    st.integers().map(str),
    st.from_regex(r"\A-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?\Z"),
)
TEXTS = st.text(st.characters(codec="utf-8"))
SPACES = st.text(" \t\n\r", max_size=3)
STRINGS = st.builds(lambda text, ascii_only: json.dumps(text, ensure_ascii=ascii_only), TEXTS, st.booleans())
SCALARS = st.one_of(NUMBERS, STRINGS, st.sampled_from(["true", "false", "null"]))


def _between(values: st.SearchStrategy[str], brackets: str) -> st.SearchStrategy[str]:
    def join(items: list[tuple[str, str, str]], space: str) -> str:
        inside = ",".join("".join(item) for item in items) if items else space
        return brackets[0] + inside + brackets[1]

    return st.builds(join, st.lists(st.tuples(SPACES, values, SPACES), max_size=4), SPACES)


def _members(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(lambda *parts: "".join(parts), STRINGS, SPACES, st.just(":"), SPACES, values)


VALUES = st.recursive(
    SCALARS, lambda inner: _between(inner, "[]") | _between(_members(inner), "{}"), max_leaves=12
)


@st.composite
def objects(draw: st.DrawFn) -> tuple[str, dict[str, str]]:
    """A JSON object in any valid spelling, and the text of each of its values."""
    names = draw(st.lists(TEXTS, unique=True, max_size=5))
    raw = {name: draw(VALUES) for name in names}
    parts = [
        draw(SPACES)
        + json.dumps(name, ensure_ascii=draw(st.booleans()))
        + draw(SPACES)
        + ":"
        + draw(SPACES)
        + value
        + draw(SPACES)
        for name, value in raw.items()
    ]
    return draw(SPACES) + "{" + (",".join(parts) or draw(SPACES)) + "}" + draw(SPACES), raw


def meaning(text: str) -> Any:
    return json.loads(text, parse_int=str, parse_float=str)


@given(objects())
def test_parsed_members_keep_their_bytes_and_their_meaning(given: tuple[str, dict[str, str]]) -> None:
    text, raw = given

    parsed = json_body.parse(text.encode())

    assert parsed.raw == raw
    assert {name: meaning(value) for name, value in parsed.raw.items()} == meaning(text)


@given(objects())
def test_decoded_members_equal_those_of_json_except_for_numbers(
    given: tuple[str, dict[str, str]],
) -> None:
    text, _ = given

    parsed = json_body.parse(text.encode())

    assert parsed.values == json.loads(text, parse_int=len, parse_float=len)


@given(st.lists(st.tuples(SPACES, VALUES, SPACES), max_size=5), SPACES)
def test_elements_of_an_array_are_returned_as_they_were_written(
    items: list[tuple[str, str, str]], space: str
) -> None:
    text = "[" + (",".join("".join(item) for item in items) or space) + "]"

    assert json_body.elements(text) == tuple(value for _, value, _ in items)


@given(_between(_members(VALUES), "{}"))
def test_timestamp_replaces_every_timestamp_and_keeps_other_members(data: str) -> None:
    before = json.loads(data, parse_int=str, parse_float=str)

    after = json_body.with_timestamp(data, before, "now")

    pairs = json.loads(after, object_pairs_hook=list, parse_int=str, parse_float=str)
    assert [value for name, value in pairs if name == "timestamp"] == ["now"]
    assert meaning(after) == before | {"timestamp": "now"}


@given(st.binary(max_size=40) | TEXTS.map(str.encode))
def test_any_other_body_is_rejected_without_another_exception(body: bytes) -> None:
    try:
        parsed = json_body.parse(body)
    except (InvalidJson, NotAnObject):
        return
    assert json.loads(body, parse_int=len, parse_float=len) == parsed.values


@given(objects(), st.data())
def test_truncated_object_is_rejected(given: tuple[str, dict[str, str]], data: st.DataObject) -> None:
    text = given[0].rstrip(" \t\n\r")
    length = data.draw(st.integers(0, len(text) - 1))

    with pytest.raises(InvalidJson):
        json_body.parse(text[:length].encode())


@pytest.mark.parametrize("depth", [64, 65])
def test_depth_of_64_is_accepted_and_65_rejected(depth: int) -> None:
    body = b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"

    if depth == 64:
        assert json_body.parse(body).raw["a"] == "[" * 63 + "]" * 63
    else:
        with pytest.raises(InvalidJson, match="more than 64 deep"):
            json_body.parse(body)


def test_brackets_in_strings_do_not_count_as_depth() -> None:
    text = json.dumps({"a": '[{"\\' * 100, "b": "]" * 100})

    assert json_body.parse(text.encode()).values == json.loads(text)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" * 1_000_000, id="depth 1 000 000"),
        pytest.param(b'{"a":' * 200_000, id="objects 200 000 deep"),
        pytest.param(b"[" * 500_000 + b"]" * 500_000, id="depth 500 000, closed"),
        pytest.param(b'["' + b'\\"' * 500_000, id="a string of escaped quotes without an end"),
        pytest.param(b"[" * 65 + b'"' + b'\\"' * 500_000, id="a string of escaped quotes, deep"),
        pytest.param(b'"' * 1_000_000, id="quotes"),
        pytest.param(b"\\" * 1_000_000, id="backslashes"),
        pytest.param(b'{"a":"' + b"\\ud800" * 150_000 + b'"}', id="lone surrogates"),
        pytest.param(b'{"a":[' + b"[]," * 300_000 + b"1}", id="many brackets"),
        pytest.param(b" " * 1_000_000, id="white space"),
        pytest.param(b'{"a":' + b"1" * 1_000_000 + b"x}", id="a long number"),
        pytest.param(b'{"a":"' + b"x" * 1_000_000 + b'",NaN}', id="a long string"),
        pytest.param(b'{"a":["' + b'x","' * 200_000 + b'",NaN]}', id="NaN after many strings"),
    ],
)
def test_hostile_body_of_a_megabyte_is_rejected_in_linear_time(body: bytes) -> None:
    started = time.process_time()

    with pytest.raises(InvalidJson):
        json_body.parse(body)

    # Linear work takes a twentieth of this on a slow machine; quadratic work takes hours.
    assert time.process_time() - started < 2.0
