"""What ``docs/reference/command-line.md`` has of each command, from the parser.

``python -m tests.unit.cli.reference_page`` writes that part of the page again.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from gateway.cli import commands
from tests.support.paths import ROOT

PAGE: Final[Path] = ROOT / "docs/reference/command-line.md"
HEADING: Final = "## Commands\n"
_PROGRAM: Final = "sio-gateway"
_WIDTH: Final = 130
_UNWRAPPED: Final = "\b"
"""Click wraps no paragraph that begins with this."""


def sections() -> dict[str, str]:
    """Return the section of each command by its name, in the order of ``--help``."""
    return {path: _section(path, command) for path, command in _walk(commands, _PROGRAM)}


def _walk(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from _walk(command, f"{path} {name}")


def _section(path: str, command: click.Command) -> str:
    context = click.Context(command, info_name=path)
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    if command.epilog:
        paragraphs.append(command.epilog)
    prose = [_wrap(each) for each in paragraphs if not each.startswith(_UNWRAPPED)]
    examples = [_example(each) for each in paragraphs if each.startswith(_UNWRAPPED)]
    parts = [f"### {path}", f"```\n{usage}\n```", *prose, *_options(command, context), *examples]
    return "\n\n".join(parts) + "\n"


def _wrap(paragraph: str) -> str:
    return textwrap.fill(" ".join(paragraph.split()), _WIDTH, break_long_words=False, break_on_hyphens=False)


def _example(paragraph: str) -> str:
    lines = paragraph.split("\n")[2:]
    return "```bash\n" + textwrap.dedent("\n".join(lines)) + "\n```"


def _options(command: click.Command, context: click.Context) -> list[str]:
    records = [
        record
        for parameter in command.params
        if isinstance(parameter, click.Option) and (record := parameter.get_help_record(context))
    ]
    if not records:
        return []
    rows = [f"| `{_cell(option)}` | {_cell(meaning)} |" for option, meaning in records]
    return ["\n".join(["| option | meaning |", "|---|---|", *rows])]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


if __name__ == "__main__":
    head = PAGE.read_text(encoding="utf-8").partition(HEADING)[0]
    PAGE.write_text("\n".join([head + HEADING, *sections().values()]), encoding="utf-8")
