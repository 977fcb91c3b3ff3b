"""``sio-gateway webhooks``: test a webhook, look at its queue, replay or drop its dead letters."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Final
from urllib.parse import quote

import click

from gateway.cli.errors import Rejected, UsageError
from gateway.cli.http_client import EXIT_STATUSES, Endpoint, fetch, find_endpoint, print_json, url_option

_IDS_IN_A_REQUEST: Final = 100
_COLUMNS: Final = ("id", "user", "type", "reason", "status", "dead_at")

_ID_LIKE_AN_OPTION: Final = re.compile(r"-[A-Za-z0-9_-]{15,}")


class _CommandWithIds(click.Command):
    """A command whose arguments may begin with a hyphen, as ids of notifications do. No option is so long."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        before, separator, behind = _split(args)
        ids = [each for each in before if _ID_LIKE_AN_OPTION.fullmatch(each)]
        if ids:
            others = [each for each in before if each not in ids]
            return super().parse_args(ctx, [*others, "--", *ids, *behind])
        return super().parse_args(ctx, [*before, *separator, *behind])


_letter_ids = click.argument("letters", metavar="[LETTER]...", nargs=-1)


@click.group()
def webhooks() -> None:
    """Test webhooks, and look after what waits for them.

    Notifications that a webhook does not accept become dead letters: `dead` lists them, `replay` sends them again,
    `drop` deletes them.

    \b
    Examples:
      sio-gateway webhooks test app
      sio-gateway webhooks list
      sio-gateway webhooks dead app
      sio-gateway webhooks replay app --all
    """


@webhooks.command("list", epilog=EXIT_STATUSES)
@url_option
def list_webhooks(url: str | None) -> None:
    """Print what the queue of each webhook holds.

    Prints one line of JSON for each webhook: entries, age of the oldest in seconds, dead letters, and the replicas that
    send. Signs with GATEWAY_KEY and GATEWAY_SECRET, else with the first of GATEWAY_INGEST_KEYS; the key needs the scope
    `admin`.

    \b
    Example:
      sio-gateway webhooks list
    """
    for webhook in fetch(find_endpoint(url), "GET", "/webhooks")["webhooks"]:
        print_json(webhook)


@webhooks.command(epilog=EXIT_STATUSES)
@click.argument("webhook_id", metavar="ID")
@click.option(
    "--json", "as_json", is_flag=True, help="One line of JSON for each, with the data of the event."
)
@url_option
def dead(webhook_id: str, as_json: bool, url: str | None) -> None:
    """Print the dead letters of the webhook ID, the oldest first.

    Prints a table: id, user, type, reason, status of the last answer, and since when it is a dead letter. Nothing is
    printed if there are none. The key needs the scope `admin`.

    \b
    Examples:
      sio-gateway webhooks dead app
      sio-gateway webhooks dead app --json | jq 'select(.reason == "rejected") | .data'
    """
    letters = _dead_letters(find_endpoint(url), webhook_id)
    if as_json:
        for letter in letters:
            print_json(letter)
    else:
        _print_table(letters)


@webhooks.command(epilog=EXIT_STATUSES, cls=_CommandWithIds)
@click.argument("webhook_id", metavar="ID")
@_letter_ids
@click.option("--all", "is_all", is_flag=True, help="All dead letters that there are now.")
@url_option
def replay(webhook_id: str, letters: tuple[str, ...], is_all: bool, url: str | None) -> None:
    """Send dead letters of the webhook ID again.

    Puts each LETTER, an id that `dead` prints, at the end of the queue. Letters that do not exist change nothing; the
    output counts the others. The key needs the scope `admin`.

    \b
    Examples:
      sio-gateway webhooks replay app p-42-1795262400000
      sio-gateway webhooks replay app --all
    """
    _change(webhook_id, "replay", "replayed", letters, is_all=is_all, url=url)


@webhooks.command(epilog=EXIT_STATUSES, cls=_CommandWithIds)
@click.argument("webhook_id", metavar="ID")
@_letter_ids
@click.option("--all", "is_all", is_flag=True, help="All dead letters that there are now.")
@url_option
def drop(webhook_id: str, letters: tuple[str, ...], is_all: bool, url: str | None) -> None:
    """Delete dead letters of the webhook ID for good.

    Deletes each LETTER, an id that `dead` prints. Letters that do not exist change nothing; the output counts the
    others. The key needs the scope `admin`.

    \b
    Example:
      sio-gateway webhooks drop app p-42-1795262400000
    """
    _change(webhook_id, "drop", "dropped", letters, is_all=is_all, url=url)


@webhooks.command("test")
@click.argument("webhook_id", metavar="ID")
def test_webhook(webhook_id: str) -> None:
    """Send `webhook.test` to the webhook ID and print what is wrong with it.

    Reads the same settings as `serve`. Names problems of DNS, connection, certificate, signature, status, form of
    the answer, and time.

    Exit status: 0 if it works, 1 if it does not, 2 if the settings are wrong or have no such webhook.

    \b
    Example:
      GATEWAY_CONFIG=gateway.yaml sio-gateway webhooks test app
    """
    from gateway.doctor import Level
    from gateway.doctor.webhooks import check_webhooks
    from gateway.settings import load_settings

    settings = load_settings(os.environ, require_keys=False)
    chosen = [each for each in settings.webhooks if each.id == webhook_id]
    if not chosen:
        ids = ", ".join(each.id for each in settings.webhooks) or "none"
        raise UsageError(f"GATEWAY_WEBHOOKS has no webhook {webhook_id!r}; configured: {ids}")
    ports = {settings.port, settings.ingest_port or settings.port}
    (finding,) = asyncio.run(check_webhooks(chosen, own_ports=ports))
    click.echo(f"{finding.level}: {finding.description}")
    if finding.remedy:
        click.echo(f"  → {finding.remedy}")
    sys.exit(1 if finding.level is Level.PROBLEM else 0)


def _split(args: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Return what is before the separator ``--``, the separator if there is one, and what is behind it."""
    place = args.index("--") if "--" in args else len(args)
    return args[:place], args[place : place + 1], args[place + 1 :]


def _path(webhook_id: str, call: str) -> str:
    return f"/webhooks/{quote(webhook_id, safe='')}/{call}"


def _dead_letters(endpoint: Endpoint, webhook_id: str) -> Iterator[dict[str, Any]]:
    """Yield all dead letters, a page for each request."""
    path = _path(webhook_id, "dead")
    cursor = None
    while True:
        page = fetch(endpoint, "GET", path if cursor is None else f"{path}?cursor={quote(cursor, safe='')}")
        yield from page["dead"]
        cursor = page["next"]
        if cursor is None:
            return


def _print_table(letters: Iterable[dict[str, Any]]) -> None:
    rows = [["-" if letter[name] is None else str(letter[name]) for name in _COLUMNS] for letter in letters]
    if not rows:
        return
    rows.insert(0, [name.upper() for name in _COLUMNS])
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _change(
    webhook_id: str, call: str, member: str, letters: tuple[str, ...], *, is_all: bool, url: str | None
) -> None:
    """Replay or drop dead letters, and print how many. What failed in between is printed, too."""
    if is_all == bool(letters):
        raise UsageError("name the dead letters, or use --all")
    endpoint = find_endpoint(url)
    if is_all:
        # All ids first: a letter that is replayed may soon be a dead letter again.
        letters = tuple(letter["id"] for letter in _dead_letters(endpoint, webhook_id))
    changed = 0
    for start in range(0, len(letters), _IDS_IN_A_REQUEST):
        body = json.dumps({"ids": letters[start : start + _IDS_IN_A_REQUEST]}).encode()
        try:
            changed += fetch(endpoint, "POST", _path(webhook_id, call), body)[member]
        except Rejected as error:
            raise Rejected(f"{error} ({changed} were {member} before)" if changed else str(error)) from None
    print_json({member: changed})
