"""A table goes in, a scored synthetic table and a report come out; what exists is not made again."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Here = Callable[..., Any]

pytestmark = [pytest.mark.integration, pytest.mark.distributed]

STAGES = [
    "prepare",
    "fit-decoder",
    "train-autoencoder",
    "encode",
    "train-diffusion",
    "assemble",
    "synthesize",
    "evaluate",
]


def last_run(root: Path) -> dict[str, Any]:
    lines = (root / "runs.jsonl").read_text(encoding="utf-8").splitlines()
    run: dict[str, Any] = json.loads(lines[-1])
    return run


def statuses(root: Path) -> dict[str, str]:
    return {stage["stage"]: stage["status"] for stage in last_run(root)["stages"]}


@pytest.fixture
def here(difflm: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A verb that needs no cluster, in this process, in an experiment's folder."""

    def call(experiment: Any, *arguments: str) -> Any:
        monkeypatch.chdir(experiment.folder)
        return difflm(*arguments)

    return call


@pytest.fixture(scope="module")
def finished(undisturbed: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A copy of the finished experiment that may be changed."""
    folder = tmp_path_factory.mktemp("finished") / "copy"
    shutil.copytree(undisturbed.folder, folder)
    return type(undisturbed)(folder)


def test_every_stage_ran_and_every_row_is_valid(undisturbed: Any) -> None:
    assert statuses(undisturbed.root) == dict.fromkeys(STAGES, "ran")
    folder = undisturbed.artifact("synthetic")
    account = json.loads((folder / "account.json").read_text(encoding="utf-8"))
    with (folder / "synthetic.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert account["rows_asked"] == 300
    assert account["rows_emitted"] == len(rows) == 300 - account["given_up_count"]
    assert list(rows[0]) == ["age", "city", "income", "member", "label"]
    assert {row["city"] for row in rows} <= {"Rome", "Oslo", "Lima"}
    assert {row["member"] for row in rows} <= {"yes", "no"}
    assert all(18 <= int(row["age"]) <= 80 for row in rows)
    assert all(row["income"] == "" or len(row["income"].partition(".")[2]) <= 2 for row in rows)


def test_the_report_is_there_with_every_score(undisturbed: Any) -> None:
    folder = undisturbed.artifact("report")
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    scores = {score["name"] for evaluation in report["evaluations"] for score in evaluation["scores"]}
    assert {"shape_error", "trend_error", "mle_auc", "dcr_share", "exact_copy_share", "valid_draw_share"} <= scores
    assert {"c2st_auc", "alpha_precision", "beta_recall", "mia_auc", "mia_calibrated_auc"} <= scores
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert "train-autoencoder" in html
    assert "train-diffusion" in html


def test_cost_and_memory_are_recorded_per_stage(undisturbed: Any) -> None:
    run = last_run(undisturbed.root)
    computing = sum(stage["compute_seconds"] for stage in run["stages"])
    assert run["wall_seconds"] > computing > 0
    trained = next(stage for stage in run["stages"] if stage["stage"] == "train-autoencoder")
    assert set(trained["peak_rss_mib"]) == {"driver", "worker 0"}
    assert all(peak > 50 for stage in run["stages"] for peak in stage["peak_rss_mib"].values())
    assert not (undisturbed.root / "work").exists() or not any((undisturbed.root / "work").iterdir())


def test_a_bundle_holds_no_row_and_no_latent_of_the_training_split(undisturbed: Any) -> None:
    bundle = undisturbed.artifact("bundle")
    assert not list(bundle.rglob("*.parquet"))
    assert not list(bundle.rglob("*.csv"))


def test_a_second_run_executes_nothing(finished: Any, here: Here) -> None:
    before = sorted(path.name for path in (finished.root / "artifacts").iterdir())
    ended = here(finished, "run", "tiny.yaml")
    assert ended.code == 0, ended.err
    assert statuses(finished.root) == dict.fromkeys(STAGES, "reused")
    assert "nothing had to run" in ended.out
    assert sorted(path.name for path in (finished.root / "artifacts").iterdir()) == before


@pytest.mark.usefixtures("locally")
def test_another_sampler_reruns_only_what_follows(finished: Any, here: Here) -> None:
    ended = here(finished, "run", "tiny.yaml", "--set", "sampling.temperature=0.5")
    assert ended.code == 0, ended.err
    assert statuses(finished.root) == {**dict.fromkeys(STAGES, "reused"), "synthesize": "ran", "evaluate": "ran"}


def test_more_workers_change_no_identity(finished: Any, here: Here) -> None:
    ended = here(finished, "run", "tiny.yaml", "--set", "runtime.workers.num_workers=2")
    assert ended.code == 0, ended.err
    assert statuses(finished.root) == dict.fromkeys(STAGES, "reused")


def test_a_plan_of_what_is_finished_needs_nothing(finished: Any, here: Here) -> None:
    planned = here(finished, "plan", "tiny.yaml")
    assert planned.code == 0
    assert "needs: nothing, every stage is finished" in planned.out


def test_show_prints_stages_scores_and_overhead(undisturbed: Any, here: Here) -> None:
    ended = here(undisturbed, "show", "tiny")
    assert ended.code == 0, ended.err
    assert "train-diffusion" in ended.out
    assert "Shape error" in ended.out
    assert "overhead" in ended.out


def test_verify_finds_a_changed_file(finished: Any, here: Here) -> None:
    assert here(finished, "verify", "tiny").code == 0
    path = finished.artifact("table") / "schema.json"
    text = path.read_text(encoding="utf-8")
    path.write_text(text + " ", encoding="utf-8")
    ended = here(finished, "verify", "tiny")
    path.write_text(text, encoding="utf-8")
    assert ended.code == 2
    assert "schema.json: changed since it was written" in ended.err


@pytest.mark.usefixtures("locally")
def test_rows_from_a_bundle_are_the_same_for_the_same_seed(undisturbed: Any, here: Here, tmp_path: Path) -> None:
    sampling = ["--set", "sampling={steps: 5, precision: float32}"]
    arguments = ["synthesize", str(undisturbed.root), "--rows", "20", "--seed", "3", *sampling]
    shards = ["--set", "runtime.synthesis.rows_per_shard=7"]
    first = here(undisturbed, *arguments, "--out", str(tmp_path / "a.csv"))
    assert first.code == 0, first.err
    second = here(undisturbed, *arguments, *shards, "--out", str(tmp_path / "b.csv"))
    assert second.code == 0, second.err
    assert (tmp_path / "a.csv").read_text(encoding="utf-8") == (tmp_path / "b.csv").read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "b.csv"]


def test_any_table_can_be_evaluated(undisturbed: Any, here: Here, tmp_path: Path) -> None:
    synthetic = undisturbed.artifact("synthetic") / "synthetic.csv"
    arguments = [
        "evaluate",
        str(synthetic),
        "--train",
        "people.csv",
        "--target",
        "label",
        "--out",
        str(tmp_path / "out"),
    ]
    ended = here(undisturbed, *arguments, "--out", str(tmp_path / "out"))
    assert ended.code == 0, ended.err
    assert "Shape error" in ended.out
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format_version": 99}', "bundle.json: bundle of format 99, this version reads"),
        ("{", "bundle.json: not JSON"),
    ],
)
def test_a_bundle_of_another_version_is_refused(
    undisturbed: Any, here: Here, tmp_path: Path, text: str, message: str
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(undisturbed.artifact("bundle"), bundle)
    (bundle / "bundle.json").write_text(text, encoding="utf-8")
    ended = here(undisturbed, "synthesize", str(bundle), "--rows", "5", "--out", str(tmp_path / "x.csv"))
    assert ended.code == 2
    (line,) = ended.err.splitlines()
    assert message in line
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_an_ablation_finds_finished_runs_and_writes_one_table(finished: Any, here: Here) -> None:
    (finished.folder / "grid.yaml").write_text("cells: [{name: as it is}]\nseeds: [0]\n", encoding="utf-8")
    ended = here(finished, "ablate", "tiny.yaml", "--grid", "grid.yaml", "--name", "tiny")
    assert ended.code == 0, ended.err
    assert "Ablation of tiny" in ended.out
    assert set(statuses(finished.root).values()) == {"reused"}
    facts = json.loads((finished.root / "ablation.json").read_text(encoding="utf-8"))
    evaluated = finished.root / "artifacts" / last_run(finished.root)["stages"][-1]["artifact"]
    report = json.loads((evaluated / "report.json").read_text(encoding="utf-8"))
    scores = {score["name"]: score["value"] for part in report["evaluations"] for score in part["scores"]}
    (cell,) = facts["cells"]
    assert cell["scores"]["shape_error"] == {
        "mean": scores["shape_error"],
        "standard_error": None,
        "values": [scores["shape_error"]],
    }
    assert (finished.root / "ablation.html").exists()
