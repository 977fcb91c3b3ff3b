"""Generated requests: reads."""

from __future__ import annotations

import pytest
from schemathesis.generation import GenerationMode

from tests.e2e.openapi_fuzz.requests import (
    INVALID,
    TIMEOUT_SECONDS,
    VALID,
    calls,
    is_read,
    run_each,
    schema,
    send,
)
from tests.support.gateway_process import GatewayProcess

pytestmark = pytest.mark.timeout(TIMEOUT_SECONDS)


INVALID_CALLS = [call for call in calls(is_read) if call != "GET /openapi.yaml"]
"""Each request for the description is valid."""


@pytest.mark.parametrize(
    ("call", "mode"),
    [*((call, VALID) for call in calls(is_read)), *((call, INVALID) for call in INVALID_CALLS)],
)
def test_answer_to_each_request_matches_openapi_yaml(
    gateway_process: GatewayProcess, call: str, mode: GenerationMode
) -> None:
    run_each(schema(mode), call, lambda case: send(case, gateway_process))
