"""``sio-gateway version``."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of

import click


def own_version() -> str:
    """Return the version of the installed distribution."""
    try:
        return version_of("sio-gateway")
    except PackageNotFoundError:
        return "not installed"


@click.command()
def version() -> None:
    """Print the version of the gateway and of Python.

    \b
    Example:
      sio-gateway version
    """
    click.echo(f"sio-gateway {own_version()} (Python {platform.python_version()})")
