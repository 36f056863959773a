"""The reference of the command line, from the commands themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any


def root() -> Any:
    """Return `difflm` as typer's own click sees it, which is no click that could be imported in every version."""
    from typer.main import get_command

    from difflm_jobs.cli.main import app

    return get_command(app)


def verbs(group: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield every verb that does something, with its whole name."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from verbs(command, (*before, name))
        elif not command.hidden:
            yield " ".join((*before, name)), command


def command_line_page() -> str:
    """Write the page."""
    from difflm_jobs.verbs import EXAMPLES, GROUPS

    known = dict(verbs(root()))
    groups = {title: [name for name in known if name.split()[0] in names] for title, names in GROUPS.items()}
    for title, names in GROUPS.items():
        groups[title].sort(key=lambda name: names.index(name.split()[0]))
    listed = {name for names in groups.values() for name in names}
    groups["More"] = [name for name in known if name not in listed]
    lines = [
        "# Command line",
        "",
        "`difflm VERB ...` and `python -m difflm_jobs VERB ...` are the same. CONFIG is a table, the name of a",
        "preset, or a YAML file ([configurations](../recipes/configuration.md)). Bad input ends with one line",
        "and code 2, a run that failed with code 1. This page is made from the commands themselves.",
        "",
    ]
    for title, names in groups.items():
        if names:
            lines += [f"## {title}", ""]
        for name in names:
            lines += [f"### difflm {name}", "", *_described(name, known[name]), ""]
            if examples := EXAMPLES.get(name):
                lines += ["```bash", *examples, "```", ""]
    return "\n".join(lines)


def _described(name: str, command: Any) -> Iterator[str]:
    options = [one for one in command.params if one.opts[0].startswith("-")]
    arguments = [one for one in command.params if one not in options]
    shown = [_argument(one) for one in arguments]
    yield from [_text(command.help or ""), "", "```", " ".join(["difflm", name, *shown, "[OPTIONS]"]), "```", ""]
    rows = [(f"`{_argument(one)}`", _text(one.help or ""), "") for one in arguments]
    for option in options:
        names = ", ".join(f"`{spelled}`" for spelled in [*option.opts, *option.secondary_opts])
        rows.append((names + _kind(option), _text(option.help or ""), _default(option)))
    if rows:
        yield from ["| | | default |", "| --- | --- | --- |"]
        yield from (f"| {' | '.join(row)} |" for row in rows)


def _argument(argument: Any) -> str:
    name = (argument.metavar or argument.name or "").upper()
    name = name.strip("[]").removesuffix("...")
    name = f"{name} ..." if argument.nargs == -1 else name
    return name if argument.required else f"[{name}]"


def _kind(option: Any) -> str:
    if option.is_flag:
        return ""
    again = ", repeatable" if option.multiple else ""
    return f" {_text(option.metavar or _type(option))}{again}"


def _type(option: Any) -> str:
    """Name the type of a value, which typer's own click and click's keep in different places."""
    if hasattr(option, "type"):
        return str(option.type.name).upper()
    names = {"str": "TEXT", "int": "INTEGER", "float": "NUMBER", "Path": "PATH"}
    return names.get(option.type_descriptor.annotation.__name__, "VALUE")


def _default(option: Any) -> str:
    if option.required:
        return "required"
    value = option.default
    if value is None or value == () or value is False or callable(value) or "UNSET" in repr(value).upper():
        return ""
    return f"`{value}`"


def _text(words: str) -> str:
    """Make one line of a help text, which is no Markdown or HTML: angle brackets and bars are characters."""
    line = re.sub(r"\s+", " ", words).strip()
    line = re.sub(r"(?<![\w`-])--[a-z][a-z-]*", r"`\g<0>`", line)
    parts = re.split(r"(`[^`]*`)", line)
    escaped = [part if part.startswith("`") else re.sub(r"([*_\[\]])", r"\\\1", _html(part)) for part in parts]
    return "".join(escaped).replace("|", "\\|")


def _html(text: str) -> str:
    """Write what Markdown has no escape for."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
