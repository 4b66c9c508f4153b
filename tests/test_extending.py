"""docs/extending.md: its files and lines, added to a copy of the code, are a mask strategy and a
probe with a page."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lcmae import processes

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(?:python|text) (?P<head>[^\n]+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
LINE = re.compile(r'line in (?P<path>\S+) after "(?P<after>.+)"')

CHECK = """
import sys
from pathlib import Path

import torch
from streamlit.testing.v1 import AppTest

import lcmae
from lcmae.app.dashboard.live import models
from lcmae.app.report import write_report
from lcmae.config import RunConfig
from lcmae.masking import STRATEGIES
from lcmae.models import MAE
from lcmae.probes.registry import probe_class
from lcmae.probes.results.store import save_result
from lcmae.runs.run import Run

assert Path(lcmae.__file__).is_relative_to(sys.argv[1]), lcmae.__file__

# the mask: a strategy like every other one, in configs and in the microscope's list
mask = STRATEGIES["diagonal"](ratio=0.25)(3, (4, 4), torch.Generator().manual_seed(0))
assert mask.is_hidden.reshape(3, 4, 4).diagonal(dim1=1, dim2=2).all(), "four of 16 patches: the diagonal"
assert "diagonal" in models.masks()
kinds = str(RunConfig.model_json_schema())
assert "diagonal" in kinds

# the probe: computed, stored, drawn as a page and in the report
torch.manual_seed(0)
sizes = {"image_size": 8, "patch_size": 2, "width": 16, "depth": 1, "heads": 2}
model = MAE(**sizes, decoder_width=16, decoder_depth=1, decoder_heads=2).eval()
images = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))
result = probe_class("prediction_size")()(model, images, torch.Generator().manual_seed(0))
assert float(result["size"].sel(side="target")) > 0
run = Run.create(Path(sys.argv[1]) / "runs" / "a", {"data": "digits", "seed": 0})
run.publish(10, model.state_dict(), config=run.config, resume=None)
save_result(result, run.result_path(10, "prediction_size"))
app = AppTest.from_string('''
from lcmae.app.dashboard import main
from lcmae.app.dashboard.components import picks
from lcmae.app.dashboard.pages import PAGES
main.open_page(next(page for page in PAGES if page.name == "prediction_size"), picks.ask())
''', default_timeout=60)
app.query_params["runs"] = ["a"]
app.run()
assert not app.exception, app.exception
assert app.title[0].value == "Prediction size"
assert len(app.get("plotly_chart")) == 1
write_report([run.path], Path(sys.argv[1]) / "report.html")
assert "Size of predictions" in (Path(sys.argv[1]) / "report.html").read_text()
"""


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code with everything that the page adds."""
    folder = tmp_path_factory.mktemp("extended")
    for name in ("lcmae", "probes", "app"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for block in BLOCK.finditer((ROOT / "docs" / "extending.md").read_text()):
        line = LINE.fullmatch(block["head"])
        if line is None:
            assert not (folder / block["head"]).exists(), "a new file"
            (folder / block["head"]).write_text(block["code"])
            continue
        file = folder / line["path"]
        text = file.read_text()
        assert text.count(line["after"]) == 1, line["after"]
        assert block["code"].count("\n") == 1, "one line"
        end = text.index("\n", text.index(line["after"])) + 1
        file.write_text(text[:end] + block["code"] + text[end:])
    return folder


def test_a_mask_is_one_file_and_one_line_a_probe_with_page_three_and_two():
    heads = [block["head"] for block in BLOCK.finditer((ROOT / "docs" / "extending.md").read_text())]
    assert sum(LINE.fullmatch(head) is None for head in heads) == 1 + 3
    assert sum(LINE.fullmatch(head) is not None for head in heads) == 1 + 2


@pytest.mark.slow
def test_what_the_page_shows_works(extended: Path):
    environment = processes.environment({"PYTHONPATH": str(extended), "LCMAE_RUNS": str(extended / "runs")})
    command = processes.python("-W", "ignore", "-c", CHECK, str(extended))
    done = subprocess.run(command, env=environment, cwd=extended, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
