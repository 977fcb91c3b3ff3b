"""Sources of values: the environment, files of secrets, an optional YAML file; and the known names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from gateway.settings.files import read_file, read_secret
from gateway.settings.model import FROM_FILES, KNOWN, PREFIX, Problems

ENVIRONMENT: Final = "environment"
CONFIG: Final = "config"
CALLER_NAMES: Final = ("url", "key", "secret")
"""Read by the commands that call a gateway and by the senders in ``examples/backends``; not settings of the gateway."""
FORMER_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "deaf_seconds": "subscription_timeout_seconds",
        "outbox_bytes": "send_buffer_bytes",
        "ping_interval": "ping_interval_seconds",
        "ping_timeout": "ping_timeout_seconds",
        "connect_timeout": "connect_timeout_seconds",
        "request_timeout": "request_timeout_seconds",
        "shutdown_delay": "shutdown_delay_seconds",
        "jwt_leeway": "jwt_leeway_seconds",
        "ws_compression_threshold": "ws_compression_threshold_bytes",
    }
)
"""Former names of settings, with today's names."""

_FILE: Final = "_file"
_LINK_VALUE: Final = re.compile(r"(tcp|udp|sctp)://", re.ASCII)
_OWN_LINK: Final = re.compile(r"SERVICE_.+|PORT_.+", re.ASCII)
# Of a Service whose name begins with `gateway-`: FOO_SERVICE_HOST, FOO_SERVICE_PORT_HTTP, FOO_PORT_80_TCP_ADDR.
_OTHER_LINK: Final = re.compile(
    r"\w+_SERVICE_HOST|\w+_SERVICE_PORT(_\w+)?|\w+_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?", re.ASCII
)
_LINK_ADVICE: Final = (
    "is what Kubernetes sets for a Service named {service}, but the other variables of such a Service are missing: "
    "set a port number, or enableServiceLinks: false in the pod"
)


class RawValue(NamedTuple):
    """An unparsed value. ``where`` is the file that it was read from, None for the environment itself."""

    value: object
    source: str
    where: str | None = None


def read_sources(environ: Mapping[str, str], problems: Problems) -> dict[str, RawValue]:
    """Return the value of every setting that is set, by name. The environment has priority over YAML.

    Unknown names and unreadable files are added to ``problems``.
    """
    # An empty variable is how Compose and Helm write "not set".
    variables = {
        name.removeprefix(PREFIX): value
        for name, value in environ.items()
        if name.startswith(PREFIX) and value
    }
    from_yaml: dict[str, RawValue] = {}
    path = variables.pop(CONFIG.upper(), None)
    if path is not None:
        from_yaml = _known_only(_from_yaml(path, problems), problems)
    from_environment = _known_only(_from_environment(variables, problems), problems)
    return _read_files(from_yaml, problems) | _read_files(from_environment, problems)


def _from_environment(variables: Mapping[str, str], problems: Problems) -> dict[str, RawValue]:
    found: dict[str, RawValue] = {}
    for name, value in variables.items():
        if name in {"PORT", "INGEST_PORT"} and _LINK_VALUE.match(value):
            _check_service_link(name, variables, problems)
        elif name.lower() in CALLER_NAMES or _is_service_link(name, value):
            continue
        else:
            found[name] = RawValue(value, ENVIRONMENT)
    return {name.lower(): raw for name, raw in found.items() if _is_upper_case(name, problems)}


def _is_upper_case(name: str, problems: Problems) -> bool:
    if name == name.upper():
        return True
    problems.sentences.append(f"{PREFIX}{name}: unknown setting; names are upper case")
    return False


def _check_service_link(name: str, variables: Mapping[str, str], problems: Problems) -> None:
    """Add a problem for the address of a Service in place of a port, unless its other variables are set."""
    service = "gateway" if name == "PORT" else "gateway-ingest"
    if name.removesuffix("PORT") + "SERVICE_HOST" not in variables:
        problems.add(name.lower(), _LINK_ADVICE.format(service=service))


def _is_service_link(name: str, value: str) -> bool:
    if name.lower() in KNOWN:
        return False
    is_address = name.endswith("_PORT") and _LINK_VALUE.match(value) is not None
    return is_address or any(form.fullmatch(name) for form in (_OWN_LINK, _OTHER_LINK))


def _from_yaml(path: str, problems: Problems) -> dict[str, RawValue]:
    try:
        content = _read_yaml(Path(path))
    except ValueError as error:
        problems.add(CONFIG, str(error))
        return {}
    return {
        name: RawValue(value, f"yaml {path}", path) for name, value in content.items() if value is not None
    }


def _known_only(found: Mapping[str, RawValue], problems: Problems) -> dict[str, RawValue]:
    names = [*KNOWN, *(name + _FILE for name in FROM_FILES)]
    known: dict[str, RawValue] = {}
    for name, raw in found.items():
        in_yaml = raw.where is not None
        bare = name.lower().removeprefix(PREFIX.lower())
        former = bare.removesuffix(_FILE)
        if name in names:
            known[name] = raw
        elif former in FORMER_NAMES:
            problems.add(name, _renamed(former, in_yaml=in_yaml, as_file=bare != former), where=raw.where)
            # Its default is not what the operator wants, so it is not compared with other settings.
            problems.mark(FORMER_NAMES[former])
        else:
            problems.add(name, _unknown(bare, names, in_yaml=in_yaml), where=raw.where)
    return known


def _renamed(former: str, *, in_yaml: bool, as_file: bool) -> str:
    def written(name: str) -> str:
        return name if in_yaml else PREFIX + name.upper()

    called = f"is called {written(FORMER_NAMES[former])} now"
    return f"{written(former)} {called}, and only secrets are read from files" if as_file else called


def _unknown(bare: str, names: Iterable[str], *, in_yaml: bool) -> str:
    from difflib import get_close_matches

    without_file = bare.removesuffix(_FILE)
    found = [without_file] if without_file in KNOWN else []
    found = found or get_close_matches(bare, [*names, CONFIG, *FORMER_NAMES], n=1, cutoff=0.6)
    nearest = FORMER_NAMES.get(found[0], found[0]) if found else ""
    if not in_yaml:
        return "unknown setting" + (f"; did you mean {PREFIX}{nearest.upper()}?" if nearest else "")
    form = "unknown setting; in YAML names are lower case and without prefix"
    # The file cannot name itself.
    return form + (f": did you mean {nearest}?" if nearest not in {"", CONFIG} else "")


def _read_files(found: Mapping[str, RawValue], problems: Problems) -> dict[str, RawValue]:
    """Replace ``…_file`` by the content of the file. Setting both is a problem."""
    values = {name: raw for name, raw in found.items() if name in KNOWN}
    for name in FROM_FILES:
        raw = found.get(name + _FILE)
        if raw is None:
            continue
        if name in found:
            problems.add(
                name,
                f"is set together with {PREFIX}{name.upper()}_FILE: remove one of the two",
                where=raw.where,
            )
            continue
        try:
            values[name] = RawValue(read_secret(Path(str(raw.value))), f"file {raw.value}", str(raw.value))
        except ValueError as error:
            problems.add(name + _FILE, str(error), where=raw.where)
            problems.mark(name)
    return values


def _read_yaml(path: Path) -> dict[str, object]:
    """Return the mapping of a YAML file, empty for an empty file.

    Raises: ValueError, without a quotation of the content, which may be a secret.
    """
    import yaml  # imported here, because importing it costs every command 40 ms

    class Loader(yaml.SafeLoader):
        """PyYAML's safe loader, which by itself takes the last of two equal names."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen: list[object] = []
            for key, _ in node.value:
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, "the same name twice", key.start_mark)
                seen.append(key.value)
            return super().construct_mapping(node, deep=deep)

    try:
        content = yaml.load(read_file(path), Loader)  # noqa: S506  # derived from SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ValueError(f"{path} is not YAML{place}: {_without_quotes(error.problem)}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        raise ValueError(f"{path} is not YAML") from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ValueError(f"{path} is not a mapping of names to values, such as port: 8080")
    return content


def _without_quotes(problem: str | None) -> str:
    # PyYAML quotes the unexpected text, which may be a secret.
    return (problem or "").partition("'")[0].strip() or "something unexpected"
