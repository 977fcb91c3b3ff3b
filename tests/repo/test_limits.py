"""Each limit has a name, a default, a metric, a stated behaviour and a test (invariant 3 in ``architecture.md``)."""

# ruff: noqa: E501  # a table is read line by line

from __future__ import annotations

import re

import pytest

from gateway.metrics import PREFIX
from gateway.settings.model import KNOWN
from tests.support.paths import ROOT
from tests.unit.metrics.page import described

PAGE = (ROOT / "docs/reference/limits.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith(("| limit", "|---"))
]
NO_LIMITS = {
    "jwt_leeway_seconds",
    "recovery_seconds",
    "ws_compression_threshold_bytes",
    "http_compression_threshold_bytes",
}
"""Settings that have a unit, but bound nothing that grows."""

ENFORCED = {
    "ping_interval_seconds": "e2e/test_disconnects.py::test_client_that_does_not_answer_pings_is_disconnected",
    "ping_timeout_seconds": "e2e/test_disconnects.py::test_client_that_does_not_answer_pings_is_disconnected",
    "connect_timeout_seconds": "e2e/test_disconnects.py::test_client_that_joins_no_namespace_is_closed_after_the_connect_timeout",
    "request_timeout_seconds": "unit/transport/test_races.py::test_body_that_does_not_arrive_in_time_is_rejected_and_ends_the_session",
    "keepalive_seconds": "unit/transport/test_fast_path.py::test_idle_connection_is_closed_but_not_before_its_answer",
    "max_header_bytes": "e2e/test_long_heads.py::test_long_head_is_answered_431_for_the_page_and_the_log_names_the_header",
    "max_token_bytes": "e2e/test_long_heads.py::test_token_up_to_the_limit_connects_and_a_longer_one_gets_its_code_in_each_place",
    "max_body_bytes": "unit/ingest_api/test_body.py::test_chunked_body_is_counted_while_it_arrives",
    "max_frame_bytes": "conformance/test_engine_messages.py::test_frame_over_the_limit_closes_the_websocket",
    "max_unauthenticated_frame_bytes": "e2e/test_unauthenticated_clients.py::test_unauthenticated_client_that_sends_more_than_a_token_is_disconnected",
    "send_buffer_bytes": "e2e/test_limits.py::test_client_that_does_not_read_is_disconnected_and_others_keep_receiving",
    "max_connections": "e2e/test_limits.py::test_full_replica_answers_503_with_retry_after_and_cors_headers",
    "max_tcp_connections": "e2e/test_connection_limit.py::test_oldest_unused_connection_makes_room",
    "max_unauthenticated": "e2e/test_unauthenticated_clients.py::test_handshake_over_the_limit_of_unauthenticated_clients_gets_503_with_retry_after",
    "max_connections_per_user": "e2e/test_rejected_connections.py::test_user_at_the_connection_limit_connects_again_only_after_a_disconnect",
    "max_rooms_per_connection": "e2e/test_rejected_connections.py::test_client_with_a_bad_token_gets_its_code_and_does_not_reconnect",
    "connect_rate": "e2e/test_limits.py::test_clients_over_the_connect_rate_are_rejected_and_all_connect_later",
    "connect_rate_per_address": "e2e/test_unauthenticated_clients.py::test_each_address_behind_the_proxy_has_its_own_rate",
    "lease_seconds": "integration/redis_state/test_membership.py::test_connections_of_a_killed_replica_do_not_count_after_its_lease_and_are_reaped_once",
    "subscription_timeout_seconds": "unit/redis_state/test_status_tracker.py::test_status_without_probes_is_stalled_after_the_timeout",
    "message_rate": "e2e/test_disconnects.py::test_client_over_the_message_rate_gets_the_reason_and_does_not_reconnect",
    "history_length": "unit/memory_state/test_history.py::test_history_holds_exactly_its_length",
    "history_bytes": "unit/memory_state/test_history.py::test_history_holds_no_more_than_its_bytes_including_names",
    "shutdown_delay_seconds": "e2e/test_drain.py::test_replica_serves_as_before_until_the_shutdown_delay_is_over",
    "drain_seconds": "e2e/test_drain.py::test_clients_are_disconnected_one_by_one_at_an_even_pace",
    "revocation_seconds": "contract/test_revocations.py::test_revocation_is_kept_for_its_time_and_no_longer",
}
"""The test that reaches each limit."""

LIMITS = [
    name for name, what in KNOWN.items() if name not in NO_LIMITS and (what.unit or name.startswith("max_"))
]


def test_each_setting_that_is_a_limit_has_a_test_that_reaches_it() -> None:
    assert sorted(ENFORCED) == sorted(LIMITS)


@pytest.mark.parametrize("test", sorted(set(ENFORCED.values())))
def test_test_that_reaches_a_limit_exists(test: str) -> None:
    file, _, name = test.partition("::")

    assert f"def {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", LIMITS)
def test_each_limit_is_on_the_page_of_limits(name: str) -> None:
    assert [row for row in ROWS if f"`{name.upper()}`" in "".join(row[:3])], name


def test_each_row_states_what_happens_at_the_limit() -> None:
    assert ROWS
    assert [row for row in ROWS if len(row) < 3 or len(row[2]) < 3] == []


def test_each_metric_that_the_page_names_exists() -> None:
    named = set(
        re.findall(
            r"`([a-z_]+(?:_total|_sessions|_unauthenticated|_items|_limit|_status)|send_buffer_[a-z_]+|history_(?:entries|bytes|oldest)[a-z_]*)\b",
            PAGE,
        )
    )
    assert named
    assert {name for name in named if PREFIX + name not in described()} == set()


def test_defaults_on_the_page_are_those_of_the_settings() -> None:
    for row in ROWS:
        names = re.findall(r"`([A-Z_]+)`", row[0])
        if len(names) == 1 and row[0].startswith("`") and row[1].replace(" ", "").isdigit():
            assert row[1].replace(" ", "") == KNOWN[names[0].lower()].default, row
