"""The command line: ``sio-gateway``, or ``python -m gateway``. One module for each command.

serve          run the gateway
banner         the text that ``serve --dev`` prints once it listens
token          print a token
emit           push an event
batch          push several events
presence       print whether users are connected
listings       ``stats``, ``users``, ``rooms`` and ``connections``
revoke         revoke a token
history        ``history room|user|broadcast``: print or erase messages
disconnect     disconnect a user, or the connections in a room
rooms          ``join`` and ``leave``
sign           print the headers of a signed request
keygen         print new secrets
listen         connect as a client and print every event
listener       the client of ``listen``
configuration  ``check-config`` and ``print-env``
documents      ``types`` and ``asyncapi``: documents of the event catalogue
doctor         print the findings of ``gateway.doctor``
webhooks       ``webhooks test|list|dead|replay|drop``
version        print the versions
http_client    signed requests to the REST API
errors         errors of commands and their exit statuses

A command imports what it needs when it runs, so that ``--help`` and ``version`` take little time.
"""

from __future__ import annotations

import click

from gateway import __version__
from gateway.cli.batch import batch
from gateway.cli.configuration import check_config, print_env
from gateway.cli.disconnect import disconnect
from gateway.cli.doctor import doctor
from gateway.cli.documents import asyncapi, types
from gateway.cli.emit import emit
from gateway.cli.errors import Commands
from gateway.cli.history import history
from gateway.cli.keygen import keygen
from gateway.cli.listen import listen
from gateway.cli.listings import connections, list_rooms, stats, users
from gateway.cli.presence import presence
from gateway.cli.revoke import revoke
from gateway.cli.rooms import join, leave
from gateway.cli.serve import serve
from gateway.cli.sign import sign
from gateway.cli.token import token
from gateway.cli.version import VERSION_LINE, version
from gateway.cli.webhooks import webhooks


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message=VERSION_LINE)
def commands() -> None:
    """Push events to browsers and apps: backends send one signed HTTP request, frontends listen with Socket.IO.

    \b
    Try it, in two terminals:
      sio-gateway serve --dev
      (then paste one of the commands that it prints)

    Every setting is an environment variable GATEWAY_…; docs/reference/configuration.md lists them. Each command has
    its own --help with an example.
    """


for _command in (
    serve,
    token,
    emit,
    batch,
    presence,
    stats,
    users,
    list_rooms,
    connections,
    disconnect,
    revoke,
    history,
    join,
    leave,
    sign,
    listen,
    keygen,
    check_config,
    print_env,
    types,
    asyncapi,
    doctor,
    webhooks,
    version,
):
    commands.add_command(_command)


def main() -> None:
    """Run the command line and end the process: the entry point of the console script and of ``python -m gateway``."""
    commands(prog_name="sio-gateway")
