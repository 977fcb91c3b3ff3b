"""``--help`` of every command: complete, with an example, and without the imports of a server."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from gateway.cli import commands
from tests.unit.cli.command_line import run


def paths(group: click.Group, *before: str) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name, command in group.commands.items():
        found.append((*before, name))
        if isinstance(command, click.Group):
            found += paths(command, *before, name)
    return found


COMMANDS = paths(commands)


def test_commands_are_the_documented_ones() -> None:
    assert {" ".join(path) for path in COMMANDS} == {
        "serve",
        "token",
        "emit",
        "emit user",
        "emit users",
        "emit room",
        "emit broadcast",
        "batch",
        "presence",
        "stats",
        "users",
        "rooms",
        "connections",
        "disconnect",
        "disconnect user",
        "revoke",
        "history",
        "history room",
        "history user",
        "history broadcast",
        "disconnect room",
        "join",
        "leave",
        "sign",
        "keygen",
        "listen",
        "check-config",
        "print-env",
        "types",
        "asyncapi",
        "doctor",
        "webhooks",
        "webhooks test",
        "webhooks list",
        "webhooks dead",
        "webhooks replay",
        "webhooks drop",
        "version",
    }


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_of_every_command_has_an_example(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(commands, [*path, "--help"])

    assert result.exit_code == 0
    assert "Example" in result.output
    assert f"sio-gateway {path[0]}" in result.output


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in COMMANDS
        if path[0] in {"emit", "presence", "disconnect", "history", "join", "leave"}
        or path[1:] in {("list",), ("dead",), ("replay",)}
    ],
    ids=" ".join,
)
def test_help_of_commands_that_call_a_gateway_lists_the_exit_statuses(path: tuple[str, ...]) -> None:
    words = " ".join(CliRunner().invoke(commands, [*path, "--help"]).output.split())

    assert "status: 0 when the gateway accepted the request, 1 when it rejected it, 2 when" in words
    assert "3 when no gateway answers" in words


def test_overview_has_a_whole_sentence_for_every_command() -> None:
    result = CliRunner().invoke(commands, ["--help"])
    listed = result.output.partition("Commands:\n")[2].strip().splitlines()

    assert len(listed) == len([path for path in COMMANDS if len(path) == 1])
    assert [line for line in listed if not line.endswith(".") or line.endswith("...")] == []


@pytest.mark.parametrize("argument", ["version", "--version"])
def test_version_is_that_of_the_distribution(argument: str) -> None:
    answer = run(argument)

    assert answer.returncode == 0
    assert answer.stdout.startswith("sio-gateway ")
    assert f"(Python {sys.version.split()[0]})" in answer.stdout


def test_help_needs_no_settings_and_imports_no_server() -> None:
    heavy = {"aiohttp", "socketio", "jwt", "yaml"}
    code = f"import sys, gateway.cli; print({heavy} & set(sys.modules))"

    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert answer.stdout == "set()\n"


def test_unknown_command_ends_with_status_2() -> None:
    answer = run("sreve")

    assert answer.returncode == 2
    assert "No such command 'sreve'" in answer.stderr
