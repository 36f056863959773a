"""What mkdocs does beyond turning Markdown into pages: pages made at build time, links out of docs/, drawings inlined.

Made at build time: the command line and the settings from the code, notebooks from examples/, and copies of pages that
live elsewhere in the repository (the log, the changelog, ports, the rules for contributors) and of the records.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from command_line import command_line_page
from notebooks import notebook_page
from settings import settings_page

REPOSITORY = Path(__file__).resolve().parents[2]
RECORDS = "tests/benchmarks/results/"
ELSEWHERE = {
    "tests/benchmarks/LOG.md": "log.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "infra/PORTS.md": "reference/ports.md",
}
"""Pages of the repository and what they are called on the site."""

LINK = re.compile(r"(?P<image>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^)\s]+)\)")
FENCE = re.compile(r"^(```|~~~).*?^\1[ ]*$", re.DOTALL | re.MULTILINE)
DRAWING = re.compile(r'<img alt="(?P<alt>[^"]*)" src="[^"]*?(?P<name>pictures/[a-z-]+\.svg)"\s*/?>')


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and files that are made now."""
    sys.path[:0] = [str(REPOSITORY / root) for root in ("platform", "evaluators", "jobs")]
    made: dict[str, str | bytes] = {
        "reference/cli.md": command_line_page(),
        "reference/settings.md": settings_page(),
    }
    for source, page in ELSEWHERE.items():
        made[page] = (REPOSITORY / source).read_text(encoding="utf-8")
    for notebook in sorted((REPOSITORY / "examples").glob("*.ipynb")):
        page, pictures = notebook_page(notebook)
        made[f"examples/{notebook.stem}.md"] = page
        made |= {f"examples/{name}": content for name, content in pictures.items()}
        made[f"examples/{notebook.name}"] = notebook.read_bytes()
    for record in sorted((REPOSITORY / RECORDS).glob("*.json")):
        made[f"records/{record.name}"] = record.read_bytes()
    for name, content in made.items():
        files.append(File.generated(config, name, content=content))
    _name_the_others([file.src_uri for file in files.documentation_pages()], config)
    return files


def _name_the_others(pages: list[str], config: MkDocsConfig) -> None:
    """Put pages that the navigation does not name at the end of their folder's section."""
    sections: dict[str, list[Any]] = {title: inside for entry in config.nav or [] for title, inside in entry.items()}
    named = re.findall(r"[\w/-]+\.md", str(config.nav))
    for page in sorted(set(pages) - set(named)):
        folder = page.split("/")[0] if "/" in page else "guide"
        sections[{"recipes": "Recipes", "reference": "Reference", "examples": "Notebooks"}.get(folder, "Guide")].append(
            page
        )


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Turn links to other parts of the repository into links of the site, or into their words."""
    inside = {target: source for source, target in ELSEWHERE.items()}
    here = Path(inside.get(page.file.src_uri, f"docs/{page.file.src_uri}")).parent
    depth = page.file.src_uri.count("/")

    def turned(found: re.Match[str]) -> str:
        path, _, anchor = found["target"].partition("#")
        if not path or re.match(r"[a-z]+:", path):
            return found[0]
        place = _normal(here / path)
        if place.startswith("docs/"):
            if here.parts[:1] == ("docs",):
                return found[0]
            place = place.removeprefix("docs/")
        elif place in ELSEWHERE:
            place = ELSEWHERE[place]
        elif place.startswith(RECORDS) and place.endswith(".json"):
            place = f"records/{Path(place).name}"
        elif place.startswith("examples/") and place.endswith(".ipynb"):
            place = place.removesuffix(".ipynb") + ".md"
        else:
            return found["text"]
        return f"{found['image']}[{found['text']}]({'../' * depth}{place}{'#' + anchor if anchor else ''})"

    pieces = []
    end = 0
    for fence in FENCE.finditer(markdown):
        pieces += [LINK.sub(turned, markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*pieces, LINK.sub(turned, markdown[end:])])


def on_page_content(html: str, **_: Any) -> str:
    """Put drawings into the page itself, where they follow its colours."""

    def drawn(found: re.Match[str]) -> str:
        path = REPOSITORY / "docs" / found["name"]
        drawing = path.read_text(encoding="utf-8").partition("<svg")[2]
        return f'<span class="drawing"><svg role="img" aria-label="{found["alt"]}"{drawing}</span>'

    return DRAWING.sub(drawn, html)


def _normal(path: Path) -> str:
    """Resolve `..` in a path of the repository."""
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts[-1:] = []
        elif part != ".":
            parts.append(part)
    return "/".join(parts)
