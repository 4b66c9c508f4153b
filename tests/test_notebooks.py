"""Every notebook runs from its first cell to its last, on data and models that come with lcmae;
each cell's last expression is shown as a notebook would show it."""

import ast
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lcmae.processes import python

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def cells(path: Path) -> list[str]:
    """The code of a notebook, cell by cell."""
    return ["".join(cell["source"]) for cell in code_cells(path)]


def code_cells(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


SHOW = """
def show(value):
    assert not isinstance(value, int) or value == 0, f"a command ended with {value}"
    html = getattr(value, "_repr_html_", lambda: None)()
    print("shown", len(html or repr(value)))
"""


def as_script(code: list[str]) -> str:
    """One script that shows what each cell ends with: its HTML where it has one, else its repr.
    A command ends with 0."""
    parts = [SHOW]
    for cell in code:
        body = ast.parse(cell).body
        last = body[-1]
        if isinstance(last, ast.Expr):
            body[-1] = ast.Expr(ast.Call(ast.Name("show", ast.Load()), [last.value], []))
        parts.append(ast.unparse(ast.fix_missing_locations(ast.Module(body, []))))
    return "\n".join(parts)


def test_there_are_notebooks() -> None:
    assert len(NOTEBOOKS) >= 5


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_short_and_has_no_outputs(path: Path) -> None:
    install, *rest = code_cells(path)
    assert install["id"] == "install"
    assert '"pip", "install"' in "".join(install["source"])
    lines = [line for cell in rest for line in "".join(cell["source"]).splitlines() if line.strip()]
    assert len(lines) < 20
    assert not any(cell["outputs"] for cell in rest)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    code = cells(path)
    command = [*python("-c"), as_script(code)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    shown = [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("shown")]
    assert len(shown) == sum(isinstance(ast.parse(cell).body[-1], ast.Expr) for cell in code)
    assert max(shown) > 500, "a table or a figure"
