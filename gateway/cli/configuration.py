"""``sio-gateway check-config`` and ``sio-gateway print-env``."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from gateway.settings import Settings

_MASK: Final = "********"

_dev = click.option("--dev", is_flag=True, help="Use the defaults of `serve --dev`.")


@click.command("check-config")
@_dev
def check_config(dev: bool) -> None:
    """Check every setting without starting anything.

    Reads the environment variables GATEWAY_… and the files that they name. Prints `ok` (exit status 0), or every
    problem at once (exit status 2). Warnings about settings and the event catalogue go to stderr and change no exit
    status.

    \b
    Example:
      GATEWAY_CONFIG=gateway.yaml sio-gateway check-config
    """
    from gateway.settings import load_settings, warnings

    settings = load_settings(os.environ, dev=dev)
    for warning in warnings(settings):
        click.echo(f"Warning: {warning}", err=True)
    if settings.events_file is not None:
        from gateway.events import warnings as warnings_of_events

        for sentence in warnings_of_events(settings.event_catalogue):
            click.echo(f"Warning: {settings.events_file}: {sentence}", err=True)
    click.echo("ok")


@click.command("print-env")
@_dev
def print_env(dev: bool) -> None:
    """Print the settings in effect, with masked secrets.

    Prints one line for each setting: the variable, its value and the source of the value (default, environment, a
    file, YAML). An empty value means "not set". If the settings have problems, prints these (exit status 2).

    \b
    Example:
      sio-gateway print-env | grep JWT
    """
    from gateway.settings import load_settings

    for line in _lines(load_settings(os.environ, dev=dev)):
        click.echo(line)


def _lines(settings: Settings) -> Iterator[str]:
    from gateway.settings.model import KNOWN, PREFIX, as_text

    for name, spec in KNOWN.items():
        value = getattr(settings, name)
        text = as_text(value)
        if spec.secret and text:
            text = _masked(name, value)
        elif text:
            text = shlex.quote(text)
        yield f"{PREFIX}{name.upper()}={text}  # {settings.origins.get(name, 'default')}"


def _masked(name: str, value: object) -> str:
    if name in {"ingest_keys", "webhooks"} and isinstance(value, tuple):
        separator = ":" if name == "ingest_keys" else "="
        return ",".join(f"{each.id}{separator}{_MASK}" for each in value)
    if isinstance(value, Mapping):
        return ",".join(f"{webhook}:{_MASK}" for webhook in value)
    return _MASK
