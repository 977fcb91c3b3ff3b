"""The workflows use actions by commit, few permissions, and each Python version that the package supports."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.paths import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", re.ASCII)
PUBLISHED = {"publish-image", "publish-chart", "publish-python", "publish-types", "release"}
"""The jobs of the release workflow that may write."""


def jobs(path: Path) -> dict[str, dict[str, Any]]:
    """The jobs of a workflow, by name."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
    return found


RELEASE = jobs(ROOT / ".github/workflows/release.yml")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_action_is_pinned_to_a_commit_and_names_its_version(path: Path) -> None:
    used = re.findall(r"^\s*(?:- )?uses: (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)

    assert used
    assert [each for each in used if not each.startswith("./") and not PINNED.fullmatch(each)] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflow_gives_at_most_read_permission_to_a_job_that_names_none(path: Path) -> None:
    given = yaml.safe_load(path.read_text(encoding="utf-8"))["permissions"]

    assert set(given.values()) <= {"read"}


@pytest.mark.parametrize("name", sorted(RELEASE))
def test_release_job_runs_code_of_the_repository_or_may_write_but_not_both(name: str) -> None:
    job = RELEASE[name]
    uses = [step.get("uses", "") for step in job.get("steps", [])]
    has_code = "uses" in job or any(each.startswith("actions/checkout@") for each in uses)
    may_write = "write" in job["permissions"].values()

    assert has_code is not may_write
    assert may_write is (name in PUBLISHED)


def test_each_python_version_of_the_package_is_tested_and_no_other() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    supported = [
        name.rpartition(" ")[2]
        for name in project["classifiers"]
        if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", name)
    ]

    assert jobs(ROOT / ".github/workflows/ci.yml")["tests"]["strategy"]["matrix"]["python"] == supported
