"""A gateway without a garbage collector: what only it would free stays in memory.

SIGUSR1 makes it look for such objects and write ``{"event": "gc.unreachable", "types": {…}}`` to stderr.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import signal
import sys
from collections import Counter
from typing import Any

EVENT = "gc.unreachable"
MOST_COMMON = 20


def _report(*_: Any) -> None:
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    found = Counter(type(each).__name__ for each in gc.garbage)
    gc.garbage.clear()
    gc.set_debug(0)
    gc.collect()  # otherwise the next report would have the same objects again
    line = {"event": EVENT, "objects": sum(found.values()), "types": dict(found.most_common(MOST_COMMON))}
    os.write(sys.stderr.fileno(), json.dumps(line).encode() + b"\n")


if __name__ == "__main__":
    gc.disable()
    signal.signal(signal.SIGUSR1, _report)
    runpy.run_module("gateway", run_name="__main__", alter_sys=True)
