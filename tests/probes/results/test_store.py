"""Stored results: what was written comes back, and a file that is not as it was written is refused
before HDF5 sees it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from lcmae.errors import InputError
from lcmae.probes.results.store import load_result, save_result


@pytest.fixture
def result() -> xr.Dataset:
    return xr.Dataset(
        {
            "curve": ("x", np.array([1.5, np.nan, -np.inf], np.float32), {"units": "1", "long_name": "a curve"}),
            "scalar": ((), 1 / 3, {"units": "pixel", "long_name": "a number"}),
            "picture": (("y", "x"), np.arange(6, dtype=np.uint8).reshape(2, 3), {"units": "1", "long_name": "a"}),
            "flag": ("x", np.array([True, False, True]), {"units": "1", "long_name": "a truth"}),
            "word": ("y", np.array(["", "größer"]), {"units": "1", "long_name": "words"}),
            "nothing": ("empty", np.zeros(0), {"units": "1", "long_name": "nobody"}),
        },
        {"x": ["a", "bb", "ccc"]},
        {"seed": 2**62 - 1, "probe": "made", "settings": '{"ratio":0.5}', "share": 0.1},
    )


@pytest.fixture
def stored(result: xr.Dataset, tmp_path: Path) -> Path:
    path = tmp_path / "run" / "probes" / "made.nc"
    save_result(result, path)
    return path


def same(found: xr.Dataset, expected: xr.Dataset) -> None:
    xr.testing.assert_identical(found, expected)
    for name in expected.data_vars:
        if expected[name].dtype.kind not in "UO":
            assert found[name].dtype == expected[name].dtype, name


def test_what_was_written_comes_back(result: xr.Dataset, stored: Path) -> None:
    same(load_result(stored), result)
    assert [path.name for path in stored.parent.iterdir()] == ["made.nc"]


def test_any_reader_of_netcdf_reads_it(result: xr.Dataset, stored: Path) -> None:
    with xr.open_dataset(stored, engine="h5netcdf") as found:
        same(found.load(), result)


def test_arrays_carry_a_checksum(stored: Path) -> None:
    import h5py

    with h5py.File(stored) as file:
        arrays = [file[name] for name in ("curve", "picture", "flag", "word", "x")]
        assert all(isinstance(array, h5py.Dataset) and array.fletcher32 for array in arrays)


def test_a_second_result_takes_the_place_of_the_first(result: xr.Dataset, stored: Path) -> None:
    save_result(result.assign(scalar=result["scalar"] + 1), stored)
    assert float(load_result(stored)["scalar"]) == pytest.approx(4 / 3)


def test_every_flipped_bit_is_refused(stored: Path) -> None:
    content = stored.read_bytes()
    # every byte of the last line and of the superblock, and a sample of the rest
    sample = np.random.default_rng(0).integers(len(content), size=60).tolist()
    for position in [*range(16), *range(len(content) - 80, len(content)), *sample]:
        broken = bytearray(content)
        broken[position] ^= 1 << (position % 8)
        stored.write_bytes(broken)
        with pytest.raises(InputError) as caught:
            load_result(stored)
        assert str(stored) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0, 1, 77, 78, 500, -1])
def test_a_torn_file_is_refused(stored: Path, keep: int) -> None:
    stored.write_bytes(stored.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"^expected a probe result [^\n]+$"):
        load_result(stored)


def test_a_foreign_file_is_refused(result: xr.Dataset, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.nc"
    result.to_netcdf(foreign, engine="h5netcdf")
    with pytest.raises(
        InputError, match=r"^expected a probe result written by lcmae at .*foreign\.nc, got a damaged or foreign"
    ):
        load_result(foreign)
    (tmp_path / "text.nc").write_text("not a result, but longer than the line that a result ends with " * 3)
    with pytest.raises(InputError, match="damaged or foreign"):
        load_result(tmp_path / "text.nc")


def test_what_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^expected a probe result at [^\n]+, found none$"):
        load_result(tmp_path / "none.nc")
    with pytest.raises(InputError, match=r"^cannot read the probe result [^\n]+: Is a directory$"):
        load_result(tmp_path)


def test_a_failure_leaves_the_old_result_and_nothing_else(
    result: xr.Dataset, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises((OSError, InputError), match="No space left"):
        save_result(result, stored)
    assert [path.name for path in stored.parent.iterdir()] == ["made.nc"]
    monkeypatch.undo()
    same(load_result(stored), result)


def test_reading_needs_no_torch(stored: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from lcmae.probes.results.store import load_result; "
        "print(float(load_result(Path(sys.argv[1]))['scalar'])); "
        "assert not {'torch', 'timm', 'streamlit'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(stored)], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == 1 / 3
