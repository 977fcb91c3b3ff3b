"""``docs/how-to/operate.md`` names log lines that exist."""

from __future__ import annotations

import re

import pytest

from tests.support.paths import ROOT
from tests.unit.logs.source_events import lines_in_sources

LINES = lines_in_sources()
PAGE = (ROOT / "docs" / "how-to" / "operate.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### (.+?)\n(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL))
NAME = re.compile(r"`([a-z]+\.[a-z_]+)`")


def test_page_describes_more_than_ten_failures() -> None:
    assert len(SECTIONS) > 10


@pytest.mark.parametrize("failure", SECTIONS)
def test_failure_has_a_symptom_a_line_a_metric_and_a_remedy(failure: str) -> None:
    rows = re.findall(r"^\| (\w+) \| (.+) \|$", SECTIONS[failure], re.MULTILINE)

    assert [name for name, _ in rows] == ["symptom", "log", "metric", "remedy"]
    assert re.search(r"`(sio_gateway_|process_|up\b)", dict(rows)["metric"])


@pytest.mark.parametrize("failure", SECTIONS)
def test_log_lines_of_a_failure_exist(failure: str) -> None:
    (log,) = re.findall(r"^\| log \| (.+) \|$", SECTIONS[failure], re.MULTILINE)

    assert set(NAME.findall(log)) - set(LINES) == set()
