"""``sio-gateway serve``."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

import click

from gateway.cli.errors import UsageError

if TYPE_CHECKING:
    from gateway.dev_console import Development
    from gateway.settings import Settings, SettingsError

DEV_TOKEN_SECONDS: Final = 12 * 3600


@click.command()
@click.option(
    "--dev",
    is_flag=True,
    help="Development mode: needs no settings, listens on this machine only, generates secrets for this run, allows "
    "every origin, serves a page at /dev and prints commands to paste.",
)
def serve(dev: bool) -> None:
    """Run the gateway until Ctrl-C or SIGTERM.

    On the signal it disconnects clients over GATEWAY_DRAIN_SECONDS and finishes running requests. A second signal ends
    it at once. SIGHUP reads the files of settings and secrets again and applies ingest keys, token keys and the log
    level.

    Without --dev it needs at least a key that verifies tokens and an ingest key for your backends. If the settings
    have problems it prints every problem (exit status 2).

    \b
    Examples:
      sio-gateway serve --dev
      GATEWAY_JWT_SECRET_FILE=/run/secrets/jwt GATEWAY_INGEST_KEYS_FILE=/run/secrets/keys sio-gateway serve
    """
    from gateway import signals

    signals.defer()

    from gateway.settings import SettingsError, load_settings

    # Before the large imports, so that a wrong setting is reported at once.
    try:
        settings = load_settings(os.environ, dev=dev)
    except SettingsError as error:
        if error.log_format == "console" or (error.log_format == "auto" and sys.stderr.isatty()):
            raise
        _log_problems(error)
        sys.exit(UsageError.exit_code)

    from gateway.cli.banner import dev_banner
    from gateway.logs import configure_logging
    from gateway.process import run

    configure_logging(settings.log_level, settings.log_format)

    if not dev:
        sys.exit(run(settings, load_again=lambda: load_settings(os.environ)))
    sys.exit(
        run(
            settings,
            development=_development(settings),
            on_listening=lambda url: click.echo(dev_banner(settings, url)),
        )
    )


def _log_problems(error: SettingsError) -> None:
    """Log the problems as one JSON line, because every line of a JSON log is JSON."""
    import structlog

    from gateway.logs import configure_logging

    configure_logging("error", "json")
    log = structlog.get_logger(__name__)
    log.error("gateway.cannot_start", reason=error.summary, problems=error.problems)


def _development(settings: Settings) -> Development:
    """Return the parts of the command line that the page at /dev needs."""
    from gateway.cli.banner import dev_commands
    from gateway.cli.token import signed_token
    from gateway.dev_console import Development

    def issue_token(user: str) -> str:
        try:
            return signed_token(settings, user, ttl_seconds=DEV_TOKEN_SECONDS)
        except UsageError as error:
            raise ValueError(error.message) from error

    return Development(issue_token=issue_token, commands_for=lambda url: dev_commands(settings, url))
