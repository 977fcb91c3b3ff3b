"""What a newcomer reads: every command explains itself, with an example, and answers at once."""

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


def test_the_commands_are_those_that_are_promised() -> None:
    assert {" ".join(path) for path in COMMANDS} == {
        "serve",
        "token",
        "emit",
        "emit user",
        "emit room",
        "emit broadcast",
        "presence",
        "listen",
        "check-config",
        "print-env",
        "doctor",
        "version",
    }


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_with_an_example(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(commands, [*path, "--help"])

    assert result.exit_code == 0
    assert "Example" in result.output
    assert f"sio-gateway {path[0]}" in result.output


@pytest.mark.parametrize("path", [path for path in COMMANDS if path[0] in {"emit", "presence"}], ids=" ".join)
def test_commands_that_call_a_gateway_tell_their_exit_statuses(path: tuple[str, ...]) -> None:
    words = " ".join(CliRunner().invoke(commands, [*path, "--help"]).output.split())

    assert "status 0 when the gateway did it, 1 when it refused, 2 when" in words
    assert "3 when no gateway answers" in words


def test_the_overview_shows_every_command_with_a_whole_sentence() -> None:
    result = CliRunner().invoke(commands, ["--help"])
    listed = result.output.partition("Commands:\n")[2].strip().splitlines()

    assert len(listed) == len([path for path in COMMANDS if len(path) == 1])
    assert [line for line in listed if not line.endswith(".") or line.endswith("...")] == []


def test_the_version_is_that_of_the_distribution() -> None:
    answer = run("version")

    assert answer.returncode == 0
    assert answer.stdout.startswith("sio-gateway ")
    assert f"(Python {sys.version.split()[0]})" in answer.stdout


def test_help_needs_no_settings_and_imports_no_server() -> None:
    heavy = {"aiohttp", "socketio", "jwt", "yaml"}
    code = f"import sys, gateway.cli; print({heavy} & set(sys.modules))"

    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert answer.stdout == "set()\n"


def test_an_unknown_command_is_a_wrong_use() -> None:
    answer = run("sreve")

    assert answer.returncode == 2
    assert "No such command 'sreve'" in answer.stderr
