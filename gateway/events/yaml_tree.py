"""YAML text to values that know their lines. The values are those of JSON; what JSON lacks is rejected.

The tree is built from the events of the parser: the composer of libyaml is recursive and ends the process on a text of
100 000 brackets. Scalars follow the core schema of YAML 1.2, so that ``on``, ``no`` and dates are text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import yaml

MAX_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 100
"""Levels of mappings and lists in the whole file."""
MAX_NODES: Final = 200_000
"""Values in the whole file; a value counts again wherever an alias repeats it."""

_INTEGER: Final = re.compile(r"[-+]?(0|[1-9][0-9]*)", re.ASCII)
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_SPECIAL_FLOAT: Final = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", re.ASCII)
_WORDS: Final = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_MIN_INTEGER: Final = -(2**63)
_MAX_INTEGER: Final = 2**64 - 1
_MAX_DIGITS: Final = 20

Scalar = str | int | float | bool | None
_Loader: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class YamlError(Exception):
    """The text is no YAML of the supported kind. ``line`` begins with 1; None if it is not known."""

    def __init__(self, sentence: str, line: int | None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.line = line


@dataclass(slots=True)
class Node:
    """A value with its line; for a member of a mapping, the line of its key.

    ``size`` counts the value and all values in it, ``height`` the levels of mappings and lists.
    """

    value: Scalar | list[Node] | dict[str, Node]
    line: int
    size: int = 1
    height: int = 0

    def plain(self) -> object:
        """Return the value as JSON has it. The height is at most MAX_DEPTH."""
        if isinstance(self.value, dict):
            return {name: child.plain() for name, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value


@dataclass(slots=True)
class _Container:
    """A mapping or list that is being read. ``key`` is the key whose value comes next."""

    node: Node
    anchor: str | None
    key: str | None = None
    key_line: int = 0


@dataclass(slots=True)
class _Builder:
    """Builds the tree from events. Its stack replaces recursion."""

    root: Node | None = None
    stack: list[_Container] = field(default_factory=list)
    anchors: dict[str, Node] = field(default_factory=dict)
    documents: int = 0

    def handle(self, event: yaml.Event) -> None:
        """Take the next event of the parser. Raises YamlError."""
        line = event.start_mark.line + 1 if event.start_mark is not None else 1
        match event:
            case yaml.DocumentStartEvent():
                self.documents += 1
                if self.documents > 1:
                    raise YamlError("the file holds more than one document", line)
            case yaml.AliasEvent():
                self._repeat(event.anchor, line)
            case yaml.ScalarEvent():
                node = Node(_scalar(event, line), line)
                if event.anchor is not None:
                    self.anchors[event.anchor] = node
                self._add(node, line)
            case yaml.MappingStartEvent():
                self._open(Node({}, line), event, line)
            case yaml.SequenceStartEvent():
                self._open(Node([], line), event, line)
            case yaml.CollectionEndEvent():
                self._close()
            case _:
                pass

    def _repeat(self, anchor: str | None, line: int) -> None:
        node = self.anchors.get(anchor or "")
        if node is None:
            raise YamlError(
                "an alias has no anchor before it, or stands in the value of its own anchor", line
            )
        self._add(node, line)

    def _open(self, node: Node, event: yaml.CollectionStartEvent, line: int) -> None:
        _check_tag(event.tag, line)
        if len(self.stack) >= MAX_DEPTH:
            raise YamlError(f"the file is nested deeper than {MAX_DEPTH} levels", line)
        # An anchor that is used again stands for the new value, from its end.
        self.anchors.pop(event.anchor or "", None)
        self.stack.append(_Container(node, event.anchor))

    def _close(self) -> None:
        done = self.stack.pop()
        if done.anchor is not None:
            self.anchors[done.anchor] = done.node
        self._add(done.node, done.node.line)

    def _add(self, node: Node, line: int) -> None:
        """Add a complete value to the mapping or list around it."""
        if not self.stack:
            self.root = node
            return
        around = self.stack[-1]
        if isinstance(around.node.value, dict):
            if around.key is None:
                self._begin_member(around, node, line)
                return
            around.node.value[around.key] = Node(node.value, around.key_line, node.size, node.height)
            around.key = None
        elif isinstance(around.node.value, list):
            around.node.value.append(Node(node.value, line, node.size, node.height))
        around.node.size += node.size
        around.node.height = max(around.node.height, node.height + 1)
        if around.node.size > MAX_NODES:
            raise YamlError(f"the file holds more than {MAX_NODES} values", line)
        if len(self.stack) + around.node.height > MAX_DEPTH + 1:
            raise YamlError(f"the file is nested deeper than {MAX_DEPTH} levels", line)

    @staticmethod
    def _begin_member(around: _Container, key: Node, line: int) -> None:
        name = key.value
        if isinstance(name, list | dict):
            raise YamlError("a key is a list or a mapping; keys are text", line)
        if not isinstance(name, str):
            raise YamlError(f"the key {name!r} is not text: put it in quotes".lower(), line)
        if name == "<<":
            raise YamlError("merge keys (<<) are not supported", line)
        if name in _members(around.node):
            raise YamlError(f"the key {_shown(name)} stands twice in one mapping", line)
        around.key, around.key_line = name, line


def _members(node: Node) -> dict[str, Node]:
    return node.value if isinstance(node.value, dict) else {}


def parse_yaml(text: str) -> Node:
    """Return the tree of a YAML text of one document; an empty text is null.

    Raises: YamlError.
    """
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise YamlError("the file is larger than 1 MiB", None)
    found = _SURROGATE.search(text)
    if found is not None:
        raise YamlError("the file holds a lone surrogate", text.count("\n", 0, found.start()) + 1)
    builder = _Builder()
    try:
        for event in _events(text):
            builder.handle(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlError(
            f"is not YAML: {error.problem or error.context}", mark.line + 1 if mark else None
        ) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1 if isinstance(error.position, int) else None
        raise YamlError(f"is not YAML: {error.reason}", line) from None
    return builder.root or Node(None, 1)


def _events(text: str) -> Iterator[yaml.Event]:
    return yaml.parse(text, Loader=_Loader)


def _check_tag(tag: str | None, line: int) -> None:
    if tag is not None:
        raise YamlError("tags are not supported; quotes make a value text", line)


def _scalar(event: yaml.ScalarEvent, line: int) -> Scalar:
    """Return the value of a scalar. Quoted ones are text."""
    text: str = event.value
    if not event.implicit[0]:
        # A quoted scalar has the tag None or "!", a tagged one its tag.
        if not event.implicit[1]:
            _check_tag(event.tag or "!", line)
        if _SURROGATE.search(text):
            raise YamlError("a text holds a lone surrogate", line)
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return _integer(text, line)
    if _SPECIAL_FLOAT.fullmatch(text):
        raise YamlError(f"{text} is no number in JSON", line)
    if _FLOAT.fullmatch(text) and not _has_leading_zero(text):
        number = float(text)
        if math.isinf(number):
            raise YamlError("a number is too large", line)
        return number
    return text


def _has_leading_zero(text: str) -> bool:
    digits = text.lstrip("+-")
    return len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()


def _integer(text: str, line: int) -> int:
    number = int(text) if len(text) <= _MAX_DIGITS + 1 else _MAX_INTEGER + 1
    if not _MIN_INTEGER <= number <= _MAX_INTEGER:
        raise YamlError("an integer has more than 64 bits", line)
    return number


def _shown(name: str) -> str:
    return name if len(name) <= 80 and name.isprintable() else repr(name[:80])
