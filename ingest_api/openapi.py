"""Generate the OpenAPI 3.1 document of the REST API from the schemas. ``python -m ingest_api.openapi`` prints it.

The same text is committed as ``openapi.yaml`` (a test compares them), and the gateway serves it at ``/openapi.yaml``.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any, Final

import yaml
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin

from ingest_api import (
    acks,
    answers,
    batch_schemas,
    listings,
    openapi_text,
    revocation,
    room_changes,
    schemas,
)
from ingest_api.errors import PROBLEM_TYPE, STATUSES
from ingest_api.history import HistoryMessageAnswer
from ingest_api.openapi_admin import CHANGES
from ingest_api.openapi_calls import PUSHES, Operation
from ingest_api.openapi_listings import LISTINGS, NESTED
from ingest_api.openapi_reads import READS

PATH: Final = "/openapi.yaml"
CONTENT_TYPE: Final = "application/yaml"
API_VERSION: Final = "1.0.0"
OPERATIONS: Final = (*PUSHES, *READS, *LISTINGS, *CHANGES, revocation.REVOKE)

_JSON: Final = "application/json"


def _required(*names: str) -> dict[str, Any]:
    # Redocly's rule: a required property is also defined in the same schema, even if the outer schema defines it.
    return {"properties": {name: {} for name in names}, "required": list(names)}


_NOT_VOLATILE: Final = {"volatile": {"const": False}}
_KEPT_TO_USERS: Final = {
    "anyOf": [
        {"not": _required("ttl")},
        {
            "properties": _NOT_VOLATILE
            | {"to": {"anyOf": [{"type": "object"} | _required(name) for name in ("user", "users")]}}
        },
    ]
}
"""What a message of a batch with a ttl is: to users, and not volatile."""
_KEPT_OR_ACKNOWLEDGED: Final = {
    "anyOf": [
        {"not": {"anyOf": [_required("ttl"), _required("ack")]}},
        {"properties": _NOT_VOLATILE, "not": _required("ttl")},
        {"properties": _NOT_VOLATILE, "not": _required("ack")},
    ]
}
"""What a push has at most one of: ``ttl``, ``ack`` and ``volatile``."""
_TIMESTAMP_NEEDS_AN_OBJECT: Final = {
    "if": {"properties": {"timestamp": {"const": True}}, "required": ["timestamp"]},
    "then": {"properties": {"data": {"type": "object"}}, "required": ["data"]},
}


@cache
def text() -> str:
    """Return the OpenAPI document as YAML."""
    return yaml.dump(
        document(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110, default_flow_style=False
    )


def document() -> dict[str, Any]:
    """Return the OpenAPI document as a mapping."""
    spec = APISpec(
        title="Socket.IO push gateway",
        version=API_VERSION,
        openapi_version="3.1.0",
        plugins=[MarshmallowPlugin()],
        info={
            "description": openapi_text.ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        servers=[{"url": "http://localhost:8080", "description": "a gateway on this machine"}],
        tags=[{"name": name, "description": description} for name, description in openapi_text.TAGS.items()],
    )
    _add_components(spec)
    for operation in OPERATIONS:
        spec.path(path=operation.path, operations={operation.method: _operation(operation)})
    spec.path(path=PATH, operations={"get": _describe_operation()})
    generated: dict[str, Any] = spec.to_dict()
    return {"openapi": generated.pop("openapi"), **generated}


def _add_components(spec: APISpec) -> None:
    namespaces = frozenset({"/"})
    one_payload = {"not": _required("data", "args"), **_TIMESTAMP_NEEDS_AN_OBJECT}
    acknowledged = one_payload | {
        "anyOf": [{"not": _required("ack")}, {"properties": {"volatile": {"const": False}}}]
    }
    kept = one_payload | _KEPT_OR_ACKNOWLEDGED
    one_address = {"oneOf": [_required("room"), _required("rooms")]}
    spec.components.schema("Ack", schema=acks.AckSchema())
    spec.components.schema("ClientAck", schema=answers.ClientAckAnswer)
    spec.components.schema("Emit", kept, schema=schemas.EmitSchema(namespaces=namespaces))
    spec.components.schema("Broadcast", one_payload, schema=schemas.BroadcastSchema(namespaces=namespaces))
    spec.components.schema(
        "EmitToRoom", acknowledged | one_address, schema=schemas.EmitToRoomSchema(namespaces=namespaces)
    )
    spec.components.schema("EmitToUsers", kept, schema=schemas.EmitToUsersSchema(namespaces=namespaces))
    spec.components.schema(
        "BatchMessage",
        one_payload | _KEPT_TO_USERS,
        schema=batch_schemas.BatchMessageSchema(namespaces=namespaces),
    )
    spec.components.schema("Batch", schema=batch_schemas.BatchSchema())
    spec.components.schema("BatchResult", schema=answers.BatchResultAnswer)
    spec.components.schema("Disconnect", schema=schemas.DisconnectSchema(namespaces=namespaces))
    spec.components.schema("Revoke", schema=revocation.RevokeSchema())
    spec.components.schema("RoomChange", schema=room_changes.RoomChangeSchema(namespaces=namespaces))
    spec.components.schema("DisconnectRoom", schema=room_changes.DisconnectRoomSchema(namespaces=namespaces))
    spec.components.schema("DeadLetterIds", schema=schemas.DeadLetterIdsSchema())
    spec.components.schema("PresenceOfUsers", schema=listings.PresenceSchema())
    spec.components.schema("SocketData", schema=listings.SocketDataSchema())
    for nested, answer in NESTED.items():
        spec.components.schema(nested, schema=answer)
    spec.components.schema("Webhook", schema=answers.WebhookAnswer)
    spec.components.schema("DeadLetter", schema=answers.DeadLetterAnswer)
    spec.components.schema("Connection", schema=answers.ConnectionAnswer)
    spec.components.schema("HistoryMessage", schema=HistoryMessageAnswer)
    spec.components.schema("Problem", schema=answers.ProblemAnswer)
    for response in dict.fromkeys(operation.response for operation in OPERATIONS):
        if response.__name__ not in spec.components.schemas:
            spec.components.schema(response.__name__, schema=response)
    for name, parameter in openapi_text.PARAMETERS.items():
        spec.components.parameter(name, parameter["in"], parameter)
    for name, header in openapi_text.HEADERS.items():
        spec.components.header(name, header)
    for name, header_name, description in openapi_text.SIGNING_HEADERS:
        scheme = {"type": "apiKey", "in": "header", "name": header_name, "description": description}
        spec.components.security_scheme(name, scheme)
    for status in sorted(set(STATUSES.values())):
        spec.components.response(f"Problem{status.value}", _problem_response(status))


def _operation(operation: Operation) -> dict[str, Any]:
    generated: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "description": operation.description,
        "tags": [operation.tag],
        "security": [{name: [] for name, _, _ in openapi_text.SIGNING_HEADERS}],
        "parameters": [
            *operation.parameters,
            "RequestId",
            "Traceparent",
            "IdempotencyKey",
        ],
    }
    if operation.body is not None:
        generated["requestBody"] = {
            "required": operation.body_required,
            "content": {
                _JSON: {"schema": operation.body, "examples": _examples(operation.body_examples)},
            },
        }
    generated["responses"] = {"200": _ok_response(operation)} | _problems(operation.statuses)
    return generated


def _ok_response(operation: Operation) -> dict[str, Any]:
    content = {"schema": operation.response, "examples": _examples(operation.response_examples)}
    names = ["X-Request-Id", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"]
    if operation.method != "get":
        names.append("Idempotency-Replayed")
    return {
        "description": operation.response_description,
        "headers": {name: name for name in names},
        "content": {_JSON: content},
    }


def _problem_response(status: int) -> dict[str, Any]:
    codes = [code for code, code_status in STATUSES.items() if code_status == status]
    names = ["X-Request-Id", *openapi_text.PROBLEM_HEADERS.get(int(status), ())]
    examples = {code: {"value": openapi_text.problem_example(code)} for code in codes}
    return {
        "description": "\n".join(f"- `{code}`: {openapi_text.REMEDIES[code]}" for code in codes),
        "headers": {name: name for name in names},
        "content": {PROBLEM_TYPE: {"schema": "Problem", "examples": examples}},
    }


def _problems(statuses: tuple[int, ...]) -> dict[str, str]:
    return {str(status): f"Problem{status}" for status in statuses}


def _describe_operation() -> dict[str, Any]:
    content = {"schema": {"type": "object"}, "examples": {"start": {"value": {"openapi": "3.1.0"}}}}
    return {
        "operationId": "describe",
        "summary": "Get this document",
        "description": "The only call in this document that is not signed.",
        "tags": ["description"],
        "security": [],
        "parameters": ["RequestId"],
        "responses": {
            "200": {
                "description": "OpenAPI 3.1 as YAML.",
                "headers": {"X-Request-Id": "X-Request-Id"},
                "content": {CONTENT_TYPE: content},
            }
        }
        | _problems((400, 405, 431, 500, 501, 503, 505)),
    }


def _examples(named: dict[str, Any]) -> dict[str, Any]:
    return {name: {"value": value} for name, value in named.items()}


class _Dumper(yaml.SafeDumper):
    """Writes a value each time it is used, without YAML aliases, and keeps the line breaks of texts."""

    def ignore_aliases(self, _: Any) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _Dumper.represent_text)


if __name__ == "__main__":
    sys.stdout.write(text())
