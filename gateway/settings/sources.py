"""Where values come from: the environment, files of secrets, an optional YAML file; and which names are known."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from gateway.settings.model import FROM_FILES, KNOWN
from gateway.settings.problems import PREFIX, Problems
from gateway.settings.values import read_secret

ENVIRONMENT: Final = "environment"
CONFIG: Final = "config"
FOR_CLIENTS: Final = ("url", "key", "secret")
"""Read by the commands that call a gateway and by the senders in ``examples/backends``; no setting of the gateway."""

_FILE: Final = "_file"
_LINK_VALUE: Final = re.compile(r"(tcp|udp|sctp)://", re.ASCII)
_OWN_LINK: Final = re.compile(r"SERVICE_.+|PORT_.+", re.ASCII)
# Of a Service whose name begins with `gateway-`: FOO_SERVICE_HOST, FOO_SERVICE_PORT_HTTP, FOO_PORT_80_TCP_ADDR.
_OTHER_LINK: Final = re.compile(
    r"\w+_SERVICE_HOST|\w+_SERVICE_PORT(_\w+)?|\w+_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?", re.ASCII
)
_LINK_ADVICE: Final = (
    "is what Kubernetes sets for a Service named {service}, but nothing else of such a Service is there: "
    "give a port number, or set enableServiceLinks: false in the pod"
)


class RawValue(NamedTuple):
    """A value as it was found; ``where`` names the file, None for the environment itself."""

    value: object
    source: str
    where: str | None = None


def read_sources(environ: Mapping[str, str], problems: Problems) -> dict[str, RawValue]:
    """Every setting that is given, by name; the environment wins. What cannot be read becomes a problem."""
    # An empty variable is how Compose and Helm write "not set".
    variables = {
        name.removeprefix(PREFIX): value
        for name, value in environ.items()
        if name.startswith(PREFIX) and value
    }
    of_file: dict[str, RawValue] = {}
    path = variables.pop(CONFIG.upper(), None)
    if path is not None:
        of_file = _known_only(_of_yaml(path, problems), problems)
    of_environment = _known_only(_of_environment(variables, problems), problems)
    return _read_files(of_file, problems) | _read_files(of_environment, problems)


def _of_environment(variables: Mapping[str, str], problems: Problems) -> dict[str, RawValue]:
    found: dict[str, RawValue] = {}
    for name, value in variables.items():
        if name in {"PORT", "INGEST_PORT"} and _LINK_VALUE.match(value):
            _check_service_link(name, variables, problems)
        elif name.lower() in FOR_CLIENTS or _is_service_link(name, value):
            continue
        else:
            found[name] = RawValue(value, ENVIRONMENT)
    return {name.lower(): given for name, given in found.items() if _in_capitals(name, problems)}


def _in_capitals(name: str, problems: Problems) -> bool:
    if name == name.upper():
        return True
    problems.sentences.append(f"{PREFIX}{name}: unknown setting; names are written in capitals")
    return False


def _check_service_link(name: str, variables: Mapping[str, str], problems: Problems) -> None:
    """The address of a Service where a port might stand: no matter among the other links of that Service."""
    service = "gateway" if name == "PORT" else "gateway-ingest"
    if name.removesuffix("PORT") + "SERVICE_HOST" not in variables:
        problems.add(name.lower(), _LINK_ADVICE.format(service=service))


def _is_service_link(name: str, value: str) -> bool:
    if name.lower() in KNOWN:
        return False
    others = name.endswith("_PORT") and _LINK_VALUE.match(value) is not None
    return others or any(form.fullmatch(name) for form in (_OWN_LINK, _OTHER_LINK))


def _of_yaml(path: str, problems: Problems) -> dict[str, RawValue]:
    from gateway.settings.yaml_file import read_yaml

    try:
        content = read_yaml(Path(path))
    except ValueError as error:
        problems.add(CONFIG, str(error))
        return {}
    return {
        name: RawValue(value, f"yaml {path}", path) for name, value in content.items() if value is not None
    }


def _known_only(found: Mapping[str, RawValue], problems: Problems) -> dict[str, RawValue]:
    names = [*KNOWN, *(name + _FILE for name in FROM_FILES)]
    known: dict[str, RawValue] = {}
    for name, given in found.items():
        if name in names:
            known[name] = given
        else:
            problems.add(name, _unknown(name, names, in_yaml=given.where is not None), where=given.where)
    return known


def _unknown(name: str, names: Iterable[str], *, in_yaml: bool) -> str:
    from difflib import get_close_matches

    bare = name.lower().removeprefix(PREFIX.lower())
    nearest = get_close_matches(bare, [*names, CONFIG], n=1, cutoff=0.6)
    if not in_yaml:
        return "unknown setting" + (f"; did you mean {PREFIX}{nearest[0].upper()}?" if nearest else "")
    form = "unknown setting; in YAML names are lower case and without prefix"
    # The file cannot name itself.
    return form + (f": did you mean {nearest[0]}?" if nearest and nearest[0] != CONFIG else "")


def _read_files(found: Mapping[str, RawValue], problems: Problems) -> dict[str, RawValue]:
    """Replace ``…_file`` by what stands in the file; giving both is a problem."""
    values = {name: given for name, given in found.items() if name in KNOWN}
    for name in FROM_FILES:
        given = found.get(name + _FILE)
        if given is None:
            continue
        if name in found:
            problems.add(
                name, f"is given itself and as {PREFIX}{name.upper()}_FILE: leave one out", where=given.where
            )
            continue
        try:
            values[name] = RawValue(
                read_secret(Path(str(given.value))), f"file {given.value}", str(given.value)
            )
        except ValueError as error:
            problems.add(name + _FILE, str(error), where=given.where)
            problems.mark(name)
    return values
