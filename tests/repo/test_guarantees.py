"""The page of guarantees names tests and settings that exist, and each attack program."""

from __future__ import annotations

import re

import pytest

from tests.support.paths import ROOT

PAGE = (ROOT / "docs/explanation/guarantees.md").read_text(encoding="utf-8")
CONFIGURATION = (ROOT / "docs/reference/configuration.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for section in PAGE.split("\n### ")
    if "| attack or fault |" in section
    for line in section.splitlines()
    if line.startswith("| ") and not line.startswith("| attack or fault")
]
TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
SETTING = re.compile(r"`([A-Z]+(?:_[A-Z]+)+)`")
PROGRAMS = sorted(
    path.stem
    for path in (ROOT / "tests/load/attacks").glob("*.py")
    if "\nasync def attack(" in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:60])
def test_row_of_the_threat_model_has_a_bound_and_a_test(row: list[str]) -> None:
    assert len(row) == 3
    assert row[1]
    assert TEST.search(row[2])


@pytest.mark.parametrize(("path", "name"), sorted(set(TEST.findall(PAGE))))
def test_named_test_exists(path: str, name: str) -> None:
    file = ROOT / path
    assert file.is_file()
    if name:
        assert f"def {name}(" in file.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(set(SETTING.findall(PAGE))))
def test_named_setting_exists(name: str) -> None:
    assert f"`{name}`" in CONFIGURATION or f"GATEWAY_{name}" in CONFIGURATION


def test_each_attack_program_has_a_row() -> None:
    assert [name for name in PROGRAMS if f"`tests/load/attacks/test_{name}.py" not in PAGE] == []
