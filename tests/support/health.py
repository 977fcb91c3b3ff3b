"""What a gateway tells its probes."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from tests.support.gateway_process import GatewayProcess
from tests.support.waiter import TIMEOUT_SECONDS


def readiness(gateway: GatewayProcess) -> tuple[int, dict[str, Any]]:
    """Status and body of /health/ready."""
    return _ask(gateway, "/health/ready")


def liveness(gateway: GatewayProcess) -> tuple[int, dict[str, Any]]:
    """Status and body of /health/live."""
    return _ask(gateway, "/health/live")


def readiness_status(gateway: GatewayProcess) -> tuple[int, str]:
    """Status of /health/ready and its word; ``degraded`` stands for a replica that is ready and cannot push."""
    status, body = readiness(gateway)
    return status, "degraded" if "degraded" in body else body["status"]


def _ask(gateway: GatewayProcess, path: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"{gateway.ingest_url}{path}", timeout=TIMEOUT_SECONDS) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.load(refused)
