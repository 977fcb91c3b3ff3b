"""The OpenAPI document: generated, committed, served and complete."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
import yaml

from ingest_api import openapi
from ingest_api.errors import STATUSES
from ingest_api.openapi_text import REMEDIES
from tests.support.paths import ROOT
from tests.unit.ingest_api.harness import RestApiServer

DOCUMENT: dict[str, Any] = yaml.safe_load(openapi.text())


async def test_document_is_served_as_yaml_without_a_signature(server: RestApiServer) -> None:
    response = await server.send_request("GET", "/openapi.yaml")

    assert (response.status, response.headers["content-type"]) == (200, "application/yaml")
    assert response.body.decode() == openapi.text()


def test_committed_file_equals_the_generated_document() -> None:
    committed = (ROOT / "openapi.yaml").read_text(encoding="utf-8")

    assert committed == openapi.text(), "python -m ingest_api.openapi > openapi.yaml"


def test_module_prints_the_document() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "ingest_api.openapi"], check=True, capture_output=True, cwd=ROOT
    )

    assert printed.stdout.decode() == openapi.text()


def test_yaml_has_no_anchors_and_aliases() -> None:
    assert re.search(r"^[^'\"#]*: [&*]\w", openapi.text(), re.MULTILINE) is None


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("post", "/emit/user/{id}"),
        ("post", "/emit/room"),
        ("post", "/broadcast"),
        ("get", "/presence/{id}"),
        ("post", "/disconnect/user/{id}"),
        ("get", "/webhooks"),
        ("get", "/webhooks/{id}/dead"),
        ("post", "/webhooks/{id}/replay"),
        ("post", "/webhooks/{id}/drop"),
    ],
)
def test_every_call_requires_all_four_signing_headers(method: str, path: str) -> None:
    [required] = DOCUMENT["paths"][path][method]["security"]

    assert {DOCUMENT["components"]["securitySchemes"][name]["name"] for name in required} == {
        "X-Gateway-Key",
        "X-Gateway-Timestamp",
        "X-Gateway-Nonce",
        "X-Gateway-Signature",
    }


def test_every_code_has_a_status_a_remedy_and_an_example() -> None:
    assert set(REMEDIES) == set(STATUSES)
    for code, status in STATUSES.items():
        response = DOCUMENT["components"]["responses"][f"Problem{status.value}"]
        example = response["content"]["application/problem+json"]["examples"][code]["value"]
        assert f"- `{code}`: {REMEDIES[code]}" in response["description"]
        assert (example["code"], example["status"]) == (code, status)


def test_every_response_has_an_example() -> None:
    for path in DOCUMENT["paths"].values():
        for operation in path.values():
            for response in operation["responses"].values():
                if "$ref" not in response:
                    assert all(content["examples"] for content in response["content"].values())


@pytest.mark.parametrize("code", sorted(STATUSES))
def test_every_code_has_a_row_in_the_rest_reference(code: str) -> None:
    page = (ROOT / "docs" / "reference" / "rest.md").read_text(encoding="utf-8")

    assert f"| {STATUSES[code].value} | `{code}` | {REMEDIES[code]} |" in page
