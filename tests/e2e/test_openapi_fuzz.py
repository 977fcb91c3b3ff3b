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
from tests.support.gateway_process import GatewayProcess
from tests.support.paths import ROOT

EXAMPLES = 100
ISSUER = {
    "issuer": "https://login.example.com/", "secret": "the secret of this issuer, long enough", "users": "login:"
}  # fmt: skip


def description() -> dict[str, Any]:
    """Return openapi.yaml with namespaces and issuers limited to those of this gateway, and names in paths to a part.

    Only the operator of a gateway knows its namespaces and issuers.
    """
    document: dict[str, Any] = yaml.safe_load((ROOT / "openapi.yaml").read_text(encoding="utf-8"))
    for name in (
        "Emit", "EmitToRoom", "EmitToUsers", "BatchMessage", "Disconnect", "DisconnectRoom", "RoomChange"
    ):  # fmt: skip
        namespace = document["components"]["schemas"][name]["properties"]["namespace"]
        del namespace["pattern"]
        namespace["enum"] = ["/"]
    document["components"]["schemas"]["Revoke"]["properties"]["issuer"] = {"enum": [ISSUER["issuer"]]}
    parameters = document["components"]["parameters"]
    del parameters["Namespace"]["schema"]["pattern"]
    parameters["Namespace"]["schema"]["enum"] = ["/"]
    for name in ("UserId", "RoomName"):
        # No pattern matches the names in Unicode form NFC alone: those without a combining character are.
        parameters[name]["schema"]["pattern"] = r"^(?!\.{1,2}$)[ -~\u00a0-\u02ff]+$"
    return document


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


@SCHEMA.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
def test_answer_to_each_generated_request_matches_openapi_yaml(
    case: schemathesis.Case, gateway_process: GatewayProcess
) -> None:
    signer = RequestSigner(gateway_process.key_id, gateway_process.secret)

    case.call_and_validate(base_url=gateway_process.url, auth=signer)


@pytest.fixture(scope="module", autouse=True)
def push_succeeds_afterwards(gateway_process: GatewayProcess) -> Any:
    """Push once after all requests. ``gateway_process`` checks that no error was logged."""
    yield
    assert gateway_process.backend.broadcast("after", {}).status == 200
