"""The report: one file that stands alone, holds every figure, says what is missing, and appears
whole or not at all."""

import base64
import gzip
import json
import re
import subprocess
from pathlib import Path

import pytest

from lcmae.app.dashboard.pages import PAGES
from lcmae.app.report import to_table, write_report
from lcmae.errors import InputError
from lcmae.probes.results.store import save_result
from lcmae.processes import python
from tests.app import synthetic
from tests.app.dashboard.pages.test_stitch_page import stitch_result
from tests.probes.grids.matrices import synthetic as synthetic_matrix
from tests.probes.grids.test_grid_verdict import table

PROBES = [page.name for page in PAGES if page.is_probe]
TITLES = [page.title for page in PAGES if page.is_probe]


@pytest.mark.slow
def test_a_report_stands_alone(tmp_path: Path):
    runs = [synthetic.run(tmp_path / "a").path, synthetic.run(tmp_path / "n", normalised=True).path]
    write_report(runs, tmp_path / "out" / "report.html")
    text = (tmp_path / "out" / "report.html").read_text()
    [library] = re.findall(r'<script type="application/gzip" id="plotly">([^<]+)<', text)
    assert "plotly.js v" in gzip.decompress(base64.b64decode(library)).decode()[:200], "it is in the file, once"
    assert len(text) < 3 << 20
    packed = re.findall(r'<script type="application/gzip">([^<]+)<', text)
    figures = [json.loads(gzip.decompress(base64.b64decode(one))) for one in packed]
    assert all(figure["data"] for figure in figures)
    assert len(figures) == text.count('class="plotly-graph-div"')
    contents = text[text.index("<h2>Summary</h2>") : text.index("<h2>Training</h2>")]
    assert all(f'<a href="#{name}">' in contents for name in PROBES), "a list of contents"
    assert "cannot be told apart" in contents or "has the" in contents
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", text), "nothing is fetched"
    assert all(f"<h2>{title}</h2>" in text for title in ["Training", *TITLES])
    sections = dict(re.findall(r"<h2>([^<]+)</h2>(.*?)(?=<h2>|</body>)", text, re.DOTALL))
    for title in TITLES:
        assert 'class="plotly-graph-div"' in sections[title], f"{title} has no figure in the report"
        assert "not computed" not in sections[title]
    assert "lcmae&#x27;s own" in text
    assert "<td>num_images</td><td>7</td>" in text
    assert list((tmp_path / "out").iterdir()) == [tmp_path / "out" / "report.html"]


def test_nothing_is_said_of_a_server_that_is_missing():
    """Streamlit warns where pages cache by its means and no server runs."""
    done = subprocess.run(python("-c", "import lcmae.app.report"), capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_what_is_missing_is_said_with_its_command(tmp_path: Path):
    good, bad, bare = (synthetic.run(tmp_path / name) for name in ("good", "bad", "bare"))
    bad.result_path(40, "reconstruction").write_bytes(b"torn")
    bare.result_path(40, "reconstruction").unlink()
    write_report([good.path, bad.path, bare.path], tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "bare: not computed" in text
    assert f"lcmae probe reconstruction --checkpoint {bare.path}" in text
    assert "bad: expected a" in text


def test_files_of_stitch_beside_the_runs_are_a_section(tmp_path: Path):
    runs = [synthetic.run(tmp_path / name).path for name in ("mae", "umae")]
    out = tmp_path / "report.html"
    write_report(runs, out)
    text = out.read_text()
    assert "Stitching</a>: not computed." in text
    assert f"<code>lcmae stitch {runs[0]} {runs[1]} --out stitch.nc</code>" in text
    result = stitch_result()
    save_result(result, tmp_path / "stitch.nc")
    others = [f"other {name}" for name in result["encoder"].values]
    save_result(result.assign_coords(encoder=others, decoder=others), tmp_path / "stitch-others.nc")
    (tmp_path / "stitch-torn.nc").write_bytes(b"torn")
    write_report(runs, out)
    text = out.read_text()
    section = text[text.index("<h2>Stitching</h2>") :]
    assert section.count('class="plotly-graph-div"') == 3  # by a map, as they are, baselines
    assert "costs least, 30.0 ± 4.7 % of its loss" in section
    assert "costs least, 30.0 ± 4.7 % of its loss" in text[: text.index("<h2>Training</h2>")], "in the summary, too"
    assert "40 images of digits; maps fitted on 50 (digits, train); masks random 0.5." in section
    assert "stitch-torn.nc" in section
    assert "stitch-others.nc" not in section, "not about these runs"
    write_report(runs[:1], out)
    assert "Stitching" not in out.read_text(), "one run has nothing to be stitched to"


def test_names_cannot_smuggle_a_script(tmp_path: Path):
    run = synthetic.run(tmp_path / "<script>alert(1)<")
    write_report([run.path], tmp_path / "report.html")
    assert "<script>alert" not in (tmp_path / "report.html").read_text()


def test_runs_of_the_same_name_are_told_apart(tmp_path: Path):
    runs = [synthetic.run(tmp_path / position / "a", results=False).path for position in ("x", "y")]
    write_report(runs, tmp_path / "report.html")
    assert all(str(run) in (tmp_path / "report.html").read_text() for run in runs)


def test_no_run_and_no_folder_are_refused_and_leave_nothing(tmp_path: Path):
    with pytest.raises(InputError, match="at least one run"):
        write_report([], tmp_path / "report.html")
    with pytest.raises(InputError, match="expected a run folder"):
        write_report([tmp_path / "none"], tmp_path / "report.html")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        write_report([synthetic.run(tmp_path / "a").path], tmp_path / "file" / "report.html")
    assert not list(tmp_path.glob("*.html"))


def test_a_comparison_concludes_and_shows_its_matrix(tmp_path: Path):
    folder = tmp_path / "masks"
    folder.mkdir()
    table(folder)
    write_report([folder], tmp_path / "alone.html")
    text = (tmp_path / "alone.html").read_text()
    assert "<h2>Comparison: masks</h2>" in text
    assert "may be the best; random 0.75, block 0.75 and window 0.9 are not" in text
    assert f"lcmae compare --matrix {folder}" in text
    assert "<h2>Training</h2>" not in text
    num_figures = text.count('class="plotly-graph-div"')
    (folder / "matrix").mkdir()
    save_result(synthetic_matrix({0.25: [0.9, 0.5, 0.3], 0.75: [0.3, 0.5, 0.9]}), folder / "matrix" / "matrix.nc")
    write_report([folder], tmp_path / "alone.html")
    text = (tmp_path / "alone.html").read_text()
    assert "kNN accuracy: trained with random, 0.25 leads at test ratio" in text
    assert text.count('class="plotly-graph-div"') == num_figures + 2
    assert "lcmae compare --matrix" not in text


def test_runs_of_a_comparison_bring_it_along_once(tmp_path: Path):
    runs = [synthetic.run(tmp_path / "masks" / name, results=False).path for name in ("a", "b")]
    table(tmp_path / "masks")
    (tmp_path / "masks" / "matrix").mkdir()
    (tmp_path / "masks" / "matrix" / "matrix.nc").write_bytes(b"torn")
    write_report(runs, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert text.count("<h2>Comparison: masks</h2>") == 1
    assert text.index("<h2>Comparison") < text.index("<h2>Summary</h2>")
    assert re.search(r'class="missing">[^<]*matrix.nc', text), "what cannot be read is said"


def test_tables_blank_what_is_not_a_number():
    import pandas as pd

    html = to_table(pd.DataFrame({"<x>": [1.23456, float("nan")], "y": [None, "&"]}))
    assert html.count("&lt;x&gt;") == 1
    assert "<td class=n>1.235</td>" in html
    assert "<td class=n></td>" in html
    assert "<td>&amp;</td>" in html
