"""Takes over settings that may change while the process runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import structlog

from gateway.app.rooms import Rooms
from gateway.logs import configure_logging, more_talkative
from gateway.settings import Settings, differing

log = structlog.get_logger(__name__)

JWT_KEYS: Final = frozenset({"jwt_secret", "jwt_public_key", "jwt_jwks_url", "jwt_algorithms"})
RELOADED: Final = JWT_KEYS | {"ingest_keys", "log_level"}
"""All others need another process."""


def reload(rooms: Rooms, settings: Settings) -> None:
    """Use the new keys and the new log level from now on, for whoever comes; nobody who is here is dropped."""
    changed = differing(rooms.settings, settings)
    if JWT_KEYS & changed:
        rooms.verifier.change_keys(
            algorithms=settings.jwt_algorithms,
            secret=settings.jwt_secret,
            public_key=settings.jwt_public_key,
            jwks_url=settings.jwt_jwks_url,
        )
    if "ingest_keys" in changed:
        rooms.use_ingest_keys(settings.ingest_keys)
    taken = {name: getattr(settings, name) for name in RELOADED & changed}
    former, rooms.settings = rooms.settings, replace(rooms.settings, **taken)
    # Whoever makes the log quieter wants to see that this was heard.
    configure_logging(more_talkative(former.log_level, settings.log_level), former.log_format)
    log.info("settings.reloaded", changed=sorted(taken), ingest_keys=[key.id for key in settings.ingest_keys])
    if changed - RELOADED:
        log.warning(
            "settings.need_restart",
            names=sorted(changed - RELOADED),
            reason="these settings were changed, and hold once the process is started again",
        )
    configure_logging(settings.log_level, former.log_format)
