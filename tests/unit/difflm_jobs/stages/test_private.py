"""Which stages see real rows under differential privacy, that the others get none, and what is refused."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import difflm
from difflm.artifacts import ArtifactStore
from difflm.artifacts.run_folder import SECRET
from difflm.config import validate
from difflm.errors import ArtifactError, ConfigError, DataError
from difflm.privacy import surrogate
from difflm.privacy.budget import PrivacyConfig
from difflm.records.files.reading import ReadConfig, read_table
from difflm.records.files.source import SourceForm
from difflm.records.kinds.inference import infer_schema
from difflm.records.schema import SchemaConfig
from difflm.serving.registry import _quality
from difflm_jobs.config import ExperimentConfig, RuntimeConfig
from difflm_jobs.inputs.given_tables import RealFiles, laid_down_real
from difflm_jobs.pipeline.at_rest import purge_run
from difflm_jobs.pipeline.pipeline import resolve
from difflm_jobs.pipeline.stage import StageContext
from difflm_jobs.stages.private import KeepRows, Summarize
from difflm_jobs.stages.stages import build_stages

CANARY = "Zebulon Quux"
EXTREME = re.compile(rb"(?<![\d.])987[,_ ]?654(?!\d)")  # not among the digits of a score, which differ by the noise
ROWS = 3000


def _frame() -> pd.DataFrame:
    random = np.random.default_rng(0)
    age = random.integers(18, 70, ROWS)
    income = np.where(random.random(ROWS) < (age - 18) / 60, "high", "low")
    city = np.where(income == "high", random.choice(["Rome", "Oslo"], ROWS), random.choice(["Lima", "Oslo"], ROWS))
    frame = pd.DataFrame({"age": age, "city": city, "income": income, "who": random.integers(0, 1500, ROWS)})
    frame.loc[5, ["age", "city"]] = [987_654, CANARY]
    return frame


def _settings(**changes: Any) -> dict[str, Any]:
    return {"name": "people", "data": {"train": "people.csv"}, "privacy": {"epsilon": 3.0}, **changes}


def test_only_three_stages_have_the_real_rows_among_their_inputs() -> None:
    stages = build_stages(validate(ExperimentConfig, _settings(), "test"))
    assert [stage.name for stage in stages if "rows" in stage.inputs] == ["prepare", "fit-decoder", "evaluate"]
    assert all("rows" not in stage.sources() for stage in stages if stage.name != "rows")


def test_without_privacy_nothing_is_another_stage() -> None:
    stages = build_stages(validate(ExperimentConfig, _settings(privacy=None), "test"))
    assert [stage.name for stage in stages][:3] == ["prepare", "fit-decoder", "train-autoencoder"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data": {"train": "x.json", "kind": "tools"}}, "its texts have no private form"),
        ({"decoder": {"kind": "pretrained", "model": "gpt2"}}, "only the compact one is fitted by DP-SGD"),
        ({"autoencoder": {"encoder": {"kind": "compact"}}}, "only the pooled one has a private decoder"),
        ({"runtime": {"engine": {"kind": "deepspeed"}}}, "one process draws the sample and the noise"),
        ({"runtime": {"workers": {"num_workers": 2}}}, "one process draws the sample and the noise"),
        ({"relations": ["a <= b"]}, "it is checked against rows"),
        ({"privacy": {"unit": "who"}}, "epsilon"),
        ({"privacy": {"epsilon": 0.0}}, "greater than 0"),
    ],
)
def test_what_has_no_private_form_is_refused_with_the_reason(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        validate(ExperimentConfig, ExperimentConfig.completed(_settings(**changes)), "test")


def _context(folder: Path, **inputs: Path) -> StageContext:
    output, work = folder / "output", folder / "work"
    output.mkdir()
    work.mkdir()

    class _Given:
        def __init__(self, path: Path) -> None:
            self.path = path

    def report(done: float, total: float | None, text: str) -> None:
        pass

    given: Any = {name: _Given(path) for name, path in inputs.items()}
    return StageContext(
        inputs=given,
        output=output,
        work=work,
        report=report,
        runtime=RuntimeConfig(),
        start_cluster=lambda: pytest.fail("no cluster is needed"),
    )


def _keep(folder: Path, frame: pd.DataFrame, **privacy: Any) -> Path:
    folder.mkdir()
    frame.to_csv(folder / "people.csv", index=False)
    config = validate(
        ExperimentConfig,
        _settings(data={"train": str(folder / "people.csv"), "target": "income"}, privacy={"epsilon": 3.0, **privacy}),
        "test",
    )
    assert config.privacy is not None
    context = _context(folder)
    KeepRows(data=config.data, privacy=config.privacy).run(context)
    return context.output


def test_units_stay_together_and_their_column_is_left_out(tmp_path: Path) -> None:
    rows = _keep(tmp_path / "units", _frame(), unit="who")
    train, test = (pq.read_table(rows / f"{name}.parquet") for name in ("train", "test"))
    units_N = np.load(rows / "units.npy")
    assert train.column_names == ["age", "city", "income"]
    assert len(units_N) == len(train)
    assert set(units_N) == set(range(int(units_N.max()) + 1))
    assert len(test) == pytest.approx(ROWS / 10, rel=0.4)
    assert len(train) + len(test) == ROWS


def test_a_unit_that_is_missing_or_null_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'whom' \(privacy\.unit\)"):
        _keep(tmp_path / "absent", _frame(), unit="whom")
    holed = _frame().astype({"who": object})
    holed.loc[[3, 9], "who"] = None
    with pytest.raises(DataError, match=r"'who' \(privacy\.unit\) has no value in 2 rows, first in row 4"):
        _keep(tmp_path / "null", holed, unit="who")
    with pytest.raises(DataError, match=r"no column 'notes' \(privacy\.leave_out\)"):
        _keep(tmp_path / "left", _frame(), leave_out=["notes"])


def test_schema_and_rows_come_from_the_measurements_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tripwire: with the measurements of another table, nothing of the real one is in what is written."""
    privacy, other = PrivacyConfig(epsilon=8.0), pa.Table.from_pandas(_frame()[["age", "city", "income"]])
    found = surrogate.summarize(other, np.arange(ROWS), privacy, target="income")
    secret = _frame()[["age", "city", "income"]].assign(city=CANARY, age=987_654)
    rows = _keep(tmp_path / "secret", secret)
    (tmp_path / "prepare").mkdir()
    context = _context(tmp_path / "prepare", rows=rows)
    monkeypatch.setattr(surrogate, "summarize", lambda *args, **options: found)
    Summarize(privacy=privacy, schema=SchemaConfig(), target="income", seed=0).run(context)
    written = b"".join(path.read_bytes() for path in context.output.rglob("*") if path.is_file())
    assert CANARY.encode() not in written
    assert b"987654" not in written
    assert b"Rome" in written


def test_no_single_row_decides_the_form_of_private_rows(tmp_path: Path) -> None:
    """Of neighbouring tables the forms are the same: what all cells of a column share, one more row may not."""
    plain = ["a;b;c", *(f"{place % 7}.50;'x';u" for place in range(60))]
    other = [*plain, '1.505;;"N\\"A"', "2;y;NA"]
    lines = [json.dumps({"a": place % 3 + 0.5, "b": "x"}) for place in range(60)]
    texts = {
        "csv": ["\n".join(rows) for rows in (plain, other)],
        "jsonl": [
            "\n".join(rows) for rows in (lines, [*lines, json.dumps({"b": "y"}), json.dumps({"a": 1, "b": "y"})])
        ],
    }
    for ending, pair in texts.items():
        forms = []
        for place, text in enumerate(pair):
            path = tmp_path / f"{place}.{ending}"
            path.write_text(text)
            forms.append(SourceForm.of(read_table(path)))
        one, two = (form for form in forms if form is not None)
        assert one != two
        assert one.public() == two.public()
    assert one.public().json_ is not None


TINY: dict[str, Any] = {
    "decoder": {"hidden_size": 32, "layers": 1, "heads": 2, "intermediate_size": 64},
    "decoder_fit": {"steps": 40, "batch_size": 32},
    "autoencoder": {"steps": 20, "encoder": {"hidden_size": 16, "layers": 1, "heads": 2}},
    "prior": {"steps": 20, "width": 16, "blocks": 1},
    "privacy": {"epochs": 0.5, "batch_units": 100},
}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[difflm.Generator, Path]:
    out = tmp_path_factory.mktemp("private") / "people"
    return difflm.fit(_frame(), "income", TINY, out, progress=False, epsilon=8, protect_unit="who"), out


def test_a_fit_from_python_draws_rows_and_says_what_is_promised(fitted: tuple[difflm.Generator, Path]) -> None:
    generator, out = fitted
    rows = generator.sample(50, seed=1)
    assert list(rows.columns) == ["age", "city", "income"]
    assert rows["age"].dtype == _frame()["age"].dtype
    promised = json.loads((generator.bundle / "privacy.json").read_bytes())
    assert 7.5 < promised["epsilon_spent"] <= promised["epsilon"] == 8.0
    assert promised["unit"] == "who"
    assert promised["dp_sgd"]["noise"] > 0
    (decoder,) = (out / "artifacts").glob("decoder-*")
    assert json.loads((decoder / "manifest.json").read_bytes())["facts"]["privacy"] == promised


def test_what_one_row_has_is_nowhere_but_among_the_real_rows(fitted: tuple[difflm.Generator, Path]) -> None:
    _, out = fitted
    for artifact in (out / "artifacts").iterdir():
        if artifact.name.startswith("rows-"):
            continue
        for path in artifact.rglob("*"):
            if path.is_file():
                assert CANARY.encode() not in path.read_bytes(), path
                assert not EXTREME.search(path.read_bytes()), path


def test_no_file_holds_what_would_repeat_the_noise(fitted: tuple[difflm.Generator, Path]) -> None:
    generator, out = fitted
    (prepared,) = (out / "artifacts").glob("table-*")
    for path in (prepared / "summary.json", generator.bundle / "privacy.json"):
        assert '"seed"' not in path.read_text()


def test_the_report_shows_no_value_that_few_rows_have_and_a_server_shows_no_report(
    fitted: tuple[difflm.Generator, Path],
) -> None:
    """Both told categories of one row, and extremes; a purge leaves the report."""
    generator, out = fitted
    assert generator.report is not None
    (report,) = (out / "artifacts").glob("report-*")
    for path in report.rglob("*"):
        if path.is_file():
            assert CANARY.encode() not in path.read_bytes(), path
            assert not EXTREME.search(path.read_bytes()), path
    assert _quality(out, generator.bundle) is None
    assert _quality(generator.bundle, generator.bundle) is None


def test_real_rows_are_laid_beside_private_ones_as_the_schema_tells_them(tmp_path: Path) -> None:
    """A diagnosis showed values of one row, or ended with a date that the schema does not have."""
    known = {"day": [f"2021-01-{day:02}" for day in range(1, 29)] * 2, "city": ["Rome", "Oslo"] * 28}
    (tmp_path / "schema.json").write_text(infer_schema(pa.table(known)).to_json())
    (tmp_path / "privacy.json").write_text("{}")
    rows = {"day": [*known["day"], "99991231", "1871-05-03"], "city": [*known["city"], CANARY, "Rome"]}
    pq.write_table(pa.table(rows), tmp_path / "train.parquet")
    files = RealFiles(train=tmp_path / "train.parquet", holdout=None, own=True)
    with laid_down_real(files, tmp_path, ReadConfig()) as folder:
        shown = str(pq.read_table(folder / "train.parquet").to_pylist())
    assert "Rome" in shown
    assert not re.search(f"{CANARY}|9999|1871", shown)


def test_a_bundles_identity_tells_nobody_whether_a_row_was_there(tmp_path: Path) -> None:
    """It was a hash of the table's hash: who knew all rows but one could try both tables."""
    table = tmp_path / "people.csv"
    table.write_text("a,b\n" + "1,x\n" * 60)
    stages = build_stages(validate(ExperimentConfig, _settings(data={"train": str(table), "target": "b"}), "test"))
    roots = [tmp_path / "one", tmp_path / "other"]
    first, other = ({step.identity for step in resolve(stages, ArtifactStore(root))} for root in roots)
    assert not first & other, "another folder has another secret"
    store = ArtifactStore(roots[0])
    begun = resolve(stages, store)
    with store.exclusive():
        (roots[0] / "work" / "a-0123456789ab").mkdir(parents=True)
    assert [step.identity for step in resolve(stages, ArtifactStore(roots[0]))] == [step.identity for step in begun]
    assert (roots[0] / SECRET).stat().st_mode & 0o077 == 0
    early, late = ArtifactStore(roots[1]), ArtifactStore(roots[1])
    resolve(stages, late)
    resolve(stages, early)
    with early.exclusive():
        (roots[1] / "work" / "a-0123456789ab").mkdir(parents=True)
    with pytest.raises(ArtifactError, match="another process began this experiment"), late.exclusive():
        pass
    purge_run(roots[0])
    assert not (roots[0] / SECRET).exists()


def test_choosing_by_the_rows_is_refused() -> None:
    with pytest.raises(ConfigError, match="--quality and --budget look at the rows"):
        difflm.fit(_frame(), "income", TINY, progress=False, epsilon=8, quality="fast")


def test_no_bundle_is_of_two_measurements(fitted: tuple[difflm.Generator, Path], tmp_path: Path) -> None:
    """With the measurements gone, as a damaged file asks for, others were made, and the old decoder was gone on with:
    two budgets, and the bundle told of one.
    """
    _, out = fitted
    (prepared,) = (out / "artifacts").glob("table-*")
    aside = prepared.rename(tmp_path / prepared.name)
    try:
        with pytest.raises(
            ArtifactError, match=f"{prepared.name} is gone.*start-.*decoder-.*the budgets of both add up"
        ):
            difflm.fit(_frame(), "income", TINY, out, progress=False, epsilon=8, protect_unit="who")
        assert not prepared.exists()
    finally:
        aside.rename(prepared)


def test_another_release_of_the_same_people_is_told(
    fitted: tuple[difflm.Generator, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """After a purge the same command measures the rows anew; a run that is merely repeated spends nothing."""
    generator, out = fitted

    def again(**changes: Any) -> difflm.Generator:
        settings = {**TINY, **changes}
        return difflm.fit(_frame(), "income", settings, out, progress=False, epsilon=8, protect_unit="who")

    with caplog.at_level(logging.WARNING):
        assert again().bundle == generator.bundle
        assert "private bundles" not in caplog.text
        purge_run(out)
        assert again(privacy={"epochs": 0}).bundle != generator.bundle
    assert f"has private bundles already ({generator.bundle.name})" in caplog.text
    assert "their budgets add up" in caplog.text
