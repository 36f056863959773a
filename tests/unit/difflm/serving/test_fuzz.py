"""Requests made at random from the server's own OpenAPI document, against the server over a socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.config import SchemathesisConfig
from schemathesis.generation import GenerationMode

from difflm.serving.config import ServeConfig
from difflm.serving.loaded_bundle import LocalBackend
from difflm.serving.service import Service
from difflm.testing.servers import served

EXAMPLES = 20  # of every operation; tests/benchmarks/serving.py has thousands

CONFIG = SchemathesisConfig.from_path(Path(__file__).parents[3] / "schemathesis.toml")


@pytest.fixture(scope="module")
def schema(config: ServeConfig, backend: LocalBackend) -> Iterator[schemathesis.BaseSchema]:
    with served(Service(config, backend)) as url:
        yield schemathesis.openapi.from_url(f"{url}openapi.json", config=CONFIG)


@pytest.mark.parametrize("mode", GenerationMode)
def test_whatever_is_asked_the_answer_is_one_that_the_document_has(
    schema: schemathesis.BaseSchema, mode: GenerationMode
) -> None:
    for found in schema.get_all_operations():
        operation = found.ok()
        if mode is GenerationMode.NEGATIVE and not operation.body:
            continue  # in a path or a query every text is one

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(max_examples=EXAMPLES, suppress_health_check=[*HealthCheck])
        def ask(case: schemathesis.Case) -> None:
            case.call_and_validate()

        ask()
