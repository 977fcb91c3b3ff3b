"""JSON Schemas of the catalogue: the subset of keywords, and what is found in values."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from gateway.events.schemas import TOO_MANY_STEPS, compile_schema
from tests.unit.events.loading import entry, entry_mistakes, load, mistakes

MESSAGE: dict[str, Any] = {
    "type": "object",
    "required": ["text", "room"],
    "properties": {
        "text": {"type": "string", "minLength": 1, "maxLength": 10},
        "room": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "additionalProperties": False,
}


def test_valid_value_has_no_problems() -> None:
    assert compile_schema(MESSAGE, {}).problems({"text": "hi", "room": "lobby", "tags": ["a"]}) == {}


def test_problems_have_paths_and_name_no_value() -> None:
    found = compile_schema(MESSAGE, {}).problems({"text": "secret" * 9, "tags": ["a", 5], "secret": 1})

    assert found == {
        "text": "has more than 10 characters (maxLength)",
        "room": "is missing (required)",
        "tags.1": "is not of type string",
        "secret": "is not an allowed member (additionalProperties)",
    }


@pytest.mark.parametrize("value", ["", "AAE=", "/w==", "+/+/", "A" * 1_000_000, 5])
def test_base64_is_of_format_byte(value: object) -> None:
    assert compile_schema({"format": "byte"}, {}).problems(value) == {}


@pytest.mark.parametrize("value", ["A", "AAE", "AA==AA==", "_w==", "AA\n=", "AAE=\n", "é"])
def test_other_text_is_not_of_format_byte(value: str) -> None:
    assert compile_schema({"format": "byte"}, {}).problems(value) == {"": "is not of format byte"}


@pytest.mark.parametrize(
    ("schema", "value", "sentence"),
    [
        ({"type": ["string", "null"]}, 5, "is not of type null or string"),
        ({"enum": ["a", "b"]}, "c", "is none of the values in enum"),
        ({"const": 1}, 2, "is not the value of const"),
        ({"minItems": 2}, [1], "has fewer than 2 items (minItems)"),
        ({"maxItems": 0}, [1], "has more than 0 items (maxItems)"),
        ({"uniqueItems": True}, [1, 1], "holds an item twice (uniqueItems)"),
        ({"minimum": 3}, 2, "is less than 3 (minimum)"),
        ({"maximum": 3.5}, 4, "is greater than 3.5 (maximum)"),
        ({"exclusiveMinimum": 3}, 3, "is not greater than 3 (exclusiveMinimum)"),
        ({"exclusiveMaximum": 3}, 3, "is not less than 3 (exclusiveMaximum)"),
        ({"multipleOf": 2}, 3, "is not a multiple of 2 (multipleOf)"),
        ({"format": "uuid"}, "x", "is not of format uuid"),
        ({"pattern": "^a+$"}, "b", "does not match pattern"),
        ({"anyOf": [{"type": "string"}]}, 1, "matches no schema of anyOf"),
        ({"oneOf": [{"type": "integer"}, {"minimum": 0}]}, 1, "does not match exactly one schema of oneOf"),
        ({"not": {"type": "integer"}}, 1, "matches the schema of not"),
        (False, 1, "is not allowed"),
        (
            {"additionalProperties": False},
            {"a": 1},
            "has a member, which is not allowed (additionalProperties)",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_sentence_of_each_keyword(schema: Any, value: object, sentence: str) -> None:
    assert compile_schema(schema, {}).problems(value) == {"": sentence}


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (float("nan"), "is not a JSON number"),
        ({"a": [float("inf")]}, "holds a number that is none in JSON"),
        ("\ud800", "is not a JSON value"),
        (b"x", "is not a JSON value"),
    ],
)
def test_values_that_json_lacks_are_invalid(value: object, sentence: str) -> None:
    assert compile_schema({"not": {"const": 1}}, {}).problems(value) == {"": sentence}


@pytest.mark.parametrize("depth", [64, 65, 100_000])
def test_values_are_at_most_64_levels_deep(depth: int) -> None:
    value: object = "x"
    for _ in range(depth):
        value = [value]
    named = {"Deep": {"items": {"$ref": "#/schemas/Deep"}}}
    expected = {} if depth == 64 else {"": "is nested deeper than 64 levels"}

    found = compile_schema({"$ref": "#/schemas/Deep"}, named).problems(value)

    while isinstance(value, list):  # freed level by level
        value = value[0]
    assert found == expected


def test_large_integers_are_numbers() -> None:
    assert compile_schema({"type": "integer", "maximum": 10}, {}).problems(10**400) != {}


def test_at_most_20_problems_are_listed() -> None:
    found = compile_schema({"items": {"type": "string"}}, {}).problems(list(range(60)))

    assert len(found) == 20


def test_path_of_a_long_name_is_cut() -> None:
    (path,) = compile_schema({"properties": {}, "additionalProperties": False}, {}).problems(
        {"x" * 10_000: 1}
    )

    assert len(path) == 200


def test_pattern_takes_linear_time() -> None:
    schema = compile_schema({"pattern": "^(a+)+$"}, {})
    text = "a" * 100_000 + "!"

    start = time.thread_time()
    assert schema.problems(text) == {"": "does not match pattern"}

    assert time.thread_time() - start < 5  # about a millisecond; backtracking would take years


def test_check_of_200_bytes_takes_no_longer_than_to_write_its_json_twice() -> None:
    schema = compile_schema(MESSAGE | {"additionalProperties": True}, {})
    value = {"text": "hi", "room": "lobby", "tags": ["a", "b"], "more": {"text": "x" * 120, "n": [1, 2]}}

    def seconds(work: Callable[[object], object]) -> float:
        times = []
        for _ in range(500):
            start = time.perf_counter()
            work(value)
            times.append(time.perf_counter() - start)
        return min(times)

    assert seconds(schema.problems) < 2 * seconds(json.dumps)


def test_references_may_be_recursive() -> None:
    catalogue = load(
        "version: 1\n"
        "schemas: {Tree: {type: object, properties: {children: {type: array, items: {$ref: '#/schemas/Tree'}}}}}\n"
        "namespaces: {/: {client_events: {e: {args: [{$ref: '#/schemas/Tree'}]}}}}\n"
    )
    (schema,) = catalogue.namespaces["/"].client_events["e"].args.schemas or ()

    assert schema is not None
    assert schema.source == {"$ref": "#/schemas/Tree"}
    assert schema.problems({"children": [{"children": [5]}]}) == {
        "children.0.children.0": "is not of type object"
    }


def test_formats_and_patterns_of_a_catalogue() -> None:
    (schema,) = entry("args: [{type: string, format: date-time}]").args.schemas or ()

    assert schema is not None
    assert schema.problems("2026-11-21T12:00:00Z") == {}
    assert schema.problems("yesterday") == {"": "is not of format date-time"}


@pytest.mark.parametrize(
    ("schema", "mistake"),
    [
        ("5", "is not a JSON Schema: a mapping, true or false"),
        ("{typ: string}", "typ: is an unknown key; did you mean type?"),
        ("{if: true}", "if: is an unknown key"),
        ("{patternProperties: {}}", "patternProperties: is an unknown key; did you mean properties?"),
        ("{$id: x}", "$id: is an unknown key"),
        ("{$dynamicRef: '#x'}", "$dynamicRef: is an unknown key"),
        ("{type: text}", "type: is not one of string, number, integer, boolean, object, array, null"),
        ("{type: []}", "type: is a list that is empty or has a type twice"),
        ("{enum: []}", "enum: is an empty list, which no value matches"),
        ("{enum: a}", "enum: is text, not a list"),
        ("{required: [a, a]}", "required: has a name twice"),
        ("{properties: []}", "properties: is a list, not a mapping"),
        ("{properties: {a: {typ: 1}}}", "properties.a.typ: is an unknown key; did you mean type?"),
        ("{items: [true]}", "items: is not a JSON Schema: a mapping, true or false"),
        ("{minLength: -1}", "minLength: is not an integer from 0 to 9007199254740992"),
        ("{minLength: 1.0}", "minLength: is not an integer from 0 to 9007199254740992"),
        ("{multipleOf: 0}", "multipleOf: is not greater than 0"),
        ("{minimum: '1'}", "minimum: is text, not a number"),
        ("{anyOf: []}", "anyOf: is an empty list"),
        ("{not: 1}", "not: is not a JSON Schema: a mapping, true or false"),
        (
            "{pattern: '(?=a)'}",
            "pattern: is not a regular expression that is matched in linear time: no lookaround, no backreference",
        ),
        (
            "{pattern: '('}",
            "pattern: is not a regular expression that is matched in linear time: no lookaround, no backreference",
        ),
        (
            "{pattern: '(a{1,1000}){1,1000}'}",
            "pattern: is not a regular expression that is matched in linear time: no lookaround, no backreference",
        ),
        ("{$ref: 'http://127.0.0.1/x'}", "$ref: is not of the form #/schemas/Name; nothing is fetched"),
        ("{$ref: 'file:///etc/passwd'}", "$ref: is not of the form #/schemas/Name; nothing is fetched"),
        ("{$ref: '#/schemas/None'}", "$ref: names a schema that schemas does not have; there are none"),
    ],
)
def test_what_is_not_of_the_subset_is_rejected(schema: str, mistake: str) -> None:
    expected = mistake if mistake.startswith("is not a JSON Schema: a map") else f".{mistake}"
    separator = ": " if not expected.startswith(".") else ""

    assert entry_mistakes(f"args: [{schema}]") == [f"args.0{separator}{expected}"]


def test_unknown_format_is_rejected() -> None:
    (mistake,) = entry_mistakes("args: [{format: regex}]")

    assert mistake.startswith("args.0.format: is not one of date-time, date, ")


def test_schemas_are_at_most_64_levels_deep() -> None:
    def nested(depth: int) -> str:
        return "{not: " * (depth - 1) + "{}" + "}" * (depth - 1)

    assert entry_mistakes(f"args: [{nested(64)}]") == []
    (mistake,) = entry_mistakes(f"args: [{nested(65)}]")
    assert mistake.endswith(".not: is nested deeper than 64 schemas")


def test_schema_that_only_refers_to_itself_is_rejected() -> None:
    text = "version: 1\nschemas:\n  A: {anyOf: [{$ref: '#/schemas/B'}]}\n  B: {$ref: '#/schemas/A'}\n"

    assert mistakes(text) == [
        "schemas.A: refers to itself without an object or array in between (line 3)",
        "schemas.B: refers to itself without an object or array in between (line 4)",
    ]


def test_names_of_schemas_suit_every_language() -> None:
    (mistake,) = mistakes("version: 1\nschemas: {a-b: {}}\n")

    assert mistake == (
        "schemas.a-b: is not a name of 1 to 64 letters, digits and underscores that begins with a letter (line 2)"
    )


@pytest.mark.parametrize(
    ("schema", "is_accepted"),
    [
        ("{properties: {left: {$ref: '#/schemas/A'}, right: {$ref: '#/schemas/A'}}}", True),
        ("{anyOf: [{items: {$ref: '#/schemas/A'}}, {additionalProperties: {$ref: '#/schemas/A'}}]}", True),
        ("{anyOf: [{items: {$ref: '#/schemas/A'}}, {items: {type: string}}]}", True),
        ("{anyOf: [{items: {$ref: '#/schemas/A'}}, {items: {$ref: '#/schemas/A'}, minItems: 1}]}", False),
        ("{items: {$ref: '#/schemas/A'}, allOf: [{items: {$ref: '#/schemas/A'}}]}", False),
        (
            "{properties: {a: {$ref: '#/schemas/A'}}, allOf: [{additionalProperties: {$ref: '#/schemas/A'}}]}",
            False,
        ),
        (
            "{properties: {a: {oneOf: [{items: {$ref: '#/schemas/A'}}, {items: {$ref: '#/schemas/A'}}]}}}",
            False,
        ),
    ],
)
def test_recursion_that_takes_exponential_time_is_rejected(schema: str, is_accepted: bool) -> None:
    found = mistakes(f"version: 1\nschemas:\n  A: {schema}\n")

    sentence = "refers to itself twice for one member or item: checks would take exponential time"
    assert found == ([] if is_accepted else [f"schemas.A: {sentence} (line 3)"])


def test_recursion_over_two_schemas_is_found() -> None:
    text = (
        "version: 1\nschemas:\n  A: {anyOf: [{$ref: '#/schemas/B'}, {items: {$ref: '#/schemas/A'}}]}\n"
        "  B: {items: {$ref: '#/schemas/A'}}\n"
    )

    assert [mistake.partition(":")[0] for mistake in mistakes(text)] == ["schemas.A", "schemas.B"]


def test_schema_whose_checks_double_with_each_reference_is_rejected() -> None:
    links = "".join(
        f"  A{number}: {{allOf: [{{$ref: '#/schemas/A{number + 1}'}}, {{$ref: '#/schemas/A{number + 1}'}}]}}\n"
        for number in range(25)
    )

    found = mistakes(f"version: 1\nschemas:\n{links}  A25: {{type: integer}}\n")

    assert (
        found[0] == "schemas.A0: applies more than 10,000 schemas to one value, over all references (line 3)"
    )
    assert len(found) < 25


def test_long_chain_of_references_is_rejected() -> None:
    links = "".join(
        f"  A{number}: {{items: {{$ref: '#/schemas/A{number + 1}'}}}}\n" for number in range(1_000)
    )

    found = mistakes(f"version: 1\nschemas:\n{links}  A1000: {{type: integer}}\n")

    assert "applies more than 10,000 schemas" in found[0]


@pytest.mark.parametrize("link", ["items: {NEXT}", "allOf: [{NEXT}]"])
def test_schemas_that_all_lead_to_each_other_are_rejected_before_they_take_long(link: str) -> None:
    links = "".join(
        f"  A{number}: {{{link}}}\n".replace("NEXT", f"$ref: '#/schemas/A{number + 1}'")
        for number in range(15_000)
    )

    found = mistakes(f"version: 1\nschemas:\n{links}  A15000: {{type: integer}}\n")

    assert found == [f"schemas: {TOO_MANY_STEPS} (line 2)"]


@pytest.mark.parametrize(
    "schemas",
    [
        f"S: {{enum: [{', '.join(f'x{number}' for number in range(40_000))}]}}",
        f"S: {{properties: {{{', '.join(f'a{number}: {{minLength: 1}}' for number in range(5_000))}}}}}",
    ],
)
def test_large_schema_that_many_others_refer_to_is_rejected_before_it_takes_long(schemas: str) -> None:
    events = "".join(
        f"      e{number}: {{args: [{{$ref: '#/schemas/S', maxLength: {number}}}]}}\n"
        for number in range(900)
    )

    found = mistakes(f"version: 1\nschemas:\n  {schemas}\nnamespaces:\n  /:\n    client_events:\n{events}")

    assert len(found) == 1
    assert TOO_MANY_STEPS in found[0]


def test_reference_to_one_of_many_schemas_lists_some_of_them() -> None:
    names = "".join(f"  S{number}: {{}}\n" for number in range(1_000))

    (found,) = mistakes(f"version: 1\nschemas:\n{names}  T: {{$ref: '#/schemas/X'}}\n")

    assert "there are S0, S1, " in found
    assert "S19 and 981 more" in found


def test_enum_of_many_objects_is_rejected() -> None:
    text = "version: 1\nschemas:\n  A: {enum: [" + ", ".join(["{a: 1}"] * 101) + "]}\n"

    assert mistakes(text) == [
        "schemas.A.enum: has more than 100 objects and arrays, which are compared one by one (line 3)"
    ]


LARGE = list(range(33_000))


@pytest.mark.parametrize(
    ("schema", "found"),
    [
        ({"items": {"type": "string"}}, {"0": "is not of type string"}),
        ({"anyOf": [{"items": {"type": "string"}}] * 8}, {"": "does not match the schema"}),
        ({"items": {"anyOf": [{"type": "string"}] * 8}}, {"": "does not match the schema"}),
        (
            {"items": {"enum": [str(number) for number in range(1000)]}},
            {"0": "is none of the values in enum"},
        ),
    ],
    ids=["type", "alternatives", "alternatives of items", "enum"],
)
def test_large_invalid_values_are_rejected_in_a_short_time(schema: Any, found: dict[str, str]) -> None:
    compiled = compile_schema(schema, {})

    start = time.thread_time()
    assert compiled.problems(LARGE) == found

    assert time.thread_time() - start < 1  # about 10 ms; a problem of each item would take many seconds


def test_invalid_values_of_a_middle_size_have_their_first_problem() -> None:
    assert compile_schema({"items": {"type": "string"}}, {}).problems(list(range(100))) == {
        "0": "is not of type string"
    }
