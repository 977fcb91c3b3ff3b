"""Check the Helm chart: lint it, render every value set of tests/integration/chart/values, validate each object."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml

from tools.chart import findings, table
from tools.chart.rendering import NAMESPACE, RenderError, as_yaml, render


def main() -> None:
    """Run the command of the command line; without one, check the chart and exit with status 1 on a finding."""
    parser = argparse.ArgumentParser(prog="python -m tools.chart", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    rendering = commands.add_parser(
        "render", help="print the objects that Helm would install for a file of values, as YAML"
    )
    rendering.add_argument("values", type=Path)
    rendering.add_argument("--release", default="live")
    rendering.add_argument("--namespace", default=NAMESPACE)
    commands.add_parser("table", help="write the table of values into docs/how-to/deploy-with-helm.md")
    arguments = parser.parse_args()
    match arguments.command:
        case "render":
            _render(arguments.values, release=arguments.release, namespace=arguments.namespace)
        case "table":
            table.write()
        case _:
            _check()


def _render(path: Path, *, release: str, namespace: str) -> None:
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        print(as_yaml(render(values, release=release, namespace=namespace)), end="")
    except RenderError as error:
        sys.exit(str(error))


def _check() -> None:
    count = 0
    for check, found in findings.run_checks():
        print(f"{'wrong' if found else 'ok':<6} {check}")
        for finding in found:
            print(f"       {finding}")
        count += len(found)
    if count:
        sys.exit(f"{count} findings in the chart.")


if __name__ == "__main__":
    main()
