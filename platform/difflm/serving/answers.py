"""Answers as the OpenAPI document describes them; the fuzzer of the tests holds the server to it."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from difflm.config import Config
from difflm.records.record_schema import RecordSchema
from difflm.serving.formats import MEDIA_TYPES

Responses = dict[int | str, dict[str, Any]]


class Fault(Config):
    """What is wrong: a code for programs, words for people, and the field of the request that is meant."""

    code: str
    message: str
    field: str | None


class ErrorAnswer(Config):
    """Every answer that is no success."""

    error: Fault


class RowsAnswer(Config):
    """Rows in one piece; `given_up` are indices without a valid draw."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "bundle": "adult", "version": "402d82e56c96", "seed": 1, "start": 0,
                    "rows": [{"age": 39, "income": "<=50K"}], "given_up": [],
                }
            ]
        }
    )  # fmt: skip

    bundle: str
    version: str
    seed: int
    start: int
    rows: list[dict[str, str | float | bool | None]]
    given_up: list[int]


class LatentsAnswer(Config):
    """The latent mean of every given record."""

    bundle: str
    version: str
    latents: list[list[float]]


class BundleState(Config):
    """A bundle of the server; `version` is null while one is being loaded, and `fault` says whether that fails."""

    bundle: str
    version: str | None
    fault: str | None


class BundlesAnswer(Config):
    """All bundles of the server."""

    bundles: list[BundleState]


class SchemaAnswer(Config):
    """The columns of a bundle, with the values and ranges that training had."""

    bundle: str
    version: str
    columns: RecordSchema = Field(alias="schema")  # pydantic's own classes have an attribute of that name


class QualityAnswer(Config):
    """The evaluation that came with a bundle."""

    bundle: str
    version: str
    report: dict[str, Any]


_ERROR = {"model": ErrorAnswer, "description": "No success: a code, what is wrong, and the field that it is about"}
ERRORS: Responses = dict.fromkeys((400, 401, 404, 405, 408, 409, 413, 422, 429, 503, 504), _ERROR)
_FILES: dict[str, dict[str, Any]] = {media.split(";")[0]: {} for name, media in MEDIA_TYPES.items() if name != "json"}
ROWS: Responses = {200: {"model": RowsAnswer, "description": "Rows", "content": _FILES}}
FILE: Responses = {200: {"description": "The rows", "content": _FILES}}
METRICS: Responses = {200: {"description": "Counters", "content": {"text/plain": {}}}}
