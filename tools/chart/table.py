"""The values of values.yaml and the comments above them as the table of docs/how-to/deploy-with-helm.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import yaml

from tools.chart.rendering import CHART, ROOT

PAGE: Final = ROOT / "docs" / "how-to" / "deploy-with-helm.md"
_TABLE: Final = re.compile(r"(?<=<!-- values -->\n).*?(?=<!-- end of values -->)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Row:
    """A value: its path, its default as text (None for a mapping whose entries have rows of their own), its comment."""

    path: str
    default: str | None
    meaning: str


def rows() -> list[Row]:
    """Return a row for each value, in the order of values.yaml.

    A mapping is one value, unless its entries have comments of their own.

    Raises: ValueError, for a value without a comment.
    """
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    tree = yaml.compose(text, yaml.SafeLoader)
    if not isinstance(tree, yaml.MappingNode):
        raise ValueError("values.yaml is not a mapping")
    return list(_rows(tree, text.splitlines(), ""))


def _rows(mapping: yaml.MappingNode, lines: list[str], prefix: str) -> Iterator[Row]:
    for key, value in mapping.value:
        path = f"{prefix}{key.value}"
        comment = _comment_above(lines, key.start_mark.line)
        if _has_commented_entries(value, lines):
            if comment:
                yield Row(path, None, comment)
            yield from _rows(value, lines, f"{path}.")
        elif not comment:
            raise ValueError(f"values.yaml has no comment on {path}")
        else:
            yield Row(path, _as_text(value), comment)


def _has_commented_entries(node: yaml.Node, lines: list[str]) -> bool:
    if not isinstance(node, yaml.MappingNode) or node.flow_style:
        return False
    # An entry may be a mapping whose own entries have comments.
    return any(
        _comment_above(lines, key.start_mark.line) or _has_commented_entries(value, lines)
        for key, value in node.value
    )


def _comment_above(lines: list[str], number: int) -> str:
    above: list[str] = []
    while number > 0 and lines[number - 1].lstrip().startswith("#"):
        number -= 1
        above.insert(0, lines[number].strip().removeprefix("#").strip())
    return " ".join(above)


def _as_text(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode) and not node.value:
        return ""
    flow = yaml.safe_dump(
        yaml.safe_load(yaml.serialize(node)), default_flow_style=True, sort_keys=False, width=500
    )
    return flow.removesuffix("...\n").strip()


def as_markdown() -> str:
    """Return the table with one row for each value."""
    head = "| value | default | meaning |\n|---|---|---|\n"
    return head + "".join(
        f"| `{row.path}` | {_cell(row.default)} | {_escaped(row.meaning)} |\n" for row in rows()
    )


def _cell(default: str | None) -> str:
    return f"`{_escaped(default)}`" if default else ""


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def is_current() -> bool:
    """Return whether docs/how-to/deploy-with-helm.md has the same table as ``write`` would write."""
    found = _TABLE.search(PAGE.read_text(encoding="utf-8"))
    return found is not None and found[0] == as_markdown()


def write() -> None:
    """Write the table between the two marks in docs/how-to/deploy-with-helm.md. Raises: ValueError, without marks."""
    page = PAGE.read_text(encoding="utf-8")
    if not _TABLE.search(page):
        raise ValueError(f"{PAGE} has no marks around a table")
    PAGE.write_text(_TABLE.sub(lambda _: as_markdown(), page), encoding="utf-8")
