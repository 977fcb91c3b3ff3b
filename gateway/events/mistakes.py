"""Mistakes of a catalogue, and readers of its values that collect them instead of ending at the first."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import islice
from typing import Final, TypeVar

from gateway.domain.errors import InvalidName
from gateway.events.yaml_tree import Node

T = TypeVar("T")

MAX_MISTAKES: Final = 200
"""More are not listed: they have one cause, such as a wrong indentation."""
MAX_LISTED: Final = 20
"""Names in one sentence."""
_PLAIN: Final = re.compile(r"[^\s.\x00-\x1f]{1,80}")


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake: the path of the value (empty: the file), a sentence, and the line, counted from 1."""

    path: str
    sentence: str
    line: int | None = None

    def __str__(self) -> str:
        place = f"{self.path}: " if self.path else ""
        line = f" (line {self.line})" if self.line is not None else ""
        return f"{place}{self.sentence}{line}"


class CatalogueError(Exception):
    """The file is no event catalogue. ``mistakes`` holds all of them, in the order of the file."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(map(str, self.mistakes)))


class TooManyMistakes(Exception):
    """The list of mistakes is full: the rest of the file is not read, which could take long."""


@dataclass(slots=True)
class Mistakes:
    """The mistakes found so far."""

    found: list[Mistake] = field(default_factory=list)

    def add(self, path: str, sentence: str, line: int | None) -> None:
        """Add a mistake, unless the list has it.

        Raises: TooManyMistakes when it is the last one that is listed.
        """
        mistake = Mistake(path, sentence, line)
        if mistake not in self.found:
            self.found.append(mistake)
        if len(self.found) >= MAX_MISTAKES:
            raise TooManyMistakes

    def raise_any(self) -> None:
        """Raise CatalogueError if there is a mistake."""
        if self.found:
            raise CatalogueError(sorted(self.found, key=lambda each: each.line or 0))


@dataclass(frozen=True, slots=True)
class Part:
    """A value of the file with its path. Its methods read a value of one type, or add a mistake and return None."""

    node: Node
    mistakes: Mistakes
    path: str = ""

    @property
    def value(self) -> object:
        """The scalar, or a list or mapping of nodes."""
        return self.node.value

    @property
    def is_list(self) -> bool:
        """Whether the value is a list."""
        return isinstance(self.node.value, list)

    @property
    def is_mapping(self) -> bool:
        """Whether the value is a mapping."""
        return isinstance(self.node.value, dict)

    def error(self, sentence: str) -> None:
        """Add a mistake about this value."""
        self.mistakes.add(self.path, sentence, self.node.line)

    def members(self) -> dict[str, Part]:
        """Return the members of a mapping with any keys; empty if it is none."""
        if not isinstance(self.node.value, dict):
            self.error(f"is {_kind(self.node.value)}, not a mapping")
            return {}
        return {name: self._child(name, child) for name, child in self.node.value.items()}

    def fields(self, known: Collection[str]) -> dict[str, Part]:
        """Return the members of a mapping with known keys."""
        members = self.members()
        for name in list(members):
            if name in known:
                continue
            members.pop(name).error("is an unknown key" + _suggestion(name, known))
        return members

    def items(self) -> list[Part]:
        """Return the items of a list; empty if it is none."""
        if not isinstance(self.node.value, list):
            self.error(f"is {_kind(self.node.value)}, not a list")
            return []
        return [self._child(str(index), child) for index, child in enumerate(self.node.value)]

    def text(self) -> str | None:
        """Return the text."""
        if isinstance(self.node.value, str):
            return self.node.value
        self.error(f"is {_kind(self.node.value)}, not text")
        return None

    def boolean(self) -> bool | None:
        """Return true or false."""
        if isinstance(self.node.value, bool):
            return self.node.value
        self.error(f"is {_kind(self.node.value)}, neither true nor false")
        return None

    def number(self) -> float | None:
        """Return the number."""
        value = self.node.value
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value
        self.error(f"is {_kind(value)}, not a number")
        return None

    def integer(self, minimum: int, maximum: int) -> int | None:
        """Return the integer, if it is in a range."""
        value = self.node.value
        if isinstance(value, int) and not isinstance(value, bool) and minimum <= value <= maximum:
            return value
        self.error(f"is not an integer from {minimum} to {maximum}")
        return None

    def one_of(self, known: Collection[str]) -> str | None:
        """Return the text if it is one of the known ones."""
        value = self.text()
        if value is None or value in known:
            return value
        self.error(f"is not one of {', '.join(known)}" + _suggestion(value, known))
        return None

    def name(self, check: Callable[[str], str]) -> str | None:
        """Return the text if ``check`` of gateway.domain.names accepts it."""
        value = self.text()
        if value is None:
            return None
        try:
            return check(value)
        except InvalidName as error:
            self.error(error.message)
            return None

    def plain(self) -> object:
        """Return the value as JSON has it."""
        return self.node.plain()

    def _child(self, name: str, node: Node) -> Part:
        shown = name if _PLAIN.fullmatch(name) else repr(name[:80])
        return Part(node, self.mistakes, f"{self.path}.{shown}" if self.path else shown)


def only_one(fields: dict[str, Part], *names: str) -> None:
    """Add a mistake for the second and later of keys of which at most one may be there."""
    given = [name for name in names if name in fields]
    for name in given[1:]:
        fields[name].error(f"stands beside {given[0]}: remove one of the two")


def listed(names: Collection[str]) -> str:
    """Return a sentence with names, of which many are not listed."""
    if not names:
        return "there are none"
    more = f" and {len(names) - MAX_LISTED:,} more" if len(names) > MAX_LISTED else ""
    return f"there are {', '.join(islice(names, MAX_LISTED))}{more}"


def _suggestion(name: str, known: Iterable[str]) -> str:
    nearest = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {nearest[0]}?" if nearest else ""


def _kind(value: object) -> str:
    match value:
        case None:
            return "empty"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case _:
            return "a mapping"
