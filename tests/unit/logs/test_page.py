"""``docs/reference/logs.md`` and the sources name the same lines."""

from __future__ import annotations

import re

import pytest

from gateway.domain.sampling import Sampling
from gateway.socketio_server.access_log import CLIENT_DISCONNECT
from gateway.transport.errors import ALL_CLOSE_REASONS
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


def test_page_lists_exactly_the_lines_in_the_sources() -> None:
    assert sorted(ROWS) == sorted(LINES)


def test_every_row_is_parsed() -> None:
    assert len(ROWS) == len([line for line in TABLE.splitlines() if line.startswith("| `")])


@pytest.mark.parametrize("name", sorted(LINES))
def test_line_has_the_level_and_fields_of_the_page(name: str) -> None:
    levels, fields, when = ROWS[name]
    line = LINES[name]

    assert set(levels) <= LEVELS
    if line.levels:
        assert set(levels) == line.levels
    else:
        assert len(levels) > 1, "the level of the line is chosen when it is written, so the page has several"
    assert len(fields) == len(set(fields))
    assert line.fields <= set(fields), "the page lacks fields"
    more = set(fields) - line.fields
    assert more <= line.also | (SAMPLED if line.also else set()), "the page has fields that are never written"
    assert when.endswith(".")


def test_known_lines_are_found_in_the_sources() -> None:
    assert LINES["connection.closed"].levels == {"info"}
    assert {"sid", "user", "reason"} <= LINES["connection.closed"].fields
    assert LINES["connection.failed"].fields >= {"exception"}
    assert len(LINES) > 50


@pytest.mark.parametrize("page", ["docs/reference/logs.md", "docs/reference/metrics.md"])
def test_table_of_reasons_lists_exactly_the_close_reasons_of_the_code(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    _, heading, table = text.partition("| reason | meaning |\n|---|---|\n")
    rows = table.partition("\n\n")[0].splitlines()
    listed = [reason for row in rows for reason in re.findall(r"`([a-z_]+)`", row.split("|")[1])]

    assert heading
    assert sorted(listed) == sorted({*ALL_CLOSE_REASONS, CLIENT_DISCONNECT})
