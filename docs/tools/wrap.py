"""Wrap the paragraphs and lists of pages at 100 characters; tables, code and headings stay as they are.

python docs/tools/wrap.py docs/guide/privacy.md ...
"""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path

WIDTH = 100
ITEM = re.compile(r"\s*(?:[-*]|\d+\.)\s+")
KEPT = re.compile(r"\s*[|#<]|\s*(?:!!!|\?\?\?|===|:::)|\[[^\]]+\]: ")


def wrapped(text: str) -> str:
    """Return a page with its paragraphs wrapped."""
    made: list[str] = []
    paragraph: list[str] = []
    code = directive = False

    def end() -> None:
        if paragraph:
            mark = ITEM.match(paragraph[0])
            first = mark[0] if mark else re.match(r"\s*", paragraph[0])[0]  # type: ignore[index]
            words = " ".join(line.strip() for line in paragraph)[len(first.strip()) :].strip()
            rest = " " * len(first)
            made.extend(textwrap.wrap(words, WIDTH, initial_indent=first, subsequent_indent=rest, **_WHOLE))
            paragraph.clear()

    for line in text.splitlines():
        fence = line.lstrip().startswith("```")
        directive = line.startswith(":::") or (directive and line.startswith("    "))
        if fence or code or directive or not line.strip() or KEPT.match(line):
            end()
            made.append(line)
            code = code != fence
            continue
        if ITEM.match(line):
            end()
        paragraph.append(line)
    end()
    return "\n".join(made) + "\n"


_WHOLE = {"break_long_words": False, "break_on_hyphens": False}

if __name__ == "__main__":
    for name in sys.argv[1:]:
        path = Path(name)
        path.write_text(wrapped(path.read_text(encoding="utf-8")), encoding="utf-8")
