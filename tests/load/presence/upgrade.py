"""A rolling upgrade beside replicas of a former release: ``python -m tests.load.presence.upgrade COMMIT``.

The former release is started from a work tree of that commit. Users connect to both releases and move between them, and
events are sent to a webhook through the new one; then the former replica stops. A test of
``tests/integration/redis_state`` imitates a former release.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from tests.load.notify.receiver import ReceiverProcess
from tests.load.notify.senders import Senders
from tests.load.notify.stage import CATALOGUE, compare, configured
from tests.load.presence.pages import Pages
from tests.load.presence.scenes import Scene, users
from tests.support.gateway_process import GatewayProcess
from tests.support.paths import ROOT
from tests.support.redis_server import RedisServer
from tests.support.waiter import wait_until

GROUP: Final = 20
"""Users who do the same."""
SENDERS, EACH = 50, 40
LEASE_SECONDS, OFFLINE_AFTER_SECONDS = 5.0, 3.0
BUNDLE: Final = Path("gateway", "socketio_server", "static")
"""Fetched by ``make install``, and therefore in no commit."""


@contextmanager
def work_tree(commit: str) -> Iterator[Path]:
    """Check a commit out into a folder that is removed at the end."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent, "former")
        subprocess.run(["git", "worktree", "add", "--detach", folder, commit], cwd=ROOT, check=True)
        try:
            shutil.copytree(ROOT / BUNDLE, folder / BUNDLE, dirs_exist_ok=True)
            yield folder
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", folder], cwd=ROOT, check=True)


def upgrade(former_release: Path) -> dict[str, float]:
    """Upgrade from a work tree; return figures. Raises AssertionError for anything wrong."""
    stay, move, leave, stay_new, move_back, leave_new = (
        users(GROUP, first=1000 + number * GROUP) for number in range(6)
    )
    catalogue = f"{CATALOGUE}presence: {{offline_after_seconds: {OFFLINE_AFTER_SECONDS}, notify: app}}\n"
    with ExitStack() as stack:
        redis = RedisServer()
        stack.callback(redis.stop)
        receiver = stack.enter_context(ReceiverProcess())
        settings = stack.enter_context(configured([{"id": "app", "url": receiver.url}], catalogue))
        common: dict[str, Any] = {
            "redis_url": redis.url,
            "lease_seconds": LEASE_SECONDS,
            "drain_seconds": 3.0,
        }
        former = GatewayProcess(folder=former_release, replica_id="former", **common)
        stack.callback(former.kill)
        pages = stack.enter_context(Pages())

        new = [GatewayProcess(replica_id=f"new{number}", **common, **settings) for number in range(2)]
        for replica in new:
            stack.callback(replica.kill)
        pages.open(former, [*stay, *move, *leave], elsewhere=new[0])
        at = Scene(new, redis, receiver, pages, LEASE_SECONDS, OFFLINE_AFTER_SECONDS)
        of_new = [*stay_new, *move_back, *leave_new]
        pages.open(new[0], of_new[::2], elsewhere=new[1])
        pages.open(new[1], of_new[1::2], elsewhere=new[0])
        _wait_until(at, of_new)

        senders = stack.enter_context(Senders())
        senders.connect(new, SENDERS, "save")
        senders.start(EACH, per_second=200)
        pages.close([*move, *leave, *move_back, *leave_new])
        pages.load(move, new[1])
        pages.load(move_back, former)
        _wait_until(at, [*stay_new, *move, *move_back], offline=leave_new)
        senders.finish(seconds=120)
        wait_until(lambda: _notified(receiver) >= SENDERS * EACH, "the notifications arrive")

        # Longer than any change takes: who moved to the former replica is still online for the backend.
        time.sleep(OFFLINE_AFTER_SECONDS + 2 * LEASE_SECONDS)
        wrong = [user for user in move_back if not at.known().is_online[user]]
        assert wrong == [], f"offline although they are connected to the former replica: {wrong}"

        for user in move_back:  # these reconnect to the new release, as a load balancer lets them
            pages.close([user])
        pages.load(move_back, new[0])
        assert former.stop() == 0
        pages.wait_until_connected(stay)
        online = [*stay, *move, *move_back, *stay_new]
        _wait_until(at, online, offline=leave_new)
        known = at.known().is_online
        assert [user for user in leave if known.get(user)] == []
        found = compare(
            [each for each in receiver.received() if each.n is not None],
            {user: EACH for user, _ in senders.users},
        )
        assert found.wrong == []
        assert (former.failures(), receiver.wrong()) == ([], [])
        assert at.known().wrong == []
        changes = len(at.known().changes)
        assert [replica.stop() for replica in new] == [0, 0]
        assert [line for replica in new for line in replica.failures()] == []
    return {
        "users": 6 * GROUP,
        "changes": changes,
        "notifications": found.arrived,
        "doubled": found.doubled,
    }


def _wait_until(at: Scene, online: list[str], *, offline: list[str] | None = None) -> None:
    """Wait until the backend knows these users so; it may know others, those of the former replica, in any state."""
    truth = dict.fromkeys(online, True) | dict.fromkeys(offline or [], False)

    def is_known() -> bool:
        known = at.known().is_online
        return all(known.get(user) == state for user, state in truth.items())

    wait_until(is_known, f"the backend knows {len(truth)} users", seconds=60)


def _notified(receiver: ReceiverProcess) -> int:
    return len({each.id for each in receiver.received() if each.n is not None})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.load.presence.upgrade", description=__doc__)
    parser.add_argument("commit", help="of the former release")
    with work_tree(parser.parse_args().commit) as folder:
        print(json.dumps(upgrade(folder)))


if __name__ == "__main__":
    main()
