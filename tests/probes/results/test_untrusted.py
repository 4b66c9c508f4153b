"""A stored result reads nothing but itself: every hostile one is refused in one line, quickly, and
without memory."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from lcmae.errors import InputError
from lcmae.probes.registry import PROBES
from lcmae.probes.results import untrusted
from lcmae.probes.results.store import load_attrs, load_result, save_result
from tests.app import synthetic
from tests.few import few
from tests.reference.hostile_results import RESULTS, SECRET, sign

LAST_LINE = "\nlcmae sha256 " + 64 * "0" + "\n"

READ = """
import resource, sys
from pathlib import Path
from lcmae.errors import InputError
from lcmae.probes.registry import PROBES
from lcmae.probes.results import untrusted
from lcmae.probes.results.store import load_attrs, load_result
import h5py, xarray, h5netcdf
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    for read in (load_result, load_attrs):
        try:
            print(read(Path(path)))
        except InputError as error:
            print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize("name", RESULTS)
def test_a_hostile_result_is_one_line(name: str, tmp_path: Path) -> None:
    path = RESULTS[name](tmp_path)
    with pytest.raises(InputError) as answer:
        load_result(path)
    message = str(answer.value)
    assert message.isprintable()
    assert 20 < len(message) < 600
    assert SECRET not in message


def test_hostile_results_take_no_memory_and_end_no_process(tmp_path: Path) -> None:
    paths = []
    for number, make in enumerate(RESULTS.values()):
        (tmp_path / str(number)).mkdir()
        paths.append(str(make(tmp_path / str(number))))
    done = subprocess.run(
        [sys.executable, "-P", "-c", READ, *paths], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout
    assert "42." not in done.stdout
    # a value of 100 MB is the most that any of them holds; the bombs ask for 1.6 GB to 4 PB
    assert int(done.stdout.splitlines()[-1]) < 200


def test_results_of_before_are_read_as_they_are(tmp_path: Path) -> None:
    """Without an index, by HDF5: also a dimension without coordinate, text, and seconds, which are
    no dates."""
    result = xr.Dataset(
        {
            "curve": (("image", "x"), np.zeros((500, 3), np.float32), {"units": "seconds", "long_name": "a"}),
            "word": ((), "größer", {"units": "1", "long_name": "a word"}),
            "none": ("empty", np.zeros(0), {"units": "1", "long_name": "nothing"}),
        },
        {"x": ["a", "bb", "c"]},
        {"seed": 2**62, "settings": "{}", "ratios": [0.5, 0.75]},
    )
    path = tmp_path / "old.nc"
    filters = {"fletcher32": True, "zlib": True, "complevel": 4}
    result.to_netcdf(path, engine="h5netcdf", encoding={"curve": filters, "x": {"dtype": "S1", **filters}})
    found = load_result(sign(path))
    assert found["curve"].dtype == np.float32
    assert found["x"].values.tolist() == ["a", "bb", "c"]
    assert str(found["word"].values) == "größer"
    assert load_attrs(path)["seed"] == 2**62


@pytest.mark.parametrize("probe", few(PROBES))
def test_results_of_before_are_as_xarray_reads_them(probe: str, tmp_path: Path) -> None:
    """Without an index: a shorter way through HDF5 than xarray's own, and the same result."""
    path = tmp_path / "old.nc"
    save_result(synthetic.RESULTS[probe](seed=1), path)
    with_index = path.read_bytes()
    netcdf = with_index[: int(with_index[: -len(LAST_LINE)][-12:])]
    path.write_bytes(netcdf)
    with xr.open_dataset(path, engine="h5netcdf", decode_times=False, decode_timedelta=False) as opened:
        expected = opened.load()
    found = untrusted.read(memoryview(netcdf))
    xr.testing.assert_identical(found, expected)
    assert {name: one.dtype for name, one in found.variables.items()} == {
        name: one.dtype for name, one in expected.variables.items()
    }
    assert load_attrs(sign(path)) == load_result(path).attrs


def test_what_is_saved_passes_the_fences_of_hdf5_too(tmp_path: Path) -> None:
    result = xr.Dataset({"zeros": ("i", np.zeros(200_000), {"units": "1", "long_name": "nothing but zeros"})})
    save_result(result, tmp_path / "a.nc")
    with h5py.File(tmp_path / "a.nc") as file:
        untrusted.check_file(file, (tmp_path / "a.nc").stat().st_size)


def test_hdf5_is_not_older_than_its_holes() -> None:
    """The floor that pyproject.toml states: older ones have memory errors that a crafted file
    reaches."""
    assert h5py.version.hdf5_version_tuple >= (1, 14, 6)
