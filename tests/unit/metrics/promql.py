"""The metrics and labels in a PromQL query.

This is not a parser of all of PromQL. It reads names, braces, and the lists of labels behind ``by``, ``without``,
``on``, ``ignoring`` and ``group_…``: everything that may be misspelled is in one of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_TOKEN = re.compile(
    r"""
    (?P<text>"(?:[^"\\]|\\.)*")
  | (?P<duration>\[[^\]]*\])
  | (?P<number>\d+(?:\.\d+)?(?:[smhdwy]\b)?)
  | (?P<name>[A-Za-z_][A-Za-z0-9_:]*)
  | (?P<mark>=~|!~|!=|>=|<=|==|[-+*/%^<>=(){},])
  | (?P<blank>\s+)
    """,
    re.VERBOSE,
)
_LISTS = {"by", "without", "on", "ignoring", "group_left", "group_right"}
_WORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan"}


@dataclass
class Query:
    """``selected`` are metrics with the matchers in their braces, in the order of the text.

    ``grouped`` are the labels in lists, ``dropped`` those behind ``without`` and ``ignoring``.
    """

    selected: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    grouped: set[str] = field(default_factory=set)
    dropped: set[str] = field(default_factory=set)


def read(text: str) -> Query:
    """Parse a query. Raises ValueError for an unknown character or brackets that do not match."""
    tokens = _tokens(text)
    query, place, depth = Query(), 0, 0
    while place < len(tokens):
        kind, token = tokens[place]
        after = tokens[place + 1][1] if place + 1 < len(tokens) else ""
        depth += (token == "(") - (token == ")")
        if depth < 0:
            raise ValueError(f"too many closing brackets in {text!r}")
        if kind != "name" or token in _WORDS:
            place += 1
        elif token in _LISTS and after == "(":
            labels, place = _until(tokens, place + 2, ")")
            names = {each for what, each in labels if what == "name"}
            (query.dropped if token in {"without", "ignoring"} else query.grouped).update(names)
        elif after == "(" or (after in _LISTS):
            place += 1  # a function or an aggregation
        else:
            place = _metric(tokens, place, query)
    if depth:
        raise ValueError(f"a bracket is not closed in {text!r}")
    return query


def _metric(tokens: list[tuple[str, str]], place: int, query: Query) -> int:
    """Read a metric and its matchers; return the place behind it."""
    name, matchers = tokens[place][1], dict[str, str]()
    place += 1
    if place < len(tokens) and tokens[place][1] == "{":
        inside, place = _until(tokens, place + 1, "}")
        for (_, label), (_, mark), (_, value) in zip(inside[::4], inside[1::4], inside[2::4], strict=True):
            if mark not in {"=", "!=", "=~", "!~"}:
                raise ValueError(f"{label} {mark} {value} is no matcher")
            matchers[label] = value[1:-1]
    query.selected.append((name, matchers))
    return place


def _until(tokens: list[tuple[str, str]], place: int, end: str) -> tuple[list[tuple[str, str]], int]:
    for stop in range(place, len(tokens)):
        if tokens[stop][1] == end:
            return tokens[place:stop], stop + 1
    raise ValueError(f"{end} is missing")


def _tokens(text: str) -> list[tuple[str, str]]:
    found, place = [], 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise ValueError(f"{text[place : place + 20]!r} in {text!r}")
        if match.lastgroup not in {"blank", "duration"}:
            found.append((match.lastgroup or "", match[0]))
        place = match.end()
    return found
