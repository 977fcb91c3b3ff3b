"""The JSON schema of what a template renders: literals as they are, references as the argument that they refer to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple, cast

from gateway.domain.event_catalogue import Arguments
from gateway.domain.templates import ArrayTemplate, ObjectTemplate, Reference, Template
from gateway.events.own_events import JsonSchema

CATALOGUE_PREFIX: Final = "#/schemas/"
"""What a ``$ref`` to a named schema of the catalogue begins with."""

_TEXT: Final[JsonSchema] = {"type": "string"}
_ROOTS: Final[Mapping[str, JsonSchema]] = {
    "sid": _TEXT,
    "user": _TEXT,
    "id": _TEXT,
    "now": {"type": "string", "format": "date-time"},
    "email": {"type": ["string", "null"]},
    "sub": {"type": ["string", "number"]},
    "version": {"type": "integer"},
    "since": {"type": "string", "format": "date-time"},
}
_ERROR_MEMBERS: Final = ("code", "message")


class Payload(NamedTuple):
    """A schema, and whether the value may be absent."""

    schema: JsonSchema
    may_be_missing: bool = False


class PayloadSchemas:
    """Describes templates, of a client event or without arguments. ``named`` are the named schemas of the catalogue."""

    def __init__(self, arguments: Arguments, named: Mapping[str, Mapping[str, object]]) -> None:
        self._arguments = arguments
        self._named = named

    def describe(self, template: Template) -> JsonSchema:
        """Return the schema of an argument: JSON has no missing value there, so that it is null."""
        return _or_null(self._payload(template))

    def _payload(self, template: Template) -> Payload:
        if isinstance(template, Reference):
            return self._reference(template)
        if isinstance(template, ObjectTemplate):
            return Payload(self._object(template))
        if isinstance(template, ArrayTemplate):
            return Payload(_array([_or_null(self._payload(item)) for item in template.items]))
        return Payload(literal_schema(template.value))

    def _object(self, template: ObjectTemplate) -> JsonSchema:
        members = [(name, self._payload(member)) for name, member in template.members]
        return _object(
            {name: payload.schema for name, payload in members},
            [name for name, payload in members if not payload.may_be_missing],
        )

    def _reference(self, reference: Reference) -> Payload:
        if reference.root.isdigit():
            return self._argument(int(reference.root), reference.path)
        if reference.root == "error":
            is_text = len(reference.path) == 1 and reference.path[0] in _ERROR_MEMBERS
            return Payload(_TEXT) if is_text else Payload(True, may_be_missing=True)
        known = _ROOTS.get(reference.root)
        if known is None or reference.path:
            return Payload(True, may_be_missing=True)
        return Payload(known)

    def _argument(self, index: int, path: tuple[str, ...]) -> Payload:
        schemas = self._arguments.schemas
        if schemas is None or index >= len(schemas):
            return Payload(True, may_be_missing=True)
        compiled = schemas[index]
        payload = Payload(
            True if compiled is None else compiled.source, index >= len(schemas) - self._arguments.optional
        )
        for name in path:
            payload = self._member(payload, name)
        return payload

    def _member(self, parent: Payload, name: str) -> Payload:
        schema = self._resolve(parent.schema)
        properties = schema.get("properties")
        items = schema.get("items")
        if isinstance(properties, Mapping) and name in properties:
            required = schema.get("required")
            is_required = isinstance(required, list | tuple) and name in required
            # A schema without `type: object` also accepts values without members.
            is_object = schema.get("type") == "object"
            return Payload(properties[name], parent.may_be_missing or not (is_required and is_object))
        if schema.get("type") == "array" and isinstance(items, Mapping | bool) and name.isdigit():
            return Payload(cast("JsonSchema", items), may_be_missing=True)
        required = schema.get("required")
        is_present = (
            schema.get("type") == "object" and isinstance(required, list | tuple) and name in required
        )
        return Payload(True, parent.may_be_missing or not is_present)

    def _resolve(self, schema: JsonSchema) -> Mapping[str, object]:
        """Return the schema that a chain of references ends at; an empty one for a circle."""
        seen: set[str] = set()
        while isinstance(schema, Mapping) and "$ref" in schema:
            target = str(schema["$ref"])
            if target in seen:
                return {}
            seen.add(target)
            schema = self._named.get(target.removeprefix(CATALOGUE_PREFIX), {})
        return schema if isinstance(schema, Mapping) else {}


def literal_schema(value: object) -> JsonSchema:
    """Return the schema of exactly one JSON value. Objects and arrays are described member by member."""
    if isinstance(value, Mapping):
        return _object({str(name): literal_schema(member) for name, member in value.items()}, list(value))
    if isinstance(value, list | tuple):
        return _array([literal_schema(item) for item in value])
    return {"type": "null"} if value is None else {"const": value}


def any_of(schemas: list[JsonSchema]) -> JsonSchema:
    """Return a schema for values of any of these, each once."""
    distinct: list[JsonSchema] = []
    for schema in schemas:
        if schema is True:
            return True
        if schema not in distinct:
            distinct.append(schema)
    return distinct[0] if len(distinct) == 1 else {"anyOf": distinct}


def _object(properties: Mapping[str, JsonSchema], required: list[str]) -> JsonSchema:
    schema: dict[str, object] = {"type": "object", "properties": dict(properties)}
    if required:
        schema["required"] = required
    return schema | {"additionalProperties": False}


def _array(items: list[JsonSchema]) -> JsonSchema:
    return {"type": "array", "items": any_of(items)} if items else {"type": "array", "maxItems": 0}


def _or_null(payload: Payload) -> JsonSchema:
    return any_of([payload.schema, {"type": "null"}]) if payload.may_be_missing else payload.schema
