"""The recipe "Watch one document" of docs/how-to/connect.md, run as it is printed, with the stock client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateway_process import GatewayProcess
from tests.support.journal import Journal
from tests.support.node_script import NodeScript
from tests.support.paths import ROOT
from tests.support.tokens import token

PAGE = (ROOT / "docs" / "how-to" / "connect.md").read_text(encoding="utf-8")
RECIPE = PAGE.partition("### Watch one document")[2].partition("```js\n")[2].partition("```")[0]
MODULES = ROOT / "tests" / "support" / "js" / "package.json"
PROGRAM = """
import { createRequire } from "node:module";
const { io } = createRequire(%(modules)s)("socket.io-client");
const write = (entry) => console.log(JSON.stringify(entry));
const tokens = %(tokens)s;
const fetchToken = async (claims = {}) => tokens[(claims.rooms ?? []).join()];
const show = (data) => write({ type: "shown", data });
process.stdin.on("data", () => {}).on("end", () => process.exit(0));
const socket = io(%(url)s, { auth: (send) => fetchToken().then((token) => send({ token })) });
await new Promise((resolve) => socket.on("authenticated", resolve));
write({ type: "ready" });
%(recipe)s
write({ type: "watching" });
"""


@pytest.fixture
def page(tmp_path: Path, gateway_process: GatewayProcess) -> Iterator[NodeScript]:
    """A page with the recipe, whose backend issues a token with the room and one without."""
    secret = gateway_process.jwt_secret
    program = tmp_path / "page.mjs"
    values = {
        "modules": str(MODULES),
        "tokens": {"": token("alice", secret), "doc:42": token("alice", secret, rooms=["doc:42"])},
        "url": gateway_process.url,
    }
    program.write_text(
        PROGRAM % ({name: json.dumps(each) for name, each in values.items()} | {"recipe": RECIPE})
    )
    script = NodeScript(program, Journal("page"))
    script.ready()
    yield script
    script.stop()


def test_page_that_watches_a_document_sees_its_changes(
    page: NodeScript, gateway_process: GatewayProcess
) -> None:
    assert "await watch(42);" in RECIPE
    page.expect("watching")

    answer = gateway_process.backend.push_room("doc:42", "doc:changed", {"version": 2})

    assert answer.body["connections"] == 1
    assert page.expect("shown")["data"] == {"version": 2}
