"""The objects that Helm would install for a value set, rendered by Helm's SDK as a library, without a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from helm_python import Chart, HelmError

ROOT: Final = Path(__file__).resolve().parents[2]
CHART: Final = ROOT / "helm" / "sio-gateway"
VALUE_SETS: Final = ROOT / "tests" / "integration" / "chart" / "values"
NAMESPACE: Final = "push"

Values = dict[str, Any]
Document = dict[str, Any]


class RenderError(Exception):
    """The schema or one of the chart's own checks rejects the values. The message is Helm's."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """The objects that Helm would install, and the notes that it would print."""

    documents: tuple[Document, ...]
    notes: str

    def of_kind(self, kind: str) -> list[Document]:
        """Return the objects of a kind, in the order of their templates."""
        return [each for each in self.documents if each["kind"] == kind]

    def one(self, kind: str, name: str | None = None) -> Document:
        """Return the only object of a kind, or the one with this name. Raises: LookupError."""
        found = [each for each in self.of_kind(kind) if name in {None, each["metadata"]["name"]}]
        if len(found) != 1:
            raise LookupError(f"{len(found)} objects of kind {kind} named {name}")
        return found[0]


def value_sets() -> dict[str, Values]:
    """Return the value sets of the tests by name."""
    return {
        path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))
        for path in sorted(VALUE_SETS.glob("*.yaml"))
    }


def render(
    values: Values, *, release: str = "live", namespace: str = NAMESPACE, source: Path = CHART
) -> Rendered:
    """Render the chart, a folder or an archive, as ``helm install`` does. Raises: RenderError."""
    with Chart.load(source) as chart:
        try:
            # `render` does not validate the values by the schema.
            chart.validate_schema(values)
            files = chart.render(values, name=release, namespace=namespace)
        except HelmError as error:
            raise RenderError(str(error)) from None
    notes = "".join(text for path, text in files.items() if path.endswith("NOTES.txt"))
    texts = [text for path, text in sorted(files.items()) if not path.endswith("NOTES.txt")]
    documents = [document for text in texts for document in yaml.safe_load_all(text) if document]
    return Rendered(tuple(documents), notes)


def as_yaml(rendered: Rendered) -> str:
    """Return the objects as YAML documents in one text, as for ``kubectl apply -f``."""
    return yaml.safe_dump_all(rendered.documents, sort_keys=False, width=120)
