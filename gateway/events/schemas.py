"""JSON Schemas 2020-12 of the catalogue: a named subset of keywords, compiled by jsonschema-rs.

Three defaults of the library do not fit: it fetches ``$ref`` over HTTP and from files, its patterns may backtrack, and
its messages quote values. tests/contract/test_jsonschema_options.py pins what is used instead.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

import jsonschema_rs

from gateway.domain.attachments import is_base64
from gateway.domain.event_catalogue import Schema
from gateway.events.keywords import BUFFER, check_schema, references
from gateway.events.mistakes import Part
from gateway.events.recursion import (
    MAX_CHECKS,
    Steps,
    TooManySteps,
    ambiguous_recursions,
    has_too_many_checks,
    reached,
)

MAX_VALUE_DEPTH: Final = 64
"""Levels of objects and arrays in a value. The library is recursive: 100 000 levels would end the process."""
TOO_MANY_STEPS: Final = "takes too long to read: the schemas of the file refer too often to each other"
_BYTES_IN_A_STEP: Final = 4
_STEPS_OF_AN_OBJECT: Final = 20
"""What the library compiles in the time of one step, and how many steps an object in a schema takes. (Measured: 25 µs
and 1 kB for an object.)"""
TOO_MANY_CHECKS: Final = f"applies more than {MAX_CHECKS:,} schemas to one value, over all references"
MAX_PROBLEMS: Final = 20
MAX_PATH_CHARACTERS: Final = 200
MAX_LISTED_VALUES: Final = 64
"""A value with more values in it gets its first problem only: the library makes a list of all before the first one."""
MAX_ALTERNATIVE_VALUES: Final = 256
"""The same for schemas with ``anyOf`` or ``oneOf``, whose first problem holds all those of each alternative."""

_SENTENCES: Final[Mapping[str, Callable[[Any], str]]] = {
    "additionalProperties": lambda _: "is not an allowed member (additionalProperties)",
    "falseSchema": lambda _: "is not allowed",
    "required": lambda _: "is missing (required)",
    "type": lambda kind: f"is not of type {' or '.join(kind.types)}",
    "enum": lambda _: "is none of the values in enum",
    "const": lambda _: "is not the value of const",
    "minLength": lambda kind: f"has fewer than {kind.limit} characters (minLength)",
    "maxLength": lambda kind: f"has more than {kind.limit} characters (maxLength)",
    "minItems": lambda kind: f"has fewer than {kind.limit} items (minItems)",
    "maxItems": lambda kind: f"has more than {kind.limit} items (maxItems)",
    "uniqueItems": lambda _: "holds an item twice (uniqueItems)",
    "minimum": lambda kind: f"is less than {kind.limit} (minimum)",
    "maximum": lambda kind: f"is greater than {kind.limit} (maximum)",
    "exclusiveMinimum": lambda kind: f"is not greater than {kind.limit} (exclusiveMinimum)",
    "exclusiveMaximum": lambda kind: f"is not less than {kind.limit} (exclusiveMaximum)",
    "multipleOf": lambda kind: f"is not a multiple of {kind.multiple_of} (multipleOf)",
    "format": lambda kind: f"is not of format {kind.format}",
    "pattern": lambda _: "does not match pattern",
    "anyOf": lambda _: "matches no schema of anyOf",
    "oneOf": lambda _: "does not match exactly one schema of oneOf",
    "not": lambda _: "matches the schema of not",
}


@dataclass(frozen=True, slots=True)
class CompiledSchema:
    """A JSON Schema that values are checked with. Two with the same source are equal."""

    source: Mapping[str, object] | bool
    definitions: Mapping[str, object]
    """The named schemas that it refers to, also indirectly."""
    _validator: jsonschema_rs.Draft202012Validator = field(compare=False, repr=False)
    _has_alternatives: bool = field(compare=False, repr=False)

    def accepts(self, value: object) -> bool:
        """Return whether a value is valid. It is JSON of at most MAX_VALUE_DEPTH levels."""
        return self._validator.is_valid(value)

    def problems(self, value: object) -> Mapping[str, str]:
        """Return at most MAX_PROBLEMS sentences by path; empty when the value is valid."""
        try:
            count = _count(value)
            if self._validator.is_valid(value):
                return {}
            found: dict[str, str] = {}
            for error in self._errors(value, count):
                for path, text in _described(error):
                    found.setdefault(path[:MAX_PATH_CHARACTERS], text)
            return dict(islice(found.items(), MAX_PROBLEMS)) or {"": "does not match the schema"}
        except _Unusable as error:
            return {"": error.sentence}
        except ValueError:  # of the conversion: bytes, a lone surrogate
            return {"": "is not a JSON value"}

    def _errors(self, value: object, count: int) -> Sequence[jsonschema_rs.ValidationError]:
        """Return the errors of an invalid value of ``count`` values, as far as they are found in a short time."""
        if count <= MAX_LISTED_VALUES:
            return list(islice(self._validator.iter_errors(value), MAX_PROBLEMS))
        if self._has_alternatives and count > MAX_ALTERNATIVE_VALUES:
            return []
        try:
            self._validator.validate(value)
        except jsonschema_rs.ValidationError as error:
            return [error]
        return []


class _Unusable(Exception):
    """The library must not get the value."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


def compile_schema(
    source: Mapping[str, object] | bool, named: Mapping[str, object], steps: Steps | None = None
) -> CompiledSchema:
    """Return the compiled schema. ``named`` are all schemas that ``$ref`` may name.

    Raises: ValueError if the library does not accept it; TooManySteps.
    """
    steps = steps or Steps()
    definitions = _reachable(source, named, steps)
    # The references (#/schemas/Name) are resolved in a document whose root refers to the schema.
    document: dict[str, object] = {"schemas": definitions, "allOf": [source]}
    text = json.dumps(document)
    steps.take(len(text) // _BYTES_IN_A_STEP + _STEPS_OF_AN_OBJECT * text.count("{"))
    try:
        validator = jsonschema_rs.Draft202012Validator(
            document,
            retriever=_reject_retrieval,
            pattern_options=jsonschema_rs.RegexOptions(),
            validate_formats=True,
            formats={BUFFER: is_base64},
            ignore_unknown_formats=False,
        )
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        raise ValueError(f"is not a JSON Schema: {error.message}") from None
    has_alternatives = '"anyOf"' in text or '"oneOf"' in text
    return CompiledSchema(source, definitions, validator, has_alternatives)


@dataclass(slots=True)
class SchemaReader:
    """Reads schemas of one catalogue. ``named`` are the sources of those under ``schemas``. Equal ones are shared."""

    named: dict[str, Mapping[str, object]] = field(default_factory=dict)
    _steps: Steps = field(default_factory=Steps)
    _compiled: dict[str, CompiledSchema] = field(default_factory=dict)

    def read_named(self, part: Part) -> None:
        """Read the mapping of named schemas."""
        members = part.members()
        for name, schema in members.items():
            _check_name(name, schema)
            check_schema(schema, members)
            source = schema.plain()
            if not isinstance(source, dict):
                schema.error("is not a mapping")
                continue
            self.named[name] = source
        try:
            self._check_named(part, members)
        except TooManySteps:
            part.error(TOO_MANY_STEPS)

    def _check_named(self, part: Part, members: Mapping[str, Part]) -> None:
        same_value = {
            name: frozenset(references(source, same_value=True)) for name, source in self.named.items()
        }
        for name in self.named:
            if name in reached(name, same_value, self._steps):
                members[name].error("refers to itself without an object or array in between")
        if part.mistakes.found:
            return
        for name in ambiguous_recursions(self.named, self._steps):
            members[name].error(
                "refers to itself twice for one member or item: checks would take exponential time"
            )
        for name, source in self.named.items():
            if has_too_many_checks(source, self.named, self._steps):
                members[name].error(TOO_MANY_CHECKS)

    def read(self, part: Part) -> Schema | None:
        """Return the compiled schema; None if it accepts every value or has a mistake."""
        check_schema(part, self.named)
        if part.mistakes.found or part.value is True or part.value == {}:
            return None
        source = part.plain()
        key = json.dumps(source)
        if key not in self._compiled:
            try:
                if has_too_many_checks(source, self.named, self._steps):
                    part.error(TOO_MANY_CHECKS)
                    return None
                self._compiled[key] = compile_schema(
                    source if isinstance(source, dict) else bool(source), self.named, self._steps
                )
            except TooManySteps:
                part.error(TOO_MANY_STEPS)
                return None
            except ValueError as error:
                part.error(str(error))
                return None
        return self._compiled[key]


def _check_name(name: str, part: Part) -> None:
    is_name = name.isascii() and name.isidentifier() and len(name) <= 64
    if not is_name:
        part.error("is not a name of 1 to 64 letters, digits and underscores that begins with a letter")


def _reachable(source: object, named: Mapping[str, object], steps: Steps) -> dict[str, object]:
    """Return the named schemas that a schema refers to, also indirectly."""
    found: dict[str, object] = {}
    waiting = [source]
    while waiting:
        for name in references(waiting.pop()):
            steps.take()
            if name not in found and name in named:
                found[name] = named[name]
                waiting.append(named[name])
    return found


def _reject_retrieval(uri: str) -> Any:  # noqa: ANN401, ARG001, RUF100  # the signature of the library
    raise ValueError("a schema is never fetched")


def _count(value: object) -> int:
    """Return how many values a value holds.

    Raises: _Unusable if it is too deep, or holds a number that JSON lacks.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise _Unusable("is not a JSON number")
    if not isinstance(value, dict | list):
        return 1
    count = 1
    level: list[Any] = [value]
    for _ in range(MAX_VALUE_DEPTH):
        below: list[Any] = []
        for container in level:
            count += len(container)
            for item in container.values() if isinstance(container, dict) else container:
                kind = type(item)
                if kind is dict or kind is list:
                    below.append(item)
                elif kind is float and not math.isfinite(item):
                    raise _Unusable("holds a number that is none in JSON")
        if not below:
            return count
        level = below
    raise _Unusable(f"is nested deeper than {MAX_VALUE_DEPTH} levels")


def _described(error: jsonschema_rs.ValidationError) -> Iterator[tuple[str, str]]:
    """Yield path and sentence of an error of the library; it names no value of the client."""
    kind: Any = error.kind
    path = [str(step) for step in error.instance_path]
    sentence = _SENTENCES.get(kind.name, lambda _: f"does not match ({kind.name})")(kind)
    if kind.name == "additionalProperties":
        for name in kind.unexpected:
            yield ".".join([*path, str(name)]), sentence
    elif kind.name == "falseSchema" and error.schema_path[-1:] == ["additionalProperties"]:
        yield ".".join(path), "has a member, which is not allowed (additionalProperties)"
    elif kind.name == "required":
        yield ".".join([*path, str(kind.property)]), sentence
    else:
        yield ".".join(path), sentence
