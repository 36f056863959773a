"""Configuration: strict, frozen, and plain about what is wrong."""

from pathlib import Path
from typing import Annotated, Literal, Self

import pytest
from pydantic import Field, ValidationError, model_validator

from difflm.config import Config, apply_overrides, dump_yaml, load_yaml, parse_yaml, validate
from difflm.errors import ConfigError


class Loop(Config):
    rate: float = 1e-3
    every: int = Field(default=100, ge=1)


class Small(Config):
    kind: Literal["small"] = "small"
    size: int = 8
    loop: Loop = Loop(rate=5e-3)


class Large(Config):
    kind: Literal["large"] = "large"
    path: Path
    shares: tuple[float, ...] = ()


class Root(Config):
    name: str
    model: Annotated[Small | Large, Field(discriminator="kind")] = Small(size=16)
    kinds: dict[str, str] = Field(default={"a": "b"})
    many: tuple[Small, ...] = ()
    schema_: int = Field(default=1, alias="schema")

    @model_validator(mode="after")
    def _large_has_shares(self) -> Self:
        if isinstance(self.model, Large) and not self.model.shares and self.schema_ == 9:
            raise ValueError("model.shares is needed with schema 9")
        return self


def refusal(data: dict[str, object], *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        validate(Root, apply_overrides(data, overrides), "x.yaml", overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_defaults_and_yaml_types() -> None:
    data = parse_yaml("name: no\nmodel: {kind: large, path: /x, shares: [1, 2e-3]}\nschema: 4", "x.yaml")
    root = validate(Root, data, "x.yaml")
    assert root == Root(name="no", model=Large(path=Path("/x"), shares=(1.0, 0.002)), schema=4)
    assert parse_yaml(dump_yaml(root), "x.yaml") == root.model_dump(mode="json", by_alias=True)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        (".5", 0.5),
        ("-3", -3),
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("007", "007"),
        ("2020-01-01", "2020-01-01"),
        ("12:30:45", "12:30:45"),
        ("~", None),
        ("", None),
        ("a.b", "a.b"),
        ("[1, two]", [1, "two"]),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    assert parse_yaml(f"key: {text}", "x.yaml") == {"key": value}


def test_a_section_given_in_part_keeps_the_rest_of_its_default() -> None:
    root = validate(Root, {"name": "x", "model": {"loop": {"every": 7}}}, "x.yaml")
    assert root.model == Small(size=16, loop=Loop(rate=5e-3, every=7))


def test_another_kind_starts_from_its_own_defaults() -> None:
    root = validate(Root, {"name": "x", "model": {"kind": "large", "path": "p"}}, "x.yaml")
    assert root.model == Large(path=Path("p"))


def test_a_plain_mapping_is_replaced() -> None:
    assert validate(Root, {"name": "x", "kinds": {"c": "d"}}, "x.yaml").kinds == {"c": "d"}


def test_a_typo_names_the_closest_key() -> None:
    assert refusal({"name": "x", "model": {"sise": 3}}) == (
        "x.yaml: model.sise: unknown key; did you mean 'model.size'?"
    )
    assert "did you mean 'model.loop.every'?" in refusal({"name": "x", "model": {"loop": {"evry": 3}}})
    assert "did you mean 'schema'?" in refusal({"name": "x", "shema": 3})
    assert "did you mean 'many.0.size'?" in refusal({"name": "x", "many": [{"siez": 3}]})


def test_a_typo_comes_before_what_is_missing_because_of_it() -> None:
    assert refusal({"nam": "x"}).startswith("x.yaml: nam: unknown key; did you mean 'name'?")


def test_an_unlike_key_lists_the_known_ones() -> None:
    assert "known keys are kind, loop, size" in refusal({"name": "x", "model": {"zzz": 3}})


def test_another_kind_by_one_key_says_how_to_leave_out_the_keys_of_the_first() -> None:
    overrides = ['model.kind="large"', "model.path=p"]
    data = apply_overrides({"name": "x", "model": {"size": 3}}, overrides)
    with pytest.raises(
        ConfigError, match=r"model.size: unknown key of kind large \(--set 'model={kind: large}' leaves"
    ):
        validate(Root, data, "x.yaml", overrides)


def test_a_missing_key_says_how_to_give_it() -> None:
    assert refusal({}) == "x.yaml: name: required and missing; add it to the file or give --set name=..."


def test_a_wrong_kind_names_the_kinds() -> None:
    assert refusal({"name": "x", "model": {"kind": "huge"}}) == (
        "x.yaml: model.kind: expected one of 'small', 'large'; found 'huge'"
    )


def test_a_wrong_value_says_what_was_expected() -> None:
    assert refusal({"name": "x", "model": {"size": "3"}}) == "x.yaml: model.size: expected a valid integer; found '3'"
    assert "model.loop.every: expected greater than or equal to 1; found 0" in refusal(
        {"name": "x", "model": {"loop": {"every": 0}}}
    )


def test_an_override_is_named_as_the_culprit() -> None:
    assert refusal({"name": "x"}, "model.size=big") == (
        "--set model.size=big: model.size: expected a valid integer; found 'big'"
    )


def test_what_is_wrong_with_the_whole_is_said_without_printing_it_all() -> None:
    large = {"name": "x", "model": {"kind": "large", "path": "/x"}}
    assert refusal({**large, "schema": 9}) == "x.yaml: model.shares is needed with schema 9"
    override = "model={kind: large, path: /x}"
    assert refusal({"name": "x", "schema": 9}, override) == f"--set {override}: model.shares is needed with schema 9"


def test_overrides_are_applied_in_order() -> None:
    data = {"name": "x", "model": {"kind": "small", "size": 1}}
    root = validate(Root, apply_overrides(data, ["model.size=2", "model.size=3", "model.loop.every=4"]), "x.yaml")
    assert root.model == Small(size=3, loop=Loop(rate=5e-3, every=4))
    assert data == {"name": "x", "model": {"kind": "small", "size": 1}}


def test_an_override_of_another_kind_replaces_the_section() -> None:
    data = apply_overrides({"model": {"kind": "small", "size": 1}}, ["model={kind: large, path: p}"])
    assert data == {"model": {"kind": "large", "path": "p"}}


@pytest.mark.parametrize("override", ["size", "=3", "model..size=3"])
def test_an_override_without_key_or_value_is_refused(override: str) -> None:
    with pytest.raises(ConfigError, match="expected a dotted key and a value"):
        apply_overrides({}, [override])


def test_an_override_through_a_value_is_refused() -> None:
    with pytest.raises(ConfigError, match="'name' holds 'x', which has no keys below it"):
        apply_overrides({"name": "x"}, ["name.first=y"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", r"x\.yaml, line 2: the key 'a' stands twice"),
        ("a: [", r"x\.yaml, line 1: "),
        ("- 1", "expected a mapping of keys at the top level, found list"),
    ],
)
def test_what_is_no_mapping_in_yaml_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        load_yaml(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file"):
        load_yaml(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"binary\.yaml: cannot be read \(not UTF-8 text\)"):
        load_yaml(tmp_path / "binary.yaml")


def test_a_configuration_is_frozen() -> None:
    root = Root(name="x", schema=1)
    with pytest.raises(ValidationError, match="frozen"):
        root.name = "y"  # type: ignore[misc]
