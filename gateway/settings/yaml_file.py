"""Settings in a YAML file: one mapping of plain values, lists and mappings, no name twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which would let the last of two equal names win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: list[object] = []
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, "the same name twice", key.start_mark)
            seen.append(key.value)
        return super().construct_mapping(node, deep=deep)


def read_yaml(path: Path) -> dict[str, object]:
    """The mapping in a file, empty for an empty file; raises ValueError, never quoting the file's content."""
    try:
        content = yaml.load(path.read_bytes(), _Loader)  # noqa: S506  # derived from SafeLoader
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ValueError(f"{path} is not YAML{place}: {_without_quotes(error.problem)}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        raise ValueError(f"{path} is not YAML") from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ValueError(f"{path} is not a mapping of names to values, such as port: 8080")
    return content


def _without_quotes(problem: str | None) -> str:
    # PyYAML quotes what it stumbled over, and that may be a secret.
    return (problem or "").partition("'")[0].strip() or "something unexpected"
