"""Identifiers for generated documents: made of names of the catalogue, each given out once."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import count
from typing import Final

# TypeScript's own types, and words that no declaration can have as its name.
_RESERVED: Final = (
    "any bigint boolean never null number object string symbol undefined unknown void "
    "break case catch class const continue debugger default delete do else enum export extends false finally for "
    "function if import in instanceof new return super switch this throw true try typeof var while with yield let "
    "static implements interface package private protected public await async type declare namespace module "
    "Array Promise Record Partial"
)


class Identifiers:
    """Gives out identifiers; one that is taken gets a number at its end."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = {*_RESERVED.split(), *taken}

    def add(self, wanted: str, *, suffixes: tuple[str, ...] = ("",)) -> str:
        """Return a free identifier like ``wanted``. It is free together with each of the suffixes, which are taken."""
        base = re.sub(r"[^A-Za-z0-9_]", "_", wanted) or "_"
        if base[0].isdigit():
            base = f"_{base}"
        for number in count(1):
            name = base if number == 1 else f"{base}{number}"
            full = {name + suffix for suffix in suffixes}
            if not full & self._taken:
                self._taken |= full
                return name
        raise AssertionError("count() does not end")


def namespace_name(namespace: str) -> str:
    """Return a name for a namespace in PascalCase: Main for ``/``, AdminTools for ``/admin-tools``."""
    words = [word for word in re.split(r"[^A-Za-z0-9]+", namespace) if word]
    return "".join(word[0].upper() + word[1:] for word in words) or "Main"
