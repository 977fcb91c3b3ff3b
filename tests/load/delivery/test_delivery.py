"""The short form: some faults, one of each kind of promise. ``python -m tests.load.delivery`` causes all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.load.delivery.faults import KINDS
from tests.load.delivery.stage import FaultKind, cause
from tests.load.delivery.table import HEADER, row
from tests.load.soak.comparison import Comparison

pytestmark = pytest.mark.timeout(300)

BY_NAME = {kind.name: kind for kind in KINDS}
SHORT_FORM = (
    "replicas killed (`kill -9`), one of them past its lease",
    "Redis emptied (`FLUSHALL`)",
    "Redis cannot save (`MISCONF`)",
    "subscriptions killed six times",
)


@pytest.mark.parametrize("name", SHORT_FORM)
def test_answers_to_backends_are_what_clients_received(name: str, tmp_path: Path) -> None:
    kind: FaultKind = BY_NAME[name]

    done = cause(kind)

    found = done.comparison
    if found.wrong:
        done.keep(tmp_path)
    assert found.wrong[:12] == [], f"{len(found.wrong)} errors; {found}; details in {tmp_path}"
    assert (found.unreported, found.doubled, found.out_of_order, found.misdelivered) == (0, 0, 0, 0)
    assert found.due > 300
    assert found.delivered == found.due or kind.lossy


def test_names_of_faults_differ() -> None:
    assert len(BY_NAME) == len(KINDS)


def test_row_has_a_cell_for_each_column() -> None:
    counts = Comparison(accepted=1234, due=5, delivered=4, unreported=1)
    counts.failed.update({"data_lost": 2})

    cells = row(BY_NAME["Redis emptied (`FLUSHALL`)"], counts)

    assert dict(zip(HEADER, cells, strict=True)) == {
        "fault": "Redis emptied (`FLUSHALL`)",
        "promised": "once and in order, or `recovery:failed`",
        "accepted": "1 234",
        "due": "5",
        "delivered": "4",
        "lost unreported": "1",
        "doubled": "0",
        "out of order": "0",
        "rejected but delivered": "0",
        "reported": "data_lost 2",
    }
