"""The registry keeps the naming rule, and counts what it is told."""

from __future__ import annotations

import re

from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics import PREFIX, Metrics

# What an operator reads after the name: a unit, or what is counted.
NAME = re.compile(PREFIX + r"[a-z0-9]+(_[a-z0-9]+)*")


def test_every_metric_is_named_by_the_rule_and_described():
    families = list(text_string_to_metric_families(Metrics().exposition().decode()))

    assert families
    assert [family.name for family in families if not NAME.fullmatch(family.name)] == []
    assert [family.name for family in families if not family.documentation] == []


def test_durations_are_in_seconds():
    names = {family.name for family in text_string_to_metric_families(Metrics().exposition().decode())}

    assert [name for name in names if "duration" in name and not name.endswith("_seconds")] == []


def test_a_request_is_counted_by_route_status_and_code():
    metrics = Metrics()

    for _ in range(2):
        metrics.request_answered(route="/broadcast", status=200, code="ok", seconds=0.002)

    counted = {"route": "/broadcast", "status": "200", "code": "ok"}
    assert metrics.registry.get_sample_value(f"{PREFIX}requests_total", counted) == 2
    assert (
        metrics.registry.get_sample_value(f"{PREFIX}request_duration_seconds_count", {"route": "/broadcast"})
        == 2
    )


def test_the_state_is_asked_how_much_it_holds_at_every_look():
    metrics, held = Metrics(), {"nonces": 1}
    metrics.watch_state(lambda: held)

    held["nonces"] = 7

    assert metrics.registry.get_sample_value(f"{PREFIX}state_items", {"part": "nonces"}) == 7


def test_what_the_transport_refuses_and_ends_is_counted_by_reason_and_its_sessions_are_there_to_see():
    metrics, sessions = Metrics(), [3, 1]
    metrics.watch_transport(lambda: sessions[0], lambda: sessions[1])
    metrics.request_refused("full")
    metrics.session_closed("ping_timeout")

    sessions[:] = [5, 2]

    read = metrics.registry.get_sample_value
    assert read(f"{PREFIX}transport_sessions") == 5
    assert read(f"{PREFIX}transport_sessions_unauthenticated") == 2
    assert read(f"{PREFIX}transport_requests_refused_total", {"reason": "full"}) == 1
    assert read(f"{PREFIX}transport_sessions_closed_total", {"reason": "ping_timeout"}) == 1
