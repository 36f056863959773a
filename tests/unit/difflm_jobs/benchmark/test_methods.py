"""What methods.yaml says, settings that are changed, and files of a user's own."""

import sys
from pathlib import Path

import pytest
from filelock import FileLock

from difflm.errors import ConfigError
from difflm_jobs.benchmark.environments import COMPLETE, NoEnvironmentError, cache_folder, python_of
from difflm_jobs.benchmark.methods import Method, read_methods

SHIPPED = [
    "real",
    "cart",
    "smote",
    "ctgan",
    "tvae",
    "tabularargn",
    "tabularargn_dp",
    "mst",
    "arf",
    "great",
    "icl",
    "compact",
    "llm",
]


def test_every_method_ships_with_its_code_and_its_pins() -> None:
    methods = {method.name: method for method in read_methods(SHIPPED, overrides=())}
    assert list(methods) == SHIPPED
    for method in methods.values():
        assert method.source
        assert method.makes_rows == (method.name != "real")
        if method.environment is not None:
            assert all(pin.count("==") == 1 for pin in method.environment.requirements)
    assert methods["ctgan"].environment == methods["tvae"].environment
    assert methods["ctgan"].identity != methods["tvae"].identity
    numpy = [pin for pin in _requirements(methods["arf"]) if pin.startswith("numpy==")]
    assert numpy[0] < "numpy==2"


def _requirements(method: Method) -> tuple[str, ...]:
    assert method.environment is not None
    return method.environment.requirements


def test_settings_are_changed_by_their_method() -> None:
    (smote,) = read_methods(["smote"], overrides=["smote.neighbours=3", "ctgan.epochs=5"])
    assert smote.settings == {"neighbours": 3}
    (compact,) = read_methods(["compact"], overrides=["compact.config.prior.steps=7"])
    assert compact.settings == {"config": {"prior": {"steps": 7}}}
    assert compact.identity != read_methods(["compact"], overrides=())[0].identity


@pytest.mark.parametrize(
    ("names", "override", "said"),
    [
        (["smot"], None, "no method 'smot'; known are real, cart, smote"),
        ([], None, "no method is named"),
        (["cart", "cart"], None, "'cart' is named twice"),
        (["cart"], "cart.leaf=3", "cart has no setting 'leaf'; its settings are min_leaf"),
        (["cart"], "karte.min_leaf=3", "no method 'karte'; give METHOD.KEY=VALUE of real, cart"),
    ],
)
def test_what_is_not_known_is_refused(names: list[str], override: str | None, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_methods(names, overrides=[override] if override else [])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("methods: {m: {title: M, adapter: m.py}}", "give one of the two"),
        ("methods: {m: {title: M, python: python}}", "nothing runs there; give an adapter"),
        ("methods: {m: {title: M, adapter: m.py, environment: e}}", "methods.m.environment 'e'"),
        ("methods: {m: {title: M, adapter: m.py, python: python}}", r"methods.m.adapter: .*m.py: no such file"),
        ("methods: {m: {title: M, versoin: 1}}", r"methods\.m\.versoin: unknown key"),
    ],
)
def test_a_file_of_ones_own_is_checked(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_methods(["m"], overrides=(), file=file)


def test_an_environment_that_cannot_be_made_says_why_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder(None) == tmp_path / "difflm" / "methods"
    (smote,) = read_methods(["smote"], overrides=())
    commands: list[list[str]] = []

    def call(name: str, command: list[str]) -> None:
        commands.append(command)
        if "install" in command and fails:
            raise NoEnvironmentError("no network")

    monkeypatch.setattr("difflm_jobs.benchmark.environments._call", call)
    fails = True
    with pytest.raises(NoEnvironmentError, match="no network"):
        python_of(smote, tmp_path, lambda line: None)
    fails = False
    python = python_of(smote, tmp_path, lambda line: None)
    assert python.parent.name == "bin"
    assert len(commands) == 4
    assert commands[-1][-len(_requirements(smote)) :] == list(_requirements(smote))
    python.parent.mkdir(parents=True, exist_ok=True)
    python.touch()
    assert python_of(smote, tmp_path, lambda line: None) == python
    assert len(commands) == 4
    (python.parents[1] / COMPLETE).write_text("of something else")
    python_of(smote, tmp_path, lambda line: None)
    assert len(commands) == 6
    lock = FileLock(tmp_path / f"{python.parents[1].name}.lock")
    lock.acquire()
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        lock.release()

    python_of(smote, tmp_path, say)
    assert [line for line in said if "waits for another command" in line]


def test_pips_own_words_are_passed_on() -> None:
    from difflm_jobs.benchmark.environments import _call

    said = "import sys; print('ERROR: no wheel of smote\\nmore', file=sys.stderr); sys.exit(1)"
    with pytest.raises(NoEnvironmentError, match=r"could not be made: ERROR: no wheel of smote$"):
        _call("smote", [sys.executable, "-c", said])
