"""What a fresh clone depends on: documents that must exist, and pins that do not depend on a package index."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from tests.support.paths import ROOT

NPM_LOCKS = (
    "client/package-lock.json",
    "tests/support/js/package-lock.json",
    "tests/integration/frontend/package-lock.json",
    "benchmarks/package-lock.json",
)
REQUIREMENTS = sorted((ROOT / "requirements").iterdir())
LOCKED = [path for path in REQUIREMENTS if path.suffix == ".txt"]
EXACT_VERSION = re.compile(r"(npm:(@[a-z0-9._-]+/)?[a-z0-9._-]+@)?\d+\.\d+\.\d+")
"""A version, or an alias: another package of the registry in one version, under a name of its own."""
NAMES_AN_INDEX = re.compile(
    r"^\s*(-i|-f|--(extra-)?index-url|--find-links|--trusted-host)\b|https?://", re.MULTILINE
)


@pytest.mark.parametrize(
    "name", ["README.md", "CHANGELOG.md", "LICENSE", "docs/explanation/architecture.md", "openapi.yaml"]
)
def test_document_that_readers_look_for_exists(name: str) -> None:
    assert (ROOT / name).is_file()


@pytest.mark.parametrize("name", NPM_LOCKS)
def test_npm_lock_pins_content_and_names_no_registry(name: str) -> None:
    packages = json.loads((ROOT / name).read_text(encoding="utf-8"))["packages"]
    dependencies = {path: entry for path, entry in packages.items() if path}

    assert [path for path, entry in dependencies.items() if "resolved" in entry] == []
    assert [path for path, entry in dependencies.items() if "integrity" not in entry] == []


@pytest.mark.parametrize("name", NPM_LOCKS)
def test_npm_packages_are_required_in_an_exact_version(name: str) -> None:
    package = json.loads((ROOT / name).with_name("package.json").read_text(encoding="utf-8"))
    wanted = package.get("dependencies", {}) | package.get("devDependencies", {})

    assert [name for name, version in wanted.items() if not EXACT_VERSION.fullmatch(version)] == []


@pytest.mark.parametrize("name", NPM_LOCKS)
def test_npm_lock_has_the_packages_that_are_required(name: str) -> None:
    package = json.loads((ROOT / name).with_name("package.json").read_text(encoding="utf-8"))
    wanted = package.get("dependencies", {}) | package.get("devDependencies", {})
    packages = json.loads((ROOT / name).read_text(encoding="utf-8"))["packages"]
    locked = {name: packages[f"node_modules/{name}"] for name in wanted}

    assert {
        name: f"npm:{entry['name']}@{entry['version']}" if "name" in entry else entry["version"]
        for name, entry in locked.items()
    } == wanted


def test_tested_client_is_the_one_that_is_served() -> None:
    served, tested = (
        json.loads((ROOT / name).read_text(encoding="utf-8"))["packages"]["node_modules/socket.io-client"]
        for name in ("tests/support/js/package-lock.json", "client/package-lock.json")
    )

    assert tested["integrity"] == served["integrity"]


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.name)
def test_requirements_do_not_name_an_index(path: Path) -> None:
    assert NAMES_AN_INDEX.search(path.read_text(encoding="utf-8")) is None


@pytest.mark.parametrize("path", LOCKED, ids=lambda path: path.name)
def test_each_requirement_is_pinned_with_its_hashes(path: Path) -> None:
    entries = re.split(r"^(?=[A-Za-z0-9])", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]

    assert [entry.split()[0] for entry in entries if "==" not in entry or "--hash=sha256:" not in entry] == []


def pins(name: str) -> dict[str, str]:
    """The version of each package that a file pins."""
    text = (ROOT / "requirements" / name).read_text("utf-8")
    return dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", text, re.MULTILINE))


def names(dependencies: list[str]) -> set[str]:
    return {re.split(r"[\[<>=~! ;]", dependency)[0].lower() for dependency in dependencies}


def test_each_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert names(project["dependencies"]) - pins("runtime.txt").keys() == set()
    assert names(project["optional-dependencies"]["otel"]) - pins("otel.txt").keys() == set()


def test_packages_for_traces_change_no_version_of_another_package() -> None:
    assert pins("runtime.txt").items() <= pins("otel.txt").items()
