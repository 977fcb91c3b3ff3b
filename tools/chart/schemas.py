"""Validation of objects by the schemas of two releases of Kubernetes and of the operators' resource definitions."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

import kubernetes_validate

from tools.chart.rendering import ROOT, Document

RELEASES: Final = ("1.29", "1.34")
"""The oldest supported release (``kubeVersion`` in Chart.yaml), and a recent one."""
_OPERATORS: Final = ("gateway.networking.k8s.io/", "monitoring.coreos.com/")
_TIMEOUT_SECONDS: Final = 60


def validate(documents: Sequence[Document]) -> list[str]:
    """Return a sentence for each finding, with the object and the path in it."""
    operators = [each for each in documents if each["apiVersion"].startswith(_OPERATORS)]
    found = [
        sentence
        for document in documents
        if document not in operators
        for release in RELEASES
        for sentence in _validate_for_kubernetes(document, release)
    ]
    return found + (_validate_for_operators(operators) if operators else [])


def _validate_for_kubernetes(document: Document, release: str) -> list[str]:
    try:
        # Strict: a field that Kubernetes would silently drop is a finding, too.
        kubernetes_validate.validate(document, release, strict=True)
    except kubernetes_validate.ValidationError as error:
        path = "".join(f"/{part}" for part in error.path)
        return [f"{_name(document)} in Kubernetes {release}: {path}: {error.message}"]
    except kubernetes_validate.SchemaNotFoundError as error:
        return [f"{_name(document)}: {error.message}"]
    return []


def _validate_for_operators(documents: Sequence[Document]) -> list[str]:
    """Validate objects of operators. Their schemas are Node code and not strict: unknown fields pass."""
    done = subprocess.run(
        [sys.executable, "tools/node.py", "tests/support/js/operators.mjs"],
        cwd=ROOT,
        input=json.dumps(documents),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(
            f"tests/support/js/operators.mjs failed (its packages come with make install-dev): {done.stderr}"
        )
    return [
        f"{_name(document)}: {path}: {sentence}"
        for document, found in zip(documents, json.loads(done.stdout), strict=True)
        for path, sentence in found
    ]


def _name(document: Document) -> str:
    return f"{document['kind']} {document['metadata']['name']}"
