"""How much longer than sessions the history is kept."""

from __future__ import annotations

import pytest

from gateway.runtime.from_settings import history_slack_seconds
from gateway.settings import load_settings


@pytest.mark.parametrize(("lease", "interval", "timeout"), [(15, 25, 20), (120, 25, 20), (5, 1, 1)])
def test_history_outlasts_a_failed_heartbeat_and_the_lease_that_ends_after_it(
    lease: int, interval: int, timeout: int
) -> None:
    settings = load_settings(
        {
            "GATEWAY_LEASE_SECONDS": str(lease),
            "GATEWAY_PING_INTERVAL_SECONDS": str(interval),
            "GATEWAY_PING_TIMEOUT_SECONDS": str(timeout),
        },
        require_keys=False,
    )

    assert history_slack_seconds(settings) > lease + interval + timeout
