"""CONTRIBUTING.md, RELEASING.md and SECURITY.md name only files, folders and make targets that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.support.paths import ROOT

PAGES = ("CONTRIBUTING.md", "RELEASING.md", "SECURITY.md")
TOP = r"(?:gateway|ingest_api|tests|docs|helm|tools|examples|requirements|\.ci|\.github)/"
NAMED = re.compile(rf"`({TOP}[\w./-]+)`|\]\(({TOP}[\w./-]+)|(?<![\w/.`(-])({TOP}[\w./-]+)")


def named(page: str) -> Iterator[str]:
    """Each path of the repository that a page names in code, links and commands."""
    for match in NAMED.finditer((ROOT / page).read_text(encoding="utf-8")):
        yield next(filter(None, match.groups())).rstrip(".")


@pytest.mark.parametrize("page", PAGES)
def test_each_path_that_a_page_names_exists(page: str) -> None:
    paths = set(named(page))

    assert paths
    assert sorted(path for path in paths if not (ROOT / path).exists()) == []


def test_table_of_tests_has_each_folder_and_no_other() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `tests/(\w+)` \|", page, re.MULTILINE)
    folders = {path.name for path in (ROOT / "tests").iterdir() if any(path.rglob("*.py"))}

    assert sorted(rows) == sorted(folders)


def test_each_make_target_that_a_page_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    pages = "".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES)
    used = set(re.findall(r"(?:`|^)make ([a-z-]+)", pages, re.MULTILINE))

    assert used
    assert used - targets == set()
