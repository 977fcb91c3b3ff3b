"""Errors of commands: one sentence on stderr and an exit status, never a traceback."""

from __future__ import annotations

from typing import Any

import click


class Rejected(click.ClickException):
    """The gateway rejected the request or the connection."""

    exit_code = 1


class UsageError(click.ClickException):
    """The arguments of the command or the settings are wrong."""

    exit_code = 2


class Unreachable(click.ClickException):
    """No gateway answers."""

    exit_code = 3


class Commands(click.Group):
    """The group of all commands. SettingsError ends each of them with the list of problems and status 2."""

    def invoke(self, ctx: click.Context) -> Any:
        from gateway.settings import SettingsError

        try:
            return super().invoke(ctx)
        except SettingsError as error:
            raise UsageError(str(error)) from None
