"""``sio-gateway doctor``."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from gateway.doctor import Finding
    from gateway.settings import Settings

_COLOURS: Final = {"ok": "green", "warning": "yellow", "problem": "red", "unknown": "cyan"}
_NAME_WIDTH: Final = 20
_INDENT: Final = 9
_WIDTH: Final = 110


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
@click.option("--dev", is_flag=True, help="Use the default settings of `serve --dev`.")
def doctor(as_json: bool, dev: bool) -> None:
    """Check the Redis, the host and the webhooks of a gateway.

    Reads the same settings as `serve` and changes nothing. Prints a finding, and a remedy if one is needed, for each
    of about fifteen checks: rights, version, role, eviction, memory, connections, output buffers, data loss in a crash,
    clock and round trip of Redis; open files of the host. Each webhook gets `webhook.test`, and its queue is examined.
    Unsafe settings get a warning.

    Exit status: 0 without problems (warnings are allowed), 1 when a problem keeps the gateway from working, 2 when the
    settings are wrong.

    \b
    Examples:
      GATEWAY_CONFIG=gateway.yaml sio-gateway doctor
      sio-gateway doctor --json | jq '.findings[] | select(.level != "ok")'
    """
    from gateway.doctor import Level, worst
    from gateway.settings import load_settings

    settings = load_settings(os.environ, dev=dev)
    findings = [*_of_settings(settings), *_run(settings)]
    level = worst(findings)
    if as_json:
        click.echo(json.dumps({"level": level, "findings": [_as_json(each) for each in findings]}, indent=2))
    else:
        for line in _lines(findings):
            click.echo(line)
    sys.exit(1 if level == Level.PROBLEM else 0)


def _of_settings(settings: Settings) -> list[Finding]:
    """Return a finding for each warning about the settings."""
    from gateway.doctor.findings import warning
    from gateway.settings import warnings

    return [
        warning(
            f"settings.{each.name}" + (f".{each.item}" if each.item else ""),
            f"GATEWAY_{each.name.upper()}: {each.sentence}.",
            each.remedy,
        )
        for each in warnings(settings)
    ]


def _run(settings: Settings) -> list[Finding]:
    from gateway.doctor import run_checks
    from gateway.doctor.facts import Requirements
    from gateway.doctor.webhooks import check_webhooks
    from gateway.state.redis import RedisState

    requirements = Requirements(
        max_connections=settings.max_connections,
        polling="polling" in settings.transports,
        history_bytes=settings.history_bytes,
        history_length=settings.history_length,
        timeout_seconds=RedisState.timeout_seconds,
        wait_replicas=settings.redis_wait_replicas,
        webhooks=tuple(each.id for each in settings.webhooks),
        notified=settings.event_catalogue.notified_webhooks(),
    )

    async def check_all() -> list[Finding]:
        ports = {settings.port, settings.ingest_port or settings.port}
        findings = await run_checks(
            url=settings.redis_url, prefix=settings.redis_prefix, requirements=requirements
        )
        return [*findings, *await check_webhooks(settings.webhooks, own_ports=ports)]

    return asyncio.run(check_all())


def _as_json(finding: Finding) -> dict[str, str]:
    return {
        "name": finding.name,
        "level": finding.level,
        "what": finding.description,
        "remedy": finding.remedy,
    }


def _lines(findings: Sequence[Finding]) -> Iterator[str]:
    for finding in findings:
        level = click.style(f"{finding.level:<{_INDENT}}", fg=_COLOURS[finding.level])
        first, *rest = _wrap(finding.description, _INDENT + _NAME_WIDTH)
        yield f"{level}{finding.name:<{_NAME_WIDTH}}{first}"
        yield from (" " * (_INDENT + _NAME_WIDTH) + line for line in rest)
        if finding.remedy:
            first, *rest = _wrap(finding.remedy, _INDENT + _NAME_WIDTH + 2)
            yield " " * (_INDENT + _NAME_WIDTH) + f"→ {first}"
            yield from (" " * (_INDENT + _NAME_WIDTH + 2) + line for line in rest)
    counts = Counter(finding.level for finding in findings)
    yield ""
    yield ", ".join(_counted(number, level) for level, number in counts.items())


def _counted(number: int, level: str) -> str:
    return f"{number} {level}{'s' if number > 1 and level in {'warning', 'problem'} else ''}"


def _wrap(sentence: str, indent: int) -> list[str]:
    return textwrap.wrap(sentence, _WIDTH - indent, break_long_words=False, break_on_hyphens=False) or [""]
