"""Read, parse, check and freeze the settings."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from gateway.domain.ingest_keys import IngestKey
from gateway.settings.checks import JWT_KEYS, check, default_algorithms
from gateway.settings.events import read_event_catalogue
from gateway.settings.model import KNOWN, Problems, Settings
from gateway.settings.sources import RawValue, read_sources
from gateway.settings.webhooks import with_secrets

DEVELOPMENT: Final = "default of --dev"
GENERATED: Final = "generated for development"
DEV_KEY_ID: Final = "dev"


class DevelopmentSecrets(NamedTuple):
    """Secrets of development mode. ``ingest`` is that of the key DEV_KEY_ID."""

    jwt: str
    ingest: str

    @classmethod
    def generate(cls) -> DevelopmentSecrets:
        """Return new random secrets."""
        return cls(secrets.token_urlsafe(32), secrets.token_urlsafe(32))

    @property
    def ingest_keys(self) -> str:
        """The value of INGEST_KEYS."""
        return f"{DEV_KEY_ID}:{self.ingest}"


def load_settings(
    environ: Mapping[str, str],
    *,
    dev: bool = False,
    dev_secrets: DevelopmentSecrets | None = None,
    require_keys: bool = True,
) -> Settings:
    """Return the settings of an environment and of the files that it names.

    ``dev`` listens on the loopback addresses, allows every origin and takes the secrets that are not set from
    ``dev_secrets``, or generates them.
    ``require_keys=False`` is for commands that call a gateway and may lack its keys and its event catalogue.

    Raises: SettingsError with every problem.
    """
    problems = Problems()
    raw_values = read_sources(environ, problems)
    parsed = _parse(raw_values, problems)
    origins = {name: raw_values[name].source for name in parsed}
    if dev:
        defaults = _dev_defaults(raw_values, problems, dev_secrets or DevelopmentSecrets.generate())
        parsed |= defaults
        origins |= {name: GENERATED if KNOWN[name].secret else DEVELOPMENT for name in defaults}
    settings = Settings(**parsed, origins=origins)
    check(settings, problems, require_keys=require_keys)
    if require_keys:
        settings = dataclasses.replace(settings, event_catalogue=read_event_catalogue(settings, problems))
    problems.raise_any(log_format=settings.log_format)
    if not settings.jwt_algorithms:
        settings = dataclasses.replace(settings, jwt_algorithms=default_algorithms(settings))
    return dataclasses.replace(settings, webhooks=with_secrets(settings.webhooks, settings.webhook_secrets))


def _parse(raw_values: Mapping[str, RawValue], problems: Problems) -> dict[str, Any]:
    parsed: dict[str, Any] = {}
    for name, spec in KNOWN.items():
        if name not in raw_values:
            continue
        try:
            parsed[name] = spec.parse(raw_values[name].value)
        except ValueError as error:
            for sentence in error.args:
                problems.add(name, str(sentence), where=raw_values[name].where)
    return parsed


def _dev_defaults(
    raw_values: Mapping[str, RawValue], problems: Problems, dev_secrets: DevelopmentSecrets
) -> dict[str, Any]:
    """Return the values of development mode for settings that are not set."""
    defaults: dict[str, Any] = {"host": "localhost", "cors_origins": ("*",)}
    if not {*JWT_KEYS, "issuers"} & raw_values.keys():
        defaults["jwt_secret"] = (dev_secrets.jwt,)
    defaults["ingest_keys"] = (IngestKey(DEV_KEY_ID, (dev_secrets.ingest,)),)
    return {
        name: value
        for name, value in defaults.items()
        if name not in raw_values and not problems.has_error(name)
    }
