"""``python -m tests.load.attacks KIND``: attack a running gateway, whose address is on stdin, until stdin ends."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys

from tests.load.attacks.target import RunningGateway

NICENESS = 15
"""The attacker leaves the CPU to the gateway, as one on another machine would."""


async def main(kind: str) -> None:
    """Attack until stdin ends."""
    attack = importlib.import_module(f"tests.load.attacks.{kind}").attack
    gateway = RunningGateway(**json.loads(sys.stdin.readline()))
    until = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), until.set)
    await attack(gateway, until)


if __name__ == "__main__":
    os.nice(NICENESS)
    asyncio.run(main(sys.argv[1]))
