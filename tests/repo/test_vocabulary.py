"""One vocabulary: words of the first builds' private language appear nowhere any more.

Each pattern stands for a standard term (the value). Names are split at underscores and capitals before they are
searched, so that ``canary_age`` and ``CanaryAge`` count like ``canary age``.
"""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from tests.support.paths import ROOT

WORDS: Final = {
    r"house": "package, component",
    r"doors?|doorways?": "API, server",
    r"guests?": "client",
    r"newcomers?|strangers?": "unauthenticated client",
    r"departs?|departed|departing|departures?": "disconnect",
    r"goodbyes?|farewells?": "disconnect, close",
    r"put out|puts out|send away|sends away|sent away|sees? off|seen off|let go|lets go": "disconnect, close",
    r"greets?|greeted|greetings?|welcomes?|welcomed": "connect handshake",
    r"wish|wishes|wished": "recovery request",
    r"go on|goes on|going on|went on|come back|comes back|came back|coming back": "continue, resume, reconnect",
    r"catch up|catches up|catching up|caught up|catch ups": "replay (a client), resync (a replica)",
    r"deaf": "subscription_stalled",
    r"hearing|hears|heard": "healthy; receive",
    r"canary|canaries|sings?|singing": "pub/sub probe",
    r"signs? of life|beats?": "heartbeat",
    r"patience|patient|patiently": "timeout",
    r"tell|tells|telling|told": "notify, report, log",
    r"says so|said": "report, log, state",
    r"judges?|judged|judging": "record, classify, evaluate",
    r"owe|owes|owed": "dirty",
    r"settle|settles|settled": "flush",
    r"doubts?|doubted": "mark stale",
    r"refuses?|refused|refusing|refusals?": "reject",
    r"kicks?|kicking": "disconnect command",
    r"adopts?|adopted|adopting": "resume",
    r"lanes?": "lock, index",
    r"furnish|furnishes|furnished": "register",
    r"laws?": "invariant, contract",
    r"outbox|outboxes": "send buffer",
    r"inbox|inboxes": "receive buffer",
    r"short way|ways in": "fast path; ports",
    r"coping|shelf|tally|tallies|stopwatch": "DegradedMode, MetricFactory, Counter, DeliveryTimer",
    r"whoever|whomever|somebody|nobody|everybody|anybody": "a noun: the client, a replica",
}
"""Pattern of the old words, and the term that stands for them. Words that plain English needs are among NAMES only."""

NAMES: Final = """
Adopted Allowance Arriving Canaries Canary CatchingUp CountReading Coping FactLogger HeapSchedule NoEnvelope
NotRecovered
Outbox Receipt Refreshing ShortWay Singing SocketLink SocketWire StateUnusable Stopwatch TokenRefused Unanswered Unsent
ask_one_by_one ask_to_leave be_noticed be_resumable begin_leaving begin_preparing changed_carrier connect_asked
counted_as early_signals ending_of entries_accepted frames_unreadable has_moved judge_channels kick_in listen_to
look_whether_drained more_talkative occupied_rooms open_connections owe_all patience_seconds put_out
replica_condition replicas_cleaned_up send_away send_together state_away state_deaf take_out takes_positions
tell_everyone until_one_ends wanted_since when_lost
"""
"""Identifiers, metrics and labels that the naming table replaced; matched whole, with their capitals."""
OLD_PRODUCT: Final = re.compile(r"push_gateway_\w+|PushGateway|\bpush-gateway\b")

ALLOWED: Final = (
    r"DEAF_SECONDS|OUTBOX_BYTES|deaf_seconds|outbox_bytes",  # settings that are rejected by their former names
    r"[Cc]onnection refused|ConnectionRefused\w*|ECONNREFUSED|or \"refused\" in",  # the system's own words
    r"kicked|token_algorithm_refused",  # error codes of the Socket.IO contract
    r"\"nobody\"|'nobody'|\bnobody:",  # a user of examples and of Unix
    r"too old to tell",  # a sentence of the REST contract
)
"""What stays, each with its reason."""

SKIPPED: Final = re.compile(
    r"(package-lock\.json|\.svg|\.(png|ico)|LICENSE|requirements/.*\.txt|tests/repo/test_vocabulary\.py)$"
)
_SPLIT: Final = re.compile(r"_|(?<=[a-z0-9])(?=[A-Z])")
_WORD: Final = {re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE): term for pattern, term in WORDS.items()}
_ALLOWED: Final = re.compile("|".join(ALLOWED))
_NAME: Final = re.compile(rf"\b(?:{'|'.join(NAMES.split())})\b")


@cache
def files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    ).stdout.split("\0")
    return [ROOT / name for name in listed if name and not SKIPPED.search(name) and (ROOT / name).is_file()]


def old_words(text: str) -> list[str]:
    """``line: word (term)`` for each old word."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        found += [f"{number}: {match[0]} (sio-gateway)" for match in OLD_PRODUCT.finditer(line)]
        found += [f"{number}: {match[0]} (the naming table)" for match in _NAME.finditer(line)]
        plain = _SPLIT.sub(" ", _ALLOWED.sub(" ", line))
        for pattern, term in _WORD.items():
            found += [f"{number}: {match[0]} ({term})" for match in pattern.finditer(plain)]
    return found


@pytest.mark.parametrize(
    "line",
    [
        "class Newcomer:",
        "await link.lane",
        "canary_age = 1",
        "Whoever asks",
        "def put_out(self)",
        "Receipt",
        "PushGatewayAbsent",
        "push_gateway_rooms",
    ],
)
def test_old_words_are_found_in_prose_and_in_names(line: str) -> None:
    assert old_words(line)


@pytest.mark.parametrize(
    "line", ["connection refused", '"code": "kicked"', "heartbeat", "GATEWAY_OUTBOX_BYTES"]
)
def test_words_with_a_reason_are_allowed(line: str) -> None:
    assert old_words(line) == []


@pytest.mark.parametrize("path", files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_file_uses_the_standard_terms(path: Path) -> None:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return
    assert old_words(f"{path.name}\n{text}") == []
