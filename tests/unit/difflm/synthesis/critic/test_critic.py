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
from difflm.synthesis.critic.features import Floats, Pairs, RowNumbers, bins_of, edges_of, find_pairs
from difflm.synthesis.critic.fit import CriticConfig, fit_critic, worth
from difflm.synthesis.critic.judge import CRITIC_NAME, CRITIC_TRIES
from difflm.synthesis.critic.raking import raked
from difflm.synthesis.critic.trees import BELOW_ALL, MOST_TREES, Trees
from difflm.synthesis.plans.conditions import parse_condition
from difflm.synthesis.plans.draw_plans import DrawPlans
from difflm.synthesis.synthesizer import SamplingConfig, Synthesizer
from difflm.testing.bundles import TINY_POOLED_SHAPE, StageFolders, untrained_stages
from difflm.testing.tables import mixed_table
from difflm.training.record_data import read_split

ROWS = 600
CONFIG = CriticConfig(trees=40, depth=4, recognised=0.7, threads=1)
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
    assert 0.02 < found["kept"] < 0.6
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


def test_trees_over_bins_become_trees_over_numbers() -> None:
    random = np.random.default_rng(2)
    rows_NF = random.normal(size=(400, 3)).astype(np.float32)
    rows_NF[random.random(rows_NF.shape) < 0.1] = np.nan
    edges = [edges_of(column_N, 16) for column_N in rows_NF.T]
    bins_NF = np.stack(
        [
            np.where(np.isnan(column_N), np.nan, bins_of(column_N, ends))
            for column_N, ends in zip(rows_NF.T, edges, strict=True)
        ],
        axis=1,
    ).astype(np.float32)
    label_N = (np.nan_to_num(rows_NF[:, 0]) > np.nan_to_num(rows_NF[:, 2], nan=0.5)).astype(float)
    booster = xgb.train(
        {"objective": "binary:logistic", "base_score": 0.5, "nthread": 1}, xgb.DMatrix(bins_NF, label=label_N), 8
    )
    trees = Trees.of(json.loads(bytes(booster.save_raw("json"))))
    numbered = trees.unbinned(edges)
    assert [numbered(row_F) for row_F in rows_NF] == [trees(row_F) for row_F in bins_NF]
    known = set(np.concatenate(edges).tolist())
    splits = numbered.child_2K[::2] != np.arange(len(numbered.value_K))
    assert splits.any()
    assert set(numbered.threshold_K[splits].tolist()) <= known, "no split but at an edge"


def test_a_tree_of_steps_says_what_its_bin_says() -> None:
    edges = np.array([1.0, 2.0, 5.0], dtype=np.float32)
    values = np.array([10.0, 20.0, 30.0, 40.0], dtype=np.float32)
    tree = Trees.of_steps(1, edges, values, missing=-7.0)
    rows = np.array([[0, number] for number in (-1e30, 0.9, 1.0, 1.9, 2.0, 4.9, 5.0, 1e30, np.nan)], dtype=np.float32)
    assert [tree(row_F) for row_F in rows] == [10, 10, 20, 20, 30, 30, 40, 40, -7]
    both = tree + Trees.of_steps(0, edges[:0], values[:1], missing=0.0).scaled(0.5)
    assert [both(row_F) for row_F in rows] == [15, 15, 25, 25, 35, 35, 45, 45, -2]


def test_pairs_are_differences_and_ratios() -> None:
    rows = np.array([[6, 3, 0], [1, np.nan, 2], [-4, 8, 1]], dtype=np.float32)
    pairs = Pairs.of([(0, 1, False), (0, 1, True), (1, 2, True)])
    expected = [[3, 2, np.nan], [np.nan, np.nan, np.nan], [-12, -0.5, 8]]
    np.testing.assert_array_equal(pairs(rows)[:, 3:], expected)
    np.testing.assert_array_equal(pairs(rows)[:, :3], rows)
    np.testing.assert_array_equal(np.stack([pairs(row_F) for row_F in rows]), pairs(rows))
    again = Pairs.of_tensors(pairs.tensors(), fields=3)
    np.testing.assert_array_equal(again(rows), pairs(rows))
    np.testing.assert_array_equal(Pairs.of([])(rows), rows)


def test_the_pair_that_tells_is_found_first() -> None:
    random = np.random.default_rng(3)
    real_NF, made_NF = (random.integers(10, 1000, size=(4000, 4)).astype(np.float32) for _ in range(2))
    real_NF[:, 2] = real_NF[:, 0] * 2 + random.integers(0, 3, 4000)
    made_NF[:, 2] = random.permutation(real_NF[:, 2])
    pairs = find_pairs(real_NF, made_NF, [0, 1, 2], most=2)
    assert (pairs.first_P[0], pairs.second_P[0], bool(pairs.ratio_P[0])) == (0, 2, True)
    assert 3 not in pairs.second_P, "it is none of those that may be subtracted"
    assert len(find_pairs(real_NF, made_NF, [0], most=2)) == 0
    few = np.round(real_NF / 200)
    assert len(find_pairs(few, few, [0, 1, 2], most=2)) == 0


def test_raking_brings_columns_to_their_shares_and_leaves_the_rest() -> None:
    random = np.random.default_rng(4)

    def rows(shift: float, missing: float) -> Floats:
        found_NF = random.normal(shift, 1.0, size=(8000, 2)).astype(np.float32)
        found_NF[random.random(8000) < missing, 0] = np.nan
        return np.concatenate([found_NF, random.normal(size=(8000, 1)).astype(np.float32)], axis=1)

    real_NF, made_NF = rows(0.0, 0.1), rows(0.3, 0.2)
    before_N = np.where(made_NF[:, 2] > 0, np.log(2.0), 0.0)
    trees, nats_N = raked(before_N, made_NF, real_NF, most=4.0)
    assert [trees(row_F) for row_F in made_NF[:200]] == pytest.approx((nats_N - before_N)[:200].tolist(), abs=1e-4)
    odds_N = np.exp(nats_N)
    kept_N = np.minimum(1.0, odds_N / min(4 * odds_N.mean(), float(np.quantile(odds_N, 0.98))))
    assert np.average(np.isnan(made_NF[:, 0]), weights=kept_N) == pytest.approx(
        np.isnan(real_NF[:, 0]).mean(), abs=0.01
    )
    assert np.average(made_NF[:, 1], weights=kept_N) == pytest.approx(real_NF[:, 1].mean(), abs=0.03)
    assert np.average(made_NF[:, 2] > 0, weights=kept_N) == pytest.approx((real_NF[:, 2] > 0).mean(), abs=0.02)


def test_there_are_no_more_trees_than_leave_training_rows_unrecognised(
    stages: StageFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("difflm.synthesis.critic.fit.LEAF_ROWS", 4)  # such leaves know single rows
    rows = read_split(stages.prepared, "train", read_schema(stages.prepared))
    found = []
    for allowed in (0.6, 1.0):
        folder = Path(shutil.copytree(stages.bundle, tmp_path / str(allowed)))
        config = CriticConfig(trees=60, depth=6, recognised=allowed, threads=1)
        figures = fit_critic(folder, rows.slice(0, 450), rows.slice(450), config, seed=1)
        assert figures is not None
        found.append(figures)
    limited, free = found
    assert limited["recognised"] <= 0.6 < free["recognised"]
    steps = len(read_schema(stages.prepared).fields)
    assert limited["trees"] < free["trees"] == 60 + steps


def test_splits_are_at_numbers_of_draws(stages: StageFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not at those of training rows, which nobody else has."""
    seen: list[Floats] = []

    class Watched(RowNumbers):
        def of_table(self, table: pa.Table) -> Floats:
            seen.append(super().of_table(table))
            return seen[-1]

    monkeypatch.setattr("difflm.synthesis.critic.fit.RowNumbers", Watched)
    rows = read_split(stages.prepared, "train", read_schema(stages.prepared))
    folder = Path(shutil.copytree(stages.bundle, tmp_path / "bundle"))
    assert fit_critic(folder, rows.slice(0, 450), rows.slice(450), CONFIG, seed=1) is not None
    critic = load_bundle(folder).critic
    assert critic is not None
    trees, made_NF = critic.trees, critic.pairs(seen[0])
    splits = trees.child_2K[::2] != np.arange(len(trees.value_K))
    assert splits.sum() > 100
    for feature in range(made_NF.shape[1]):
        at = set(trees.threshold_K[splits & (trees.feature_K == feature)].tolist()) - {BELOW_ALL}
        assert at <= set(made_NF[:, feature].tolist())


def test_the_scale_is_that_of_the_log_odds() -> None:
    random = np.random.default_rng(1)
    real_N, made_N = random.normal(1.0, 1.0, 20_000), random.normal(0.0, 1.0, 20_000)
    # The log of their densities' ratio is x - 1/2; sums that are twice as large are worth half.
    assert worth(real_N * 2, made_N * 2) == pytest.approx(0.5, abs=0.02)
    assert worth(real_N * 0.2, made_N * 0.2) == pytest.approx(5.0, abs=0.2)
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
    chance = min(
        1.0, math.exp(critic.scale * critic.trees(critic.pairs(critic.numbers.of_record(record))) + critic.offset)
    )
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
        (train, CriticConfig(trees=10, depth=2, told=1.0, threads=1)),  # nothing tells rows that well
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
        ("root", lambda old: old[:1].repeat(MOST_TREES + 1)),
        ("pairs", lambda old: old + 99),
        ("pairs", lambda old: old.double()),
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
