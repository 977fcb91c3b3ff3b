"""Look at the Helm chart: lint it, render every value set of tests/integration/chart/values, hold each object to its schemas."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml

from tools.chart import findings, table
from tools.chart.rendering import NAMESPACE, Refused, as_yaml, render


def main() -> None:
    """Read the command line and do what it says; ends with status 1 when something is wrong with the chart."""
    parser = argparse.ArgumentParser(prog="python -m tools.chart", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    rendering = commands.add_parser(
        "render", help="print what Helm would install for a file of values, as YAML"
    )
    rendering.add_argument("values", type=Path)
    rendering.add_argument("--release", default="live")
    rendering.add_argument("--namespace", default=NAMESPACE)
    commands.add_parser("table", help="write the table of values into docs/how-to/deploy-with-helm.md")
    given = parser.parse_args()
    match given.command:
        case "render":
            _render(given.values, release=given.release, namespace=given.namespace)
        case "table":
            table.write()
        case _:
            _check()


def _render(path: Path, *, release: str, namespace: str) -> None:
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        print(as_yaml(render(values, release=release, namespace=namespace)), end="")
    except Refused as refusal:
        sys.exit(str(refusal))


def _check() -> None:
    wrong = 0
    for what, sentences in findings.all_of_them():
        print(f"{'wrong' if sentences else 'ok':<6} {what}")
        for sentence in sentences:
            print(f"       {sentence}")
        wrong += len(sentences)
    if wrong:
        sys.exit(f"{wrong} things are wrong with the chart.")


if __name__ == "__main__":
    main()
