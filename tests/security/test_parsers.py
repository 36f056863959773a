"""Everything that is read from outside, made up by Hypothesis: a value or one error of ours, nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from difflm.artifacts.dataset import DATASET_MANIFEST, ENTRIES, JOB_NAME, Dataset
from difflm.artifacts.manifest import MANIFEST_NAME, Manifest
from difflm.artifacts.storage import LocalStore
from difflm.config import apply_overrides, load_yaml, parse_yaml, validate
from difflm.errors import BundleError, ConfigError, DiffLMError
from difflm.records.schema import read_schema
from difflm.serving.bodies import BODIES, read_body
from difflm.serving.config import ServeConfig
from difflm.serving.limits import read_keys
from difflm.serving.problems import Problem
from difflm.synthesis.bundle import load_bundle
from difflm.synthesis.bundle_files import write_hashes
from difflm.synthesis.plans.conditions import parse_condition
from difflm.synthesis.plans.request import PlanRequest
from difflm.testing.bundles import StageFolders


def failure(kind: type[Exception], call: Callable[[], object]) -> str | None:
    """What an error of this kind says, None where there is none; another exception fails the test."""
    try:
        call()
    except kind as error:
        return str(error)
    return None


quickly = settings(max_examples=60, suppress_health_check=[*HealthCheck], deadline=None)

HUGE = 10**400
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(HUGE)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["", "../../etc/passwd", "\0", "-1", "pretrained", "compact", "/", "~"])
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner), max_leaves=8
)
WORDS = [
    *("age", "wage", "city", "note", "label", "joined", "`age`", "and", "or", "not", "in", "is", "null", "true"),
    *("(", ")", "[", "]", "==", "!=", "<", ">=", "'Oslo'", '"2020-01-01"', "0", "1.5", "-", "1e999", "9" * 309),
    *("9" * 5000, "1j", "b'x'", "...", "lambda: 0", "x.y", "f(1)", "{", "}", ",", "\\", "\0", "\n", "#", "0x"),
    *("1_000", "'\\ud800'", "`", '"', "'9999999-01-01'", "'0001-01-01'"),
]
conditions = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join) | st.text(max_size=40)


@given(text=conditions)
@example(text=f"age > 1{'0' * 309}")
@example(text=f"wage > 1{'0' * 309}")
@example(text=f"age > {'9' * 5000}")
@example(text="age > 1e999")
@example(text="(" * 3000)
@example(text="not " * 3000 + "age > 3")
@example(text="-" * 3000 + "1 < age")
@example(text="age > 3" + " and age > 3" * 900)
@example(text="age in [" + "1," * 2_000 + "]")
@quickly
def test_conditions(stages: StageFolders, text: str) -> None:
    schema = read_schema(stages.bundle)
    failure(ConfigError, lambda: parse_condition(text, schema))


NESTED = {
    "flow": "[" * 3000,
    "closed": "[" * 3000 + "]" * 3000,
    "block": "\n".join(" " * n + "a:" for n in range(3000)),
    "mapping": "{a: " * 3000,
    "laughs": "a: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    "itself": "a: &a [*a]",
    "key": "[1, 2]: 3",
    "mapping as key": "{a: 1}: 3",
    "digits": "a: " + "9" * 5000,
    "tag": "!!python/object/apply:os.system ['true']",
    "merge": "<<: 3",
    "merge list": "a: &a {b: 1}\n<<: [*a, 3]",
    "null": "a: \0",
    "surrogate": '"\\ud800": 1',
    "value": "= : 1",
    "tag of another kind": "a: !!bool x",
    "empty number": 'a: !!int ""',
    "sign alone": 'a: !!int "-"',
    "empty float": 'a: !!float ""',
    "time": "a: !!timestamp x",
    "list called a mapping": "a: !!map [1]",
    "key of another kind": "!!bool maybe: 1",
    "key of bytes": "!!binary aGk=: 1",
    "key of a day": "!!timestamp 2020-01-01: 1",
    "set": "a: !!set {b, c}",
    "no letter": 'a: "\\UFFFFFFFF"',
}


def _read_as_configuration(path: Path) -> ServeConfig:
    return validate(ServeConfig, load_yaml(path), str(path))


@pytest.mark.parametrize("name", NESTED)
def test_yaml_that_is_meant_to_break_its_reader(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(NESTED[name], encoding="utf-8")
    for read in (load_yaml, read_keys, _read_as_configuration):
        said = failure(ConfigError, partial(read, path))
        assert said is None or (said.startswith(str(path)) and "\n" not in said)


@given(text=st.text(alphabet="abc: -[]{},&*<>|!'\"\n\t0129.~#?%@=", max_size=60), value=values)
@quickly
def test_yaml_and_settings(text: str, value: Any) -> None:
    for override in (text, f"a.b={text}", f"sampling={json.dumps(value)}", f"{text}=1"):
        failure(ConfigError, lambda: parse_yaml(text, "text"))
        failure(ConfigError, partial(overridden, override))


def overridden(override: str) -> None:
    validate(ServeConfig, apply_overrides({"a": {"b": [1]}}, [override]), "text", [override])


@given(value=values, keys=st.dictionaries(st.sampled_from(["steps", "engine", "temperature", "top_k"]), values))
@quickly
def test_sections(value: Any, keys: dict[str, Any]) -> None:
    for given_ in ({"sampling": value}, {"sampling": keys}, {"http": value, "bundles": value}):
        failure(ConfigError, partial(validate, ServeConfig, given_, "text"))


FIELDS = dict.fromkeys(("n", "rows", "like", "where", "columns", "bundle"), values)


@given(value=values, known=st.fixed_dictionaries({}, optional=FIELDS))
@quickly
def test_bodies(value: Any, known: dict[str, Any]) -> None:
    for body in (value, known):
        content = json.dumps(body).encode()
        for model in BODIES:
            failure(Problem, partial(read_body, model, content, columns=lambda _: ("age",), max_records=10))


@given(value=values)
@quickly
def test_plans(stages: StageFolders, value: Any) -> None:
    text = value if isinstance(value, str) else None
    schema = read_schema(stages.bundle)
    failure(DiffLMError, lambda: PlanRequest(where=text, balance=text).check(stages.bundle, schema))


def paths_of(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where everything in a JSON value stands."""
    parts = value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    return [at, *(path for key, part in parts for path in paths_of(part, (*at, key)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(copy[path[0]], path[1:], new)
    return copy


FILES = [
    "bundle.json",
    "schema.json",
    "decoder/decoder.json",
    "decoder/model/config.json",
    "decoder/tokenizer/tokenizer_config.json",
    "prior/prior.json",
    "conditional/conditional.json",
    "hashes.json",
]
ODD = [None, -1, 0, HUGE, 1e308, "", "x", [], {}, [[]], True, {"kind": "pretrained", "model": "/tmp"}]


@pytest.mark.parametrize("name", FILES)
def test_a_bundle_whose_files_say_other_things(name: str, stages: StageFolders, bundle: Path) -> None:
    """Every place of every file by turns; a bundle may load all the same, where nothing reads the place."""
    original = (stages.bundle / name).read_bytes()
    places = paths_of(json.loads(original))
    step = max(1, len(places) // 10)
    for number, place in enumerate(places[::step]):
        value = ODD[number % len(ODD)]
        (bundle / name).write_text(json.dumps(replaced(json.loads(original), place, value)))
        if name != "hashes.json":
            write_hashes(bundle)
        assert "\n" not in (failure(BundleError, lambda: load_bundle(bundle)) or ""), (place, value)


@pytest.mark.parametrize("name", [*FILES, "decoder/tokenizer/tokenizer.json", "prior/prior.safetensors"])
@pytest.mark.parametrize("content", [b"", b"[]", b"[" * 5000, b"null", b'{"format_version": 1}', b"\xff"])
def test_a_bundle_whose_files_are_something_else(name: str, content: bytes, bundle: Path) -> None:
    (bundle / name).write_bytes(content)
    if name != "hashes.json":
        write_hashes(bundle)
    said = failure(BundleError, lambda: load_bundle(bundle))
    if said is None:
        assert name == "decoder/tokenizer/tokenizer_config.json", "nothing that is needed may be missing"
    else:
        assert "\n" not in said


def test_widths_of_minus_one_are_named(bundle: Path) -> None:
    path = bundle / "decoder" / "decoder.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, "widths": [-1] * len(facts["widths"])}))
    write_hashes(bundle)
    with pytest.raises(BundleError, match=r"decoder\.json: widths\.0: Input should be greater than or equal to 0"):
        load_bundle(bundle)


@given(value=values, entry=values)
@quickly
def test_the_files_of_a_dataset(tmp_path_factory: pytest.TempPathFactory, value: Any, entry: Any) -> None:
    folder = tmp_path_factory.mktemp("dataset")
    (folder / ENTRIES).mkdir()
    names = ["start", "stop", "file", "sha256", "size", "rows", "given_up", "account"]
    for place, content in enumerate(
        (value, entry, dict.fromkeys(names, entry), {**dict.fromkeys(names, 0), "file": value})
    ):
        (folder / ENTRIES / f"part-{place}.json").write_text(json.dumps(content))
    for name in (JOB_NAME, DATASET_MANIFEST):
        (folder / name).write_text(json.dumps(value))
    dataset = Dataset(store=LocalStore(folder))
    assert dataset.sound_entries() == []
    assert dataset.read_json(JOB_NAME) is None or isinstance(value, dict)
    assert MANIFEST_NAME in (failure(DiffLMError, lambda: Manifest.read(folder)) or MANIFEST_NAME)
    shutil.rmtree(folder)


@pytest.mark.parametrize("content", ["[" * 5000, "", "[]", '"x"', '{"format_version": 1, "files": {"a": 1}}'])
def test_a_manifest_that_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / MANIFEST_NAME).write_text(content)
    with pytest.raises(DiffLMError, match=MANIFEST_NAME):
        Manifest.read(tmp_path)
    assert Dataset(store=LocalStore(tmp_path)).read_json(MANIFEST_NAME) is None or content.startswith("{")
