"""Generated patches of the data of an open connection."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import schemathesis

from tests.e2e.openapi_fuzz.requests import TIMEOUT_SECONDS, description, run_each, schema_of, send
from tests.support.clients import NodeClients
from tests.support.gateway_process import GatewayProcess

_DESCRIPTION = description()
# All of the data has 4 KiB at most.
_DESCRIPTION["components"]["schemas"]["SocketData"]["properties"]["data"] |= {
    "maxProperties": 8,
    "additionalProperties": {"type": ["string", "number", "boolean", "null"], "maxLength": 20},
    "propertyNames": {"maxLength": 20},
}
pytestmark = pytest.mark.timeout(TIMEOUT_SECONDS)


@pytest.fixture(scope="module")
def sid(gateway_process: GatewayProcess, node: NodeClients) -> Iterator[str]:
    client = node.open(gateway_process.url, token=gateway_process.token("alice")).connected()
    yield client.sid
    client.disconnect()


@pytest.mark.parametrize("call", ["GET /connections/{id}", "PATCH /connections/{id}"])
def test_answer_about_an_open_connection_matches_openapi_yaml(
    gateway_process: GatewayProcess, sid: str, call: str
) -> None:
    path = f"/connections/{sid}"

    def ask(case: schemathesis.Case) -> None:
        kept = gateway_process.backend.send("GET", path).body["data"]
        nothing = json.dumps({"data": dict.fromkeys(kept)}).encode()
        assert gateway_process.backend.send("PATCH", path, nothing).body == {"data": {}}
        case.path_parameters["id"] = sid
        case.headers.pop("Idempotency-Key", None)  # a key that an earlier request had is a conflict
        assert send(case, gateway_process).status_code == 200

    run_each(schema_of(_DESCRIPTION), call, ask)
