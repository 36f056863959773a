"""Every parser of what comes from outside, fed with good inputs that were changed at random: a value, or one error.

The changes follow from a seed. Parsers that take less than about a millisecond get 10,000 cases on every run of the
tests; the others as many as there is time for, and 10,000 with DIFFLM_FUZZ_CASES=10000 (a figure for all of them):

    DIFFLM_FUZZ_CASES=10000 .venv/bin/python -m pytest tests/security/test_mutations.py
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import BaseModel

from difflm.artifacts.dataset import DATASET_MANIFEST, ENTRIES, JOB_NAME, Dataset
from difflm.artifacts.manifest import MANIFEST_NAME, Manifest
from difflm.artifacts.storage import LocalStore
from difflm.config import apply_overrides, load_yaml, validate
from difflm.errors import BundleError, ConfigError, DataError, DiffLMError, ModelError, SchemaError
from difflm.models.gguf_files import read_head
from difflm.records.files.reading import ReadConfig, read_table
from difflm.records.frames.frames import TEMPLATE_NAME, FrameTemplate
from difflm.records.relations.constraints import asked_rules, check_constraints
from difflm.records.schema import RecordSchema, read_schema
from difflm.serving.bodies import BODIES, read_body
from difflm.serving.config import ServeConfig
from difflm.serving.limits import read_keys
from difflm.serving.problems import Problem
from difflm.synthesis.bundle import load_bundle
from difflm.synthesis.bundle_files import write_hashes
from difflm.synthesis.plans.conditions import parse_condition
from difflm.synthesis.saved_sampling import SAMPLING_NAME, read_sampling
from difflm.testing.bundles import StageFolders
from difflm.testing.gguf_models import save_gguf
from difflm_evaluators.judge.client import Reply
from difflm_evaluators.judge.reading import NotReadable, read_reply
from difflm_evaluators.judge.report import JUDGE_FILE, read_judgement
from difflm_evaluators.live.gates import parse_gate
from difflm_evaluators.report.layout import read_report
from difflm_jobs.inputs.arff import arff_to_csv

ALL = 10_000
ASKED = int(os.environ.get("DIFFLM_FUZZ_CASES", "0"))
LONGEST_S = 5.0  # processor time of one case, a hundred times what any takes

TOKENS = [
    *(
        b'"',
        b"'",
        b"`",
        b"{",
        b"}",
        b"[",
        b"]",
        b"(",
        b")",
        b":",
        b",",
        b";",
        b"\t",
        b"\n",
        b"\r\n",
        b"\\",
        b"\0",
        b" ",
    ),
    *(b"-1", b"0", b"1e999", b"NaN", b"null", b"true", b"9" * 40, b"9" * 400, b"../", b"\xff", b"\xff\xfe", b"\x80"),
    *(b"\\ud800", "é".encode(), "\u202e".encode(), b"==", b"<=", b"and", b"not", b"is", b"*a", b"&a", b"!!", b"<<: "),
    *(b"[" * 300, b"{" * 60, b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0", b"@data", b"PK\x03\x04"),
]


def mutated(seeds: list[bytes], chance: random.Random) -> bytes:
    """One of the seeds with one to four changes."""
    content = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((1, 1, 2, 4))):
        at, length = chance.randrange(len(content) + 1), chance.choice((1, 1, 2, 4, 16))
        match chance.randrange(7):
            case 0 | 1 if content:
                content[at % len(content)] = chance.randrange(256)
            case 2:
                del content[at : at + length]
            case 3:
                content[at:at] = chance.choice(TOKENS)
            case 4:
                content[at : at + length] = chance.choice(TOKENS)
            case 5:
                content[at:at] = content[at : at + 8 * length] * chance.choice((1, 2, 20))
            case 6 if chance.random() < 0.3:
                del content[at:]
            case _:
                other = chance.choice(seeds)
                content[at:] = other[chance.randrange(len(other) + 1) :]
    return bytes(content)


@dataclass(frozen=True, kw_only=True)
class Parser:
    """Something that reads bytes from outside; `cases` of every run, `errors` that it may raise."""

    seeds: list[bytes]
    read: Callable[[bytes], object]
    errors: type[Exception] | tuple[type[Exception], ...]
    cases: int = ALL


def feed(parser: Parser, *, seed: int = 0) -> None:
    """Read good inputs, and changed ones; whatever is not foreseen fails, with the input."""
    chance, refused = random.Random(seed), 0
    for content in parser.seeds:
        parser.read(content)
    for number in range(ASKED or parser.cases):
        content = mutated(parser.seeds, chance)
        began, said = time.process_time(), ""
        try:
            parser.read(content)
        except parser.errors as error:
            refused, said = refused + 1, str(error)
        except BaseException as error:
            error.add_note(f"case {number}: {content[:2000]!r}")
            raise
        assert "\n" not in said, (number, content[:2000])
        assert time.process_time() - began < LONGEST_S, (number, content[:2000])
    assert refused, "changes that nothing refuses test nothing"


def file_of(folder: Path, name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """Reading bytes as a file of a name."""

    def reads(content: bytes) -> object:
        (folder / name).write_bytes(content)
        return read(folder / name)

    return reads


def text_of(read: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda content: read(content.decode(errors="replace"))


CONDITIONS = [
    b"age >= 40 and age < 60 and city == 'Oslo'",
    b"`age` in [1, 2, 3] or age is null",
    b'not (wage > 1.5e3) and day <= "2020-01-31" and member == true',
    b"20 <= age < 60 and city not in ['Oslo', 'Rome'] and note is not null",
]
CONSTRAINTS = [
    b"age <= wage",
    b"keep: wage == age * 2 + 1.5",
    b"age < 60 and `wage` >= 3",
    b"wage == round(age / 3, 2)",
    b"day >= '2020-01-01'",
    b"wage - age <= 10 <= wage",
]


@pytest.mark.parametrize("name", ["conditions", "constraints", "constraints before a table"])
def test_expressions(name: str, stages: StageFolders) -> None:
    schema = read_schema(stages.bundle)
    reads: dict[str, tuple[list[bytes], Callable[[str], object]]] = {
        "conditions": (CONDITIONS[:1], lambda text: parse_condition(text, schema)),
        "constraints": (CONSTRAINTS[:1], lambda text: asked_rules([text], schema)),
        "constraints before a table": (CONSTRAINTS[:1], lambda text: check_constraints([text])),
    }
    seeds, read = reads[name]
    good = [seed for seed in (CONDITIONS if name == "conditions" else CONSTRAINTS) if is_read(read, seed.decode())]
    assert {*seeds} <= {*good}
    feed(Parser(seeds=good, read=text_of(read), errors=ConfigError))


def is_read(read: Callable[[str], object], text: str) -> bool:
    try:
        read(text)
    except ConfigError:
        return False
    return True


YAML = [
    b"bundles:\n  - {name: x, path: runs/x}\n  - name: y\n    path: 'runs/y'\nsampling: {steps: 25, temperature: 1}\n",
    b"http: &a {port: 8000, host: 127.0.0.1}\nlimits:\n  rows_per_request: 500\n  # n\nrefresh_s: 1e1\n"
    b"bundles: [{name: x, path: y}]\n",
    b'keys_file: null\nhttp: {cors_origins: ["http://x"], allowed_hosts: []}\nbundles: [{"name": "x", "path": "y"}]\n',
]
KEYS = [b"keys:\n  - {name: alice, sha256: '" + b"a" * 64 + b"'}\n  - name: bob\n    sha256: \"" + b"b" * 64 + b'"\n']


@pytest.mark.parametrize("name", ["configuration", "keys", "settings"])
def test_yaml(name: str, tmp_path: Path) -> None:
    def configured(path: Path) -> object:
        return validate(ServeConfig, load_yaml(path), str(path))

    def overridden(text: str) -> object:
        text = text.replace("\n", " ")  # the command line prints an error in one line, whatever it quotes
        data = apply_overrides({"bundles": [{"name": "x", "path": "y"}]}, [text])
        return validate(ServeConfig, data, "text", [text])

    settings = [b"sampling.steps=25", b"http={port: 3}", b"limits.given_rows = 7", b'http.cors_origins=["http://x"]']
    parsers = {
        "configuration": Parser(
            seeds=good_ones(YAML, file_of(tmp_path, "x.yaml", configured)),
            read=file_of(tmp_path, "x.yaml", configured), errors=ConfigError, cases=5_000,
        ),
        "keys": Parser(seeds=KEYS, read=file_of(tmp_path, "keys.yaml", read_keys), errors=ConfigError, cases=5_000),
        "settings": Parser(seeds=settings, read=text_of(overridden), errors=ConfigError),
    }  # fmt: skip
    feed(parsers[name])


def good_ones(seeds: list[bytes], read: Callable[[bytes], object]) -> list[bytes]:
    """Those of the seeds that are read; at least one has to be."""
    good = []
    for seed in seeds:
        try:
            read(seed)
        except DiffLMError:
            continue
        good.append(seed)
    assert good
    return good


def test_bodies_of_requests() -> None:
    seeds = [
        b'{"n": 5, "seed": 1, "where": "age > 3", "columns": ["age"], "format": "csv", "temperature": 0.5}',
        b'{"n": 1, "like": [{"age": 3, "note": "\\u00e9"}], "strength": 0.5, "constraints": ["age <= 3"]}',
        b'{"rows": [{"age": null}, {"age": 1.5e3}], "columns": null, "seed": 9, "deadline_s": 3, "bundle": "x"}',
    ]

    def read(content: bytes) -> None:
        refused = []
        for model in BODIES:
            try:
                read_body(model, content, columns=lambda _: ("age", "note"), max_records=10)
            except Problem as problem:
                refused.append(problem)
        if len(refused) == len(BODIES):
            raise refused[0]

    feed(Parser(seeds=seeds, read=read, errors=Problem))


def json_seeds(*values: Any) -> list[bytes]:
    return [json.dumps(value).encode() for value in values]


def test_files_of_datasets(tmp_path: Path) -> None:
    (tmp_path / ENTRIES).mkdir()
    entry = {
        "start": 0, "stop": 5, "file": "data/part-0.jsonl", "sha256": "a" * 64, "size": 10, "rows": 5,
        "given_up": [{"start": 1, "stop": 2}], "account": {"rejected": 3},
    }  # fmt: skip
    manifest = {
        "format_version": 1, "kind": "table", "identity": "a" * 64, "stage_version": 1, "config": {"a": [1]},
        "inputs": {}, "files": {"x.json": {"sha256": "b" * 64, "size": 3}}, "created": "2020-01-01", "seconds": 1.0,
        "compute_seconds": 0.5, "peak_rss_mib": {"x": 9}, "host": {}, "facts": {},
    }  # fmt: skip
    dataset = Dataset(store=LocalStore(tmp_path))

    def read(content: bytes) -> None:
        for name in (f"{ENTRIES}/part-0.json", JOB_NAME, DATASET_MANIFEST, MANIFEST_NAME):
            (tmp_path / name).write_bytes(content)
        dataset.sound_entries()
        found = dataset.read_json(JOB_NAME)
        assert found is None or isinstance(found, dict)
        try:
            Manifest.read(tmp_path)
        except DiffLMError:
            if found is None:
                raise

    feed(Parser(seeds=json_seeds(entry, manifest), read=read, errors=DiffLMError, cases=5_000))


TABLES = {
    "csv": [
        b'age,city,"a note"\n39,Oslo,"hm, ""so"""\n,Rome,\n7,"",x\n',
        b"sep=;\r\nage;wage\r\n1;2,50\r\n3;1.000,00\r\n",
        b"\xef\xbb\xbfTitle\n\nage\tcity\n1\tOsl\xc3\xb8\n2\tRome\n",
        "a|b\né|1\nü|2\n".encode("cp1252"),
    ],
    "txt": [b"age   city    wage\n 1    Oslo     2.5\n 22   Rome    13.0\n", b"1 2 3\n4 5 6\n"],
    "jsonl": [b'{"a": 1, "b": [1, {"c": null}]}\n{"a": 2.5, "b": "x"}\n{"b": true}\n'],
    "json": [
        b'[{"a": 1, "b": "x"}, {"a": null}]',
        b'{"a": {"0": 1, "1": 2}, "b": {"0": "x"}}',
        b'{"a": [1], "b": [2]}',
    ],
}


@pytest.mark.parametrize("kind", TABLES)
def test_texts_of_tables(kind: str, tmp_path: Path) -> None:
    settings = [ReadConfig(), ReadConfig(delimiter=";", skip=1), ReadConfig(encoding="latin-1", header=("a", "b"))]

    def read(path: Path) -> object:
        return read_table(path, settings[path.stat().st_size % 3 if path.stat().st_size % 5 == 0 else 0])

    reads = file_of(tmp_path, f"x.{kind}", read)
    seeds = good_ones(TABLES[kind], reads)
    feed(Parser(seeds=seeds, read=reads, errors=(DataError, ConfigError), cases=2_500))


def typed_table(kind: str) -> bytes:
    table = pa.table(
        {
            "age": [1, 2, None], "city": ["Oslo", "Rome", ""], "nested": [[1], [], None], "code": [b"a", b"\xff", None],
            "kind": pa.array(["a", "b", "a"]).dictionary_encode(), "day": pa.array([1, 2, 3], pa.date32()),
        }
    )  # fmt: skip
    sink = io.BytesIO()
    match kind:
        case "parquet":
            pq.write_table(table, sink)
        case "arrow":
            with pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)
        case "feather":
            with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
                writer.write_table(table)
    return sink.getvalue()


@pytest.mark.parametrize("kind", ["parquet", "arrow", "feather"])
def test_typed_tables(kind: str, tmp_path: Path) -> None:
    reads = file_of(tmp_path, f"x.{kind}", read_table)
    feed(Parser(seeds=[typed_table(kind)], read=reads, errors=(DataError, ConfigError), cases=5_000))


def test_workbooks(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["age", "city"], [1, "Oslo"], [2.5, None]):
        book.active.append(row)
    sink = io.BytesIO()
    book.save(sink)
    reads = file_of(tmp_path, "x.xlsx", read_table)  # in a process of its own each time
    feed(Parser(seeds=[sink.getvalue()], read=reads, errors=(DataError, ConfigError), cases=40))


def test_arff(tmp_path: Path) -> None:
    seeds = [
        b"@relation x\n@attribute a numeric\n@attribute 'b c' {x,'y z'}\n@data\n1,x\n?,'y z'\n% no\n2,\"x\"\n",
        b"@RELATION x\n@ATTRIBUTE a string\n\n@DATA\n'it\\'s'\nx\n",
    ]
    reads = file_of(tmp_path, "x.arff", lambda path: arff_to_csv(path, tmp_path / "out.csv"))
    feed(Parser(seeds=seeds, read=reads, errors=DataError))


class Grade(BaseModel):
    grade: int
    reason: str = ""


def test_replies_of_a_judge() -> None:
    facts: dict[str, Any] = dict.fromkeys(Reply.__dataclass_fields__, None)
    seeds = [
        b'{"grade": 3, "reason": "so"}',
        b'Well.\n```json\n{"grade": 4}\n```\nSo {"grade": 1}.',
        b'<think>7 {"grade": 2}</think>{"grade": 5, "reason": "\\u00e9"}',
    ]

    def read(text: str) -> object:
        return read_reply(Reply(**{**facts, "content": text, "finish_reason": "stop"}), Grade)

    feed(Parser(seeds=seeds, read=text_of(read), errors=NotReadable))


SCORE = {
    "name": "x", "title": "x", "meaning": "x", "value": 0.5, "direction": "lower", "unit": "", "bounds": [0, 1],
    "ideal": 0, "standard_error": None, "interval": [0.4, 0.6], "baseline": None, "baseline_label": None,
    "undefined_because": None, "warning": None,
}  # fmt: skip
REPORT = {
    "schema_version": 2, "title": "x", "rows": {"train": 9, "validation": 1, "test": 1, "synthetic": 9},
    "real": {"train": "ab", "validation": None, "test": None}, "columns": {"a": "integer"}, "target": None,
    "task": None, "config": {}, "evaluations": [{"name": "x", "scores": [SCORE], "details": {"a": [1, None]}}],
    "seconds": {"x": 0.5}, "settings": {}, "environment": {}, "timings": {}, "published": [], "judge": None,
}  # fmt: skip
JUDGEMENT = {
    "account": {"questions": 3, "answered": 2}, "evaluation": {"name": "x", "scores": [SCORE]}, "title": "x",
    "settings": {"model": "m"}, "complete": True,
}  # fmt: skip
BESIDE: Mapping[str, tuple[object, Callable[[Path], object], type[Exception]]] = {
    "report.json": (REPORT, read_report, DataError),
    JUDGE_FILE: (JUDGEMENT, lambda path: read_judgement(path.parent), DataError),
    SAMPLING_NAME: ({"steps": 25, "temperature": 0.5}, lambda path: read_sampling(path.parent), BundleError),
}


@pytest.mark.parametrize("name", BESIDE)
def test_what_lies_beside_bundles(name: str, tmp_path: Path) -> None:
    value, read, error = BESIDE[name]
    feed(Parser(seeds=json_seeds(value), read=file_of(tmp_path, name, read), errors=error))


def test_gates() -> None:
    def gate(text: str) -> object:
        return parse_gate(text, ["shape_error"])

    seeds = [b"shape_error<3", b"warn: shape_error <= 0.5", b"warn:shape_error>1e3"]
    feed(Parser(seeds=good_ones(seeds, text_of(gate)), read=text_of(gate), errors=ConfigError))


def test_schemas(stages: StageFolders) -> None:
    seed = (stages.bundle / "schema.json").read_bytes()
    compact = json.dumps(json.loads(seed)).encode()
    feed(Parser(seeds=[compact], read=RecordSchema.from_json, errors=SchemaError))


@pytest.mark.parametrize("library", ["pandas", "arrow"])
def test_templates_of_frames(library: str, tmp_path: Path) -> None:
    import pandas as pd

    frame = pd.DataFrame({"a": pd.Categorical(["x"]), 2: ["y"], "day": [pd.Timestamp("2020-01-01")]})
    template = FrameTemplate.of(frame if library == "pandas" else pa.table({"a": ["x"], "b": [1]}))
    reads = file_of(tmp_path, TEMPLATE_NAME, lambda path: FrameTemplate.read(path.parent))
    feed(Parser(seeds=[template.dumped()], read=reads, errors=BundleError, cases=1_000))


@pytest.mark.filterwarnings("ignore")  # numpy's, about numbers that overflow
def test_heads_of_gguf_files(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    save_gguf(tmp_path / "x.gguf", quantized=True)
    whole = (tmp_path / "x.gguf").read_bytes()
    feed(Parser(seeds=[whole], read=file_of(tmp_path, "x.gguf", read_head), errors=ModelError, cases=200))


FILES = [
    "bundle.json",
    "decoder/decoder.json",
    "decoder/model/config.json",
    "prior/prior.json",
    "prior/prior.safetensors",
]


@pytest.mark.parametrize("name", FILES)
def test_files_of_bundles(name: str, stages: StageFolders, bundle: Path) -> None:
    """With the hashes of what was changed: they are for damage, and whoever makes a bundle writes them."""
    content = (stages.bundle / name).read_bytes()
    seed = json.dumps(json.loads(content)).encode() if name.endswith(".json") else content

    def read(changed: bytes) -> None:
        (bundle / name).write_bytes(changed)
        write_hashes(bundle)
        load_bundle(bundle)

    feed(Parser(seeds=[seed], read=read, errors=BundleError, cases=25))
    shutil.rmtree(bundle)


def test_a_parser_that_raises_something_else_is_named() -> None:
    with pytest.raises(KeyError) as caught:
        feed(Parser(seeds=[b"a"], read=partial(raising, b"a"), errors=ValueError))
    assert "case " in caught.value.__notes__[0]


def raising(good: bytes, content: bytes) -> None:
    if content != good:
        raise KeyError(content)
