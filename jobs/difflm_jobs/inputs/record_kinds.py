"""Gates on the scores of finished records: of `difflm evaluate`, and of a run's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from rich.console import Console

from difflm.artifacts import Artifact, hash_file
from difflm.errors import ConfigError, DataError, EvaluationError
from difflm.records.column_inference import GivenKind
from difflm.records.inference import SchemaConfig
from difflm.records.notices import Notice, Reporter
from difflm.records.readers import read_json_rows
from difflm.records.reading import ReadConfig, read_table
from difflm_jobs.cli.summary import HEADLINES

if TYPE_CHECKING:
    import pyarrow as pa

    from difflm_evaluators.evaluation import Splits
    from difflm_evaluators.live.gates import Gate, Verdict
    from difflm_evaluators.report.report import Report
    from difflm_evaluators.scores.validity import SynthesisAccount
    from difflm_evaluators.texts.text_scores import CopiesConfig

Kind: TypeAlias = Literal["table", "tools", "code"]
TextKind: TypeAlias = Literal["tools", "code"]

_JSON = (".json", ".jsonl", ".ndjson")
_COLUMNS: Mapping[TextKind, Mapping[str, GivenKind]] = {
    "tools": {
        "category": "categorical",
        "tool_name": "name",
        "tool_description": "text",
        "api_name": "name",
        "api_description": "text",
        "parameters": "tool_parameters",
    },
    "code": {"code": "python"},
}


def record_kind(text: str) -> Kind:
    """The kind that a person named; ConfigError with the known ones."""
    for kind in get_args(Kind):
        if kind == text:
            known: Kind = kind
            return known
    raise ConfigError(f"--kind {text}: unknown; give {', '.join(get_args(Kind))}")


def read_text_records(path: Path, kind: TextKind, read: ReadConfig, report: Reporter) -> pa.Table:
    """All records of a file (or folder of code), as a table with the kind's columns; nothing is left out but tools
    without an API, which have no record and are counted.

    Raises DataError naming the file and the place in it.
    """
    from difflm.records.text_codec import code_of_table, read_code
    from difflm.records.tool_codec import KEYS, records_of, table_of_tools

    ending = Path(path.name.lower().removesuffix(".gz")).suffix
    if kind == "code":
        if ending in (".csv", ".tsv"):
            return code_of_table(read_table(path, read, report=report), str(path))
        return read_code(path, encoding=read.encoding)
    if ending not in _JSON:
        table = read_table(path, read, report=report)
        absent = [key for key in KEYS if key not in table.column_names]
        if absent:
            raise DataError(f"{path}: no column {absent[0]!r}; a table of tools has {', '.join(KEYS)}")
        return table.select(list(KEYS))
    rows = read_json_rows(path, encoding=read.encoding)
    if rows and "api_list" not in rows[0]:
        return _table_of_rows(rows, path)
    records, empty = [], 0
    for place, row in enumerate(rows, start=1):
        found = records_of(row, f"{path}: tool {place}")
        empty += not found
        records += found
    if empty:
        report(Notice(column=None, code="no_api", count=empty, message=f"{empty} tools have no API and give no record"))
    if not records:
        raise DataError(f"{path}: no tool with an API; give tools as ToolBench has them")
    return table_of_tools(records)


def _table_of_rows(rows: list[dict[str, Any]], path: Path) -> pa.Table:
    """Records that are records already, whatever is wrong with them; `parameters` as text."""
    import json

    import pyarrow as pa

    from difflm.records.tool_codec import KEYS

    for place, row in enumerate(rows, start=1):
        absent = [key for key in KEYS if key not in row]
        if absent:
            raise DataError(f"{path}: record {place} has no key {absent[0]!r}; a tool record has {', '.join(KEYS)}")

    def text(value: object) -> str | None:
        return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    return pa.table({key: pa.array([text(row[key]) for row in rows], pa.string()) for key in KEYS})


def usable(table: pa.Table, kind: TextKind, *, longest: int, report: Reporter) -> pa.Table:
    """The records that can be learned; the others are counted, never cut."""
    from difflm.records.text_codec import usable_code, usable_tools

    choose = usable_code if kind == "code" else usable_tools
    kept = choose(table, longest=longest, report=report)
    if kept.num_rows == 0:
        raise DataError(f"none of {table.num_rows} records can be used; raise data.longest, which is {longest}")
    return kept


def schema_config(given: SchemaConfig, kind: Kind, *, longest: int) -> SchemaConfig:
    """The configuration of inference: of tools and code the kind says what every column is."""
    if kind == "table":
        return given
    kinds = {**_COLUMNS[kind], **given.kinds}
    return given.model_copy(update={"kinds": kinds, "text_max_characters": max(longest, given.text_max_characters)})


def hash_source(path: Path) -> str:
    """The hash of a file, or of all code in a folder with its names."""
    if not path.is_dir():
        return hash_file(path)
    import hashlib

    digest = hashlib.sha256()
    for file in sorted(path.rglob("*.py")):
        if file.is_file():
            digest.update(f"{file.relative_to(path)} {hash_file(file)}\n".encode())
    return digest.hexdigest()


def evaluate_text_records(
    kind: TextKind,
    synthetic: pa.Table,
    splits: Splits,
    config: CopiesConfig,
    *,
    account: SynthesisAccount | None = None,
) -> Report:
    """The scores of code or of tools, as a report like that of a table."""
    from difflm_evaluators.texts.evaluation import evaluate_code_table, evaluate_tool_table

    evaluate = evaluate_code_table if kind == "code" else evaluate_tool_table
    return evaluate(synthetic, splits, config, account=account)


def table_gates(texts: Sequence[str], kind: Kind) -> tuple[Gate, ...]:
    """The gates on finished records of a kind.

    Raises:
        ConfigError: one cannot be read, is on no score that there is, or drops records, which are there already.
    """
    from difflm_evaluators.live.gates import CODE_SCORES, TABLE_SCORES, TOOL_SCORES, parse_gate

    scores = {"table": TABLE_SCORES, "tools": TOOL_SCORES, "code": CODE_SCORES}[kind]
    gates = tuple(parse_gate(text, scores) for text in texts)
    for gate in gates:
        if gate.action == "drop":
            raise ConfigError(f"gate {gate.text!r}: no record is dropped from a finished table; give stop or warn")
    return gates


def failed_verdicts(gates: Sequence[Gate], headlines: Sequence[Mapping[str, Any]], rows: int) -> list[Verdict]:
    """What the gates say that do not hold; ``headlines`` are the scores of so many rows, as `evaluate` gives them."""
    from difflm_evaluators.live.gates import Verdict

    found = {score["name"]: score for score in headlines}
    missing = {"value": None, "undefined_because": "it was not computed"}
    scores = [(gate, found.get(gate.score, missing)) for gate in gates]
    verdicts = [
        Verdict(gate=gate, rows=rows, value=score["value"], undefined_because=score["undefined_because"])
        for gate, score in scores
    ]
    return [verdict for verdict in verdicts if not verdict.passed]


def refuse_failed(gates: Sequence[Gate], headlines: Sequence[Mapping[str, Any]], rows: int, console: Console) -> None:
    """Say which gates do not hold of so many rows.

    Raises:
        EvaluationError: one that stops does not hold, or its score is undefined.
    """
    failed = failed_verdicts(gates, headlines, rows)
    for verdict in failed:
        if verdict.gate.action == "warn":
            console.print(f"warning: {verdict.sentence()}", style="bold red", highlight=False, soft_wrap=True)
    stopped = [verdict.sentence() for verdict in failed if verdict.gate.action == "stop"]
    if stopped:
        raise EvaluationError("; ".join(stopped))


def refuse_failed_run(gates: Sequence[Gate], artifacts: Sequence[Artifact], console: Console) -> None:
    """`refuse_failed` for the report among the artifacts of a run, if there is one; gates change no artifact."""
    facts = {artifact.kind: artifact.manifest.facts for artifact in artifacts}
    if HEADLINES in facts.get("report", {}):
        rows = int(facts["synthetic"]["rows_emitted"])
        refuse_failed(gates, facts["report"][HEADLINES], rows, console)
