"""``tools/release.py`` finds each file with another version than the tag, and the notes of a release."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tools import release

CHANGELOG = """\
# Changelog

## [Unreleased]

## [0.2.0] - 2026-12-01

### Added

- Something.

## [0.1.0] - 2026-11-01

- The first.
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree from which 0.2.0 can be released."""
    files = {
        "pyproject.toml": '[project]\nname = "sio-gateway"\nversion = "0.2.0"\n',
        "gateway/__init__.py": '"""A package."""\n\n__version__ = "0.2.0"\n',
        release.CHART: "apiVersion: v2\nname: sio-gateway\nversion: 0.2.0\nappVersion: 0.2.0\n",
        "CHANGELOG.md": CHANGELOG,
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def test_tree_in_which_each_version_is_that_of_the_tag_has_no_problem(tree: Path) -> None:
    assert release.problems(tree, "v0.2.0") == []


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("pyproject.toml", "pyproject.toml"),
        ("gateway/__init__.py", "gateway/__init__.py"),
        (release.CHART, f"{release.CHART} version"),
    ],
)
def test_file_with_another_version_is_named(tree: Path, name: str, place: str) -> None:
    path = tree / name
    path.write_text(path.read_text(encoding="utf-8").replace("0.2.0", "0.1.9", 1), encoding="utf-8")

    assert release.problems(tree, "v0.2.0") == [f"{place} has version 0.1.9, the tag 0.2.0"]


def test_npm_types_have_the_same_version_once_they_exist(tree: Path) -> None:
    path = tree / release.TYPES
    path.parent.mkdir()
    path.write_text(json.dumps({"name": "types", "version": "0.1.0"}), encoding="utf-8")

    assert release.problems(tree, "v0.2.0") == [f"{release.TYPES} has version 0.1.0, the tag 0.2.0"]


@pytest.mark.parametrize("tag", ["0.2.0", "v0.2", "v0.2.0-rc.1", "v0.2.0\n", "latest"])
def test_tag_that_is_not_of_the_form_of_a_version_is_a_problem(tree: Path, tag: str) -> None:
    assert release.problems(tree, tag) == [f"{tag!r} is not of the form v1.2.3"]


def test_notes_are_the_section_of_the_version_and_nothing_else(tree: Path) -> None:
    assert release.notes(tree, "0.2.0") == "### Added\n\n- Something."
    assert release.notes(tree, "0.1.0") == "- The first."


def test_version_without_notes_is_a_problem(tree: Path) -> None:
    path = tree / "CHANGELOG.md"
    path.write_text(CHANGELOG.replace("### Added\n\n- Something.", ""), encoding="utf-8")

    assert release.problems(tree, "v0.2.0") == ["the section 0.2.0 of CHANGELOG.md is empty"]
    assert release.problems(tree, "v0.2.1")[-1] == "CHANGELOG.md has no section '## [0.2.1] - YYYY-MM-DD'"


def test_repository_has_one_version_in_all_its_files() -> None:
    assert len(set(release.versions(ROOT).values())) == 1
