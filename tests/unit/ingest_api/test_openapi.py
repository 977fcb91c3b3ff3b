"""The description says what the door does, and the committed file what the door says."""

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
from tests.unit.ingest_api.harness import Door

DOCUMENT: dict[str, Any] = yaml.safe_load(openapi.text())


async def test_it_is_served_as_yaml_to_everybody(door: Door) -> None:
    reply = await door.ask("GET", "/openapi.yaml")

    assert (reply.status, reply.headers["content-type"]) == (200, "application/yaml")
    assert reply.body.decode() == openapi.text()


def test_the_committed_file_is_the_same() -> None:
    committed = (ROOT / "openapi.yaml").read_text(encoding="utf-8")

    assert committed == openapi.text(), "python -m ingest_api.openapi > openapi.yaml"


def test_a_command_prints_it() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "ingest_api.openapi"], check=True, capture_output=True, cwd=ROOT
    )

    assert printed.stdout.decode() == openapi.text()


def test_nothing_in_it_points_elsewhere_in_the_yaml() -> None:
    assert re.search(r"^[^'\"#]*: [&*]\w", openapi.text(), re.MULTILINE) is None


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("post", "/emit/user/{id}"),
        ("post", "/emit/room"),
        ("post", "/broadcast"),
        ("get", "/presence/{id}"),
        ("post", "/disconnect/user/{id}"),
    ],
)
def test_every_call_is_signed_with_all_four_headers(method: str, path: str) -> None:
    [needed] = DOCUMENT["paths"][path][method]["security"]

    assert {DOCUMENT["components"]["securitySchemes"][name]["name"] for name in needed} == {
        "X-Gateway-Key",
        "X-Gateway-Timestamp",
        "X-Gateway-Nonce",
        "X-Gateway-Signature",
    }


def test_every_code_is_described_with_its_status_a_remedy_and_an_example() -> None:
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
def test_every_code_has_a_row_in_the_page_for_backend_developers(code: str) -> None:
    page = (ROOT / "docs" / "reference" / "rest.md").read_text(encoding="utf-8")

    assert f"| {STATUSES[code].value} | `{code}` | {REMEDIES[code]} |" in page
