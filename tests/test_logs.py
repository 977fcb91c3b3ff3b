"""What the process writes about itself, seen from outside: one line for each fact, whoever says it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from typing import Any

import pytest

PROGRAM = """
import asyncio, logging, sys, warnings
import structlog
from gateway.logs import configure_logging

level, format = sys.argv[1:3]
log = structlog.get_logger("gateway.before")  # made before, as at the head of a module
configure_logging(level, format)
{code}
"""


def lines(code: str, *, level: str = "info", format: str = "json") -> list[str]:  # noqa: A002
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(code=code), level, format],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert answer.stdout == ""
    return answer.stderr.splitlines()


def only(code: str, **options: str) -> dict[str, Any]:
    (line,) = lines(code, **options)
    entry: dict[str, Any] = json.loads(line)
    return entry


def test_a_fact_is_one_json_object_with_time_level_and_event_first() -> None:
    entry = only("log.info('connection.accepted', user='ü', count=2)")

    assert list(entry) == ["timestamp", "level", "event", "user", "count"]
    assert entry["timestamp"].endswith("Z")
    assert (entry["level"], entry["event"], entry["user"]) == ("info", "connection.accepted", "ü")


@pytest.mark.parametrize("name", ["aiohttp.server", "asyncio", "anything"])
def test_what_a_library_says_has_the_same_form(name: str) -> None:
    entry = only(f"logging.getLogger({name!r}).warning('%s is odd', 'this')")

    assert (entry["level"], entry["event"], entry["logger"]) == ("warning", "this is odd", name)


def test_a_traceback_stays_on_the_line() -> None:
    raising = "try:\n    1 / 0\nexcept ZeroDivisionError:\n    {}"

    ours = only(raising.format("log.exception('publish.failed')"))
    theirs = only(raising.format("logging.getLogger('x').exception('failed')"))

    assert ours["exception"].endswith("ZeroDivisionError: division by zero")
    assert theirs["exception"].endswith("ZeroDivisionError: division by zero")


def test_a_warning_of_python_has_the_same_form() -> None:
    entry = only("warnings.warn('old')")

    assert entry["logger"] == "py.warnings"
    assert "UserWarning: old" in entry["event"]


def test_less_than_the_level_is_not_written() -> None:
    code = "log.debug('a'); log.info('b'); logging.getLogger('x').info('c'); log.warning('d'); log.error('e')"

    assert [json.loads(line)["event"] for line in lines(code, level="warning")] == ["d", "e"]
    assert [json.loads(line)["event"] for line in lines(code, level="debug")] == ["a", "b", "c", "d", "e"]


def test_socketio_servers_bring_no_handler_of_their_own_and_keep_packets_to_themselves() -> None:
    code = (
        "import socketio; server = socketio.AsyncServer(async_mode='aiohttp'); "
        "server.logger.info('received packet'); server.eio.logger.info('received packet'); "
        "server.logger.error('one'); server.eio.logger.error('two')"
    )

    found = [json.loads(line) for line in lines(code, level="debug")]

    assert [(entry["logger"], entry["event"]) for entry in found if entry["logger"] != "asyncio"] == [
        ("socketio.server", "one"),
        ("engineio.server", "two"),
    ]


def test_what_bears_the_name_of_a_secret_is_masked() -> None:
    entry = only("log.info('x', token='t', secret='s', signature='v1', query='a=b', data={'a': 1}, user='u')")

    assert {name: value for name, value in entry.items() if value != "********"} == {
        "timestamp": entry["timestamp"],
        "level": "info",
        "event": "x",
        "user": "u",
    }


def test_people_get_lines_of_their_own() -> None:
    (line,) = lines("log.info('connection.accepted', user='alice')", format="console")

    assert "connection.accepted" in line
    assert "user=alice" in line
    with pytest.raises(ValueError):
        json.loads(line)


def test_the_form_follows_where_the_lines_go() -> None:
    code = "log.info('connection.accepted')"
    ours, theirs = pty.openpty()
    program = [sys.executable, "-c", PROGRAM.format(code=code), "info", "auto"]
    subprocess.run(program, stderr=theirs, check=True, timeout=30)
    os.close(theirs)
    on_terminal = os.read(ours, 4096).decode()
    os.close(ours)

    assert json.loads(lines(code, format="auto")[0])["event"] == "connection.accepted"
    assert "\x1b[" in on_terminal
    assert "connection.accepted" in on_terminal


def test_set_up_twice_it_writes_once() -> None:
    code = "configure_logging(level, format); log.info('a'); logging.getLogger('x').info('b')"

    assert [json.loads(line)["event"] for line in lines(code)] == ["a", "b"]
