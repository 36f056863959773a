"""The blocks of code in the pages, and the commands in them; what the tests read the documentation with."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^```[ ]*$", re.DOTALL | re.MULTILINE)
SEPARATORS = {"&&", "||", "|", ";"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block of code: its page and first line, its language and its text."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """List every page that people read: READMEs and docs."""
    found = [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md"), *(REPOSITORY / "examples").glob("*.md")]
    for folder in ("platform", "evaluators", "jobs", "infra", "tests"):
        found += (REPOSITORY / folder).rglob("*.md")
    return sorted(path for path in found if not {".venv", "runs", "node_modules"} & set(path.parts))


def blocks(language: str, paths: list[Path] | None = None) -> list[Block]:
    """List the blocks of a language in all pages, or in some."""
    found = []
    for path in pages() if paths is None else paths:
        text = path.read_text(encoding="utf-8")
        for fence in FENCE.finditer(text):
            if fence["language"] == language:
                line = text.count("\n", 0, fence.start()) + 1
                page = path.relative_to(REPOSITORY).as_posix()
                found.append(Block(page=page, line=line, language=language, text=fence["text"]))
    return found


def commands(block: Block) -> Iterator[list[str]]:
    """Yield the words of every command of a shell block, without comments, variables before it and redirections."""
    for line in block.text.replace("\\\n", " ").splitlines():
        words: list[str] = []
        for word in [*shlex.split(line, comments=True), ";"]:
            if word not in SEPARATORS:
                words.append(word)
                continue
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words.pop(0)
            if words:
                yield words
            words = []


def verb(words: list[str]) -> list[str] | None:
    """Return what follows `difflm` in a command; None for another command."""
    if words[0] in ("difflm", ".venv/bin/difflm"):
        return words[1:]
    return words[3:] if words[1:3] == ["-m", "difflm_jobs"] else None
