"""The keywords of JSON Schema that the catalogue supports, with the form of their values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final

import jsonschema_rs

from gateway.events.mistakes import Part, listed

MAX_SCHEMA_DEPTH: Final = 64
BUFFER: Final = "byte"
"""The format of base64, as which schemas see a buffer. OpenAPI has it, and the format registry of JSON Schema."""
FORMATS: Final = (
    "date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uri-reference", "uuid", BUFFER
)  # fmt: skip
TYPES: Final = ("string", "number", "integer", "boolean", "object", "array", "null")
REFERENCE_PREFIX: Final = "#/schemas/"
MAX_ENUM_OBJECTS: Final = 100
_MAX_LENGTH: Final = 2**53
_LISTS: Final = ("allOf", "anyOf", "oneOf")
_SAME_VALUE: Final = ("not",)
_PARTS: Final = ("items", "additionalProperties")


def check_schema(part: Part, named: Collection[str], *, depth: int = 1) -> None:
    """Add a mistake for everything that is not of the subset. ``named`` are the schemas that ``$ref`` may name."""
    if isinstance(part.value, bool):
        return
    if depth > MAX_SCHEMA_DEPTH:
        part.error(f"is nested deeper than {MAX_SCHEMA_DEPTH} schemas")
        return
    if not part.is_mapping:
        part.error("is not a JSON Schema: a mapping, true or false")
        return
    for name, value in part.fields(KEYWORDS).items():
        if name in _CHECKS:
            _CHECKS[name](value)
        elif name == "$ref":
            _check_reference(value, named)
        else:
            for schema in _schemas_in(name, value):
                check_schema(schema, named, depth=depth + 1)


def references(schema: object, *, same_value: bool = False) -> Iterator[str]:
    """Yield the names that a schema of the subset refers to. ``same_value``: only those applied to the same value."""
    waiting = [schema]
    while waiting:
        current = waiting.pop()
        if not isinstance(current, Mapping):
            continue
        reference = current.get("$ref")
        if isinstance(reference, str):
            yield reference.removeprefix(REFERENCE_PREFIX)
        for name in _LISTS:
            several = current.get(name)
            waiting.extend(several if isinstance(several, list) else ())
        waiting.extend(current.get(name) for name in (*_SAME_VALUE, *(() if same_value else _PARTS)))
        properties = current.get("properties")
        if not same_value and isinstance(properties, Mapping):
            waiting.extend(properties.values())


def _schemas_in(name: str, part: Part) -> list[Part]:
    """Return the schemas that a keyword holds."""
    if name == "properties":
        return list(part.members().values())
    if name not in _LISTS:
        return [part]
    items = part.items()
    if part.is_list and not items:
        part.error("is an empty list")
    return items


def _check_reference(part: Part, named: Collection[str]) -> None:
    reference = part.text()
    if reference is None:
        return
    if not reference.startswith(REFERENCE_PREFIX):
        part.error("is not of the form #/schemas/Name; nothing is fetched")
    elif reference.removeprefix(REFERENCE_PREFIX) not in named:
        part.error(f"names a schema that schemas does not have; {listed(named)}")


def _check_type(part: Part) -> None:
    if not part.is_list:
        part.one_of(TYPES)
        return
    names = [item.one_of(TYPES) for item in part.items()]
    if not names or len(set(names)) < len(names):
        part.error("is a list that is empty or has a type twice")


def _check_enum(part: Part) -> None:
    if part.is_list and not part.items():
        part.error("is an empty list, which no value matches")
    items = part.items()
    if sum(item.is_list or item.is_mapping for item in items) > MAX_ENUM_OBJECTS:
        part.error(f"has more than {MAX_ENUM_OBJECTS} objects and arrays, which are compared one by one")


def _check_required(part: Part) -> None:
    names = [item.text() for item in part.items()]
    if len(set(names)) < len(names):
        part.error("has a name twice")


def _check_count(part: Part) -> None:
    part.integer(0, _MAX_LENGTH)


def _check_multiple(part: Part) -> None:
    number = part.number()
    if number is not None and number <= 0:
        part.error("is not greater than 0")


def _check_pattern(part: Part) -> None:
    pattern = part.text()
    if pattern is None:
        return
    try:
        jsonschema_rs.Draft202012Validator(
            {"pattern": pattern}, pattern_options=jsonschema_rs.RegexOptions(), offline=True
        )
    except jsonschema_rs.ValidationError:
        part.error(
            "is not a regular expression that is matched in linear time: no lookaround, no backreference"
        )


def _check_text(part: Part) -> None:
    part.text()


def _check_boolean(part: Part) -> None:
    part.boolean()


def _check_number(part: Part) -> None:
    part.number()


def _check_list(part: Part) -> None:
    part.items()


def _check_format(part: Part) -> None:
    part.one_of(FORMATS)


def _check_nothing(part: Part) -> None:
    """Accept any value."""


_CHECKS: Final[Mapping[str, Callable[[Part], None]]] = {
    "type": _check_type,
    "enum": _check_enum,
    "const": _check_nothing,
    "required": _check_required,
    "minItems": _check_count,
    "maxItems": _check_count,
    "uniqueItems": _check_boolean,
    "minLength": _check_count,
    "maxLength": _check_count,
    "pattern": _check_pattern,
    "format": _check_format,
    "minimum": _check_number,
    "maximum": _check_number,
    "exclusiveMinimum": _check_number,
    "exclusiveMaximum": _check_number,
    "multipleOf": _check_multiple,
    "title": _check_text,
    "description": _check_text,
    "default": _check_nothing,
    "examples": _check_list,
}
KEYWORDS: Final = (*_CHECKS, "$ref", "properties", *_PARTS, *_LISTS, *_SAME_VALUE)
