"""``sio-gateway serve``."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from gateway.cli.errors import UsageError

if TYPE_CHECKING:
    from gateway.dev_console import Development
    from gateway.settings import Settings, SettingsError
    from gateway.settings.load import DevelopmentSecrets

DEV_TOKEN_SECONDS: Final = 12 * 3600
_SECRETS_FILE: Final = """\
# Secrets of `serve --dev`. Not for production. Delete this file to get new ones.
GATEWAY_JWT_SECRET={new.jwt}
GATEWAY_INGEST_KEYS={new.ingest_keys}
"""


@click.command()
@click.option("--host", metavar="ADDRESS", help="Listen on this address; overrides GATEWAY_HOST.")
@click.option("--port", metavar="PORT", help="Listen on this port; overrides GATEWAY_PORT.")
@click.option(
    "--dev",
    is_flag=True,
    help="Development mode: needs no settings, listens on this machine only, generates secrets for this run, allows "
    "every origin, serves a page at /dev and prints commands to paste.",
)
@click.option(
    "--secrets-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="With --dev: keep the generated secrets in this file, so that they survive a restart. It is created if it "
    "does not exist.",
)
def serve(host: str | None, port: str | None, dev: bool, secrets_file: Path | None) -> None:
    """Run the gateway until Ctrl-C or SIGTERM.

    On the signal it disconnects clients over GATEWAY_DRAIN_SECONDS and finishes running requests. A second signal ends
    it at once. SIGHUP reads the files of settings and secrets again and applies ingest keys, token keys and the log
    level.

    Without --dev it needs at least a key that verifies tokens and an ingest key for your backends. If the settings
    have problems it prints every problem (exit status 2). The log goes to stderr, which must be open.

    \b
    Examples:
      sio-gateway serve --dev --secrets-file .env
      GATEWAY_JWT_SECRET_FILE=/run/secrets/jwt GATEWAY_INGEST_KEYS_FILE=/run/secrets/keys sio-gateway serve
    """
    if sys.stderr is None:
        _report_closed_stderr()
        sys.exit(UsageError.exit_code)
    from gateway import signals

    signals.defer()

    from gateway.settings import SettingsError, load_settings

    options = {"GATEWAY_HOST": host, "GATEWAY_PORT": port}
    environ = os.environ | {name: value for name, value in options.items() if value is not None}
    dev_secrets = None
    if secrets_file is not None:
        if not dev:
            raise UsageError(
                "--secrets-file is for --dev: in production, set GATEWAY_JWT_SECRET_FILE and others"
            )
        dev_secrets = kept_secrets(secrets_file)
        # A shell may have read the file too; its secrets stay those of development.
        kept = {dev_secrets.jwt, dev_secrets.ingest_keys}
        environ = {name: value for name, value in environ.items() if value not in kept}
    # Before the large imports, so that a wrong setting is reported at once.
    try:
        settings = load_settings(environ, dev=dev, dev_secrets=dev_secrets)
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
        sys.exit(run(settings, load_again=lambda: load_settings(environ)))
    sys.exit(
        run(
            settings,
            development=_development(settings),
            on_listening=lambda url: click.echo(dev_banner(settings, url, secrets_file)),
        )
    )


def _report_closed_stderr() -> None:
    """Report that there is nowhere to log to: on stdout, or to syslog if that is closed too.

    Without a log an operator would not learn why the gateway fails. And the next file or socket that is opened gets
    the number 2, to which libraries write as they did to stderr.
    """
    sentence = (
        "stderr is closed, and the gateway writes its log there: connect it to a file, a pipe or a terminal "
        "(2>/dev/null discards the log)"
    )
    if sys.stdout is not None:
        click.echo(f"Error: {sentence}")
        return
    import syslog

    syslog.openlog("sio-gateway")
    syslog.syslog(syslog.LOG_ERR, sentence)


def kept_secrets(path: Path) -> DevelopmentSecrets:
    """Return the secrets of development mode in a file, which is created with new ones if it does not exist.

    Raises: UsageError if the file cannot be used.
    """
    from gateway.settings.files import read_file
    from gateway.settings.load import DEV_KEY_ID, DevelopmentSecrets

    try:
        if not path.exists():
            new = DevelopmentSecrets.generate()
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(_SECRETS_FILE.format(new=new))
        text = read_file(path).decode()
    except UnicodeDecodeError:
        raise UsageError(f"cannot use {path}: it is not UTF-8") from None
    except OSError as error:
        raise UsageError(f"cannot use {path}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(str(error)) from None
    jwt = re.search(r"^GATEWAY_JWT_SECRET=(\S{32,})$", text, re.MULTILINE)
    ingest = re.search(rf"^GATEWAY_INGEST_KEYS={DEV_KEY_ID}:([^\s,]{{32,}})$", text, re.MULTILINE)
    if jwt is None or ingest is None:
        raise UsageError(
            f"{path} lacks the lines GATEWAY_JWT_SECRET=… and GATEWAY_INGEST_KEYS={DEV_KEY_ID}:… with secrets of 32 "
            "characters or more: add them; or, for new ones, name another file or move this one away"
        )
    return DevelopmentSecrets(jwt[1], ingest[1])


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
