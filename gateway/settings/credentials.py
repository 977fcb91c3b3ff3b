"""Parsers of credentials: secrets, the keys that verify JSON Web Tokens, ingest keys, the URL of Redis.

Which algorithm belongs to which key of tokens: RFC 7518 §3.1, RFC 8037. No sentence about an ingest key quotes text
that may be part of a secret.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from unicodedata import category

from gateway.domain.ingest_keys import ALL_SCOPES, MIN_SECRET_BYTES, IngestKey, Scope
from gateway.domain.rate_limit import Rate
from gateway.domain.redis_url import RedisUrl, parse_redis_url
from gateway.settings.files import check_regular, read_secret
from gateway.settings.values import (
    attempt,
    check_quotes,
    identifier,
    integer,
    per_second,
    read_items,
    text,
)

if TYPE_CHECKING:
    from jwt.algorithms import Algorithm

SYMMETRIC: Final = ("HS256", "HS384", "HS512")
_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512", "secp256k1": "ES256K"}
ASYMMETRIC: Final = (*_RSA, *_CURVES.values(), "EdDSA")
ALGORITHMS: Final = (*SYMMETRIC, *ASYMMETRIC)
# What identity providers publish; a key set may contain keys of each type.
JWKS_DEFAULT: Final = ("RS256", "ES256", "EdDSA")
_MIN_RSA_BITS: Final = 2048
MAX_JWT_SECRETS: Final = 4
"""Secrets of tokens at once: a token that none of them signed is checked with each."""
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
"""Control characters besides tabs and line breaks. A text with NUL is UTF-16 that was read as UTF-8."""
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp"})
"""Unicode categories of white space, controls and invisible marks."""
_CHARACTER_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "\n": "a line break",
        "\r": "a carriage return",
        " ": "a space",
        "\t": "a tab",
        "\xa0": "a no-break space (U+00A0)",
        "\ufeff": "a byte order mark (U+FEFF)",
    }
)
_FIELDS: Final = ("id", "secret", "secrets", "secret_file", "scopes", "rate")


def secret(raw: object) -> str:
    """Parse a secret. White space inside is a part of it, at its ends it is always a mistake.

    ``echo`` and editors add a line break, and the other side, which has none, would make signatures that never match.

    Raises: ValueError with one sentence, which names the character that is wrong and quotes nothing.
    """
    value = text(raw)
    if not value.strip():
        raise ValueError("consists of white space alone" if value else "is empty")
    for place, character in (("begins", value[0]), ("ends", value[-1])):
        if category(character) in _INVISIBLE:
            raise ValueError(f"{place} with {_name_of(character)}: remove it")
    check_quotes(value)
    control = _CONTROL.search(value)
    if control is not None:
        raise ValueError(f"contains {_name_of(control[0])}")
    return value


def _name_of(character: str) -> str:
    return _CHARACTER_NAMES.get(character, f"the invisible character U+{ord(character):04X}")


def redis_url(raw: object) -> RedisUrl:
    """Parse the URL of Redis or of its Sentinels. No sentence quotes the value, which may contain a password."""
    url = parse_redis_url(secret(raw))
    for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
        if name in url.options:
            check_regular(Path(url.options[name]))
    return url


def algorithm(raw: object) -> str:
    """Parse the name of an algorithm, in any case. ``none`` is not one.

    Raises: ValueError.
    """
    names = {name.lower(): name for name in ALGORITHMS}
    if not isinstance(raw, str) or raw.lower() not in names:
        raise ValueError(
            f"{raw!r} is not an algorithm that can be allowed; those are {', '.join(ALGORITHMS)}"
        )
    return names[raw.lower()]


def is_secret(text: str) -> bool:
    """Return False for a public key, a certificate and a JSON Web Key, which others know."""
    from jwt.algorithms import HMACAlgorithm
    from jwt.exceptions import InvalidKeyError

    try:
        HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(text)
    except InvalidKeyError:
        return False
    return True


def jwt_secrets(raw: object) -> tuple[str, ...]:
    """Parse the secrets of tokens: one a line, or a YAML list. All of them verify, and the first one signs.

    A PEM has several lines and is no secret, which ``checks`` reports.

    Raises: ValueError with one sentence for each problem.
    """
    if isinstance(raw, str) and raw.lstrip().startswith("-----BEGIN"):
        return (text(raw),)
    values = raw if isinstance(raw, list) else [line.removesuffix("\r") for line in secret(raw).split("\n")]
    if not values or len(values) > MAX_JWT_SECRETS:
        raise ValueError(f"has {len(values)} secrets: it takes 1 to {MAX_JWT_SECRETS}")
    secrets: list[str] = []
    sentences: list[str] = []
    for number, value in enumerate(values, start=1):
        try:
            secrets.append(secret(value))
        except ValueError as error:
            place = f"secret {number} " if len(values) > 1 else ""
            sentences.extend(place + sentence for sentence in error.args)
    if len(set(secrets)) < len(secrets):
        sentences.append("has the same secret twice")
    if sentences:
        raise ValueError(*sentences)
    return tuple(secrets)


def secret_problem(value: str) -> str | None:
    """Return why a secret of tokens cannot be used; None if it can."""
    if len(value.encode()) < MIN_SECRET_BYTES:
        return f"has fewer than {MIN_SECRET_BYTES} bytes; `openssl rand -hex 32` makes a good one"
    if not is_secret(value):
        return "is a public key, a certificate or a JSON Web Key, and so not a secret"
    return None


def usual_algorithms(secrets: Collection[str], pem: str | None, jwks_url: str | None) -> tuple[str, ...]:
    """Return the usual algorithms of keys: HS256, the one of the public key's type, those of identity providers."""
    algorithms: list[str] = []
    if secrets:
        algorithms.append("HS256")
    if pem is not None:
        algorithms.append(algorithms_for(pem)[0])
    if jwks_url is not None:
        algorithms.extend(JWKS_DEFAULT)
    return tuple(dict.fromkeys(algorithms))


def usable_algorithms(secrets: Collection[str], pem: str | None, jwks_url: str | None) -> frozenset[str]:
    """Return every algorithm that one of the keys can verify."""
    return frozenset(
        (*(SYMMETRIC if secrets else ()), *(algorithms_for(pem) if pem is not None else ()))
    ) | frozenset(ASYMMETRIC if jwks_url is not None else ())


def public_key(raw: object) -> str:
    """Parse a public key in PEM. In a single line ``\\n`` stands for a newline, as some shells and dashboards need it.

    Raises: ValueError.
    """
    raw = text(raw)
    pem = raw if "\n" in raw.strip() else raw.replace("\\n", "\n")
    if "PRIVATE KEY" in pem:
        raise ValueError("is a private key, which only the issuer of the tokens may have: use its public key")
    algorithms_for(pem)
    return pem


def algorithms_for(pem: str) -> tuple[str, ...]:
    """Return the algorithms that a public key can verify, the usual one first.

    Raises: ValueError if there is none.
    """
    # Imported here, because importing cryptography takes longer than everything else in this package.
    from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

    rsa = _load(RSAAlgorithm(RSAAlgorithm.SHA256), pem)
    if rsa is not None:
        if rsa.key_size < _MIN_RSA_BITS:  # type: ignore[attr-defined]  # of cryptography's RSAPublicKey
            raise ValueError(f"is an RSA key of fewer than {_MIN_RSA_BITS} bits")
        return _RSA
    curve = _load(ECAlgorithm(ECAlgorithm.SHA256), pem)
    if curve is not None and curve.curve.name in _CURVES:  # type: ignore[attr-defined]  # EllipticCurvePublicKey
        return (_CURVES[curve.curve.name],)  # type: ignore[attr-defined]
    if _load(OKPAlgorithm(), pem) is not None:
        return ("EdDSA",)
    raise ValueError(
        "is not a public key in PEM (-----BEGIN PUBLIC KEY-----) for RSA, ES256/384/512/256K or EdDSA"
    )


def _load(kind: Algorithm, pem: str) -> object | None:
    from jwt.exceptions import InvalidKeyError

    try:
        key: object = kind.prepare_key(pem)
    except (InvalidKeyError, ValueError, TypeError):
        return None
    return key


def ingest_keys(raw: object) -> tuple[IngestKey, ...]:
    """Parse ``id:secret,id:secret``, each split at its first colon, or a YAML list of mappings.

    Raises: ValueError with one sentence for each problem.
    """
    keys, sentences = read_items(
        raw, _key, noun="key", form="id:secret,id:secret nor a list of mappings with an id and a secret"
    )
    sentences += _clashes(keys)
    if sentences:
        raise ValueError(*sentences)
    return tuple(keys)


def _key(item: object) -> IngestKey:
    if isinstance(item, str):
        key_id, colon, value = item.partition(":")
        if not colon:
            raise ValueError("has no colon between its id and its secret (a secret contains no comma)")
        return IngestKey(identifier(key_id), (_secret(value),))
    if not isinstance(item, dict):
        raise ValueError("is not a mapping with an id and a secret")
    return _key_of_mapping(item)


def _key_of_mapping(item: dict[object, object]) -> IngestKey:
    sentences = [
        f"unknown field {str(name)!r}; known are {', '.join(_FIELDS)}" for name in item if name not in _FIELDS
    ]
    key = IngestKey(
        attempt(sentences, identifier, item.get("id"), ""),
        attempt(sentences, _secrets, item, ()),
        attempt(sentences, _scopes, item["scopes"], ()) if "scopes" in item else ALL_SCOPES,
        attempt(sentences, _rate, item["rate"], None) if "rate" in item else None,
    )
    if sentences:
        raise ValueError(*sentences)
    return key


def _secrets(item: dict[object, object]) -> tuple[str, ...]:
    present = [name for name in ("secret", "secrets", "secret_file") if name in item]
    if len(present) != 1:
        raise ValueError("it needs exactly one of secret, secrets and secret_file")
    value = item[present[0]]
    values = value if present[0] == "secrets" else [value]
    if present[0] == "secret_file":
        # One secret on each line, so that a mounted file can rotate a key without a change of the settings.
        values = read_secret(Path(text(value))).split("\n")
    if not isinstance(values, list) or not values:
        raise ValueError("its secrets are not a list of strings")
    secrets = tuple(_secret(each) for each in values)
    if len(set(secrets)) < len(secrets):
        raise ValueError("it has the same secret twice")
    return secrets


def _secret(raw: object) -> str:
    try:
        value = secret(raw)
    except ValueError as error:
        raise ValueError(f"its secret {error}") from None
    if len(value.encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"its secret has fewer than {MIN_SECRET_BYTES} bytes")
    if any(character < " " for character in value):
        raise ValueError("its secret contains a tab or a line break")
    return value


def _scopes(raw: object) -> tuple[Scope, ...]:
    if not isinstance(raw, list) or not raw or not all(isinstance(each, str) for each in raw):
        raise ValueError("its scopes are not a list of strings; omit them to allow everything")
    return tuple(Scope.parse(each) for each in raw)


def _rate(raw: object) -> Rate:
    if not isinstance(raw, dict):
        rate = per_second(raw)
        return Rate(rate, max(1, math.ceil(rate)))
    if set(raw) != {"per_second", "burst"}:
        raise ValueError("its rate is neither a number nor a mapping of per_second and burst")
    return Rate(per_second(raw["per_second"]), integer(1)(raw["burst"]))


def _clashes(keys: list[IngestKey]) -> list[str]:
    sentences: list[str] = []
    ids = [key.id for key in keys]
    sentences += [f"two keys have the id {each!r}" for each in dict.fromkeys(ids) if ids.count(each) > 1]
    owners: dict[str, str] = {}
    for key in keys:
        for each in key.secrets:
            other = owners.setdefault(each, key.id)
            if other != key.id:
                sentences.append(f"the keys {other!r} and {key.id!r} have the same secret")
    return sentences
