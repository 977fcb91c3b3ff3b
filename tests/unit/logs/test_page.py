"""``docs/reference/logs.md`` and the sources name the same lines."""

from __future__ import annotations

import re

import pytest

from gateway.domain.sampling import Sampling
from tests.support.paths import ROOT
from tests.unit.logs.source_events import LEVELS, lines_in_sources

PAGE = (ROOT / "docs/reference/logs.md").read_text(encoding="utf-8")
TABLE = PAGE.partition("## Every line")[2]
ROWS = {
    match[1]: (match[2].split(", "), re.findall(r"`([a-z_]+)`", match[3]), match[4])
    for match in re.finditer(
        r"^\| `([a-z_.]+)` \| ([a-z, ]+) \|((?: `[a-z_]+`)*) \| (.+) \|$", TABLE, re.MULTILINE
    )
}
LINES = lines_in_sources()
SAMPLED = set(Sampling(0.5).fields)


def test_the_page_lists_every_line_that_can_be_written_and_no_other() -> None:
    assert sorted(ROWS) == sorted(LINES)


def test_no_row_is_passed_over() -> None:
    assert len(ROWS) == len([line for line in TABLE.splitlines() if line.startswith("| `")])


@pytest.mark.parametrize("name", sorted(LINES))
def test_a_line_has_the_level_and_the_fields_that_the_page_says(name: str) -> None:
    levels, fields, when = ROWS[name]
    line = LINES[name]

    assert set(levels) <= LEVELS
    if line.levels:
        assert set(levels) == line.levels
    else:
        assert len(levels) > 1, "its level is chosen as it is written"
    assert len(fields) == len(set(fields))
    assert line.fields <= set(fields), "the page leaves out fields"
    more = set(fields) - line.fields
    assert more <= line.also | (SAMPLED if line.also else set()), "the page has fields that nobody writes"
    assert when.endswith(".")


def test_the_reader_of_the_sources_sees_what_there_is() -> None:
    assert LINES["connection.closed"].levels == {"info"}
    assert {"sid", "user", "reason"} <= LINES["connection.closed"].fields
    assert LINES["connection.failed"].fields >= {"exception"}
    assert len(LINES) > 50
