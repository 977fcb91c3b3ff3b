"""Check that a release can be made from this tree, and print its notes.

    python tools/release.py check v0.2.0    fails with one sentence for each file with another version
    python tools/release.py notes v0.2.0    prints the section of CHANGELOG.md

The release workflow runs both; RELEASING.md describes the procedure. It uses only the standard library, so that it
runs before any installation.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
CHART: Final = "helm/sio-gateway/Chart.yaml"
TYPES: Final = "types/package.json"
_TAG: Final = re.compile(r"v(\d+\.\d+\.\d+)", re.ASCII)


def version_in(tag: str) -> str:
    """Return the version that a tag names. Raises ValueError for another form than ``v1.2.3``."""
    match = _TAG.fullmatch(tag)
    if match is None:
        raise ValueError(f"{tag!r} is not of the form v1.2.3")
    return match[1]


def versions(root: Path) -> dict[str, str]:
    """Return the version in each file that has one, by its place."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = {
        "pyproject.toml": str(project["version"]),
        "gateway/__init__.py": _only(root / "gateway/__init__.py", r'^__version__ = "(.+)"$'),
        f"{CHART} version": _only(root / CHART, r"^version: (\S+)$"),
        f"{CHART} appVersion": _only(root / CHART, r"^appVersion: (\S+)$"),
    }
    if (root / TYPES).is_file():  # the npm types come with the event catalogue
        found[TYPES] = str(json.loads((root / TYPES).read_text(encoding="utf-8"))["version"])
    return found


def notes(root: Path, version: str) -> str:
    """Return the section of CHANGELOG.md without its heading. Raises LookupError if it is missing or empty."""
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    heading = re.compile(rf"^## \[?{re.escape(version)}\]? - \d{{4}}-\d{{2}}-\d{{2}}$", re.MULTILINE)
    match = heading.search(text)
    if match is None:
        raise LookupError(f"CHANGELOG.md has no section '## [{version}] - YYYY-MM-DD'")
    section = re.split(r"^## ", text[match.end() :], maxsplit=1, flags=re.MULTILINE)[0].strip()
    if not section:
        raise LookupError(f"the section {version} of CHANGELOG.md is empty")
    return section


def problems(root: Path, tag: str) -> list[str]:
    """Return one sentence for each required change before this tag can be released."""
    try:
        version = version_in(tag)
    except ValueError as error:
        return [str(error)]
    found = [
        f"{place} has version {other}, the tag {version}"
        for place, other in versions(root).items()
        if other != version
    ]
    try:
        notes(root, version)
    except LookupError as error:
        found.append(str(error))
    return found


def _only(path: Path, pattern: str) -> str:
    """Return the one match of a pattern in a file. Raises LookupError if there is none or more than one."""
    matches = re.findall(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)
    if len(matches) != 1:
        raise LookupError(f"{path} has {len(matches)} lines of the form {pattern}")
    return str(matches[0])


def main() -> None:
    """Run the command; exit status 1 with every problem on stderr."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["check", "notes"])
    parser.add_argument("tag", help="the tag of the release, such as v0.2.0")
    options = parser.parse_args()
    found = problems(ROOT, options.tag)
    if found:
        sys.exit("\n".join(found))
    print(f"{options.tag} can be released." if options.command == "check" else notes(ROOT, options.tag[1:]))


if __name__ == "__main__":
    main()
