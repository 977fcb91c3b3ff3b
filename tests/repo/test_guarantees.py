"""The page of guarantees names tests and settings that exist, and each attack program."""

from __future__ import annotations

import re

import pytest

from tests.load.delivery.faults import KINDS
from tests.load.delivery.table import HEADER
from tests.load.notify import faults as notify_faults
from tests.load.notify import table as notify_table
from tests.support.paths import ROOT

PAGE = (ROOT / "docs/explanation/guarantees.md").read_text(encoding="utf-8")
CONFIGURATION = (ROOT / "docs/reference/configuration.md").read_text(encoding="utf-8")
THREATS = PAGE.partition("\n## Threat model\n")[2].partition("\n## ")[0]
DELIVERIES = PAGE.partition("\n## Delivery under each fault\n")[2].partition("\n## ")[0]
NOTIFICATIONS = PAGE.partition("\n## Notifications under each fault\n")[2].partition("\n## ")[0]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in THREATS.splitlines()
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


def test_each_kind_of_fault_has_a_row_without_a_loss() -> None:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in DELIVERIES.splitlines()]
    counts = {row[0]: dict(zip(HEADER, row, strict=True)) for row in rows if len(row) == len(HEADER)}
    wrong = ("lost unreported", "doubled", "out of order", "rejected but delivered")

    assert list(counts)[2:] == [kind.name for kind in KINDS]
    assert {counts[kind.name][column] for kind in KINDS for column in wrong} == {"0"}


def test_each_fault_during_notifications_has_a_row_without_a_loss() -> None:
    header = notify_table.HEADER
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in NOTIFICATIONS.splitlines()]
    counts = {row[0]: dict(zip(header, row, strict=True)) for row in rows if len(row) == len(header)}

    assert list(counts)[2:] == [kind.name for kind in notify_faults.KINDS]
    assert {counts[kind.name][column] for kind in notify_faults.KINDS for column in notify_table.WRONG} == {
        "0"
    }
