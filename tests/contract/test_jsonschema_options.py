"""The options of jsonschema-rs that gateway.events.schemas depends on. Its defaults are different."""

from __future__ import annotations

import time
from typing import Any

import jsonschema_rs
import pytest

from gateway.events.schemas import compile_schema


def test_default_fetches_references_and_ours_fetches_none(tmp_path: Any) -> None:
    file = tmp_path / "schema.json"
    file.write_text('{"type": "string"}')
    schema = {"$ref": file.as_uri()}

    assert jsonschema_rs.Draft202012Validator(schema).is_valid(5) is False
    with pytest.raises(ValueError, match="is not a JSON Schema"):
        compile_schema(schema, {})


def test_default_patterns_have_lookaround_and_ours_are_linear() -> None:
    assert jsonschema_rs.Draft202012Validator({"pattern": "(?=a)"}).is_valid("a")
    with pytest.raises(ValueError, match="is not a JSON Schema"):
        compile_schema({"pattern": "(?=a)"}, {})

    schema = compile_schema({"pattern": "^(a+)+$"}, {})
    start = time.thread_time()
    schema.problems("a" * 1_000_000 + "!")
    assert time.thread_time() - start < 30  # backtracking would take years


def test_default_messages_quote_values_and_ours_do_not() -> None:
    (error,) = jsonschema_rs.Draft202012Validator({"type": "string"}).iter_errors(123456)

    assert "123456" in error.message
    assert "123456" not in str(compile_schema({"type": "string"}, {}).problems(123456))


def test_default_ignores_formats_and_ours_checks_them() -> None:
    assert jsonschema_rs.Draft202012Validator({"format": "uuid"}).is_valid("x")
    assert compile_schema({"format": "uuid"}, {}).problems("x") == {"": "is not of format uuid"}
    with pytest.raises(ValueError, match="is not a JSON Schema"):
        compile_schema({"format": "unknown"}, {})
