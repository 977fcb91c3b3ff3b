"""Let schemathesis generate requests from openapi.yaml, valid and invalid ones, and validate the answers.

Each request is signed for its bytes just before it is sent: the REST API answers an unsigned one with 401 before it
reads the body. Every file of this folder has some of the calls, so that several workers share them.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import requests
import schemathesis
import yaml
from hypothesis import HealthCheck, settings
from requests.auth import AuthBase
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.generation.hypothesis.builder import HypothesisTestConfig, HypothesisTestMode, create_test
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import unsupported_method

from ingest_api import signing
from ingest_api.schemas import NAME_PATTERN
from tests.support.gateway_process import GatewayProcess
from tests.support.paths import ROOT

VALID, INVALID = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
EACH: Final = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
"""300 requests to each call beside those for the bounds of each value: 150 valid and 150 invalid ones."""
TIMEOUT_SECONDS: Final = 3000
"""A call that takes a large body takes a minute, and several on a busy machine."""
ISSUER: Final = {
    "issuer": "https://login.example.com/", "secret": "the secret of this issuer, long enough", "users": "login:"
}  # fmt: skip
WEBHOOK: Final = "app"
PUSHES: Final = ("Emit", "EmitToRoom", "EmitToUsers", "Broadcast", "BatchMessage")
NAMES: Final = r"^(?!\.{1,2}$)[ -~\u00a0-\u02ff\u4e00-\u9fff\U0001f600-\U0001f64f]+$"
"""Characters that are in Unicode form NFC in each order."""

Chooses = Callable[[str, str], bool]


def is_emit(_: str, path: str) -> bool:
    return path.startswith("/emit/") or path == "/broadcast"


def is_batch(_: str, path: str) -> bool:
    return path == "/batch"


def is_read(method: str, _: str) -> bool:
    return method == "get"


def is_change(method: str, path: str) -> bool:
    return not (is_emit(method, path) or is_batch(method, path) or is_read(method, path))


def calls(chooses: Chooses) -> list[str]:
    """Return the calls of openapi.yaml that are chosen by method and path, such as ``GET /stats``."""
    paths = yaml.safe_load((ROOT / "openapi.yaml").read_text(encoding="utf-8"))["paths"]
    return [
        f"{method.upper()} {path}" for path, each in paths.items() for method in each if chooses(method, path)
    ]


@cache
def schema(mode: GenerationMode) -> BaseSchema:
    """Return all calls, with valid requests or with invalid ones."""
    document = description()
    if mode is VALID:
        _narrow(document)
    return schema_of(document, mode)


@cache
def schema_of_buffers() -> BaseSchema:
    """Return all calls; those that push have a buffer."""
    document = description()
    _narrow(document)
    schemas = document["components"]["schemas"]
    for name in PUSHES:
        schema = schemas[name]
        properties = schema["properties"]
        del properties["args"], properties["timestamp"], schema["not"], schema["if"], schema["then"]
        properties["data"] = {"type": "string", "enum": ["", "aGk=", "//79/A=="]}
        properties["binary"] = {"type": "array", "const": ["/data"]}
        schema["required"] = [*schema["required"], "data", "binary"]
    for each in document["paths"].values():
        for call in each.values():
            for content in call.get("requestBody", {}).get("content", {}).values():
                content.pop("examples", None)
    return schema_of(document, VALID)


def schema_of(document: dict[str, Any], mode: GenerationMode = VALID) -> BaseSchema:
    """Return the calls of a description."""
    # The four signature headers are not generated: they depend on the request.
    generation = GenerationConfig(modes=[mode], with_security_parameters=False)
    config = SchemathesisConfig(projects=ProjectsConfig(default=ProjectConfig(generation=generation)))
    return schemathesis.openapi.from_dict(document, config=config)


def run_each(schema: BaseSchema, call: str, run: Callable[[schemathesis.Case], None]) -> None:
    """Run ``run`` for each generated request to a call.

    ``schema.parametrize`` would do so too, but gives the tests of all calls one node id, of which xdist runs one.
    """
    (operation,) = (
        found
        for result in schema.get_all_operations()
        if isinstance(result, Ok) and (found := result.ok()).label == call
    )

    def each(case: schemathesis.Case) -> None:
        run(case)

    config = HypothesisTestConfig(
        project=schema.config, modes=list(HypothesisTestMode), explicit_settings=EACH
    )
    create_test(operation=operation, test_func=each, config=config)()


def description() -> dict[str, Any]:
    """Return openapi.yaml with what holds for the gateway of these tests.

    - It has one namespace, one issuer and one webhook.
    - Connections are listed by user here; ``test_pages`` lists those in rooms, and has the cursors.
    - The answer to ``GET /openapi.yaml`` is not parsed: a test of its own compares it, and it is large.
    """
    document: dict[str, Any] = yaml.safe_load((ROOT / "openapi.yaml").read_text(encoding="utf-8"))
    schemas, parameters = document["components"]["schemas"], document["components"]["parameters"]
    for name in (*PUSHES, "Disconnect", "DisconnectRoom", "RoomChange"):
        _limit(schemas[name]["properties"].get("namespace"))
    for name in ("Namespace", "NamespaceOrAll"):
        _limit(parameters[name]["schema"])
    schemas["Revoke"]["properties"]["issuer"] = {"enum": [ISSUER["issuer"]]}
    parameters["User"]["required"] = True
    absent = {"#/components/parameters/Cursor", "#/components/parameters/RoomOfConnections"}
    for each in document["paths"].values():
        for call in each.values():
            given = call.get("parameters", [])
            call["parameters"] = [one for one in given if one.get("$ref") not in absent]
    document["paths"]["/openapi.yaml"]["get"]["responses"]["200"].pop("content")
    return document


def _narrow(document: dict[str, Any]) -> None:
    """Leave out what is valid only together with other values of the request or with the state.

    - A pointer in ``binary`` is valid if a base64 string is there. ``schema_of_buffers`` has those.
    - ``ttl`` is for users, and goes with neither ``volatile`` nor ``ack``. ``tests/e2e/test_bad_input.py`` has it.
    - No pattern matches the names in Unicode form NFC alone.
    - Another webhook is unknown.
    """
    _replace_names(document)
    for name in PUSHES:
        properties = document["components"]["schemas"][name]["properties"]
        properties["binary"] = {"type": "array", "maxItems": 0}
        properties.pop("ttl", None)
    document["components"]["parameters"]["WebhookId"]["schema"]["enum"] = [WEBHOOK]
    for each in document["paths"].values():
        for call in each.values():
            _drop_examples_of_buffers(call)


def _limit(namespace: dict[str, Any] | None) -> None:
    if namespace is not None:
        namespace.pop("pattern")
        namespace["enum"] = ["/"]


def _replace_names(part: Any) -> None:
    if isinstance(part, dict):
        if part.get("pattern") == NAME_PATTERN:
            part["pattern"] = NAMES
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


def send(case: schemathesis.Case, gateway: GatewayProcess) -> Any:
    """Send a request, validate the answer with openapi.yaml, and return it."""
    signer = RequestSigner(gateway.key_id, gateway.secret)
    # The path is checked before the method, so a wrong method of an invalid id is a 400 and no 405.
    excluded = [unsupported_method] if "{id}" in case.operation.path else []
    return case.call_and_validate(base_url=gateway.url, auth=signer, excluded_checks=excluded)
