"""``check-config`` and ``print-env``, and the problems that ``serve`` reports about wrong settings."""

from __future__ import annotations

import json
import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.settings.model import KNOWN
from tests.support.paths import ROOT
from tests.support.waiter import TIMEOUT_SECONDS
from tests.unit.cli.command_line import JWT_SECRET, environment, run

INGEST_SECRET = "the secret that backends sign with"
GOOD = {"JWT_SECRET": JWT_SECRET, "INGEST_KEYS": f"billing:{INGEST_SECRET}"}


def test_check_config_prints_ok_for_valid_settings() -> None:
    answer = run("check-config", **GOOD)

    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "ok\n", "")


def test_development_mode_needs_no_settings() -> None:
    assert run("check-config", "--dev").returncode == 0


WRONG = {"JWT_SECRET": "short", "PRT": "1", "PING_INTERVAL_SECONDS": "5x"}
PROBLEMS = [
    "GATEWAY_PRT: unknown setting; did you mean GATEWAY_PORT?",
    "GATEWAY_PING_INTERVAL_SECONDS: '5x' is not a duration such as 25, 0.5, 25s or 2m",
    "GATEWAY_INGEST_KEYS: is missing: without a key no backend can push; set it to id:secret,id:secret",
    "GATEWAY_JWT_SECRET: has fewer than 32 bytes; `openssl rand -hex 32` makes a good one",
]
AS_TEXT = [
    "Error: 4 problems with the settings (docs/reference/configuration.md lists them all):",
    *(f"  {problem}" for problem in PROBLEMS),
]


@pytest.mark.parametrize(
    ("command", "more"),
    [
        ("check-config", {}),
        ("check-config", {"LOG_FORMAT": "json"}),
        ("print-env", {}),
        ("serve", {"LOG_FORMAT": "console"}),
    ],
)
def test_every_problem_is_printed_at_once_with_status_2(command: str, more: dict[str, str]) -> None:
    answer = run(command, **WRONG, **more)

    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr.splitlines() == AS_TEXT


@pytest.mark.parametrize("more", [{}, {"LOG_FORMAT": "json"}])
def test_serve_logs_every_problem_in_one_line(more: dict[str, str]) -> None:
    answer = run("serve", **WRONG, **more)

    assert (answer.returncode, answer.stdout) == (2, "")
    entry = json.loads(answer.stderr)
    assert (entry["level"], entry["event"], entry["problems"]) == ("error", "gateway.cannot_start", PROBLEMS)
    assert entry["reason"] == "4 problems with the settings"


@pytest.mark.parametrize(("more", "is_text"), [({}, True), ({"LOG_FORMAT": "json"}, False)])
def test_serve_prints_problems_as_text_at_a_terminal_unless_json_is_set(
    more: dict[str, str], is_text: bool
) -> None:
    reader, writer = pty.openpty()
    with os.fdopen(writer, "wb") as terminal:
        command = [sys.executable, "-m", "gateway", "serve"]
        settings = environment(**WRONG, **more)
        status = subprocess.run(
            command, cwd=ROOT, env=settings, stderr=terminal, timeout=TIMEOUT_SECONDS, check=False
        ).returncode
        lines = os.read(reader, 65536).decode().splitlines()
    os.close(reader)

    assert status == 2
    assert (lines == AS_TEXT) is is_text
    assert lines[0].startswith("{") is not is_text


def test_serve_without_settings_names_both_missing_keys() -> None:
    answer = run("serve")

    assert answer.returncode == 2
    assert "GATEWAY_JWT_SECRET: is missing" in answer.stderr
    assert "GATEWAY_INGEST_KEYS: is missing" in answer.stderr


def test_print_env_prints_settings_with_their_source_and_without_secrets(tmp_path: Path) -> None:
    config, secret = tmp_path / "gateway.yaml", tmp_path / "jwt"
    config.write_text("ping_interval_seconds: 12.5\ncors_origins: [https://a.example]\n", encoding="utf-8")
    secret.write_text(JWT_SECRET, encoding="utf-8")

    answer = run(
        "print-env",
        JWT_SECRET_FILE=str(secret),
        INGEST_KEYS=f"billing:{INGEST_SECRET}",
        CONFIG=str(config),
        PORT="9000",
    )

    lines = answer.stdout.splitlines()
    assert [line.partition("=")[0] for line in lines] == [f"GATEWAY_{name.upper()}" for name in KNOWN]
    assert "GATEWAY_PORT=9000  # environment" in lines
    assert "GATEWAY_INGEST_PORT=  # default" in lines
    assert f"GATEWAY_PING_INTERVAL_SECONDS=12.5  # yaml {config}" in lines
    assert f"GATEWAY_JWT_SECRET=********  # file {secret}" in lines
    assert "GATEWAY_INGEST_KEYS=billing:********  # environment" in lines
    assert JWT_SECRET not in answer.stdout
    assert INGEST_SECRET not in answer.stdout


def test_output_of_print_env_is_valid_input() -> None:
    printed = run("print-env", ROOM_CLAIMS="team=team:", NAMESPACES="/,/a b", **GOOD).stdout
    again = {}
    for line in printed.splitlines():
        name, _, value = line.partition("  # ")[0].removeprefix("GATEWAY_").partition("=")
        if "****" not in value:
            again[name] = "".join(shlex.split(value))

    assert [line.partition("  # ")[0] for line in run("print-env", **(again | GOOD)).stdout.splitlines()] == [
        line.partition("  # ")[0] for line in printed.splitlines()
    ]


def test_check_config_lists_mistakes_of_the_event_catalogue(tmp_path: Path) -> None:
    file = tmp_path / "events.yaml"
    file.write_text("version: 1\nnamespaces: {/: {client_events: {e: {joni: $0}}}}\n", encoding="utf-8")

    answer = run("check-config", **GOOD, EVENTS_FILE=str(file))

    assert (answer.returncode, answer.stdout) == (2, "")
    mistake = "namespaces./.client_events.e.joni: is an unknown key; did you mean join? (line 2)"
    assert answer.stderr.splitlines()[1:] == [f"  GATEWAY_EVENTS_FILE: {mistake} (in {file})"]


def test_check_config_warns_about_unsafe_settings() -> None:
    answer = run("check-config", **GOOD | {"JWT_JWKS_URL": "http://keys.example.com/jwks.json"})

    assert (answer.returncode, answer.stdout) == (0, "ok\n")
    (warning,) = answer.stderr.splitlines()
    assert warning.startswith("Warning: GATEWAY_JWT_JWKS_URL: is fetched over plain http")


def test_check_config_warns_about_the_event_catalogue(tmp_path: Path) -> None:
    file = tmp_path / "events.yaml"
    file.write_text('version: 1\nnamespaces: {/: {rooms: [{match: "*", join: anyone}]}}\n', encoding="utf-8")

    answer = run("check-config", **GOOD, EVENTS_FILE=str(file))

    assert (answer.returncode, answer.stdout) == (0, "ok\n")
    assert answer.stderr.splitlines() == [
        f"Warning: {file}: namespaces./.rooms.0.join: any client may join every room but those with a reserved prefix"
    ]
