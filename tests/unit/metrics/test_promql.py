"""The parser of queries finds metrics, labels and mistakes."""

from __future__ import annotations

import pytest

from tests.unit.metrics.page import faults
from tests.unit.metrics.promql import read


def test_metrics_and_their_labels_are_found() -> None:
    query = read('sum by (job, le) (rate(a_total{x="1", y=~"2|3"}[5m])) / on (job) group_left (pod) b > 0.5')

    assert query.selected == [("a_total", {"x": "1", "y": "2|3"}), ("b", {})]
    assert query.grouped == {"job", "le", "pod"}


def test_functions_keywords_and_strings_are_no_metrics() -> None:
    query = read(
        'histogram_quantile(0.99, sum without (z) (c)) and vector(1) unless absent(d{e="f(g)"} offset 5m)'
    )

    assert [name for name, _ in query.selected] == ["c", "d"]
    assert query.dropped == {"z"}


def test_variables_are_allowed_in_strings_and_durations() -> None:
    assert read('rate(a{b=~"$c"}[$__rate_interval])').selected == [("a", {"b": "$c"})]


@pytest.mark.parametrize("text", ["sum(a", "a)", "a{b=1", "a{b>1}", "a ? b"])
def test_text_that_is_no_query_is_rejected(text: str) -> None:
    with pytest.raises(ValueError):
        read(text)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("sio_gateway_open_conections", ["no metric sio_gateway_open_conections"]),
        (
            "sio_gateway_connections{room='x'}".replace("'", '"'),
            ["no label room of sio_gateway_connections"],
        ),
        ("sum by (usr) (sio_gateway_connections)", ["no label usr to group by"]),
        ("sio_gateway_request_duration_seconds", ["no metric sio_gateway_request_duration_seconds"]),
        ("sum by (le, route) (sio_gateway_request_duration_seconds_bucket)", []),
    ],
)
def test_misspelled_names_are_found(text: str, wrong: list[str]) -> None:
    assert faults(read(text)) == wrong
