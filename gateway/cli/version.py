"""``sio-gateway version``."""

from __future__ import annotations

import platform
from typing import Final

import click

from gateway import __version__

VERSION_LINE: Final = f"sio-gateway {__version__} (Python {platform.python_version()})"


@click.command()
def version() -> None:
    """Print the version of the gateway and of Python.

    \b
    Example:
      sio-gateway version
    """
    click.echo(VERSION_LINE)
