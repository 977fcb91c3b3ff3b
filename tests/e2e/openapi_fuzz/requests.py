"""schemathesis generates requests from openapi.yaml, valid and invalid ones, and validates the answers.

Each request is signed for its bytes just before it is sent: the REST API answers an unsigned one with 401 before it
reads the body.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
import yaml
from hypothesis import HealthCheck, settings
from requests.auth import AuthBase
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig

from ingest_api import signing
from ingest_api.schemas import NAME_PATTERN
from tests.support.gateway_process import GatewayProcess
from tests.support.paths import ROOT

EXAMPLES = 100
ISSUER = {
    "issuer": "https://login.example.com/", "secret": "the secret of this issuer, long enough", "users": "login:"
}  # fmt: skip
PUSHES = ("Emit", "EmitToRoom", "EmitToUsers", "Broadcast", "BatchMessage")


def description() -> dict[str, Any]:
    """Return openapi.yaml without what is valid only together with the state or the settings of a gateway.

    - Only the operator knows the namespaces and the issuers. Generated requests have one of each.
    - A cursor is valid if an earlier page had it.
    - A pointer in ``binary`` is valid if a base64 string is there. ``description_of_buffers`` has those.
    - Connections are listed by user or by room, and only rooms of an event catalogue are listed.
    - No pattern matches the names in Unicode form NFC alone: those of some scripts are generated.
    """
    document: dict[str, Any] = yaml.safe_load((ROOT / "openapi.yaml").read_text(encoding="utf-8"))
    _replace_names(document)
    schemas, parameters = document["components"]["schemas"], document["components"]["parameters"]
    for name in (*PUSHES, "Disconnect", "DisconnectRoom", "RoomChange"):
        _limit(schemas[name]["properties"].get("namespace"))
    for name in ("Namespace", "NamespaceOrAll"):
        _limit(parameters[name]["schema"])
    for name in PUSHES:
        schemas[name]["properties"]["binary"] = {"type": "array", "maxItems": 0}
    schemas["Revoke"]["properties"]["issuer"] = {"enum": [ISSUER["issuer"]]}
    parameters["User"]["required"] = True
    absent = {"#/components/parameters/Cursor", "#/components/parameters/RoomOfConnections"}
    for calls in document["paths"].values():
        for call in calls.values():
            _drop_examples_of_buffers(call)
            given = call.get("parameters", [])
            call["parameters"] = [each for each in given if each.get("$ref") not in absent]
    return document


def description_of_buffers() -> dict[str, Any]:
    """Return ``description`` with the calls that push, each with a buffer."""
    document = description()
    schemas = document["components"]["schemas"]
    for name in PUSHES:
        schema = schemas[name]
        properties = schema["properties"]
        del properties["args"], properties["timestamp"], schema["not"], schema["if"], schema["then"]
        properties["data"] = {"type": "string", "enum": ["", "aGk=", "//79/A=="]}
        properties["binary"] = {"type": "array", "const": ["/data"]}
        schema["required"] = [*schema["required"], "data", "binary"]
    document["paths"] = {
        path: calls
        for path, calls in document["paths"].items()
        if path.startswith("/emit") or path in {"/batch", "/broadcast"}
    }
    for calls in document["paths"].values():
        calls["post"]["requestBody"]["content"]["application/json"].pop("examples", None)
    return document


def _limit(namespace: dict[str, Any] | None) -> None:
    if namespace is not None:
        namespace.pop("pattern")
        namespace["enum"] = ["/"]


def _replace_names(part: Any) -> None:
    if isinstance(part, dict):
        if part.get("pattern") == NAME_PATTERN:
            part["pattern"] = r"^(?!\.{1,2}$)[ -~\u00a0-\u02ff\u4e00-\u9fff\U0001f600-\U0001f64f]+$"
        for each in part.values():
            _replace_names(each)
    elif isinstance(part, list):
        for each in part:
            _replace_names(each)


def _drop_examples_of_buffers(call: dict[str, Any]) -> None:
    for content in call.get("requestBody", {}).get("content", {}).values():
        examples = content.get("examples", {})
        for name in [name for name, example in examples.items() if '"binary"' in json.dumps(example)]:
            del examples[name]


@pytest.fixture(scope="module")
def gateway_process() -> Iterator[GatewayProcess]:
    """A gateway with an issuer beside its own keys; it must end well and must have logged no error."""
    process = GatewayProcess(namespaces="/,/events,/notifications", issuers=json.dumps([ISSUER]))
    yield process
    assert process.stop() == 0
    assert process.failures() == []


class RequestSigner(AuthBase):
    """Sign each request just before it is sent."""

    def __init__(self, key_id: str, secret: str) -> None:
        self._key_id = key_id
        self._secret = secret

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        body = request.body or b""
        assert isinstance(body, bytes | str), (
            "a stream can be read once, so it cannot be signed before it is sent"
        )
        request.headers.update(
            signing.sign(
                self._secret,
                key_id=self._key_id,
                method=request.method or "",
                target=request.path_url,
                timestamp=int(time.time()),
                nonce=secrets.token_hex(16),
                body=body.encode() if isinstance(body, str) else body,
                idempotency_key=_text(request.headers.get("Idempotency-Key")),
            )
        )
        return request


def _text(value: str | bytes | None) -> str | None:
    return value.decode("latin-1") if isinstance(value, bytes) else value


# The four signature headers are not generated: they depend on the request.
GENERATION = GenerationConfig(with_security_parameters=False)
CONFIG = SchemathesisConfig(projects=ProjectsConfig(default=ProjectConfig(generation=GENERATION)))
SCHEMA = schemathesis.openapi.from_dict(description(), config=CONFIG)
SCHEMA_OF_BUFFERS = schemathesis.openapi.from_dict(description_of_buffers(), config=CONFIG)
EACH = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@SCHEMA.parametrize()
@EACH
def test_answer_to_each_generated_request_matches_openapi_yaml(
    case: schemathesis.Case, gateway_process: GatewayProcess
) -> None:
    signer = RequestSigner(gateway_process.key_id, gateway_process.secret)

    case.call_and_validate(base_url=gateway_process.url, auth=signer)


@SCHEMA_OF_BUFFERS.parametrize()
@EACH
def test_answer_to_each_generated_push_of_a_buffer_matches_openapi_yaml(
    case: schemathesis.Case, gateway_process: GatewayProcess
) -> None:
    signer = RequestSigner(gateway_process.key_id, gateway_process.secret)

    case.call_and_validate(base_url=gateway_process.url, auth=signer)


@pytest.fixture(scope="module", autouse=True)
def push_succeeds_afterwards(gateway_process: GatewayProcess) -> Any:
    """Push once after all requests. ``gateway_process`` checks that no error was logged."""
    yield
    assert gateway_process.backend.broadcast("after", {}).status == 200
