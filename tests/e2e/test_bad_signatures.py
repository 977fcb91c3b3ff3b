"""What a gateway says about a bad signature: to developers, to its log at debug, and in production."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.backend import Backend
from tests.support.gateway_process import KEY_ID, KEY_SECRET, GatewayProcess


def push_with_a_wrong_secret(gateway: GatewayProcess) -> dict[str, Any]:
    answer = Backend(gateway.ingest_url, KEY_ID, KEY_SECRET + "\n").broadcast("e", 1)
    assert answer.status == 401
    problem: dict[str, Any] = answer.body
    return problem


@pytest.mark.parametrize(("dev", "level"), [(False, "info"), (False, "debug"), (True, "info")])
def test_mistake_is_in_the_response_for_developers_and_in_the_log_at_debug(dev: bool, level: str) -> None:
    gateway = GatewayProcess(dev=dev, log_level=level)
    try:
        problem = push_with_a_wrong_secret(gateway)
    finally:
        gateway.stop()

    explained = [line for line in gateway.log.entries if line.get("event") == "request.bad_signature"]
    assert problem["help"] == "docs/how-to/fix-bad-signature.md"
    assert ("mistake" in problem, "verified_text" in problem) == (dev, dev)
    assert len(explained) == (level == "debug")
    for shown in [problem] * dev + explained:
        assert shown["mistake"] == "the secret was used with a line feed at its end, and not as it is written"
        assert shown["verified_text"].startswith(f"v1\n{KEY_ID}\nPOST\n/broadcast\n")
    assert KEY_SECRET not in str(gateway.log.entries) + str(problem)
