"""The commands of the README run as they are pasted, in a folder that is set up as by ``make run``."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateway_process import GatewayProcess
from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.waiter import TIMEOUT_SECONDS


def commands_of(heading: str) -> str:
    """Return the first block of commands below a heading of the README."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2]
    match = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert match is not None
    return match[1]


def paste(commands: str, folder: Path, port: int) -> str:
    """Run commands in a shell and return what they print."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    result = subprocess.run(
        ["sh", "-e", "-c", commands],
        cwd=folder,
        env=inherited | {"GATEWAY_PORT": str(port), "GATEWAY_MAX_CONNECTIONS": "1000"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the program where ``make install`` puts it."""
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    program = programs / "sio-gateway"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m gateway "$@"\n')
    program.chmod(0o755)
    return tmp_path


@pytest.fixture
def development_gateway(folder: Path) -> Iterator[GatewayProcess]:
    """Start the gateway as ``make run`` does."""
    (target,) = re.findall(
        r"@exec \$\(VENV\)/bin/sio-gateway serve (.*) \$\(ARGS\)", (ROOT / "Makefile").read_text()
    )
    gateway = GatewayProcess(
        program=(str(folder / ".venv/bin/sio-gateway"),),
        folder=folder,
        arguments=target.split(),
        jwt_secret="",
        ingest_keys="",
    )
    yield gateway
    gateway.stop()


def test_push_reaches_the_gateway_that_make_run_started(
    development_gateway: GatewayProcess, folder: Path
) -> None:
    printed = paste(commands_of("Push"), folder, development_gateway.ports[0])

    assert json.loads(printed)["room"] == "user:alice"


def test_commands_that_the_gateway_printed_still_work_after_a_restart(
    development_gateway: GatewayProcess, folder: Path
) -> None:
    printed = development_gateway.printed.wait(lambda entry: " emit user alice " in entry.get("text", ""))
    push = printed["text"].strip()
    assert development_gateway.stop() == 0
    development_gateway.start()

    assert json.loads(paste(push, folder, development_gateway.ports[0]))["room"] == "user:alice"


def test_production_settings_of_keygen_pass_the_checks_and_serve(folder: Path) -> None:
    *checks, serve = commands_of("Run it in production").strip().splitlines()
    port = free_port()

    assert "ok\n" in paste("\n".join(checks), folder, port)

    assert serve == ".venv/bin/sio-gateway serve"
    gateway = GatewayProcess(
        under=("sh", "-c", 'set -a; . ./gateway.env; set +a; exec "$@"', "sh"),
        program=(str(folder / ".venv/bin/sio-gateway"),),
        folder=folder,
    )
    assert gateway.stop() == 0
