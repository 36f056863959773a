"""Optional libraries: the table of extras agrees with the package's own, and what lacks is named with its remedy."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path

import pytest

from difflm import extras
from difflm.errors import ConfigError

REPOSITORY = Path(__file__).resolve().parents[3]
DISTRIBUTIONS = {"python_calamine": "python-calamine", "prometheus_client": "prometheus-client", "aiohttp_cors": "ray"}
"""Of modules that are called otherwise than what brings them, or that come with something else."""


def project() -> dict[str, list[str]]:
    found: dict[str, list[str]] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    return found


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=;! ]", requirement)[0].lower() for requirement in requirements}


@pytest.mark.parametrize("extra", sorted(extras.EXTRAS))
def test_every_module_is_brought_by_its_extra(extra: str) -> None:
    brought = names(project()[extra])
    for module in extras.EXTRAS[extra]:
        assert DISTRIBUTIONS.get(module, module) in brought | {"uvicorn"}  # with Ray Serve


def test_all_has_every_extra_for_users_and_the_base_none_of_them() -> None:
    groups = project()
    (everything,) = groups["all"]
    assert set(re.split(r"[\[\],]", everything)[1:-1]) == set(groups) - {"all", "dev", "docs", "bench"}
    base = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["dependencies"]
    optional = set.union(*(names(groups[extra]) for extra in extras.EXTRAS)) - {"ray"}
    assert names(base) & optional == set()


def test_a_missing_module_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "has_module", lambda name: name != "openai")
    with pytest.raises(
        ConfigError, match=r"^difflm judge needs openai, .*; pip install 'difflm\[judge\]' installs it$"
    ):
        extras.require("judge", "difflm judge")
    assert not extras.has_extra("judge")
    extras.require("report", "pictures")


def test_a_failed_import_is_described_where_an_extra_would_have_helped() -> None:
    said = extras.describe_missing(ModuleNotFoundError("No module named 'mcp.server'", name="mcp.server"))
    assert said == "this needs mcp, which is not installed; pip install 'difflm[mcp]' installs it"
    assert extras.describe_missing(ModuleNotFoundError("No module named 'nothing'", name="nothing")) is None
    assert extras.describe_missing(ValueError("mcp")) is None


def test_a_failed_import_within_becomes_an_error_with_a_remedy() -> None:
    with pytest.raises(ConfigError, match=r"tables of databases needs sqlalchemy"):
        with extras.optional("sql", "reading tables of databases"):
            raise ModuleNotFoundError(name="sqlalchemy")
    with pytest.raises(ModuleNotFoundError):
        with extras.optional("sql", "reading tables of databases"):
            importlib.import_module("no_such_module_anywhere")
