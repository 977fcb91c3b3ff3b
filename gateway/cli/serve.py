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
    help="For trying it out on this machine: needs no settings, makes random secrets for the run, allows every "
    "origin, serves a page at /dev and prints commands to paste.",
)
def serve(dev: bool) -> None:
    """Run the gateway until Ctrl-C or SIGTERM.

    Then clients are sent away over DRAIN_SECONDS and requests finish; a second signal ends it at once.

    Without --dev it needs at least a key to check tokens with and a key for your backends. Ends with status 2 and
    the list of every problem if the settings cannot be used. SIGHUP reads files of settings and secrets anew and takes
    over ingest keys, keys of tokens and the log level.

    \b
    Examples:
      sio-gateway serve --dev
      GATEWAY_JWT_SECRET_FILE=/run/secrets/jwt GATEWAY_INGEST_KEYS_FILE=/run/secrets/keys sio-gateway serve
    """
    from gateway import signals

    signals.defer()

    from gateway.settings import SettingsError, load_settings

    # Before anything heavy is imported: a wrong setting is answered at once.
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
    """Where the log is JSON every line is, this one too; people get a list."""
    import structlog

    from gateway.logs import configure_logging

    configure_logging("error", "json")
    log = structlog.get_logger(__name__)
    log.error("gateway.cannot_start", reason=error.summary, problems=error.problems)


def _development(settings: Settings) -> Development:
    """What the page at /dev needs of the command line."""
    from gateway.cli.banner import dev_commands
    from gateway.cli.token import signed_token
    from gateway.dev_console import Development

    def issue_token(user: str) -> str:
        try:
            return signed_token(settings, user, ttl_seconds=DEV_TOKEN_SECONDS)
        except UsageError as error:
            raise ValueError(error.message) from error

    return Development(issue_token=issue_token, commands=lambda url: dev_commands(settings, url))
