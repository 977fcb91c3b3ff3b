"""All of it together: read, parse, fill in what development needs, compare, freeze."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Mapping
from typing import Any, Final

from gateway.domain.ingest_keys import IngestKey
from gateway.settings.checks import check, default_algorithms
from gateway.settings.model import KNOWN, Settings
from gateway.settings.problems import Problems
from gateway.settings.sources import RawValue, read_sources

DEVELOPMENT: Final = "default of --dev"
GENERATED: Final = "made for this run"
DEV_KEY_ID: Final = "dev"


def load_settings(environ: Mapping[str, str], *, dev: bool = False, require_keys: bool = True) -> Settings:
    """The settings in an environment and in the files it names.

    ``dev`` listens on this machine only, allows every origin and makes random secrets where none are given.
    ``require_keys=False`` is for commands that are no gateway and may lack its keys. Raises SettingsError with every
    problem there is.
    """
    problems = Problems()
    given = read_sources(environ, problems)
    chosen = _parse(given, problems)
    origins = {name: given[name].source for name in chosen}
    if dev:
        made = _for_development(given, problems)
        chosen |= made
        origins |= {name: GENERATED if KNOWN[name].secret else DEVELOPMENT for name in made}
    settings = Settings(**chosen, origins=origins)
    check(settings, problems, require_keys=require_keys)
    problems.raise_any(log_format=settings.log_format)
    if not settings.jwt_algorithms:
        settings = dataclasses.replace(settings, jwt_algorithms=default_algorithms(settings))
    return settings


def _parse(given: Mapping[str, RawValue], problems: Problems) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for name, what in KNOWN.items():
        if name not in given:
            continue
        try:
            chosen[name] = what.parse(given[name].value)
        except ValueError as error:
            for sentence in error.args:
                problems.add(name, str(sentence), where=given[name].where)
    return chosen


def _for_development(given: Mapping[str, RawValue], problems: Problems) -> dict[str, Any]:
    made: dict[str, Any] = {"host": "127.0.0.1", "cors_origins": ("*",)}
    if not {"jwt_secret", "jwt_public_key", "jwt_jwks_url"} & given.keys():
        made["jwt_secret"] = secrets.token_urlsafe(32)
    made["ingest_keys"] = (IngestKey(DEV_KEY_ID, (secrets.token_urlsafe(32),)),)
    return {name: value for name, value in made.items() if name not in given and not problems.has_error(name)}
