"""``gateway.domain`` holds values and rules: it imports only the standard library, without asyncio, and itself."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

MODULES = sorted((ROOT / "gateway" / "domain").rglob("*.py"))
ALLOWED = (sys.stdlib_module_names | {"gateway.domain"}) - {"asyncio"}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
    return found


def is_allowed(module: str) -> bool:
    parts = module.split(".")
    return parts[0] in ALLOWED or ".".join(parts[:2]) in ALLOWED


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_domain_imports_the_standard_library_only(path: Path) -> None:
    assert {module for module in imports(path) if not is_allowed(module)} == set()
