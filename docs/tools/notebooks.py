"""A notebook as a page: its text, its code, and the outputs that were kept with it."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any


def notebook_page(path: Path) -> tuple[str, dict[str, bytes]]:
    """Return the page of a notebook, and its pictures by name."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    lines: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            lines += [source, ""]
            if len(lines) == 2:
                lines += [f"[This notebook]({path.name}){{ download }} lies in `examples/{path.name}`.", ""]
            continue
        lines += ["```python", source, "```", ""]
        for output in cell.get("outputs", ()):
            lines += [*_shown(output, path.stem, pictures), ""]
    return "\n".join(lines), pictures


def _shown(output: dict[str, Any], stem: str, pictures: dict[str, bytes]) -> list[str]:
    """Show an output in the richest form that it has; what went to standard error is left out."""
    if output["output_type"] == "stream":
        return [] if output["name"] == "stderr" else _plain("".join(output["text"]))
    data = output.get("data", {})
    if "image/png" in data:
        name = f"{stem}-{len(pictures)}.png"
        pictures[name] = base64.b64decode("".join(data["image/png"]))
        return [f"![What the cell above shows]({name})"]
    if "text/html" in data:
        html = re.sub(r"\n\s*\n", "\n", "".join(data["text/html"]))
        html = re.sub(r"<style scoped>.*?</style>", "", html, flags=re.DOTALL)
        return ['<div class="output">', *html.splitlines(), "</div>"]
    return _plain("".join(data["text/plain"])) if "text/plain" in data else []


def _plain(text: str) -> list[str]:
    return ["```{ .text .output }", text.rstrip(), "```"]
