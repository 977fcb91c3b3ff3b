"""``docs/reference/command-line.md`` agrees with the parser."""

from __future__ import annotations

import re

import click
import pytest

from gateway.cli import commands
from gateway.cli.errors import Rejected, Unreachable, UsageError
from gateway.process import FAILED, STOPPED, UNUSABLE
from gateway.settings.model import KNOWN
from gateway.settings.sources import CALLER_NAMES
from tests.unit.cli.reference_page import HEADING, PAGE, sections
from tests.unit.cli.test_help import COMMANDS

TEXT = PAGE.read_text(encoding="utf-8")
HEAD, _, BODY = TEXT.partition(HEADING)
WRITTEN = {
    section.partition("\n")[0]: f"### {section}"
    for section in re.split("^### ", BODY, flags=re.MULTILINE)[1:]
}
PARSER = sections()
TABLE_ROW = re.compile(r"^\| (?:`(GATEWAY_\w+)`|(\d)) \|", re.MULTILINE)


def test_page_has_every_command_in_the_order_of_the_help() -> None:
    assert list(WRITTEN) == list(PARSER) == [" ".join(["sio-gateway", *path]) for path in COMMANDS]


@pytest.mark.parametrize("command", PARSER)
def test_section_has_the_usage_the_options_and_the_examples_of_the_parser(command: str) -> None:
    # After a change of a command: python -m tests.unit.cli.reference_page
    assert WRITTEN[command].rstrip() == PARSER[command].rstrip()


def test_section_shows_each_option_with_its_meaning() -> None:
    section = PARSER["sio-gateway webhooks replay"]

    assert "sio-gateway webhooks replay [OPTIONS] ID [LETTER]..." in section
    assert "| `--all` | All dead letters that there are now. |" in section
    assert "Exit status: 0 when the gateway accepted the request" in section
    assert "sio-gateway webhooks replay app --all" in section


def test_exit_statuses_of_the_page_are_those_of_the_code() -> None:
    statuses = {int(status) for _, status in TABLE_ROW.findall(HEAD) if status}
    errors = {each.exit_code for each in (Rejected, UsageError, Unreachable)}

    assert statuses == {0, click.exceptions.UsageError.exit_code} | errors | {STOPPED, FAILED, UNUSABLE}


def test_variables_of_the_page_are_those_that_commands_read() -> None:
    written = {name for name, _ in TABLE_ROW.findall(HEAD) if name}
    read = {f"GATEWAY_{name.upper()}" for name in CALLER_NAMES} | {
        str(parameter.envvar)
        for command in commands.commands.values()
        for parameter in command.params
        if parameter.envvar
    }

    assert written == read


def test_every_variable_that_a_command_names_exists() -> None:
    named = set(re.findall(r"GATEWAY_([A-Z]+(?:_[A-Z]+)*)", TEXT))
    known = {name.upper() for name in (*KNOWN, *CALLER_NAMES, "config")}

    assert {name for name in named if name.removesuffix("_FILE") not in known and name not in known} == set()
