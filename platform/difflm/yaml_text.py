"""YAML text with the scalars of YAML 1.2, whoever wrote it: a value in reasonable time and size, or one error."""

from __future__ import annotations

import re
from typing import Any

import yaml

from difflm.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """YAML with the scalars of YAML 1.2: `no` is text, `1e-3` is a number, `2020-01-01` is text."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("tag:yaml.org,2002:null", r"^(?:~|null|Null|NULL|)$", [*"~nN", ""]),
    ("tag:yaml.org,2002:bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("tag:yaml.org,2002:int", r"^[-+]?(?:0|[1-9][0-9]*)$", list("-+0123456789")),
    (
        "tag:yaml.org,2002:float",
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?\.inf|\.nan)$",
        list("-+.0123456789"),
    ),
    ("tag:yaml.org,2002:merge", r"^(?:<<)$", ["<"]),
):
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), _first)


def _mapping_without_duplicates(loader: _Loader, node: yaml.Node) -> dict[Any, Any]:
    if not isinstance(node, yaml.MappingNode):
        raise yaml.constructor.ConstructorError(None, None, "what is called a mapping is none", node.start_mark)
    loader.flatten_mapping(node)
    seen: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(None, None, "a key has to be one word", key.start_mark)
        if key.value in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} stands twice", key.start_mark)
        seen.add(key.value)
    return loader.construct_mapping(node, deep=True)


def _checked(loader: _Loader, node: yaml.Node) -> Any:
    """Read a scalar that is, also without its tag, what the tag says: `!!bool x` is not."""
    kind = node.tag.rpartition(":")[2]
    known: Any = loader  # untyped
    if not isinstance(node, yaml.ScalarNode) or known.resolve(yaml.ScalarNode, node.value, (True, False)) != node.tag:
        raise yaml.constructor.ConstructorError(None, None, f"no value of the kind {kind}", node.start_mark)
    return yaml.SafeLoader.yaml_constructors[node.tag](loader, node)


_SCALARS = ("null", "bool", "int", "float")
_Loader.yaml_constructors = {
    tag: constructor
    for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in ("str", "seq")
}
"""Of the kinds of JSON alone: no sets, pairs, bytes or times."""
for _kind in _SCALARS:
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _checked)
_Loader.add_constructor("tag:yaml.org,2002:map", _mapping_without_duplicates)


def parse_yaml(text: str, source: str) -> Any:
    """Read the value of a YAML document, with the scalars of YAML 1.2.

    Raises:
        ConfigError: the text is not YAML, or a mapping holds the same key twice; names ``source`` and the line.
    """
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check_size(node)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except RecursionError:
        raise ConfigError(f"{source}: nested too deep to be read; write it with fewer levels") from None
    except (ValueError, OverflowError) as error:  # of numbers with thousands of digits, and of characters that are none
        raise ConfigError(f"{source}: {one_line(str(error))[:200]}; correct the value") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}, line {mark.line + 1}" if mark is not None else source
        problem = getattr(error, "problem", None) or "not readable as YAML"
        message = f"{where}: {one_line(str(problem))}; expected YAML such as 'sampling: {{steps: 25}}'"
        raise ConfigError(message) from None


_MAX_VALUES = 100_000  # of a document when its aliases are written out
_MAX_LEVELS = 100


def _check_size(root: yaml.Node) -> None:
    """Refuse a few lines whose aliases stand for millions of values, one that holds itself, and thousands of levels."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node, level: int) -> int:
        if level > _MAX_LEVELS:
            raise yaml.constructor.ConstructorError(None, None, "nested too deep", node.start_mark)
        if id(node) not in sizes:
            sizes[id(node)] = _MAX_VALUES  # what an alias to a value that is not complete yet comes to
            parts = node.value if isinstance(node.value, list) else []
            children = [child for part in parts for child in (part if isinstance(part, tuple) else (part,))]
            sizes[id(node)] = 1 + sum(size(child, level + 1) for child in children)
        if sizes[id(node)] > _MAX_VALUES:
            raise yaml.constructor.ConstructorError(
                None, None, f"more than {_MAX_VALUES:,} values once aliases are written out", node.start_mark
            )
        return sizes[id(node)]

    size(root, 0)


def one_line(text: str) -> str:
    """Return the text with every run of white space as one space."""
    return " ".join(text.split())
