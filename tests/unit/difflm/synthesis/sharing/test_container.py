"""A generator as a file: what was saved is what is loaded, wherever a bundle is; anything else is one line."""

from __future__ import annotations

import io
import json
import shutil
import stat
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

import difflm
from difflm.api import Generator
from difflm.artifacts.manifest import SCORES_NAME
from difflm.errors import BundleError, ConfigError, DiffLMError
from difflm.records.protection.settings import Protected
from difflm.records.schema import read_schema
from difflm.serving.backend import BundleRef
from difflm.serving.config import ServeConfig, ServedConfig
from difflm.serving.registry import Registry
from difflm.synthesis.bundle import bundle_folder
from difflm.synthesis.bundle_files import write_hashes
from difflm.synthesis.sharing import container
from difflm.synthesis.sharing.card import _privacy, write_card
from difflm.synthesis.sharing.container import HEAD_NAME, pack, sign_container, unpacked
from difflm.synthesis.sharing.places import is_generator, short_name
from difflm.synthesis.signatures import check_signature, make_key, read_public_key
from difflm.synthesis.synthesizer import SamplingConfig
from difflm.testing.bundles import StageFolders
from difflm_evaluators import Report
from difflm_evaluators.base import Evaluation, Score
from difflm_jobs.cli import main as cli
from difflm_jobs.cli.serve import read_settings

QUICK = SamplingConfig(steps=2, precision="float32", temperature=0.9)
Command = Callable[..., tuple[int, str]]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIFFLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "generators"


def report() -> Report:
    copies = Score(
        name="exact_copy_share",
        title="Exact copies",
        meaning="m",
        value=9.0,
        baseline=0.1,
        baseline_label="real test split",
        unit="%",
        direction="lower",
        warning="rows were copied",
    )
    nearest = Evaluation(name="nearest", scores=(), details={"pairs": ["a cell of 1234"]})
    return Report(
        evaluations=(Evaluation(name="privacy", scores=(copies,)), nearest),
        rows={"train": 80, "validation": 10, "test": 10, "synthetic": 80},
        real={"train": "digest", "validation": None, "test": None},
        columns={"age": "integer"},
        target=None,
        task=None,
        config={},
        seconds={},
        title="people",
    )


@pytest.fixture(scope="module")
def saved(tiny_stages: StageFolders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """people.difflm, with a report; not to be changed."""
    generator = Generator(tiny_stages.bundle, sampling=QUICK, find_report=report)
    return generator.save(tmp_path_factory.mktemp("saved") / "people.difflm", licence="cc-by-4.0")


@pytest.fixture
def people(saved: Path, tmp_path: Path) -> Path:
    """A copy of it that may be changed."""
    return Path(shutil.copyfile(saved, tmp_path / "people.difflm"))


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    def call(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["difflm", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out + said.err

    return call


def test_a_saved_file_draws_the_rows_of_before(people: Path, tiny_stages: StageFolders, tmp_path: Path) -> None:
    before = Generator(tiny_stages.bundle, sampling=QUICK)
    loaded = difflm.load(people)
    pd.testing.assert_frame_equal(loaded.sample(5, seed=3), before.sample(5, seed=3))
    again = loaded.save(tmp_path / "again.difflm", licence="cc-by-4.0")
    assert again.read_bytes() == people.read_bytes()  # equal generators are equal files
    folder = loaded.save(tmp_path / "folder")
    assert folder.is_dir()
    with pytest.raises(ConfigError, match="is there already"):
        loaded.save(people)


def test_a_file_carries_its_scores_but_no_rows(people: Path, tmp_path: Path) -> None:
    carried = difflm.load(people).report
    assert carried.score("exact_copy_share").value == 9.0
    assert carried.verdict.answers[2].colour == "red"
    with zipfile.ZipFile(people) as archive:
        assert b"a cell of 1234" not in b"".join(archive.read(name) for name in archive.namelist())


def test_a_file_without_a_report_says_so(tiny_stages: StageFolders, tmp_path: Path, command: Command) -> None:
    path = Generator(tiny_stages.bundle).save(tmp_path / "bare.difflm")
    with pytest.raises(ConfigError, match="has no splits to be evaluated against"):
        difflm.load(path).report  # noqa: B018
    code, said = command("show", path)
    assert (code, "not measured" in said, "not signed" in said) == (0, True, True)
    with zipfile.ZipFile(path) as archive:
        card = archive.read("README.md").decode()
    assert "Not measured" in card
    assert yaml.safe_load(card.split("---")[1])["license"] == "unknown"


def test_the_card_tells_kinds_and_scores_and_no_ranges(people: Path, tiny_stages: StageFolders) -> None:
    card = (unpacked(people) / "README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    assert head["license"] == "cc-by-4.0"
    assert head["library_name"] == "difflm"
    (metric,) = head["model-index"][0]["results"][0]["metrics"]
    assert metric == {"type": "exact_copy_share", "name": "Exact copies", "value": 9.0}
    schema = json.loads((tiny_stages.bundle / "schema.json").read_text())
    kinds = {field["name"]: field["kind"] for field in schema["fields"]}
    assert f"| age | {kinds['age']} | – |" in card
    (line,) = [line for line in card.splitlines() if line.startswith("| home\\_town | categorical | ")]
    assert {"`Lima\\|x`", "`Oslo`", "`Rome`"} == set(line.removesuffix(" |").rpartition(" | ")[2].split(", "))
    for part in (
        "## How to load it",
        "## Settings",
        "## Limits",
        "## Privacy",
        "## Licence",
        "rows leak",
        "temperature",
    ):
        assert part in card, part


def test_the_card_steers_no_terminal(people: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(unpacked(people), tmp_path / "people")
    schema = (folder / "schema.json").read_text().replace("Oslo", "Os\\u001b[2Jlo\\u202e")
    (folder / "schema.json").write_text(schema)
    write_card(folder, licence=None, sampling=SamplingConfig())
    card = (folder / "README.md").read_text()
    assert r"Os\u001b[2Jlo\u202e" in card
    assert not {"\x1b", "\u202e"} & set(card)


def test_the_card_says_what_stands_behind_the_scores(tiny_stages: StageFolders) -> None:
    schema = read_schema(tiny_stages.bundle)
    plain = schema.model_copy(update={"protected": None})
    protected = schema.model_copy(update={"protected": Protected(threshold=11, unprotected=("age",))})
    schemas = {"promised": plain, "plain": plain, "protected": protected}
    said = {name: " ".join(_privacy(each, "", promised=name == "promised")) for name, each in schemas.items()}
    assert "Nothing here is differential privacy" not in said["promised"]
    assert "outside of the promise" in said["promised"]
    assert "as they are in the training rows" in said["plain"]
    assert (
        "fewer than 11 training rows have were not learned and are not in the file, but for `age`" in said["protected"]
    )
    assert all("Nothing holds back rows that equal" in said[name] for name in ("plain", "protected"))


def test_every_verb_takes_the_file(people: Path, tmp_path: Path, command: Command, keys: Path) -> None:
    assert is_generator(people)
    code, said = command("verify", people)
    assert (code, said.strip()) == (0, f"{people}: all files as written")
    code, said = command("show", people)
    assert code == 0
    assert "learned from 80 rows" in said
    assert "private: rows leak (red)" in said
    code, said = command("export", people, tmp_path / "other.difflm")
    assert code == 0
    assert "warning: private: rows leak" in said
    settings = read_settings([str(people)], config=None, port=None, overrides=[])
    (served,) = settings.server.bundles
    assert (served.name, served.path) == ("people", str(people))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    make_key(folder / "mine")
    make_key(folder / "other")
    return folder


def test_a_file_is_signed_and_the_signature_travels(people: Path, keys: Path, tmp_path: Path, command: Command) -> None:
    code, said = command("sign", people, "--key", keys / "mine")
    assert (code, said.startswith(f"{people}: signed with ")) == (0, True)
    mine = read_public_key(keys / "mine.pub")
    moved = Path(shutil.move(people, tmp_path / "moved.difflm"))
    check_signature(bundle_folder(moved), mine)
    assert difflm.load(moved, signed_by=keys / "mine.pub").schema.row_count == 80
    assert command("verify", moved, "--signer", keys / "mine.pub")[0] == 0
    code, said = command("verify", moved, "--signer", keys / "other.pub")
    assert (code, "signed with another key" in said) == (2, True)


def test_the_card_may_be_edited_and_nothing_else(people: Path, keys: Path) -> None:
    sign_container(people, keys / "mine")
    folder = unpacked(people)
    (folder / "README.md").write_text("mine")
    check_signature(bundle_folder(people), read_public_key(keys / "mine.pub"))
    assert (folder / "README.md").read_text() == "mine"
    (folder / SCORES_NAME).write_text("{}")
    assert json.loads((unpacked(people) / SCORES_NAME).read_text())["title"] == "people"  # unpacked again


def test_a_server_tells_what_a_file_carries_and_follows_another_in_its_place(
    people: Path, tiny_stages: StageFolders, tmp_path: Path
) -> None:
    import asyncio

    async def load(_: BundleRef) -> None:
        pass

    registry = Registry(ServeConfig(bundles=[ServedConfig(name="x", path=str(people))]), load)
    asyncio.run(registry.refresh())
    quality = registry.get("x").quality
    assert quality is not None
    assert quality["verdict"]["answers"][2]["word"] == "rows leak"  # type: ignore[index, call-overload]
    assert "a cell of 1234" not in json.dumps(quality)
    Generator(tiny_stages.bundle, sampling=QUICK).save(tmp_path / "new.difflm").replace(people)
    asyncio.run(registry.refresh())
    assert registry.get("x").quality is None
    assert registry.faults == {}


def refused(path: Path) -> str:
    with pytest.raises(BundleError) as caught:
        bundle_folder(path)
    said = str(caught.value)
    assert "\n" not in said
    assert str(path) in said
    return said


def rewritten(path: Path, change: Callable[[dict[str, bytes]], object] | None = None, **more: bytes) -> Path:
    """Write the file again with other contents."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    if change is not None:
        change(files)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**files, **more}.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_file_that_is_cut_short_is_refused(people: Path, part: float, cache: Path) -> None:
    content = people.read_bytes()
    people.write_bytes(content[: int(len(content) * part)])
    assert ("is no generator" if part == 0 else "is cut short or damaged") in refused(people)
    assert not cache.is_dir() or not [*cache.iterdir()]


def test_a_cache_that_was_swept_or_holds_another_generator_is_made_again(
    people: Path, tiny_stages: StageFolders, tmp_path: Path, cache: Path
) -> None:
    """Files of the cache were compared with their own hashes alone."""
    folder = unpacked(people)
    kept = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    for path in folder.rglob("*"):
        if path.is_file():
            path.unlink()
    assert unpacked(people) == folder
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == kept
    other = Generator(tiny_stages.bundle, sampling=QUICK).save(tmp_path / "other.difflm", licence="mit")
    strange = unpacked(other)
    shutil.rmtree(folder)
    folder.symlink_to(strange)
    assert unpacked(people) == folder
    assert not folder.is_symlink()
    assert (folder / "hashes.json").read_bytes() == kept["hashes.json"]
    assert (strange / "hashes.json").is_file()


def test_a_damaged_byte_is_noticed(people: Path) -> None:
    content = bytearray(people.read_bytes())
    content[len(content) // 2] ^= 1
    people.write_bytes(content)
    assert "get the file again from its maker" in refused(people)


def test_what_somebody_changed_added_or_took_away_is_noticed(people: Path, saved: Path) -> None:
    rewritten(people, lambda files: files.update({"schema.json": files["schema.json"] + b" "}))
    assert "schema.json: changed since" in refused(people)
    shutil.copyfile(saved, people)
    rewritten(people, **{"decoder/evil.pkl": b"cos\nsystem\n"})
    assert "decoder/evil.pkl: does not belong to the bundle" in refused(people)
    shutil.copyfile(saved, people)
    rewritten(people, lambda files: files.pop("prior/prior.safetensors"))
    assert "prior.safetensors is missing" in refused(people)
    shutil.copyfile(saved, people)
    rewritten(people, lambda files: files.pop("hashes.json"))
    assert "without bundle.json or hashes.json" in refused(people)


def test_other_archives_and_newer_versions_say_what_to_do(people: Path, saved: Path, tmp_path: Path) -> None:
    rewritten(people, lambda files: files.pop(HEAD_NAME))
    assert "is a ZIP archive, but no generator" in refused(people)
    rewritten(people, **{HEAD_NAME: b'{"format_version": 2}'})
    assert "a generator of format 2, this version reads 1; pip install -U difflm" in refused(people)
    rewritten(people, **{HEAD_NAME: b"[" * 4000})
    assert "is cut short or damaged" in refused(people)
    text = tmp_path / "rows.csv"
    text.write_text("a,b\n1,2\n")
    assert "is no generator; give a file that difflm export" in refused(text)


HOSTILE: dict[str, tuple[str, int, str]] = {
    "up": ("../evil", stat.S_IFREG, "leads out"),
    "up inside": ("decoder/../../evil", stat.S_IFREG, "leads out"),
    "absolute": ("/tmp/evil", stat.S_IFREG, "leads out"),
    "windows": ("C:\\evil", stat.S_IFREG, "is no name"),
    "hidden": ("decoder/.evil", stat.S_IFREG, "leads out of the folder, or is hidden"),
    "line": ("a\nb", stat.S_IFREG, "is no name"),
    "long": ("a" * 600, stat.S_IFREG, "is no name"),
    "link": ("decoder/link", stat.S_IFLNK, "is a link"),
    "device": ("decoder/device", stat.S_IFCHR, "is a link or a device"),
    "file below a file": ("bundle.json/x", stat.S_IFREG, "cannot be unpacked"),
    "twice": ("Bundle.json", stat.S_IFREG, "two files of one name"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_members_are_refused_before_anything_is_written(
    people: Path, name: str, tmp_path: Path, cache: Path
) -> None:
    member, kind, message = HOSTILE[name]
    entry = zipfile.ZipInfo(member)
    entry.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(people, "a") as archive:
        archive.writestr(entry, b"/etc/passwd")
    assert message in refused(people)
    assert not [*tmp_path.rglob("*evil*")]
    assert not cache.is_dir() or not [*cache.iterdir()]


def test_bombs_are_refused(people: Path, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(people, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(1 << 20))
    assert "is compressed" in refused(people)
    shutil.copyfile(saved, people)
    content = people.read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entry = archive.getinfo("bundle.json")
        claimed = entry.file_size.to_bytes(4, "little")
    start = content.index(b"PK\x01\x02")
    directory = content[start:].replace(claimed + claimed, 2 * (1 << 30).to_bytes(4, "little"))
    people.write_bytes(content[:start] + directory)
    assert "claims to hold more than it is large" in refused(people)
    shutil.copyfile(saved, people)
    monkeypatch.setattr(container, "_MAX_FILES", 3)
    assert "where a generator has dozens" in refused(people)


def test_a_missing_file_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(DiffLMError, match="is no bundle"):
        difflm.load(tmp_path / "none.difflm")


def test_packing_looks_at_the_files_first(tiny_stages: StageFolders, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(tiny_stages.bundle, tmp_path / "copied"))
    (copied / "schema.json").write_text("{}")
    with pytest.raises(BundleError, match="changed since"):
        pack(copied, tmp_path / "x.difflm")
    write_hashes(copied)
    pack(copied, tmp_path / "x.difflm")
    assert [path.name for path in tmp_path.glob("*x.difflm*")] == ["x.difflm"]


def test_names_of_what_is_served() -> None:
    assert [short_name(given) for given in ("a/people.difflm", "runs/adult", "hf://ada/people@v1")] == [
        *("people", "adult", "people")
    ]


@pytest.mark.parametrize("name", ["runs.jsonl", "config.yaml", "artifacts/bundle-x/bundle.json"])
def test_a_file_that_is_made_to_look_like_a_run_is_refused(
    tiny_stages: StageFolders, tmp_path: Path, name: str
) -> None:
    folder = Path(shutil.copytree(tiny_stages.bundle, tmp_path / "bundle"))
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("{}")
    write_hashes(folder)
    pack(folder, tmp_path / "theirs.difflm")
    with pytest.raises(BundleError, match=rf"theirs\.difflm: holds {name.partition('/')[0]}.*from its maker"):
        difflm.load(tmp_path / "theirs.difflm")


def test_settings_that_lie_beside_a_bundle_are_not_taken_for_those_of_a_run(
    tiny_stages: StageFolders, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_stages.bundle, tmp_path / "bundle"))
    (folder / "runs.jsonl").write_text("")
    (folder / "config.yaml").write_text("name: x\ndata: {train: there.csv}\nsampling: {allow_local_base: true}\n")
    write_hashes(folder)
    loaded = difflm.load(folder)
    assert not (loaded._sampling or SamplingConfig()).allow_local_base
    assert loaded._make_report is None
