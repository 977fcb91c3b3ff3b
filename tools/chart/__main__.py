"""``python -m tools.chart``: look at the chart; ``render VALUES``: print what it makes of a file of values."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml

from tools.chart.rendering import NAMESPACE, Refused, as_yaml, render


def main() -> None:
    """Read the command line and do what it says; ends with status 1 when something is wrong with the chart."""
    parser = argparse.ArgumentParser(prog="python -m tools.chart", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    rendering = commands.add_parser("render", help="print the objects for a file of values as YAML")
    rendering.add_argument("values", type=Path)
    rendering.add_argument("--release", default="live")
    rendering.add_argument("--namespace", default=NAMESPACE)
    given = parser.parse_args()
    values = yaml.safe_load(given.values.read_text(encoding="utf-8"))
    try:
        print(as_yaml(render(values, release=given.release, namespace=given.namespace)), end="")
    except Refused as refusal:
        sys.exit(str(refusal))


if __name__ == "__main__":
    main()
