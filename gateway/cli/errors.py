"""How a command ends when it could not do its work: one sentence on stderr and an exit status, never a traceback."""

from __future__ import annotations

from typing import Any

import click


class Rejected(click.ClickException):
    """The gateway answered, and the answer was no."""

    exit_code = 1


class UsageError(click.ClickException):
    """The command cannot work as it was given, or with these settings."""

    exit_code = 2


class Unreachable(click.ClickException):
    """Nothing that is a gateway answers."""

    exit_code = 3


class Commands(click.Group):
    """The commands; settings that cannot be used end any of them with the list of problems and status 2."""

    def invoke(self, ctx: click.Context) -> Any:
        from gateway.settings import SettingsError

        try:
            return super().invoke(ctx)
        except SettingsError as error:
            raise UsageError(str(error)) from None
