"""The token programs of examples/backends: a stock client connects with what each prints.

Those in bash, Python and Node run every time; the others have the mark `examples` (see test_senders.py).
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import jwt
import pytest

from tests.integration.examples.languages import BACKENDS, Language, build, node
from tests.support.clients import NodeClients
from tests.support.gateway_process import GatewayProcess

USER = 'ann "ü" \\ 42'
PROGRAM_SECONDS = 120

pytestmark = pytest.mark.timeout(600)  # a test may compile its program first

LANGUAGES = {
    "bash": Language(run=("bash", "bash/token.sh"), debian_packages="bash openssl", also_needs=("openssl",)),
    "python": Language(run=(sys.executable, "python/token_for.py"), debian_packages="python3"),
    "node": Language(run=(node(), "node/token.mjs"), debian_packages="nodejs"),
    "php": Language(run=("php", "php/token.php"), debian_packages="php-cli"),
    "ruby": Language(run=("ruby", "ruby/token.rb"), debian_packages="ruby"),
    "go": Language(
        build=("go", "build", "-o", "{out}/token", "go/token.go"),
        run=("{out}/token",),
        debian_packages="golang-go",
    ),
    "java": Language(run=("java", "java/Token.java"), debian_packages="default-jdk-headless"),
    "csharp": Language(
        build=("mcs", "-out:{out}/Token.exe", "csharp/Token.cs"),
        run=("mono", "{out}/Token.exe"),
        debian_packages="mono-mcs",
    ),
}
IN_EVERY_RUN = ("bash", "python", "node")


@pytest.fixture(
    params=[
        pytest.param(name, marks=[] if name in IN_EVERY_RUN else [pytest.mark.examples]) for name in LANGUAGES
    ]
)
def program(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, ...]:
    """The program of each language, compiled if the language needs it."""
    return build(request.param, LANGUAGES[request.param], tmp_path)


def test_printed_token_is_valid_for_an_hour_and_connects_its_user(
    program: tuple[str, ...], gateway_process: GatewayProcess, node: NodeClients, tmp_path: Path
) -> None:
    printed = subprocess.run(
        [*program, USER],
        cwd=BACKENDS,
        env={
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(tmp_path),
            "LC_ALL": "C.UTF-8",
            "GATEWAY_JWT_SECRET": gateway_process.jwt_secret,
        },
        capture_output=True,
        text=True,
        timeout=PROGRAM_SECONDS,
        check=True,
    ).stdout
    token = printed.strip()
    claims = jwt.decode(token, gateway_process.jwt_secret, algorithms=["HS256"])
    client = node.open(gateway_process.url, token=token).connected()

    assert claims["sub"] == client.event("authenticated")[0]["userId"] == USER
    assert claims["exp"] - claims["iat"] == 3600
    assert abs(claims["iat"] - time.time()) < PROGRAM_SECONDS


@pytest.mark.parametrize("environment", [{}, {"GATEWAY_JWT_SECRET": ""}], ids=["missing", "empty"])
def test_no_token_is_printed_without_the_secret(
    program: tuple[str, ...], tmp_path: Path, environment: dict[str, str]
) -> None:
    done = subprocess.run(
        [*program, USER],
        cwd=BACKENDS,
        env={
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(tmp_path),
            "LC_ALL": "C.UTF-8",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=PROGRAM_SECONDS,
        check=False,
    )

    assert done.returncode != 0
    assert "GATEWAY_JWT_SECRET is not set" in done.stdout + done.stderr
    assert "eyJ" not in done.stdout
