"""Scripts in percent format (``# %%`` before each cell), as notebooks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

MARK = "# %%"


def cells_of(script: Path) -> list[tuple[str, str]]:
    """The cells of a script, each ``markdown`` or ``code`` with its text."""
    found: list[tuple[str, list[str]]] = []
    for line in script.read_text(encoding="utf-8").splitlines():
        if line.startswith(MARK):
            found.append(("markdown" if "[markdown]" in line else "code", []))
        elif found:
            found[-1][1].append(line)
    cells = []
    for kind, lines in found:
        if kind == "markdown":
            lines = [line.removeprefix("#").removeprefix(" ") for line in lines]
        cells.append((kind, "\n".join(lines).strip()))
    return cells


def notebook_of(script: Path) -> Any:
    """The same as a notebook that Jupyter opens."""
    import nbformat

    make = {"markdown": nbformat.v4.new_markdown_cell, "code": nbformat.v4.new_code_cell}
    notebook = nbformat.v4.new_notebook(cells=[make[kind](text) for kind, text in cells_of(script)])
    nbformat.validate(notebook)
    return notebook
