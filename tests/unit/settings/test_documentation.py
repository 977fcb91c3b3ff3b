"""``docs/reference/configuration.md`` agrees with the code."""

from __future__ import annotations

import re

from gateway.settings.model import KNOWN
from gateway.settings.sources import CALLER_NAMES, FORMER_NAMES
from tests.support.paths import ROOT

PAGE = (ROOT / "docs/reference/configuration.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.replace("| |", "|  |").replace("| |", "|  |").splitlines()
    if re.match(r"\| `[A-Z_]+` \|", line)
]
SETTINGS = {row[0].strip("` |"): row for row in ROWS if not row[0].startswith("`GATEWAY_")}


def test_every_setting_is_documented_in_the_order_of_the_code() -> None:
    assert list(SETTINGS) == [name.upper() for name in KNOWN]


def test_every_default_and_unit_is_that_of_the_code() -> None:
    documented = {name: (row[2].strip(" |"), row[3].strip("` |")) for name, row in SETTINGS.items()}

    assert documented == {name.upper(): (spec.unit, spec.default) for name, spec in KNOWN.items()}


def test_every_setting_has_a_description() -> None:
    assert [name for name, row in SETTINGS.items() if len(row[1]) < 20 or not row[1].endswith(".")] == []


def test_variables_of_callers_are_documented() -> None:
    names = [f"GATEWAY_{name.upper()}" for name in CALLER_NAMES]

    assert [name for name in names if f"`{name}`" not in PAGE] == []


def test_every_former_name_is_documented_with_the_new_name() -> None:
    pairs = re.findall(r"\| `GATEWAY_(\w+)` \| `GATEWAY_(\w+)` \|", PAGE)

    assert {former.lower(): name.lower() for former, name in pairs} == dict(FORMER_NAMES)
