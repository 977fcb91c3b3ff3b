"""Generated requests: batches with buffers."""

from __future__ import annotations

import pytest

from tests.e2e.openapi_fuzz.requests import (
    TIMEOUT_SECONDS,
    calls,
    is_batch,
    run_each,
    schema_of_buffers,
    send,
)
from tests.support.gateway_process import GatewayProcess

pytestmark = pytest.mark.timeout(TIMEOUT_SECONDS)


@pytest.mark.parametrize("call", calls(is_batch))
def test_answer_to_each_push_of_a_buffer_matches_openapi_yaml(
    gateway_process: GatewayProcess, call: str
) -> None:
    run_each(schema_of_buffers(), call, lambda case: send(case, gateway_process))
