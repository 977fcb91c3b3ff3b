"""Generated requests: emits."""

from __future__ import annotations

import pytest
from schemathesis.generation import GenerationMode

from tests.e2e.openapi_fuzz.requests import (
    INVALID,
    TIMEOUT_SECONDS,
    VALID,
    calls,
    is_emit,
    run_each,
    schema,
    send,
)
from tests.support.gateway_process import GatewayProcess

pytestmark = pytest.mark.timeout(TIMEOUT_SECONDS)


@pytest.mark.parametrize("mode", [VALID, INVALID], ids=["valid", "invalid"])
@pytest.mark.parametrize("call", calls(is_emit))
def test_answer_to_each_request_matches_openapi_yaml(
    gateway_process: GatewayProcess, call: str, mode: GenerationMode
) -> None:
    run_each(schema(mode), call, lambda case: send(case, gateway_process))
