"""Finds schemas whose checks take too long: recursive ones that take exponential time, and very large ones.

A schema that checks one member or item of a value twice, and both times reaches itself again, doubles the work at each
level of the value: 64 levels would never end. A client could stop a replica with one such event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from gateway.events.keywords import REFERENCE_PREFIX, references

MAX_APPLIED: Final = 1_000
"""Schemas that one schema applies to the same value, over all references and combinations."""
MAX_CHECKS: Final = 10_000
"""Schemas that one schema may apply to a value and its parts, each list and each other member once, over all
references: 14 schemas that each refer to the next one twice have more."""
MAX_REFERENCE_DEPTH: Final = 200
"""References that lead from one schema to the next; a longer chain counts as too many checks."""
MAX_STEPS: Final = 2_000_000
"""Schemas that are looked at while the schemas of one file are read. Schemas that all refer to each other take steps
that grow with the square of their number."""
_ITEM: Final = ("items", "")
_OTHER_MEMBER: Final = ("additionalProperties", "")

Named = Mapping[str, Mapping[str, object]]
Child = tuple[str, str]


class TooManySteps(Exception):
    """The schemas of a file refer to each other so often that reading them would take long."""


class Steps:
    """Counts what is done for the schemas of one file."""

    def __init__(self) -> None:
        self._left = MAX_STEPS

    def take(self, number: int = 1) -> None:
        """Count steps. Raises TooManySteps after MAX_STEPS."""
        self._left -= number
        if self._left < 0:
            raise TooManySteps


def ambiguous_recursions(named: Named, steps: Steps) -> Iterator[str]:
    """Yield the names of schemas that reach themselves twice over the same member or item.

    Raises: TooManySteps.
    """
    direct = {name: frozenset(references(source)) for name, source in named.items()}
    reachable = {name: reached(name, direct, steps) for name in named}
    for name, source in named.items():
        if name in reachable[name] and any(
            _is_ambiguous(schema, name, named, reachable, steps) for schema in _parts(source)
        ):
            yield name


def has_too_many_checks(source: object, named: Named, steps: Steps) -> bool:
    """Return whether a schema has more than MAX_CHECKS; a reference back to a schema in progress counts once.

    Raises: TooManySteps.
    """
    return _checks(source, named, {}, set(), steps) > MAX_CHECKS


def _checks(source: object, named: Named, known: dict[str, int], open_names: set[str], steps: Steps) -> int:
    number = 0
    for schema in _parts(source):
        steps.take()
        number += 1
        reference = schema.get("$ref") if isinstance(schema, Mapping) else None
        if not isinstance(reference, str):
            continue
        name = reference.removeprefix(REFERENCE_PREFIX)
        if len(open_names) > MAX_REFERENCE_DEPTH:
            return MAX_CHECKS + 1
        if name not in known and name not in open_names:
            open_names.add(name)
            known[name] = min(_checks(named.get(name), named, known, open_names, steps), MAX_CHECKS + 1)
            open_names.discard(name)
        number += known.get(name, 1)
    return number


def _is_ambiguous(
    schema: object, name: str, named: Named, reachable: Mapping[str, frozenset[str]], steps: Steps
) -> bool:
    """Return whether a part of the schema ``name`` checks a child twice with schemas that reach ``name``."""
    counts: Counter[Child] = Counter()
    for number, applied in enumerate(_applied(schema, named)):
        if number >= MAX_APPLIED:
            return True
        for child, target in _children(applied):
            steps.take()
            if any(other == name or name in reachable.get(other, ()) for other in references(target)):
                counts[child] += 1
    others = counts[_OTHER_MEMBER]
    return any(count + (others if child[0] == "properties" else 0) > 1 for child, count in counts.items())


def _applied(schema: object, named: Named) -> Iterator[Mapping[str, object]]:
    """Yield a schema and those that it applies to the same value, each as often as it applies it."""
    waiting = [schema]
    while waiting:
        current = waiting.pop()
        if not isinstance(current, Mapping):
            continue
        yield current
        reference = current.get("$ref")
        if isinstance(reference, str):
            waiting.append(named.get(reference.removeprefix(REFERENCE_PREFIX)))
        waiting.extend(_combined(current))


def _combined(schema: Mapping[str, object]) -> Iterator[object]:
    """Yield the schemas that ``allOf``, ``anyOf``, ``oneOf`` and ``not`` of a schema hold."""
    for keyword in ("allOf", "anyOf", "oneOf"):
        several = schema.get(keyword)
        yield from several if isinstance(several, list) else ()
    yield schema.get("not")


def _children(schema: Mapping[str, object]) -> Iterator[tuple[Child, object]]:
    """Yield which members or items a schema checks, and with which schema."""
    properties = schema.get("properties")
    if isinstance(properties, Mapping):
        for member, target in properties.items():
            yield ("properties", str(member)), target
    yield _ITEM, schema.get("items")
    yield _OTHER_MEMBER, schema.get("additionalProperties")


def _parts(schema: object) -> Iterator[object]:
    """Yield a schema and all schemas that are written in it."""
    waiting = [schema]
    while waiting:
        current = waiting.pop()
        if not isinstance(current, Mapping):
            continue
        yield current
        waiting.extend(target for _, target in _children(current))
        waiting.extend(_combined(current))


def reached(name: str, direct: Mapping[str, frozenset[str]], steps: Steps) -> frozenset[str]:
    """Return the names that a schema refers to, also indirectly. ``direct`` are those of each schema.

    Raises: TooManySteps.
    """
    found: set[str] = set()
    waiting = [name]
    while waiting:
        for other in direct.get(waiting.pop(), ()):
            steps.take()
            if other not in found:
                found.add(other)
                waiting.append(other)
    return frozenset(found)
