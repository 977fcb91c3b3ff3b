"""Parsers of webhooks and of their secrets. No sentence quotes text that may be part of a secret or a URL."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar
from urllib.parse import urlsplit

from gateway.domain.ingest_keys import Scope
from gateway.domain.notifications import MAX_KEEP_SECONDS, MAX_PARTITIONS
from gateway.domain.webhooks import Webhook, WebhookTls, decode_secret, parse_may
from gateway.settings.files import MIB, check_regular, read_file, read_secret
from gateway.settings.values import (
    attempt,
    boolean,
    identifier,
    integer,
    read_items,
    seconds,
    text,
    web_address,
)

T = TypeVar("T")

MIN_TIMEOUT_SECONDS: Final = 0.1
MAX_TIMEOUT_SECONDS: Final = 25.0
MAX_IN_FLIGHT: Final = 1000
MAX_BATCH: Final = 100
MIN_KEEP_SECONDS: Final = 60.0
_MAX_PEM_BYTES: Final = 16 * MIB
_FIELDS: Final = (
    "id", "url", "secret", "secrets", "secret_file", "timeout_seconds", "in_flight", "may", "insecure", "ca_file",
    "cert_file", "key_file", "batch", "keep_seconds", "partitions",
)  # fmt: skip
_FILES: Final = ("ca_file", "cert_file", "key_file")


def webhooks(raw: object) -> tuple[Webhook, ...]:
    """Parse ``id=url,id=url`` or a YAML list of mappings. Webhooks may lack secrets (``webhook_secrets``).

    Raises: ValueError with one sentence for each problem.
    """
    found, sentences = read_items(
        raw, _webhook, noun="webhook", form="id=url,id=url nor a list of mappings with an id and a url"
    )
    ids = [each.id for each in found]
    sentences += [f"two webhooks have the id {each!r}" for each in dict.fromkeys(ids) if ids.count(each) > 1]
    if sentences:
        raise ValueError(*sentences)
    return tuple(found)


def webhook_secrets(raw: object) -> Mapping[str, tuple[str, ...]]:
    """Parse ``id:secret``, separated by commas or line breaks; an id that repeats has several secrets.

    Raises: ValueError with one sentence for each problem.
    """
    pairs = [part.strip(" \t\r").partition(":") for part in text(raw).replace("\n", ",").split(",")]
    secrets: dict[str, tuple[str, ...]] = {}
    sentences: list[str] = []
    for number, (webhook, colon, secret) in enumerate(pairs, start=1):
        try:
            if not colon:
                raise ValueError("has no colon between the id of a webhook and a secret")
            secrets[identifier(webhook)] = _distinct((*secrets.get(webhook, ()), _secret(secret)))
        except ValueError as error:
            sentences.extend(f"secret {number}: {sentence}" for sentence in error.args)
    if sentences:
        raise ValueError(*sentences)
    return MappingProxyType(secrets)


def with_secrets(found: tuple[Webhook, ...], secrets: Mapping[str, tuple[str, ...]]) -> tuple[Webhook, ...]:
    """Return the webhooks, those without a secret with theirs of ``secrets``."""
    return tuple(
        each if each.secrets else dataclasses.replace(each, secrets=secrets.get(each.id, ()))
        for each in found
    )


def _webhook(item: object) -> Webhook:
    if isinstance(item, str):
        webhook, equals, url = item.rstrip(" \t").partition("=")
        if not equals:
            raise ValueError("has no equals sign between its id and its URL")
        return Webhook(id=identifier(webhook), url=_url(url))
    if not isinstance(item, dict):
        raise ValueError("is not a mapping with an id and a url")
    return _webhook_of_mapping(item)


def _webhook_of_mapping(item: dict[object, object]) -> Webhook:
    sentences = [
        f"unknown field {str(name)!r}; known are {', '.join(_FIELDS)}" for name in item if name not in _FIELDS
    ]

    def optional(name: str, parse: Callable[[object], T], default: T) -> T:
        try:
            return parse(item[name]) if name in item else default
        except ValueError as error:
            sentences.extend(f"{name} {sentence}" for sentence in error.args)
            return default

    webhook = Webhook(
        id=attempt(sentences, identifier, item.get("id"), ""),
        url=attempt(sentences, _url, item.get("url"), ""),
        secrets=attempt(sentences, _secrets, item, ()),
        timeout_seconds=optional("timeout_seconds", _timeout, 5.0),
        in_flight=optional("in_flight", integer(1, MAX_IN_FLIGHT), 64),
        may=attempt(sentences, _may, item.get("may", []), ()),
        insecure=optional("insecure", boolean, False),
        batch=optional("batch", integer(1, MAX_BATCH), 1),
        keep_seconds=optional("keep_seconds", _keep_seconds, 86_400.0),
        partitions=optional("partitions", integer(1, MAX_PARTITIONS), 16),
        tls=attempt(sentences, _tls, item, WebhookTls()),
    )
    if sentences:
        raise ValueError(*sentences)
    return webhook


def _url(raw: object) -> str:
    try:
        url = web_address(raw)
    except ValueError:
        raise ValueError(
            "its url does not begin with https:// or http:// and a host, or contains spaces, a user name or a password"
        ) from None
    if urlsplit(url).fragment:
        raise ValueError("its url has a fragment, which is never sent")
    return url


def _timeout(raw: object) -> float:
    value = seconds(raw)
    if not MIN_TIMEOUT_SECONDS <= value <= MAX_TIMEOUT_SECONDS:
        raise ValueError(f"is not from {MIN_TIMEOUT_SECONDS} to {MAX_TIMEOUT_SECONDS:.0f} seconds")
    return value


def _keep_seconds(raw: object) -> float:
    value = seconds(raw)
    if not MIN_KEEP_SECONDS <= value <= MAX_KEEP_SECONDS:
        raise ValueError(f"is not from {MIN_KEEP_SECONDS:.0f} to {MAX_KEEP_SECONDS:.0f} seconds")
    return value


def _secrets(item: dict[object, object]) -> tuple[str, ...]:
    present = [name for name in ("secret", "secrets", "secret_file") if name in item]
    if not present:
        return ()
    if len(present) > 1:
        raise ValueError("it has more than one of secret, secrets and secret_file")
    value = item[present[0]]
    values = value if present[0] == "secrets" else [value]
    if present[0] == "secret_file":
        values = read_secret(Path(text(value))).split("\n")
    if not isinstance(values, list) or not values:
        raise ValueError("its secrets are not a list of strings")
    return _distinct(tuple(_secret(each) for each in values))


def _secret(raw: object) -> str:
    secret = text(raw).removesuffix("\r")
    decode_secret(secret)
    return secret


def _distinct(secrets: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(secrets)) < len(secrets):
        raise ValueError("it has the same secret twice")
    return secrets


def _may(raw: object) -> tuple[Scope, ...]:
    if not isinstance(raw, list) or not all(isinstance(each, str) for each in raw):
        raise ValueError("may is not a list of strings")
    return tuple(parse_may(each) for each in raw)


def _tls(item: dict[object, object]) -> WebhookTls:
    paths = {name: text(item[name]) for name in _FILES if name in item}
    if not paths:
        return WebhookTls()
    if ("cert_file" in paths) != ("key_file" in paths):
        raise ValueError("it needs both of cert_file and key_file, or none")
    if str(item.get("url", "")).startswith("http:"):
        raise ValueError(f"{' and '.join(paths)} need a url that begins with https://")
    digest = hashlib.sha256()
    for path in paths.values():
        check_regular(Path(path))
        content = read_file(Path(path), limit_bytes=_MAX_PEM_BYTES)
        digest.update(hashlib.sha256(content).digest())
    tls = WebhookTls(**paths, digest=digest.hexdigest())
    # Imported here, because few installations need it and it imports aiohttp.
    from gateway.webhooks.connections import create_ssl_context

    create_ssl_context(tls)
    return tls
