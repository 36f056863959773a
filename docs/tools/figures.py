"""Tables of figures in Markdown, made from the records in tests/benchmarks/results.

    python docs/tools/figures.py            # write the tables anew, in README.md and docs/
    python docs/tools/figures.py --check    # end with code 1 where a table is not what the records say

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; NAME is a function of one of the modules `tables_*`.
Nobody types a figure.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import tables_privacy
import tables_protocol
import tables_quality
import tables_running
from table import Table

REPOSITORY = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"(<!-- table: (?P<name>[a-z0-9_]+) -->\n).*?(<!-- end -->)", re.DOTALL)
TABLES = {
    name: made
    for module in (tables_protocol, tables_quality, tables_privacy, tables_running)
    for name, made in vars(module).items()
    if isinstance(made, Table)
}


def current(text: str, source: str) -> str:
    """Return a page with its tables as the records say; the links of `records` lead from docs/."""

    def made(found: re.Match[str]) -> str:
        name = found["name"]
        if name not in TABLES:
            raise SystemExit(f"{source}: no table {name!r}; there are {', '.join(TABLES)}")
        return f"{found[1]}{TABLES[name]}{found[3]}"

    return BLOCK.sub(made, text)


def pages() -> list[Path]:
    """List the pages that may hold tables."""
    return [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]


def main(arguments: list[str]) -> int:
    """Write or check all tables; returns the exit code."""
    stale = []
    for path in pages():
        text = path.read_text(encoding="utf-8")
        fresh = current(text, str(path))
        if fresh != text:
            stale.append(path.relative_to(REPOSITORY).as_posix())
            if "--check" not in arguments:
                path.write_text(fresh, encoding="utf-8")
    if stale and "--check" in arguments:
        print(f"not what the records say: {', '.join(stale)}; run python docs/tools/figures.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
