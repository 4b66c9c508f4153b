"""`lcmae.plot` opens every file of figures by its name, without torch."""

import subprocess

import pytest

import lcmae
from lcmae import processes
from lcmae.app import figures
from lcmae.probes.registry import PROBES


def test_every_probe_has_its_figures_there() -> None:
    assert set(PROBES) <= set(dir(lcmae.plot))
    assert all(getattr(lcmae.plot, name).__name__.endswith(f".{name}") for name in dir(figures))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = lcmae.plot.nothing


def test_it_needs_no_torch() -> None:
    code = "import lcmae, sys; lcmae.plot.masks, lcmae.plot.spectrum; assert 'torch' not in sys.modules"
    done = subprocess.run([*processes.python("-c", code)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
