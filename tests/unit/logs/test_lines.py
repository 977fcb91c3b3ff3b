"""The log of a process, read from its stderr: one line for each event, of our code and of libraries."""

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
log = structlog.get_logger("gateway.before")  # created before, as at the head of a module
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


def test_event_is_one_json_object_that_begins_with_time_level_and_name() -> None:
    entry = only("log.info('connection.accepted', user='ü', count=2)")

    assert list(entry) == ["timestamp", "level", "event", "user", "count"]
    assert entry["timestamp"].endswith("Z")
    assert (entry["level"], entry["event"], entry["user"]) == ("info", "connection.accepted", "ü")


@pytest.mark.parametrize("name", ["aiohttp.server", "asyncio", "anything"])
def test_line_of_a_library_has_the_same_form(name: str) -> None:
    entry = only(f"logging.getLogger({name!r}).warning('%s is odd', 'this')")

    assert (entry["level"], entry["event"], entry["logger"]) == ("warning", "this is odd", name)


def test_traceback_stays_on_the_line() -> None:
    raising = "try:\n    1 / 0\nexcept ZeroDivisionError:\n    {}"

    ours = only(raising.format("log.exception('publish.failed')"))
    theirs = only(raising.format("logging.getLogger('x').exception('failed')"))

    assert ours["exception"].endswith("ZeroDivisionError: division by zero")
    assert theirs["exception"].endswith("ZeroDivisionError: division by zero")


def test_warning_of_python_has_the_same_form() -> None:
    entry = only("warnings.warn('old')")

    assert entry["logger"] == "py.warnings"
    assert "UserWarning: old" in entry["event"]


def test_line_below_the_level_is_not_written() -> None:
    code = "log.debug('a'); log.info('b'); logging.getLogger('x').info('c'); log.warning('d'); log.error('e')"

    assert [json.loads(line)["event"] for line in lines(code, level="warning")] == ["d", "e"]
    assert [json.loads(line)["event"] for line in lines(code, level="debug")] == ["a", "b", "c", "d", "e"]


def test_socketio_servers_add_no_handler_and_log_no_packets() -> None:
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


def test_field_with_the_name_of_a_secret_is_masked() -> None:
    entry = only("log.info('x', token='t', secret='s', signature='v1', query='a=b', data={'a': 1}, user='u')")

    assert {name: value for name, value in entry.items() if value != "********"} == {
        "timestamp": entry["timestamp"],
        "level": "info",
        "event": "x",
        "user": "u",
    }


def test_console_format_is_for_people() -> None:
    (line,) = lines("log.info('connection.accepted', user='alice')", format="console")

    assert "connection.accepted" in line
    assert "user=alice" in line
    with pytest.raises(ValueError):
        json.loads(line)


def test_format_auto_depends_on_the_stream() -> None:
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


def test_line_is_written_once_after_logging_was_configured_twice() -> None:
    code = "configure_logging(level, format); log.info('a'); logging.getLogger('x').info('b')"

    assert [json.loads(line)["event"] for line in lines(code)] == ["a", "b"]


# --- changes while the process runs ---


def test_level_changes_at_once_for_old_and_new_loggers() -> None:
    code = (
        "bound = log.bind(replica='r'); log.debug('a'); bound.debug('b'); log.info('c'); bound.info('d'); "
        "logging.getLogger('x').debug('e'); "
        "configure_logging('debug', format); "
        "log.debug('f'); bound.debug('g'); logging.getLogger('x').debug('h'); "
        "structlog.get_logger('new').debug('i'); "
        "configure_logging('error', format); "
        "log.info('j'); bound.warning('k'); logging.getLogger('x').warning('l'); bound.error('m')"
    )

    assert [json.loads(line)["event"] for line in lines(code)] == ["c", "d", "f", "g", "h", "i", "m"]


def test_format_changes_at_once_for_old_and_new_loggers() -> None:
    code = "bound = log.bind(); bound.info('a'); configure_logging(level, 'console'); bound.info('b')"

    first, second = lines(code)

    assert json.loads(first)["event"] == "a"
    assert "b" in second
    assert not second.startswith("{")


def test_logger_returns_whether_a_level_is_enabled() -> None:
    code = (
        "on = lambda: [log.is_enabled_for(each) for each in (logging.DEBUG, logging.INFO, logging.ERROR)]; "
        "before = on(); configure_logging('debug', format); log.info('x', before=before, after=on())"
    )

    entry = only(code)

    assert (entry["before"], entry["after"]) == ([False, True, True], [True, True, True])


# --- one line is one object ---


@pytest.mark.parametrize(
    "value",
    [
        r"'a\nb\r\n'",
        r"'\u2028\u2029\x85'",
        r"'half of \udc80 a pair'",
        "2 ** 70",
        "float('nan')",
        "{1: {2}}",
        "object()",
        "b'bytes'",
        "ValueError('x')",
    ],
)
def test_any_value_is_rendered_as_one_line_of_json(value: str) -> None:
    entry = only(f"log.info('x', value={value}, last='end')")

    assert entry["event"] == "x"
    assert entry["last"] == "end"


@pytest.mark.parametrize("stream", ["open('/dev/full', 'w')", "io.StringIO()"])
def test_stream_that_fails_raises_nothing_and_the_next_one_reports_the_drops(stream: str) -> None:
    code = (
        f"import io; stream = {stream}; configure_logging(level, format, stream=stream); "
        "stream.close() if isinstance(stream, io.StringIO) else None; log.error('a'); "
        "configure_logging(level, format); logging.getLogger('x').error('b')"
    )

    dropped, entry = map(json.loads, lines(code, level="error"))

    assert (dropped["level"], dropped["event"], dropped["lines"]) == ("error", "log.lines_dropped", 1)
    assert entry["event"] == "b"


# --- uncaught exceptions ---


def crash(code: str) -> tuple[int, list[dict[str, Any]]]:
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(code=code), "info", "json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    return answer.returncode, [json.loads(line) for line in answer.stderr.splitlines()]


def test_uncaught_exception_is_logged_without_the_values_of_variables() -> None:
    code = "def fail(word):\n    hidden = word * 2\n    raise RuntimeError('broken')\nfail('hush')"

    status, [entry] = crash(code)

    assert (status, entry["level"], entry["event"]) == (1, "critical", "process.crashed")
    assert entry["exception"].endswith("RuntimeError: broken")
    assert "in fail" in entry["exception"]
    assert "hushhush" not in str(entry)


def test_uncaught_exception_of_a_thread_is_logged() -> None:
    code = (
        "import threading\nthread = threading.Thread(target=lambda: 1 / 0, name='export')\n"
        "thread.start(); thread.join()"
    )

    status, [entry] = crash(code)

    assert (status, entry["event"], entry["thread"]) == (0, "thread.crashed", "export")
    assert entry["exception"].endswith("ZeroDivisionError: division by zero")


def test_exception_of_a_destructor_is_logged() -> None:
    code = "class Dying:\n    def __del__(self):\n        raise ValueError('too late')\ndel_me = Dying(); del del_me"

    status, [entry] = crash(code)

    assert (status, entry["event"]) == (0, "process.exception_ignored")
    assert entry["where"].endswith("Dying.__del__")


def test_failed_callback_of_the_event_loop_is_logged_without_its_arguments() -> None:
    code = (
        "def fail(word):\n    raise ValueError('broken')\n"
        "async def main():\n"
        "    asyncio.get_running_loop().call_soon(fail, 'hush')\n    await asyncio.sleep(0)\n"
        "asyncio.run(main(), debug=True)"
    )

    status, entries = crash(code)

    (entry,) = [entry for entry in entries if "exception" in entry]
    assert status == 0
    assert entry["event"].startswith("Exception in callback")
    assert entry["exception"].endswith("ValueError: broken")
    assert "hush" not in entry["event"]


def test_failed_task_is_logged() -> None:
    code = (
        "async def fail():\n    raise ValueError('broken')\n"
        "async def main():\n    task = asyncio.create_task(fail(), name='background')\n    await asyncio.sleep(0.01)\n"
        "asyncio.run(main())"
    )

    status, [entry] = crash(code)

    assert (status, entry["logger"]) == (0, "asyncio")
    assert entry["exception"].endswith("ValueError: broken")


def test_line_of_a_library_that_cannot_be_formatted_is_logged_without_its_arguments() -> None:
    _, [entry] = crash("logging.getLogger('x').warning('%d', 'hush')")

    assert (entry["event"], entry["logger"]) == ("log.failed", "x")
    assert "hush" not in str(entry)


def test_console_format_shows_no_values_of_variables() -> None:
    code = (
        "def fail(word):\n    hidden = word * 2\n    raise RuntimeError('broken')\n"
        "try:\n    fail('hush')\nexcept RuntimeError:\n    log.exception('x')"
    )

    text = "\n".join(lines(code, format="console"))

    assert "RuntimeError: broken" in text
    assert "hushhush" not in text
