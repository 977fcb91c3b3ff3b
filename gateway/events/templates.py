"""Templates and references of the catalogue."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from gateway.domain.templates import ArrayTemplate, Literal, ObjectTemplate, Reference, Template
from gateway.events.mistakes import Part

MAX_ARGUMENTS: Final = 16
_PLAIN_ROOTS: Final = ("sid", "user", "sub", "email", "now", "id")
_ERROR_MEMBERS: Final = ("code", "message")
_REFERENCE: Final = re.compile(r"\$([A-Za-z0-9_]+)((?:\.[^.]+)*)", re.DOTALL)
_INDEX: Final = re.compile(r"0|[1-9][0-9]?", re.ASCII)
_MAX_MEMBERS: Final = 16


@dataclass(frozen=True, slots=True)
class Scope:
    """What references may refer to. ``arguments`` is how many arguments the event has at most.

    ``roots``: there is no event, and only these names; None: those of a client event.
    """

    arguments: int = MAX_ARGUMENTS
    has_error: bool = False
    roots: tuple[str, ...] | None = None


def read_template(part: Part, scope: Scope) -> Template:
    """Return the template. A part with a mistake becomes null."""
    if part.is_mapping:
        members = tuple((name, read_template(child, scope)) for name, child in part.members().items())
        if all(isinstance(template, Literal) for _, template in members):
            return Literal(_unescaped(part.plain()))
        return ObjectTemplate(members)
    if part.is_list:
        items = tuple(read_template(child, scope) for child in part.items())
        if all(isinstance(item, Literal) for item in items):
            return Literal(_unescaped(part.plain()))
        return ArrayTemplate(items)
    if isinstance(part.value, str) and part.value.startswith("$"):
        return _read_text(part, part.value, scope)
    return Literal(part.value)


def read_reference(part: Part, scope: Scope) -> Reference | None:
    """Return the reference; text of another form is a mistake."""
    text = part.text()
    if text is None:
        return None
    template = _read_text(part, text, scope) if text.startswith("$") else None
    if isinstance(template, Reference):
        return template
    if not isinstance(template, Literal) or template.value is not None:
        part.error("is not a reference such as $0 or $0.id")
    return None


def _read_text(part: Part, text: str, scope: Scope) -> Template:
    """Return the template of a text that begins with a dollar sign."""
    if text.startswith("$$"):
        return Literal(text[1:])
    match = _REFERENCE.fullmatch(text)
    if match is None:
        part.error("is not a reference such as $0.room; text that begins with $ is written $$")
        return Literal(None)
    root, path = match[1], tuple(match[2].split(".")[1:])
    sentence = _problem(root, path, scope)
    if sentence is not None:
        part.error(sentence)
        return Literal(None)
    return Reference(root, path)


def _problem(root: str, path: tuple[str, ...], scope: Scope) -> str | None:
    """Return what is wrong with a reference, or None."""
    if len(path) > _MAX_MEMBERS:
        return f"has more than {_MAX_MEMBERS} members"
    if scope.roots is not None:
        return _named_problem(root, path, scope.roots)
    if _INDEX.fullmatch(root):
        return _index_problem(int(root), scope)
    if root == "data":
        return None
    if root == "error":
        if not scope.has_error:
            return "$error is known in on_error only"
        return (
            None
            if not path or path in {(name,) for name in _ERROR_MEMBERS}
            else "$error has code and message"
        )
    if root not in _PLAIN_ROOTS:
        roots = ", ".join(f"${name}" for name in _PLAIN_ROOTS)
        return f"${root[:40]} is unknown; there are $0 to $15, $data, {roots}, and $error in on_error"
    return f"${root} has no members" if path else None


def _named_problem(root: str, path: tuple[str, ...], roots: tuple[str, ...]) -> str | None:
    if root not in roots:
        return f"${root[:40]} is unknown here; there are {', '.join(f'${name}' for name in roots)}"
    return f"${root} has no members" if path else None


def _index_problem(index: int, scope: Scope) -> str | None:
    if index >= MAX_ARGUMENTS:
        return f"${index} is unknown; arguments are $0 to ${MAX_ARGUMENTS - 1}"
    if index >= scope.arguments:
        return f"${index} is unknown: args describes {scope.arguments} of them"
    return None


def _unescaped(value: object) -> object:
    """Return a value without references, with ``$$`` at the beginning of texts as one dollar sign."""
    match value:
        case dict():
            return {name: _unescaped(member) for name, member in value.items()}
        case list():
            return [_unescaped(item) for item in value]
        case str() if value.startswith("$$"):
            return value[1:]
        case _:
            return value
