"""schemathesis reads openapi.yaml, makes up requests that follow it and requests that do not, and looks at the answers.

Every request is signed for its bytes just before it is sent: an unsigned one would never get past the door.
"""

from __future__ import annotations

import secrets
import time
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


def description() -> dict[str, Any]:
    """openapi.yaml, where a namespace is one that this gateway serves: only its operator knows which those are."""
    document: dict[str, Any] = yaml.safe_load((ROOT / "openapi.yaml").read_text(encoding="utf-8"))
    for name in ("Emit", "EmitToRoom", "Disconnect"):
        namespace = document["components"]["schemas"][name]["properties"]["namespace"]
        del namespace["pattern"]
        namespace["enum"] = ["/"]
    return document


class Signed(AuthBase):
    """Signs a request as it is about to be sent."""

    def __init__(self, key_id: str, secret: str) -> None:
        self._key_id = key_id
        self._secret = secret

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        body = request.body or b""
        assert isinstance(body, bytes | str), "a stream could be sent once, but not be signed before"
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


# The four headers of the signature are not made up: they are those of the request.
GENERATION = GenerationConfig(with_security_parameters=False)
CONFIG = SchemathesisConfig(projects=ProjectsConfig(default=ProjectConfig(generation=GENERATION)))
SCHEMA = schemathesis.openapi.from_dict(description(), config=CONFIG)


@SCHEMA.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
def test_no_request_finds_an_answer_that_is_not_described(
    case: schemathesis.Case, gateway_process: GatewayProcess
) -> None:
    signed = Signed(gateway_process.key_id, gateway_process.secret)

    case.call_and_validate(base_url=gateway_process.url, auth=signed)


@pytest.fixture(scope="module", autouse=True)
def answers_normally_afterwards(gateway_process: GatewayProcess) -> Any:
    """However odd the requests were. That nothing was logged as an error, ``gateway_process`` looks at itself."""
    yield
    assert gateway_process.backend.broadcast("after", {}).status == 200
