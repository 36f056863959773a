"""The critic: trees as XGBoost has them, what their sum is worth, draws that are turned down, files that are none."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import xgboost as xgb
from safetensors.torch import load_file, save_file
from torch import Tensor

from difflm.errors import BundleError
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.kinds.inference import infer_schema
from difflm.records.schema import Record, read_schema
from difflm.synthesis.bundle import Bundle, load_bundle
from difflm.synthesis.bundle_files import write_hashes
from difflm.synthesis.critic.fit import CriticConfig, fit_critic, worth
from difflm.synthesis.critic.judge import CRITIC_NAME, CRITIC_TRIES, RowNumbers
from difflm.synthesis.critic.trees import Floats, Trees
from difflm.synthesis.plans.conditions import parse_condition
from difflm.synthesis.plans.draw_plans import DrawPlans
from difflm.synthesis.synthesizer import SamplingConfig, Synthesizer
from difflm.testing.bundles import TINY_POOLED_SHAPE, StageFolders, untrained_stages
from difflm.testing.tables import mixed_table
from difflm.training.record_data import read_split

ROWS = 600
CONFIG = CriticConfig(trees=40, depth=4, threads=1)
PLAIN = SamplingConfig(precision="float32", critic=False)
JUDGED = SamplingConfig(precision="float32")


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> StageFolders:
    table = mixed_table(ROWS).drop_columns(["note"])
    return untrained_stages(tmp_path_factory.mktemp("critic"), table, shape=TINY_POOLED_SHAPE)


@pytest.fixture(scope="module")
def judged(stages: StageFolders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(stages.bundle, tmp_path_factory.mktemp("judged") / "bundle"))
    schema = read_schema(stages.prepared)
    train, validation = (read_split(stages.prepared, split, schema) for split in ("train", "validation"))
    found = fit_critic(folder, train, validation, CONFIG, seed=1)
    assert found is not None
    assert found["auc"] > 0.8  # random weights
    assert 0.1 < found["kept"] < 0.6
    return folder


def _drawn(bundle: Bundle, config: SamplingConfig, rows: int = 400) -> list[Record]:
    drawn, account = Synthesizer(bundle, config).draw_valid(range(rows), seed=7)
    assert len(drawn) == rows
    assert account.attempts == rows + sum(account.rejections.values())
    assert "critic" not in account.rejections
    return [record for _, record in drawn]


def test_trees_are_walked_as_xgboost_walks_them() -> None:
    random = np.random.default_rng(0)
    rows_NF = random.normal(size=(300, 5)).astype(np.float32)
    rows_NF[random.random(rows_NF.shape) < 0.2] = np.nan
    label_N = (np.nan_to_num(rows_NF[:, 0]) * np.nan_to_num(rows_NF[:, 1], nan=1.0) > 0).astype(float)
    matrix = xgb.DMatrix(rows_NF, label=label_N)
    settings = {"objective": "binary:logistic", "base_score": 0.5, "max_depth": 5, "nthread": 1}
    booster = xgb.train(settings, matrix, 20)
    trees = Trees.of(json.loads(bytes(booster.save_raw("json"))))
    found = [trees(row_F) for row_F in rows_NF]
    assert found == pytest.approx(booster.predict(matrix, output_margin=True).tolist(), abs=1e-5)
    again = Trees.of_tensors(trees.tensors(), features=5)
    assert [again(row_F) for row_F in rows_NF] == found


def test_the_scale_is_that_of_the_log_odds() -> None:
    random = np.random.default_rng(1)
    real_N, made_N = random.normal(1.0, 1.0, 20_000), random.normal(0.0, 1.0, 20_000)
    # The log of their densities' ratio is x - 1/2; sums that are twice as large are worth half.
    assert worth(real_N * 2, made_N * 2) == pytest.approx(0.5, abs=0.02)
    assert worth(real_N * 0.2, made_N * 0.2) == 1.0  # five times as much as they say: as they say
    assert worth(made_N, made_N[::-1]) is None
    assert worth(-real_N, -made_N) is None


def test_records_and_tables_become_the_same_numbers(stages: StageFolders) -> None:
    bundle = load_bundle(stages.bundle)
    numbers = RowNumbers(bundle.schema)
    records = _drawn(bundle, PLAIN, rows=50)
    by_table = numbers.of_table(bundle.codec.table_of(records))
    np.testing.assert_array_equal(np.stack([numbers.of_record(record) for record in records]), by_table)
    assert np.isnan(by_table).any()


def test_numbers_that_float32_does_not_hold_are_cut() -> None:
    table = pa.table({"far": [1e300, -1e250, 3.5, None] * 20, "near": [1, 2, 3, 4] * 20})
    schema = infer_schema(table)
    numbers_NF = RowNumbers(schema).of_table(JsonRecordCodec(schema).normalize_table(table).table)
    assert np.isfinite(numbers_NF[:, 1]).all()
    assert np.isnan(numbers_NF[:, 0]).tolist() == [False, False, False, True] * 20
    assert np.isfinite(numbers_NF[:3]).all()


def _told(real_NF: Floats, made_NF: Floats) -> float:
    """By trees of their own, fitted to one half of the rows: the share of the others that is told."""
    label_N = np.repeat([1, 0], [len(real_NF), len(made_NF)])
    rows_NF, order = np.concatenate([real_NF, made_NF]), np.random.default_rng(0).permutation(len(label_N))
    half = len(order) // 2
    model = xgb.XGBClassifier(n_estimators=20, max_depth=4, n_jobs=1).fit(rows_NF[order[:half]], label_N[order[:half]])
    return float(model.score(rows_NF[order[half:]], label_N[order[half:]]))


def test_draws_that_were_judged_are_nearer_to_training_rows(stages: StageFolders, judged: Path) -> None:
    bundle = load_bundle(judged)
    numbers = RowNumbers(bundle.schema)
    real_NF = numbers.of_table(read_split(stages.prepared, "train", bundle.schema))[:400]
    plain, kept = (numbers.of_table(bundle.codec.table_of(_drawn(bundle, config))) for config in (PLAIN, JUDGED))
    assert _told(real_NF, kept) < _told(real_NF, plain) - 0.02
    assert (judged / CRITIC_NAME).stat().st_mode & 0o044, "others may read it, too"


def test_what_becomes_of_an_index_does_not_depend_on_the_others(judged: Path) -> None:
    synthesizer = Synthesizer(load_bundle(judged), JUDGED)
    wanted, _ = synthesizer.draw_valid(range(40), seed=5)
    again, _ = synthesizer.draw_valid(range(15, 25), seed=5)
    assert again == wanted[15:25]


def test_the_last_try_is_kept_and_chances_are_what_they_say(judged: Path) -> None:
    bundle = load_bundle(judged)
    assert bundle.critic is not None
    record = _drawn(bundle, PLAIN, rows=1)[0]
    critic = bundle.critic
    chance = min(1.0, math.exp(critic.scale * critic.trees(critic.numbers.of_record(record)) + critic.offset))
    kept = [critic.keeps(record, index=index, attempt=0) for index in range(4000)]
    assert np.mean(kept) == pytest.approx(chance, abs=0.03)
    assert all(critic.keeps(record, index=index, attempt=CRITIC_TRIES - 1) for index in range(200))


def test_a_condition_is_not_judged(judged: Path) -> None:
    bundle = load_bundle(judged)
    plans = DrawPlans(bundle, text_tokens=8)
    asked = plans.where(parse_condition("city == 'Oslo'", bundle.schema))
    assert Synthesizer(bundle, JUDGED, plan=asked).critic is None
    assert Synthesizer(bundle, JUDGED, plan=plans.plain()).critic is not None
    assert Synthesizer(bundle, PLAIN).critic is None


def test_without_enough_rows_or_trees_there_is_none(stages: StageFolders, tmp_path: Path) -> None:
    schema = read_schema(stages.prepared)
    train = read_split(stages.prepared, "train", schema)
    for rows, config in (
        (train.slice(0, 300), CONFIG),
        (train, CriticConfig(trees=0)),
        (train, CriticConfig(rows=200)),
    ):
        folder = Path(shutil.copytree(stages.bundle, tmp_path / str(len(list(tmp_path.iterdir())))))
        assert fit_critic(folder, rows, train, config, seed=1) is None
        assert not (folder / CRITIC_NAME).exists()


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("feature", lambda old: old + 99),
        ("child", lambda old: old - 10**6),
        ("child", lambda old: old[:-1]),
        ("root", lambda old: old + 10**6),
        ("value", lambda old: old * math.nan),
        ("threshold", lambda old: old.double()),
        ("depth", lambda old: old + 10**6),
        ("figures", lambda old: old[:1]),
        ("figures", lambda old: old / 0),
        ("missing", None),
    ],
)
def test_a_file_that_is_no_critic_is_refused(judged: Path, tmp_path: Path, name: str, broken: object) -> None:
    folder = Path(shutil.copytree(judged, tmp_path / "bundle"))
    tensors: dict[str, Tensor] = load_file(folder / CRITIC_NAME)
    if callable(broken):
        tensors[name] = broken(tensors[name]).contiguous()
    else:
        del tensors[name]
    save_file(tensors, folder / CRITIC_NAME)
    write_hashes(folder)
    with pytest.raises(BundleError, match=r"critic\.safetensors: no critic of this bundle.*assemble"):
        load_bundle(folder)
