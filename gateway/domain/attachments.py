"""Buffers inside JSON: base64 strings (RFC 4648 §4) that JSON pointers (RFC 6901) name, and the placeholders for them.

A Socket.IO client replaces each object with the member ``_placeholder`` by the attachment with its number. So an
argument with attachments may hold no such object of its own. A pointer begins with ``/data`` or ``/args/0`` to
``/args/15``, the place of an argument in the body of a push or in the answer of a webhook.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from binascii import a2b_base64
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

MAX_ATTACHMENTS: Final = 10
"""As in the parsers of the clients, which accept no packet with more."""
MAX_POINTER_CHARACTERS: Final = 512
POINTER: Final = r"^/(?:data|args/(?:[0-9]|1[0-5]))(?:/(?:[^~/]|~[01])*)*$"
"""The pattern of a pointer, for JSON Schema too."""
PLACEHOLDER: Final = "_placeholder"

_POINTER: Final = re.compile(POINTER, re.DOTALL)
_MAY_HAVE_PLACEHOLDER: Final = re.compile(rf'"{PLACEHOLDER}"|\\u')
_TOKEN: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{},]', re.DOTALL)
_PLACEHOLDER: Final = re.compile(rf'\{{\s*"{PLACEHOLDER}"\s*:\s*true\s*,\s*"num"\s*:\s*([0-9]+)\s*\}}')
"""A placeholder in a valid JSON text. A string cannot hold it, because its quotes are not escaped."""
_TOKENS_PER_STEP: Final = 2048
_BLOCK_CHARACTERS: Final = 256 * 1024
"""A multiple of 4. Decoding so many takes less than a millisecond."""

_NO_STRING: Final = "points to no string"
_NOT_BASE64: Final = "points to a string that is not base64 with padding"
_REPEATED: Final = "names a member that is repeated"
_LOOKALIKE: Final = f"has a member {PLACEHOLDER!r}, which clients take for an attachment"


class Attached(NamedTuple):
    """Arguments in which placeholders stand for attachments, and these as base64; or the problems by their path."""

    arguments: tuple[str, ...]
    attachments: tuple[str, ...]
    problems: Mapping[str, str]


def is_base64(text: str) -> bool:
    """Whether a text is base64 with padding and without line breaks, as each buffer is in JSON."""
    steps = _is_base64(text)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return bool(end.value)


def is_pointer(text: str) -> bool:
    """Whether a text is a pointer into ``data`` or an element of ``args``."""
    return len(text) <= MAX_POINTER_CHARACTERS and _POINTER.fullmatch(text) is not None


def placeholder(number: int) -> str:
    """Return the JSON text that stands for an attachment."""
    return f'{{"{PLACEHOLDER}":true,"num":{number}}}'


def attach(
    arguments: Sequence[str], pointers: Sequence[str], *, has_args: bool
) -> Generator[None, None, Attached]:
    """Replace the strings that pointers name by placeholders; the rest of the texts is kept as it is written.

    ``arguments`` are valid JSON texts: the elements of ``args`` if ``has_args``, else the one of ``data``. The paths of
    problems are ``binary.3`` for a pointer, and ``data`` or ``args.2`` for an argument with an object that clients
    would take for a placeholder. It yields between two slices of the work.
    """
    roots, problems = _targets(pointers, has_args=has_args)
    for index, text in enumerate(arguments):
        if index in roots or _MAY_HAVE_PLACEHOLDER.search(text):
            is_lookalike = yield from _find(text, roots.get(index))
            if is_lookalike:
                problems[f"args.{index}" if has_args else "data"] = _LOOKALIKE
    spans: dict[int, list[tuple[int, int, int]]] = {}
    attachments = [""] * len(pointers)
    for number, pointer in enumerate(pointers):
        if f"binary.{number}" in problems:
            continue
        index, path = _parts(pointer)
        span, problem = _span_of(roots[index], path)
        if span is not None:
            string: str = json.loads(arguments[index][span[0] : span[1]])
            attachments[number] = string
            spans.setdefault(index, []).append((*span, number))
            problem = "" if (yield from _is_base64(string)) else _NOT_BASE64
        if problem:
            problems[f"binary.{number}"] = problem
    replaced = [_replace(text, spans.get(index, ())) for index, text in enumerate(arguments)]
    return Attached(tuple(replaced), tuple(attachments), problems)


def attach_at_once(arguments: Sequence[str], pointers: Sequence[str], *, has_args: bool) -> Attached:
    """Do as ``attach`` in one piece."""
    steps = attach(arguments, pointers, has_args=has_args)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            attached: Attached = end.value
            return attached


def detach(arguments: Sequence[str], attachments: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the arguments with the base64 of the attachments in the place of placeholders, and the pointers to these.

    The pointers are in the order of the attachments, and begin with ``/data`` for one argument, else with ``/args/0``.
    """
    if not attachments:
        return tuple(arguments), ()
    pointers = [""] * len(attachments)
    for index, text in enumerate(arguments):
        if PLACEHOLDER in text:
            root = "/data" if len(arguments) == 1 else f"/args/{index}"
            for number, pointer in _placeholders(json.loads(text), root):
                pointers[number] = pointer
    detached = [_PLACEHOLDER.sub(lambda found: f'"{attachments[int(found[1])]}"', text) for text in arguments]
    return tuple(detached), tuple(pointers)


def _placeholders(value: object, pointer: str) -> Iterator[tuple[int, str]]:
    """Yield the number of each placeholder in a value, and the pointer to it."""
    if isinstance(value, dict):
        if PLACEHOLDER in value:
            yield value["num"], pointer
            return
        members: Iterable[tuple[str, object]] = value.items()
    elif isinstance(value, list):
        members = ((str(index), each) for index, each in enumerate(value))
    else:
        return
    for name, each in members:
        yield from _placeholders(each, f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}")


def with_base64(value: object, path: str, pointers: list[str]) -> Any:  # any JSON value
    """Return a value with base64 instead of buffers; add the pointers to these strings, which begin with ``path``."""
    if isinstance(value, bytes | bytearray):
        pointers.append(path)
        return b64encode(value).decode()
    if isinstance(value, dict):
        return {
            name: with_base64(each, f"{path}/{name.replace('~', '~0').replace('/', '~1')}", pointers)
            for name, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [with_base64(each, f"{path}/{index}", pointers) for index, each in enumerate(value)]
    return value


def with_buffers(members: dict[str, Any], pointers: Iterable[str]) -> dict[str, Any]:
    """Replace the base64 strings that pointers name by buffers, in place, and return the members.

    Raises: ValueError with a sentence for a pointer that names no such string.
    """
    for pointer in pointers:
        *parents, last = _unescaped(pointer)
        holder: Any = members
        for part in parents:
            holder = _child(holder, part)
        text = _child(holder, last)
        if not isinstance(text, str) or "=" in text[:-2]:
            raise ValueError(f"binary: {pointer} {_NO_STRING if not isinstance(text, str) else _NOT_BASE64}")
        try:
            holder[int(last) if isinstance(holder, list) else last] = a2b_base64(text, strict_mode=True)
        except ValueError:
            raise ValueError(f"binary: {pointer} {_NOT_BASE64}") from None
    return members


def fill_placeholders(values: list[Any], attachments: Sequence[bytes]) -> list[Any]:
    """Return values with attachments instead of their placeholders. An attachment may stand in no place.

    Raises: ValueError for an attachment in two places, and for an object with the member of a placeholder that names
        none.
    """
    left = dict(enumerate(attachments))
    return [_fill(value, left) for value in values]


def _fill(value: object, left: dict[int, bytes]) -> object:
    if isinstance(value, list):
        return [_fill(each, left) for each in value]
    if not isinstance(value, dict):
        return value
    if PLACEHOLDER not in value:
        return {name: _fill(each, left) for name, each in value.items()}
    number = value.get("num")
    if value[PLACEHOLDER] is not True or type(number) is not int or number not in left:
        raise ValueError("a placeholder names no attachment, or one that stands in another place")
    return left.pop(number)


def holds_placeholder(value: object) -> bool:
    """Whether an object in a value has the member of a placeholder."""
    if isinstance(value, dict):
        return PLACEHOLDER in value or any(map(holds_placeholder, value.values()))
    return isinstance(value, list | tuple) and any(map(holds_placeholder, value))


def _child(holder: object, part: str) -> object:
    """Return a member or an element; None if there is none."""
    if isinstance(holder, dict):
        return holder.get(part)
    is_index = isinstance(holder, list) and part.isascii() and part.isdigit() and str(int(part)) == part
    return holder[int(part)] if is_index and isinstance(holder, list) and int(part) < len(holder) else None


class _Node:
    """A place in an argument that pointers lead to or through."""

    __slots__ = ("children", "number", "spans", "visits")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.number: int | None = None
        """The number of the pointer that names the place."""
        self.visits = 0
        """How many members of its object lead to it."""
        self.spans: list[tuple[int, int]] = []
        """Where its string is in the text."""


def _parts(pointer: str) -> tuple[int, tuple[str, ...]]:
    """Return the index of the argument of a pointer, and the path inside of it."""
    root, *path = _unescaped(pointer)
    index = int(path.pop(0)) if root == "args" else 0
    return index, tuple(path)


def _unescaped(pointer: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def _targets(pointers: Sequence[str], *, has_args: bool) -> tuple[dict[int, _Node], dict[str, str]]:
    roots: dict[int, _Node] = {}
    problems: dict[str, str] = {}
    for number, pointer in enumerate(pointers):
        if pointer.startswith("/args/") != has_args:
            problems[f"binary.{number}"] = _NO_STRING
            continue
        index, path = _parts(pointer)
        node = roots.setdefault(index, _Node())
        for part in path:
            node = node.children.setdefault(part, _Node())
        if node.number is not None:
            problems[f"binary.{number}"] = f"names the same string as binary.{node.number}"
            continue
        node.number = number
    return roots, problems


def _find(text: str, root: _Node | None) -> Generator[None, None, bool]:
    """Fill the nodes with the places of their strings; return whether an object has the member of a placeholder."""
    containers: list[tuple[_Node | None, int]] = []
    """The open objects and arrays, each with the number of its next element; -1 for an object."""
    node, awaits_name, is_lookalike = root, False, False
    for count, token in enumerate(_TOKEN.finditer(text), 1):
        mark = text[token.start()]
        if awaits_name and mark == '"':
            name = _text_of(token[0])
            is_lookalike = is_lookalike or name == PLACEHOLDER
            parent = containers[-1][0]
            node = None if parent is None else parent.children.get(name)
            if node is not None:
                node.visits += 1
            awaits_name = False
        elif mark == '"':
            if node is not None:
                node.spans.append(token.span())
        elif mark in "{[":
            containers.append((node, -1 if mark == "{" else 0))
            awaits_name = mark == "{"
            node = None if node is None or awaits_name else node.children.get("0")
        elif mark == ",":
            parent, number = containers[-1]
            awaits_name = number < 0
            if not awaits_name:
                containers[-1] = parent, number + 1
            node = None if parent is None or awaits_name else parent.children.get(str(number + 1))
        else:
            containers.pop()
            awaits_name = False
        if not count % _TOKENS_PER_STEP:
            yield
    return is_lookalike


def _text_of(token: str) -> str:
    text: str = json.loads(token) if "\\" in token else token[1:-1]
    return text


def _span_of(root: _Node, path: Sequence[str]) -> tuple[tuple[int, int] | None, str]:
    """Return where the string is that a path leads to, or the problem."""
    node = root
    for part in path:
        node = node.children[part]
        if node.visits > 1:
            return None, _REPEATED
    return (node.spans[0], "") if node.spans else (None, _NO_STRING)


def _is_base64(text: str) -> Generator[None, None, bool]:
    if len(text) % 4 or "=" in text[:-2]:
        return False
    for start in range(0, len(text), _BLOCK_CHARACTERS):
        try:
            a2b_base64(text[start : start + _BLOCK_CHARACTERS], strict_mode=True)
        except ValueError:
            return False
        yield
    return True


def _replace(text: str, spans: Iterable[tuple[int, int, int]]) -> str:
    """Replace each span by the placeholder with its number."""
    parts, position = [], 0
    for start, end, number in sorted(spans):
        parts += [text[position:start], placeholder(number)]
        position = end
    return "".join([*parts, text[position:]])
