"""Read the health endpoints of a gateway."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from tests.support.gateway_process import GatewayProcess
from tests.support.waiter import TIMEOUT_SECONDS


def readiness(gateway: GatewayProcess) -> tuple[int, dict[str, Any]]:
    """Return status and body of /health/ready."""
    return _get(gateway, "/health/ready")


def liveness(gateway: GatewayProcess) -> tuple[int, dict[str, Any]]:
    """Return status and body of /health/live."""
    return _get(gateway, "/health/live")


def readiness_status(gateway: GatewayProcess) -> tuple[int, str]:
    """Return the HTTP status of /health/ready, and ``degraded`` if the body has it, else its ``status``."""
    status, body = readiness(gateway)
    return status, "degraded" if "degraded" in body else body["status"]


def _get(gateway: GatewayProcess, path: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"{gateway.ingest_url}{path}", timeout=TIMEOUT_SECONDS) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
