"""Measure how the CPU time of each step grows with connections, bytes and rooms, with log lines and with Redis."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

from benchmarks import scaling, servers
from benchmarks.comparison import Figures, check_complete, shown
from benchmarks.load.generator import LoadGenerator
from benchmarks.machine import cores, on_cores
from benchmarks.scaling import cost, deliver, median
from tests.support.redis_server import RedisServer

ROUNDS: Final = 3
CLIENTS: Final = 1000
EMITS: Final = 3000
BROADCASTS: Final = 30
TO_ROOMS: Final = 1000
SIZES: Final = (64, 256, 1024, 4096, 16_384, 65_536)
ROOMS: Final = (1, 10, 100, 1000)
"""Rooms that the token of a connection names."""
ADDRESSED: Final = (1, 10, 100)
"""Rooms of one emit."""
WITH_ROOMS: Final = 500
"""Connections that have that many rooms."""
FLAT_BY_CONNECTIONS: Final = ("connect", "emit", "leave a room", "join a room", "disconnect")
FLAT: Final = 1.25
STEEPER: Final = 1.75
PART: Final = "of it for each"
"""How the name of a column begins that is another one divided by a number."""
Report = Callable[[str], None]


@dataclass(frozen=True)
class Curve:
    """CPU times in µs of the steps, by a number; ``counted`` is what the number counts.

    ``flat``: the steps whose cost must not depend on the number. That of any other may be linear.
    """

    counted: str
    costs: Mapping[int, Figures]
    flat: tuple[str, ...] = ()

    def shapes(self) -> dict[str, str]:
        """Return the shape of each step, but not of those that are parts of another one."""
        steps = [step for step in next(iter(self.costs.values())) if not step.startswith(PART)]
        return {
            step: shape({number: figures[step] for number, figures in self.costs.items()}) for step in steps
        }

    def steeper(self) -> dict[str, str]:
        """Return the shape of each step whose cost grows faster than it may."""
        return {
            step: found
            for step, found in self.shapes().items()
            if found != "flat" and (found != "linear" or step in self.flat)
        }


@dataclass(frozen=True)
class Found:
    """All curves, and the CPU times of each kind of gateway."""

    connections: Curve
    sizes: Curve
    rooms: Curve
    addressed: Curve
    kinds: Mapping[str, Figures]

    def curves(self) -> tuple[Curve, ...]:
        return self.connections, self.sizes, self.rooms, self.addressed


def measure(report: Report) -> Found:
    """Measure all curves. Takes some minutes."""
    return Found(
        connections=Curve("connections", scaling.measure(report), FLAT_BY_CONNECTIONS),
        sizes=Curve("bytes of a message", sizes(report)),
        rooms=Curve("rooms of a connection", rooms(report), ("emit",)),
        addressed=Curve("rooms of an emit", addressed(report)),
        kinds=kinds(report),
    )


def summary(found: Found) -> str:
    """Return in a sentence or two how many costs are flat or linear as they must be, and name each one that is not."""
    count = sum(len(curve.shapes()) for curve in found.curves())
    missed = [
        f"{step} by {curve.counted} ({how})"
        for curve in found.curves()
        for step, how in curve.steeper().items()
    ]
    text = f"{count - len(missed)} of {count} costs are flat or linear as they have to be."
    return f"{text} Not so: {'; '.join(missed)}." if missed else text


def shape(costs: Mapping[int, float]) -> str:
    """Return how costs grow with their number: ``flat``, ``linear`` or ``more than linear``.

    Flat: no cost is more than FLAT times the first one. Linear: the slope from the first to the last cost is at most
    STEEPER times that to the last but one; if that one is still flat, the cost of one unit does not grow.
    """
    numbers = list(costs)
    first, before, last = numbers[0], numbers[-2], numbers[-1]
    if max(costs.values()) <= FLAT * costs[first]:
        return "flat"
    if costs[before] <= FLAT * costs[first]:
        linear = costs[last] / last <= STEEPER * costs[first] / first
    else:
        slopes = [(costs[number] - costs[first]) / (number - first) for number in (before, last)]
        linear = slopes[1] <= STEEPER * slopes[0]
    return "linear" if linear else "more than linear"


def sizes(report: Report) -> dict[int, Figures]:
    """Measure an emit to one client and a delivery of a broadcast, by bytes of the message."""
    found: dict[int, Figures] = {}
    with servers.gateway(ping_interval_seconds=3600) as server, LoadGenerator(server, cores()[1]) as load:
        load.connect(CLIENTS)
        for size in SIZES:

            def emit(size: int = size) -> None:
                check_complete(load.emit(EMITS, connections=32, size=size), server)

            found[size] = median(
                [
                    {
                        "emit": cost(server, EMITS, emit),
                        "delivery": deliver(server, load, BROADCASTS, size=size),
                    }
                    for _ in range(ROUNDS)
                ]
            )
            report(f"{size} bytes, µs each: {shown(found[size])}")
    return found


def rooms(report: Report) -> dict[int, Figures]:
    """Measure connect, emit to the user and disconnect, by rooms of a connection."""
    found: dict[int, Figures] = {}
    settings = {"ping_interval_seconds": 3600, "max_rooms_per_connection": max(ROOMS) + 10}
    with servers.gateway(**settings) as server, LoadGenerator(server, cores()[1][:1]) as load:
        for number in ROOMS:
            steps = _steps(server, load, WITH_ROOMS, rooms=number)
            found[number] = median([_costs(server, steps, WITH_ROOMS) for _ in range(ROUNDS)])
            report(f"{number} rooms of a connection, µs each: {shown(found[number])}")
    return found


def addressed(report: Report) -> dict[int, Figures]:
    """Measure an emit to some rooms with one client in each."""
    found: dict[int, Figures] = {}
    with servers.gateway(ping_interval_seconds=3600) as server, LoadGenerator(server, cores()[1][:1]) as load:
        load.connect(CLIENTS)
        for number in ADDRESSED:

            def emit(number: int = number) -> None:
                check_complete(load.emit_to_rooms(TO_ROOMS, rooms=number, connections=32), server)

            costs = median([{"emit": cost(server, TO_ROOMS, emit)} for _ in range(ROUNDS)])
            found[number] = costs | {f"{PART} recipient": costs["emit"] / number}
            report(f"{number} rooms of an emit, µs each: {shown(found[number])}")
    return found


def kinds(report: Report) -> dict[str, Figures]:
    """Measure connect, emit and disconnect with log lines and with Redis, in turn."""
    rounds: dict[str, list[Figures]] = {
        "memory, log level warning": [],
        "memory, log level info": [],
        "Redis, log level warning": [],
        "Redis, log level info": [],
    }
    for _ in range(ROUNDS):
        for kind, figures in rounds.items():
            state, _, level = kind.partition(", log level ")
            with ExitStack() as stack:
                settings: dict[str, Any] = {"ping_interval_seconds": 3600, "log_level": level}
                if state == "Redis":
                    with on_cores(set(cores()[1])):
                        redis = RedisServer()
                    stack.callback(redis.stop)
                    settings["redis_url"] = redis.url
                server = stack.enter_context(servers.gateway(**settings))
                load = stack.enter_context(LoadGenerator(server, cores()[1][:1]))
                steps = _steps(server, load, CLIENTS)
                for act in steps.values():  # warm-up: every step once
                    act()
                figures.append(_costs(server, steps, CLIENTS))
    found = {kind: median(figures) for kind, figures in rounds.items()}
    first = next(iter(found.values()))
    for kind, costs in found.items():
        costs |= {f"{step}, of the first": costs[step] / first[step] for step in ("connect", "emit")}
        report(f"{kind}, µs each: {shown(costs)}")
    return found


def _steps(
    server: servers.Server, load: LoadGenerator, clients: int, *, rooms: int = 0
) -> dict[str, Callable[[], object]]:
    """Return what connects the clients, pushes EMITS messages to them and disconnects them."""
    return {
        "connect": lambda: load.connect(clients, rooms=rooms),
        "emit": lambda: check_complete(load.emit(EMITS, connections=32), server),
        "disconnect": lambda: load.workers[0].execute("disconnect", count=clients),
    }


def _costs(server: servers.Server, steps: Mapping[str, Callable[[], object]], clients: int) -> Figures:
    """Return the CPU time in µs of each step, for a message or a client."""
    return {step: cost(server, EMITS if step == "emit" else clients, act) for step, act in steps.items()}
