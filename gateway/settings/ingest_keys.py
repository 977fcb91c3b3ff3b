"""How a text or YAML becomes ingest keys. No sentence here quotes anything that could be part of a secret."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from gateway.domain.ingest_keys import ALL_SCOPES, KEY_ID, MIN_SECRET_BYTES, IngestKey, Scope
from gateway.domain.rate_limit import Rate
from gateway.settings.values import integer, per_second, read_secret, text

X = TypeVar("X")
T = TypeVar("T")

_FIELDS: Final = ("id", "secret", "secrets", "secret_file", "scopes", "rate")


def ingest_keys(raw: object) -> tuple[IngestKey, ...]:
    """``id:secret,id:secret``, each split at its first colon, or a YAML list of mappings.

    Raises ValueError with one sentence for each problem.
    """
    items: object = raw
    if isinstance(raw, str):
        items = [part.strip(" \t") for part in text(raw).split(",")]
    if not isinstance(items, list) or not items:
        raise ValueError("is neither id:secret,id:secret nor a list of mappings with an id and a secret")
    keys: list[IngestKey] = []
    wrong: list[str] = []
    for number, item in enumerate(items, start=1):
        try:
            keys.append(_key(item))
        except ValueError as error:
            wrong.extend(f"key {number}: {sentence}" for sentence in error.args)
    wrong += _clashes(keys)
    if wrong:
        raise ValueError(*wrong)
    return tuple(keys)


def _key(item: object) -> IngestKey:
    if isinstance(item, str):
        key_id, colon, secret = item.partition(":")
        if not colon:
            raise ValueError("has no colon between its id and its secret (a secret holds no comma)")
        return IngestKey(_id(key_id), (_secret(secret),))
    if not isinstance(item, dict):
        raise ValueError("is no mapping with an id and a secret")
    return _key_of_mapping(item)


def _key_of_mapping(item: dict[object, object]) -> IngestKey:
    wrong = [
        f"unknown field {str(name)!r}; known are {', '.join(_FIELDS)}" for name in item if name not in _FIELDS
    ]
    key = IngestKey(
        _attempt(wrong, _id, item.get("id"), ""),
        _attempt(wrong, _secrets, item, ()),
        _attempt(wrong, _scopes, item["scopes"], ()) if "scopes" in item else ALL_SCOPES,
        _attempt(wrong, _rate, item["rate"], None) if "rate" in item else None,
    )
    if wrong:
        raise ValueError(*wrong)
    return key


def _attempt(wrong: list[str], parse: Callable[[X], T], raw: X, otherwise: T) -> T:
    try:
        return parse(raw)
    except ValueError as error:
        wrong.extend(error.args)
        return otherwise


def _id(raw: object) -> str:
    if not isinstance(raw, str) or not KEY_ID.fullmatch(raw):
        raise ValueError("its id is not 1 to 64 of A-Z a-z 0-9 . _ -")
    return raw


def _secrets(item: dict[object, object]) -> tuple[str, ...]:
    given = [name for name in ("secret", "secrets", "secret_file") if name in item]
    if len(given) != 1:
        raise ValueError("it needs exactly one of secret, secrets and secret_file")
    value = item[given[0]]
    values = value if given[0] == "secrets" else [value]
    if given[0] == "secret_file":
        # One on each line, so that a mounted file can be rotated without a change to the settings.
        values = read_secret(Path(text(value))).split("\n")
    if not isinstance(values, list) or not values:
        raise ValueError("its secrets are no list of texts")
    secrets = tuple(_secret(each) for each in values)
    if len(set(secrets)) < len(secrets):
        raise ValueError("it has the same secret twice")
    return secrets


def _secret(raw: object) -> str:
    secret = text(raw)
    if len(secret.encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"its secret has fewer than {MIN_SECRET_BYTES} bytes")
    if secret != secret.strip() or any(character < " " for character in secret):
        raise ValueError("its secret begins or ends with white space, or holds a line break")
    return secret


def _scopes(raw: object) -> tuple[Scope, ...]:
    if not isinstance(raw, list) or not raw or not all(isinstance(each, str) for each in raw):
        raise ValueError("its scopes are no list of texts; leave them out to allow everything")
    return tuple(Scope.parse(each) for each in raw)


def _rate(raw: object) -> Rate:
    if not isinstance(raw, dict):
        each_second = per_second(raw)
        return Rate(each_second, max(1, math.ceil(each_second)))
    if set(raw) != {"per_second", "burst"}:
        raise ValueError("its rate is neither a number nor a mapping of per_second and burst")
    return Rate(per_second(raw["per_second"]), integer(1)(raw["burst"]))


def _clashes(keys: list[IngestKey]) -> list[str]:
    wrong: list[str] = []
    ids = [key.id for key in keys]
    wrong += [f"two keys have the id {twice!r}" for twice in dict.fromkeys(ids) if ids.count(twice) > 1]
    owners: dict[str, str] = {}
    for key in keys:
        for secret in key.secrets:
            other = owners.setdefault(secret, key.id)
            if other != key.id:
                wrong.append(f"the keys {other!r} and {key.id!r} have the same secret")
    return wrong
