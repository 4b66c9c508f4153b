"""Every notebook runs from its first cell to its last, on runs trained here; each cell's last
expression is shown as a notebook would show it."""

import ast
import json
import os
import subprocess
from pathlib import Path

import pytest

from lcmae.processes import python

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def cells(path: Path) -> list[str]:
    """The code of a notebook, cell by cell."""
    found = json.loads(path.read_text())["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == "code"]


SHOW = """
def show(value):
    html = getattr(value, "_repr_html_", lambda: None)()
    print("shown", len(html or repr(value)))
"""


def as_script(code: list[str]) -> str:
    """One script that shows what each cell ends with: its HTML where it has one, else its repr."""
    parts = [SHOW]
    for cell in code:
        body = ast.parse(cell).body
        last = body[-1]
        if isinstance(last, ast.Expr):
            body[-1] = ast.Expr(ast.Call(ast.Name("show", ast.Load()), [last.value], []))
        parts.append(ast.unparse(ast.fix_missing_locations(ast.Module(body, []))))
    return "\n".join(parts)


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_short(path: Path) -> None:
    lines = [line for cell in cells(path) for line in cell.splitlines() if line.strip()]
    assert len(lines) < 20


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for recipe in ("mae-digits", "umae-digits"):
        train = [
            *python("-m", "lcmae.app.cli"),
            "train",
            recipe,
            "--epochs",
            "1",
            "--warmup-epochs",
            "0",
            "--out",
            f"runs/demo/{recipe}-s0",
        ]
        subprocess.run(train, cwd=tmp_path, env=environment, check=True, capture_output=True, timeout=250)
    code = cells(path)
    command = [*python("-c"), as_script(code)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr[-2000:]
    shown = [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("shown")]
    assert len(shown) == sum(isinstance(ast.parse(cell).body[-1], ast.Expr) for cell in code)
    assert min(shown) > 50
