"""Every log line that the sources can write, read from their syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.support.paths import ROOT

LEVELS = {"debug", "info", "warning", "error", "critical"}
LOGGERS = {"log", "_log"}
CHOSEN = "write"
"""A call of this name logs at a level that was chosen before."""


@dataclass
class Line:
    """All places that write the line of one name."""

    levels: set[str] = field(default_factory=set)
    """Empty where the level is chosen when the line is written."""
    fields: set[str] = field(default_factory=set)
    also: set[str] = field(default_factory=set)
    """Where a mapping of fields is passed: every string of that module that may be the name of a field."""


def lines_in_sources() -> dict[str, Line]:
    """Return every line by its name."""
    lines: dict[str, Line] = {}
    for package in ("gateway", "ingest_api"):
        for path in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for name, level, call in _calls(tree):
                line = lines.setdefault(name, Line())
                line.levels |= {level} - {CHOSEN, "exception"}
                if level == "exception":
                    line.levels.add("error")
                    line.fields.add("exception")
                for keyword in call.keywords:
                    if keyword.arg is None:
                        returned = _returned_names(tree, keyword.value)
                        line.fields |= returned
                        line.also |= set() if returned else _texts(tree)
                    else:
                        line.fields.add("exception" if keyword.arg == "exc_info" else keyword.arg)
    return lines


def _calls(tree: ast.Module) -> Iterator[tuple[str, str, ast.Call]]:
    """Yield the name, the level and the call of each line."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        level = _level_of(node.func)
        if level is None:
            continue
        assert node.args, f"a line without a name: {ast.unparse(node)}"
        name = node.args[0]
        is_literal = isinstance(name, ast.Constant) and isinstance(name.value, str)
        assert is_literal, f"the name of a line must be a literal: {ast.unparse(node)}"
        yield ast.literal_eval(name), level, node


def _level_of(function: ast.expr) -> str | None:
    if isinstance(function, ast.Name):
        return CHOSEN if function.id == CHOSEN else None
    if not isinstance(function, ast.Attribute) or function.attr not in LEVELS | {"exception"}:
        return None
    logger = function.value
    name = logger.id if isinstance(logger, ast.Name) else getattr(logger, "attr", None)
    return function.attr if name in LOGGERS else None


def _returned_names(tree: ast.Module, mapping: ast.expr) -> set[str]:
    """Return the keys of a mapping that is the result of a function of the module, which returns a literal dict."""
    name = mapping.func.id if isinstance(mapping, ast.Call) and isinstance(mapping.func, ast.Name) else None
    return {
        ast.literal_eval(key)
        for function in tree.body
        if isinstance(function, ast.FunctionDef) and function.name == name
        for statement in function.body
        if isinstance(statement, ast.Return) and isinstance(statement.value, ast.Dict)
        for key in statement.value.keys
        if key is not None
    }


def _texts(tree: ast.Module) -> set[str]:
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier()
    }
