"""HTTP libraries that send a request again without the knowledge of the program, against a live gateway.

Go's net/http does so when a kept connection is lost before the first byte of the answer: with GET, and with a POST that
has an Idempotency-Key. libcurl does so with every request.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.examples.languages import Language, build
from tests.support.gateway_process import GatewayProcess
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiter import wait_until

pytestmark = [pytest.mark.examples, pytest.mark.timeout(300)]
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def gateway() -> Iterator[GatewayProcess]:
    process = GatewayProcess()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The compiled Go program."""
    source = str(HERE / "two_pushes.go")
    language = Language(
        build=("go", "build", "-o", "{out}/two", source), run=("{out}/two",), debian_packages="golang-go"
    )
    return build("go", language, tmp_path_factory.mktemp("go"))[0]


def answered(gateway: GatewayProcess, route: str) -> int:
    """The number of requests that the gateway has answered on a route."""
    return sum(
        line.get("event") == "request.answered" and line.get("route") == route for line in gateway.log.entries
    )


@pytest.mark.parametrize(
    ("call", "idempotency_key", "expected"),
    [
        ("POST /emit/user/ann", "order-1", "200 true"),
        ("POST /emit/user/bob", "", "no response"),
        ("GET /presence/ann", "read-1", "200 "),
        ("GET /presence/ann", "", "401 "),
    ],
    ids=["POST with a key", "POST without a key", "GET with a key", "GET without a key"],
)
def test_go_repeats_a_request_whose_answer_was_lost(
    gateway: GatewayProcess,
    program: str,
    call: str,
    idempotency_key: str,
    expected: str,
) -> None:
    method, target = call.split(" ")
    route = target.replace(target.rpartition("/")[2], "{id}")
    body = json.dumps({"event": "e", "data": 1}) if method == "POST" else ""
    keys = ("", "") if not idempotency_key else (f"{idempotency_key}-first", idempotency_key)
    signed = [
        json.dumps(
            gateway.backend.sign(method, target, body.encode(), idempotency_key=key)
            | {"Content-Type": "application/json"}
        )
        for key in keys
    ]
    before = answered(gateway, route)
    with (
        TcpProxy(int(gateway.ingest_url.rpartition(":")[2])) as proxy,
        subprocess.Popen(
            [program, method, proxy.http_url + target, body, *signed],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as go,
    ):
        assert go.stdout is not None
        assert go.stdin is not None
        assert go.stdout.readline().startswith("200")
        proxy.pause_answers()
        go.stdin.write("next\n")
        go.stdin.flush()
        wait_until(lambda: answered(gateway, route) == before + 2, "the second request is answered")

        proxy.cut_connections()
        proxy.resume_answers()

        assert go.stdout.readline().rstrip("\n") == expected
