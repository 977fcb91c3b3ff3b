"""Relative links of the documentation: each leads to a file of the repository, and each anchor to a heading of it."""

from __future__ import annotations

import re
import subprocess
import urllib.parse
from functools import cache
from pathlib import Path

import pytest

from tests.support.paths import ROOT

LINK = re.compile(r"(?<!\!)\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)", re.DOTALL)
FENCE = re.compile(r"^( *)(```|~~~).*?^\1\2\s*$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
HEADING = re.compile(r"^#{1,6} +(.+?)(?: +#+)? *$", re.MULTILINE)
MARKS = re.compile(r"`|\*\*|\[([^\]]*)\]\([^)]*\)")


def pages() -> list[Path]:
    """Each Markdown page that git tracks or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return sorted(path for path in (ROOT / name for name in listed) if path.is_file())


PAGES = pages()


@cache
def text_of(page: Path) -> str:
    """The page without its code blocks, in which brackets are no links and `#` begins no heading."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    plain = MARKS.sub(lambda found: found[1] or "", heading)
    return re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")


@cache
def anchors(page: Path) -> frozenset[str]:
    """All anchors of a page. GitHub numbers a repeated heading."""
    found: set[str] = set()
    for heading in HEADING.findall(text_of(page)):
        name, number = slug(heading), 0
        while (anchor := f"{name}-{number}" if number else name) in found:
            number += 1
        found.add(anchor)
    return frozenset(found)


def links(page: Path) -> list[str]:
    """The targets of all links within the repository."""
    targets = LINK.findall(CODE.sub("code", text_of(page)))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def fault(page: Path, target: str) -> str | None:
    """Why a link leads nowhere; None for a good one."""
    path, _, anchor = target.partition("#")
    file = (page.parent / urllib.parse.unquote(path)).resolve() if path else page
    if not file.is_relative_to(ROOT):
        return f"{target}: outside of the repository"
    if not file.exists():
        return f"{target}: no such file"
    if anchor and (file.suffix != ".md" or anchor not in anchors(file)):
        return f"{target}: no such heading"
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_relative_link_of_a_page_leads_to_a_file_and_a_heading(page: Path) -> None:
    assert [found for target in links(page) if (found := fault(page, target))] == []


def test_index_of_the_documentation_links_each_page() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / target.partition("#")[0]).resolve() for target in links(index)}
    docs = {page for page in PAGES if page.is_relative_to(index.parent) and page != index}

    assert docs - linked == set()


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("Rolling updates", "rolling-updates"),
        ("`sio-gateway doctor`", "sio-gateway-doctor"),
        ("Authentication errors (401)", "authentication-errors-401"),
        ("Dart, Swift, Java, Kotlin", "dart-swift-java-kotlin"),
    ],
)
def test_anchor_is_the_one_that_github_generates(heading: str, anchor: str) -> None:
    assert slug(heading) == anchor
