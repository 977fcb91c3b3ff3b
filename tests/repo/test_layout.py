"""Packages list their modules, and the numbers of modules, lines of a module and lines of a function are bounded."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

import pytest

from tests.support.paths import ROOT

PACKAGES: Final = ("gateway", "ingest_api")
MODULES: Final = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
INITS: Final = [path for path in MODULES if path.name == "__init__.py"]
MAX_MODULES: Final = 338
MAX_REDIS_MODULES: Final = 32
MAX_MODULE_LINES: Final = 400
MAX_FUNCTION_LINES: Final = 60


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_packages_have_at_most_338_modules() -> None:
    assert len(MODULES) <= MAX_MODULES


def test_redis_state_has_at_most_32_modules() -> None:
    assert len(list((ROOT / "gateway/state/redis").glob("*.py"))) <= MAX_REDIS_MODULES


@pytest.mark.parametrize("path", INITS, ids=name_of)
def test_package_docstring_lists_exactly_its_modules(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    listed = re.findall(r"^ *([a-z_]+)/? {2,}\S", docstring, re.MULTILINE)
    modules = [each.stem for each in path.parent.glob("*.py") if each.stem != "__init__"]
    packages = [each.parent.name for each in path.parent.glob("*/__init__.py")]

    assert sorted(listed) == sorted(modules + packages)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_has_at_most_400_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_MODULE_LINES


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_function_has_at_most_60_lines(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lengths = {
        f"{name_of(path)}:{node.lineno} {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }

    assert {name: lines for name, lines in lengths.items() if lines > MAX_FUNCTION_LINES} == {}
