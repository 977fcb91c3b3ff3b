"""Parser of the issuers of tokens. No sentence quotes text that may be part of a key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar

from gateway.domain.errors import InvalidName
from gateway.domain.issuers import TokenIssuer
from gateway.domain.names import check_user
from gateway.domain.strict_json import decode_strictly
from gateway.settings import credentials
from gateway.settings.files import read_secret
from gateway.settings.values import (
    attempt,
    boolean,
    list_of,
    read_items,
    room_claims,
    text,
    token,
    web_address,
)

T = TypeVar("T")

MAX_ISSUERS: Final = 100
MAX_PREFIX_CHARACTERS: Final = 64
MAX_ISSUER_CHARACTERS: Final = 2_000
_KEYS: Final = (("secret", "secrets", "secret_file"), ("public_key", "public_key_file"), ("jwks_url",))
"""The fields of each kind of key; an issuer has one field of a kind at most."""
_KEY_FIELDS: Final = tuple(name for names in _KEYS for name in names)
_FIELDS: Final = ("issuer", *_KEY_FIELDS, "algorithms", "audience", "room_claims", "users", "same_users")
_FORM: Final = "JSON nor a YAML list of mappings with an issuer and a key"
_algorithms: Final = list_of(credentials.algorithm)
_audience: Final = list_of(token)


def issuers(raw: object) -> tuple[TokenIssuer, ...]:
    """Parse a YAML list of mappings, or the same as JSON; an empty list is none.

    Raises: ValueError with one sentence for each problem.
    """
    if isinstance(raw, str):
        try:
            raw = decode_strictly(text(raw).encode())
        except ValueError:
            raise ValueError(f"is neither {_FORM}") from None
    if not isinstance(raw, list):
        raise ValueError(f"is neither {_FORM}")
    if not raw:
        return ()
    if len(raw) > MAX_ISSUERS:
        raise ValueError(f"has {len(raw)} issuers: at most {MAX_ISSUERS}")
    found, sentences = read_items(raw, _issuer, noun="issuer", form=_FORM)
    names = [each.issuer for each in found]
    sentences += [
        f"two issuers are {name!r}" for name in dict.fromkeys(names) if name and names.count(name) > 1
    ]
    if sentences:
        raise ValueError(*sentences)
    return tuple(found)


def _issuer(item: object) -> TokenIssuer:
    if not isinstance(item, dict):
        raise ValueError("is not a mapping with an issuer and a key")
    fields = _Fields(item)
    found = TokenIssuer(
        issuer=attempt(fields.sentences, _name, item.get("issuer"), ""),
        algorithms=fields.read("algorithms", _algorithms, ()),
        audience=fields.read("audience", _audience, ()),
        room_claims=fields.read("room_claims", _room_claims, None),
        users=fields.read("users", _users, ""),
        same_users=fields.read("same_users", boolean, False),
    )
    found = _with_keys(found, fields)
    if fields.sentences:
        raise ValueError(*fields.sentences)
    return found


class _Fields:
    """The fields of one issuer, and a sentence for each problem with them."""

    def __init__(self, item: dict[object, object]) -> None:
        self.item = item
        self.sentences = [
            f"unknown field {str(name)!r}; known are {', '.join(_FIELDS)}"
            for name in item
            if name not in _FIELDS
        ]

    def read(self, name: str, parse: Callable[[object], T], default: T) -> T:
        """Return a parsed field, or the default if it is absent or has problems."""
        if name not in self.item:
            return default
        try:
            return parse(self.item[name])
        except ValueError as error:
            self.sentences.extend(f"{name} {sentence}" for sentence in error.args)
            return default


def _with_keys(issuer: TokenIssuer, fields: _Fields) -> TokenIssuer:
    """Return the issuer with its keys, and their usual algorithms if it names none."""
    sentences, item = fields.sentences, fields.item
    for names in _KEYS:
        if sum(name in item for name in names) > 1:
            sentences.append(f"it has more than one of {', '.join(names)}")
    no_secrets: tuple[str, ...] = ()
    secrets = attempt(sentences, _secrets, item, no_secrets)
    public_key = attempt(sentences, _public_key, item, None)
    jwks_url = fields.read("jwks_url", web_address, None)
    if not item.keys() & set(_KEY_FIELDS):
        sentences.append("it has no key: give it a secret, a public_key or a jwks_url")
    elif public_key is not None and jwks_url is not None:
        sentences.append("it has a public key and a jwks_url: remove one of the two")
    if sentences:
        return issuer
    usable = credentials.usable_algorithms(secrets, public_key, jwks_url)
    sentences += [
        f"{name} cannot be verified with its keys" for name in issuer.algorithms if name not in usable
    ]
    usual = credentials.usual_algorithms(secrets, public_key, jwks_url)
    return replace(
        issuer,
        secrets=secrets,
        public_key=public_key,
        jwks_url=jwks_url,
        algorithms=issuer.algorithms or usual,
    )


def _name(raw: object) -> str:
    name = token(raw) if isinstance(raw, str) else ""
    if not 1 <= len(name) <= MAX_ISSUER_CHARACTERS:
        raise ValueError(
            f"its issuer, the `iss` of its tokens, is not a text of 1 to {MAX_ISSUER_CHARACTERS} characters"
        )
    return name


def _secrets(item: dict[object, object]) -> tuple[str, ...]:
    if "secret_file" in item:
        given: object = read_secret(Path(text(item["secret_file"])))
    elif "secrets" in item:
        given = item["secrets"]
        if not isinstance(given, list):
            raise ValueError("its secrets are not a list of strings")
    elif "secret" in item:
        given = [item["secret"]]
    else:
        return ()
    sentences: list[str] = []
    no_secrets: tuple[str, ...] = ()
    secrets = attempt(sentences, credentials.jwt_secrets, given, no_secrets)
    sentences += [problem for each in secrets if (problem := credentials.secret_problem(each)) is not None]
    if sentences:
        raise ValueError(*(f"its secret {sentence}" for sentence in sentences))
    return secrets


def _public_key(item: dict[object, object]) -> str | None:
    if "public_key_file" in item:
        return credentials.public_key(read_secret(Path(text(item["public_key_file"]))))
    return credentials.public_key(item["public_key"]) if "public_key" in item else None


def _room_claims(raw: object) -> Mapping[str, str]:
    if raw == {}:
        return MappingProxyType({})  # none, where ROOM_CLAIMS are others
    return room_claims(raw)


def _users(raw: object) -> str:
    prefix = text(raw)
    try:
        if prefix:
            check_user(prefix + "0")
    except InvalidName as error:
        raise ValueError(f"{prefix!r} begins no user id: {error.message}") from None
    if len(prefix) > MAX_PREFIX_CHARACTERS:
        raise ValueError(f"is longer than {MAX_PREFIX_CHARACTERS} characters")
    return prefix
