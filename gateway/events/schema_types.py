"""JSON schemas as TypeScript types. ``unknown`` where a schema has no rule."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, cast

from gateway.events.keywords import BUFFER
from gateway.events.own_events import JsonSchema

ANY: Final = "any"
_UNKNOWN: Final = "unknown"
_SIMPLE: Final[Mapping[str, str]] = {
    "string": "string",
    "number": "number",
    "integer": "number",
    "boolean": "boolean",
    "null": "null",
}
_BUFFER: Final = "ArrayBuffer | Uint8Array"
"""What a client gets in a browser and in Node, where it is a Buffer; it may send either."""
_IDENTIFIER: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*", re.ASCII)


class SchemaTypes:
    """The types of schemas. ``named`` are schemas by the target of a ``$ref``, ``names`` the types to refer to them."""

    def __init__(self, named: Mapping[str, JsonSchema], names: Mapping[str, str]) -> None:
        self._named = named
        self._names = names

    def declarations(self) -> Iterator[tuple[str, str, str]]:
        """Yield the name, the description and the type of each named schema."""
        for target, schema in self._named.items():
            text = _UNKNOWN if self._is_circular(target) else self.text(schema)
            yield self._names[target], _description(schema), text

    def union(self, schemas: Iterable[JsonSchema]) -> str:
        """Return the type of a value that one of these schemas describes."""
        return _join([self.text(schema) for schema in schemas], " | ")

    def text(self, schema: JsonSchema) -> str:
        """Return the type of a value that a schema describes."""
        if isinstance(schema, bool):
            return _UNKNOWN if schema else "never"
        parts = [self._base(schema)]
        if "$ref" in schema:
            parts.append(self._names.get(str(schema["$ref"]), _UNKNOWN))
        parts += [self.text(each) for each in _schemas(schema.get("allOf"))]
        parts += [self.union(_schemas(schema[key])) for key in ("anyOf", "oneOf") if key in schema]
        return _join([part for part in parts if part != _UNKNOWN] or [_UNKNOWN], " & ")

    def _base(self, schema: Mapping[str, object]) -> str:
        """Return the type by the keywords that are about one schema alone."""
        if "const" in schema:
            return _literal(schema["const"])
        if isinstance(schema.get("enum"), list | tuple):
            return _join(
                [_literal(value) for value in cast("list[object]", schema["enum"])] or ["never"], " | "
            )
        types = schema.get("type")
        if types is None:
            # Without a type the members are a rule for objects alone; a sender that has them sends an object.
            types = "object" if {"properties", "required"} & set(schema) else None
            types = "array" if types is None and "items" in schema else types
        if types is None:
            return _UNKNOWN
        names = [types] if isinstance(types, str) else list(cast("list[str]", types))
        return _join([self._of_type(name, schema) for name in names], " | ")

    def _of_type(self, name: str, schema: Mapping[str, object]) -> str:
        if name == "array":
            return self._array(schema)
        if name == "object":
            return self._object(schema)
        if name == "string" and schema.get("format") == BUFFER:
            return _BUFFER
        return _SIMPLE.get(name, _UNKNOWN)

    def _array(self, schema: Mapping[str, object]) -> str:
        if schema.get("maxItems") == 0:
            return "[]"
        items = self.text(cast("JsonSchema", schema.get("items", True)))
        return f"({items})[]" if " " in items and not _is_enclosed(items) else f"{items}[]"

    def _object(self, schema: Mapping[str, object]) -> str:
        properties = dict(cast("Mapping[str, JsonSchema]", schema.get("properties", {})))
        required = list(cast("list[str]", schema.get("required", ())))
        for name in required:
            properties.setdefault(name, True)
        members = [
            f"{comment(_description(member), one_line=True)}{member_name(name)}"
            f"{'' if name in required else '?'}: {self.text(member)}"
            for name, member in properties.items()
        ]
        more = cast("JsonSchema | None", schema.get("additionalProperties"))
        if more is None:
            # JSON Schema accepts further members. A type with known ones leaves them out: they are mostly mistakes.
            more = not members
        if more is not False:
            members.append(f"[name: string]: {_UNKNOWN if properties else self.text(more)}")
        return "{ " + "; ".join(members) + " }" if members else "{ [name: string]: never }"

    def _is_circular(self, target: str) -> bool:
        """Return whether a schema refers to itself without an object or array in between: no type can do so."""
        seen: set[str] = set()
        pending = list(_direct_references(self._named[target]))
        while pending:
            reference = pending.pop()
            if reference == target:
                return True
            if reference not in seen:
                seen.add(reference)
                pending += _direct_references(self._named.get(reference, True))
        return False


def member_name(name: str) -> str:
    """Return the name of a member, in quotes unless it is an identifier."""
    return name if _IDENTIFIER.fullmatch(name) else json.dumps(name)


def comment(text: str, *, one_line: bool = False) -> str:
    """Return a documentation comment, or nothing for an empty text."""
    if not text:
        return ""
    return f"/** {inline(text)} */" + (" " if one_line else "\n")


def inline(text: str) -> str:
    """Return a text for a comment: in one line, and without the characters that end a comment."""
    return " ".join(text.split()).replace("*/", "* /")


def _description(schema: JsonSchema) -> str:
    return str(schema.get("description") or schema.get("title") or "") if isinstance(schema, Mapping) else ""


def _direct_references(schema: JsonSchema) -> Iterator[str]:
    if isinstance(schema, bool):
        return
    if "$ref" in schema:
        yield str(schema["$ref"])
    for key in ("allOf", "anyOf", "oneOf"):
        for each in _schemas(schema.get(key)):
            yield from _direct_references(each)


def _schemas(value: object) -> list[JsonSchema]:
    return list(cast("list[JsonSchema]", value)) if isinstance(value, list | tuple) else []


def _literal(value: object) -> str:
    if isinstance(value, Mapping):
        members = [f"{member_name(str(name))}: {_literal(member)}" for name, member in value.items()]
        return "{ " + "; ".join(members) + " }" if members else "{ [name: string]: never }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_literal(item) for item in value) + "]"
    if isinstance(value, float) and not value.is_integer():
        return repr(value) if "e" not in repr(value) else "number"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(int(value)) if abs(value) < 2**53 else "number"
    return json.dumps(value)


def _join(types: list[str], operator: str) -> str:
    """Join distinct types. ``unknown`` absorbs a union."""
    distinct = list(dict.fromkeys(types))
    if operator == " | " and _UNKNOWN in distinct:
        return _UNKNOWN
    if len(distinct) == 1:
        return distinct[0]
    return operator.join(_enclosed(each) if operator == " & " else each for each in distinct)


def _enclosed(text: str) -> str:
    return f"({text})" if " | " in text and not _is_enclosed(text) else text


def _is_enclosed(text: str) -> bool:
    """Return whether a type is one object, so that no operator is outside of its braces."""
    if not (text.startswith("{") and text.endswith("}")):
        return False
    depth = 0
    in_string = False
    for index, character in enumerate(text):
        if character == '"' and text[index - 1] != "\\":
            in_string = not in_string
        if in_string:
            continue
        depth += (character == "{") - (character == "}")
        if depth == 0 and index < len(text) - 1:
            return False
    return True
