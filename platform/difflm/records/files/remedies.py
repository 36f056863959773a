"""Remedies: settings of reading as a message gives them, whole and ready to be pasted."""

from __future__ import annotations

import json
import re
import shlex

_PLAIN = re.compile(r"[\w.][\w./-]*")
_YAML_WORDS = frozenset(["true", "false", "yes", "no", "on", "off", "null", "y", "n", "~"])


def setting(key: str, value: object) -> str:
    """Say how to set a key of `read`: in a file, and on the command line.

    >>> setting("delimiter", ";")
    'set read: {delimiter: ";"} (--set data.read.delimiter=\\'";"\\')'
    """
    text = flow(value)
    return f"set read: {{{key}: {text}}} (--set data.read.{key}={shlex.quote(text)})"


def flow(value: object) -> str:
    """Write a value as YAML on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{flow(key)}: {flow(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    plain = isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _YAML_WORDS
    if plain and not re.fullmatch(r"[-+.\d_eExX]+", str(value)):
        return str(value)
    return json.dumps(value, ensure_ascii=False)
