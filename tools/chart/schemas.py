"""Each object against the schemas of what it is for: two releases of Kubernetes, and the definitions of operators."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

import kubernetes_validate

from tools.chart.rendering import ROOT, Document

RELEASES: Final = ("1.29", "1.34")
"""The oldest release that the chart is for (``kubeVersion`` in Chart.yaml), and a recent one."""
_OPERATORS: Final = ("gateway.networking.k8s.io/", "monitoring.coreos.com/")
_TIMEOUT_SECONDS: Final = 60


def findings(documents: Sequence[Document]) -> list[str]:
    """A sentence for everything that is wrong, with the object and the path in it."""
    operators = [each for each in documents if each["apiVersion"].startswith(_OPERATORS)]
    found = [
        sentence
        for document in documents
        if document not in operators
        for release in RELEASES
        for sentence in _of_kubernetes(document, release)
    ]
    return found + (_of_operators(operators) if operators else [])


def _of_kubernetes(document: Document, release: str) -> list[str]:
    try:
        # Strict: a field that Kubernetes would drop without a word is wrong, too.
        kubernetes_validate.validate(document, release, strict=True)
    except kubernetes_validate.ValidationError as error:
        path = "".join(f"/{part}" for part in error.path)
        return [f"{_name(document)} in Kubernetes {release}: {path}: {error.message}"]
    except kubernetes_validate.SchemaNotFoundError as error:
        return [f"{_name(document)}: {error.message}"]
    return []


def _of_operators(documents: Sequence[Document]) -> list[str]:
    """Their schemas are code for Node, and know no strictness: a field too many passes."""
    judged = subprocess.run(
        [sys.executable, "tools/node.py", "tests/support/js/operators.mjs"],
        cwd=ROOT,
        input=json.dumps(documents),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )
    if judged.returncode != 0:
        raise RuntimeError(
            f"tests/support/js/operators.mjs (make install-dev brings what it needs): {judged.stderr}"
        )
    return [
        f"{_name(document)}: {path}: {sentence}"
        for document, wrong in zip(documents, json.loads(judged.stdout), strict=True)
        for path, sentence in wrong
    ]


def _name(document: Document) -> str:
    return f"{document['kind']} {document['metadata']['name']}"
