"""Draw the comparison as bars: SVG that is readable on light and on dark pages."""

from __future__ import annotations

from html import escape

from benchmarks.comparison import Comparison
from benchmarks.floors import ROWS
from benchmarks.tables import number, shown

WIDTH, LEFT, BAR, ROW = 760, 90, 16, 66
NAMES = {"gateway": "gateway", "node": "Socket.IO"}
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328; }
  .title { font-weight: 600; }
  .gateway { fill: #0969da; }
  .node { fill: #8c959f; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .gateway { fill: #4493f8; }
    .node { fill: #6e7681; }
  }
"""


def bars(found: Comparison) -> str:
    """Draw two bars for each row; the longer one of each row has the whole width."""
    parts = []
    for index, (key, row) in enumerate(ROWS.items()):
        top = 24 + index * ROW
        parts.append(f'<text class="title" x="0" y="{top}">{escape(shown(row))}</text>')
        values = {name: found.medians[name][key] for name in NAMES}
        for line, (name, label) in enumerate(NAMES.items()):
            y = top + 8 + line * (BAR + 3)
            length = max(1.0, (WIDTH - LEFT - 80) * values[name] / max(values.values()))
            parts.append(f'<text x="0" y="{y + 13}">{label}</text>')
            parts.append(
                f'<rect class="{name}" x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2"/>'
            )
            parts.append(f'<text x="{LEFT + length + 6:.1f}" y="{y + 13}">{number(values[name])}</text>')
    height = 24 + len(ROWS) * ROW
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img" aria-label="The gateway beside Socket.IO">\n'
        f"<style>{STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )
