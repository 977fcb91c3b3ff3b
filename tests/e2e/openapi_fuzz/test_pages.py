"""Generated requests for lists of which there are several pages, with cursors that earlier answers had."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis

from tests.e2e.openapi_fuzz.requests import TIMEOUT_SECONDS, description, run_each, schema_of, send
from tests.support.clients import NodeClients
from tests.support.gateway_process import GatewayProcess
from tests.support.waiter import wait_until

LISTS = [
    "/users",
    "/rooms",
    "/connections",
    "/webhooks/{id}/dead",
    "/history/room/{id}",
    "/history/broadcast",
]
MORE = {"/history/room/{id}": "after", "/history/broadcast": "after"}
"""The parameter that takes ``next``, unless it is ``cursor``."""
MANY = 7


def _lists() -> dict[str, Any]:
    """Return a description whose requests find several pages."""
    document = description()
    parameters = document["components"]["parameters"]
    parameters["Limit"]["schema"] = {"type": "integer", "minimum": 1, "maximum": 3}
    parameters["Prefix"]["schema"] = {"enum": ["", "o", "user:"]}
    for name, value in (("WebhookId", "app"), ("RoomName", "org:7"), ("RoomOfConnections", "org:7")):
        parameters[name]["schema"] = {"enum": [value]}
    parameters["RoomOfConnections"]["required"] = True
    parameters["After"]["schema"] = {"enum": ["1-0"]}
    one_of = {"#/components/parameters/User": "#/components/parameters/RoomOfConnections"}
    for each in document["paths"]["/connections"]["get"]["parameters"]:
        each["$ref"] = one_of.get(each["$ref"], each["$ref"])
    return document


pytestmark = pytest.mark.timeout(TIMEOUT_SECONDS)


@pytest.fixture(scope="module")
def many(gateway_process: GatewayProcess, node: NodeClients) -> Iterator[None]:
    """Connections, rooms, messages and dead letters."""
    clients = [
        node.open(
            gateway_process.url, token=gateway_process.token(f"o{number}", orgId="7", tenantId=f"t{number}")
        )
        for number in range(MANY)
    ]
    for number, client in enumerate(clients):
        client.connected()
        client.emit("order", number)
        assert gateway_process.backend.push_room("org:7", "e", number).status == 200
        assert gateway_process.backend.broadcast("e", number).status == 200
    wait_until(lambda: _dead_letters(gateway_process) == MANY, "the webhook has rejected all of them")
    yield
    for client in clients:
        client.disconnect()


def _dead_letters(gateway: GatewayProcess) -> int:
    return len(json.loads(gateway.backend.send("GET", "/webhooks/app/dead").text)["dead"])


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("path", LISTS)
def test_answer_with_each_cursor_matches_openapi_yaml(gateway_process: GatewayProcess, path: str) -> None:
    parameter, walks = MORE.get(path, "cursor"), []

    def walk(case: schemathesis.Case) -> None:
        answer, pages = send(case, gateway_process).json(), 1
        while answer["next"] is not None and pages < 4:
            case.query[parameter] = answer["next"]
            answer, pages = send(case, gateway_process).json(), pages + 1
        walks.append(pages)

    run_each(schema_of(_lists()), f"GET {path}", walk)

    assert max(walks) >= 3
