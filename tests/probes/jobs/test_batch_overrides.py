"""What a person says of a checkpoint is part of a result's condition: `lcmae probe --heads 2` and
`--heads 4` are two results."""

import re
from pathlib import Path

import pytest
import torch
import xarray as xr

import lcmae
from lcmae.app.commands import probe
from lcmae.errors import InputError
from tests.reference import foreign


@pytest.mark.slow
def test_two_head_counts_are_two_results(tmp_path: Path, rng: torch.Generator) -> None:
    torch.save({"model": foreign.official(rng)}, tmp_path / "a.pth")
    out = tmp_path / "out"
    words = ["reconstruction", "--checkpoint", str(tmp_path / "a.pth"), "--data", "digits", "--images", "6"]
    words += ["--decoder-heads", str(foreign.DECODER_HEADS), "--out", str(out)]
    assert probe.run([*words, "--heads", "2"]) == 0
    first = {path: path.read_bytes() for path in out.rglob("*.nc")}
    assert probe.run([*words, "--heads", "4"]) == 0

    stored = sorted(out.rglob("*.nc"))
    assert len(first) == 1
    assert len(stored) == 2
    assert [path.read_bytes() for path in first] == [*first.values()]
    losses = set()
    for path in stored:
        with xr.open_dataset(path) as result:
            losses.add(float(result["error"].values.ravel()[0]))
    assert len(losses) == 2


@pytest.mark.parametrize("said", [({"heads": 2}, {"heads": 4}), ({"weights": "model"}, {"weights": "model_ema"})])
def test_from_python_they_are_two_as_well(said: tuple[dict, dict], tmp_path: Path, rng: torch.Generator) -> None:
    plain = foreign.official(rng)
    both = {"model": plain, "model_ema": {name: 1.5 * value for name, value in plain.items()}}
    torch.save(both if "weights" in said[0] else {"model": plain}, tmp_path / "a.pth")
    images = torch.randn(4, foreign.CHANNELS, foreign.IMAGE, foreign.IMAGE, generator=rng).sigmoid()
    losses = []
    for words in said:
        settings = {"heads": foreign.HEADS, "decoder_heads": foreign.DECODER_HEADS, **words}
        model = lcmae.load(tmp_path / "a.pth", **settings)
        results = lcmae.probe(model, images, ["reconstruction"], out=tmp_path / "out")
        losses.append(float(results["reconstruction"]["error"].values.ravel()[0]))
    assert losses[0] != losses[1]
    assert len([*(tmp_path / "out").rglob("*.nc")]) == 2


DOCS = Path(__file__).parents[3] / "docs" / "adapting-a-model.md"
MINE = """from tests.reference.official_style import OfficialStyleMAE


class MyMAE:
    @staticmethod
    def load(path):
        return OfficialStyleMAE(224, 16, 32, 1, 4, decoder=(24, 1, 3))


"""


@pytest.mark.slow
def test_the_example_of_the_docs_is_probed_as_it_is_written(tmp_path: Path) -> None:
    example = re.search(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert example is not None
    (tmp_path / "my_mae.py").write_text(MINE + example[1])
    name = f"{tmp_path / 'my_mae.py'}:make"
    words = ["reconstruction", "--adapter", name, "--data", "digits", "--images", "3", "--out", str(tmp_path / "out")]
    # its best linear predictor would have 150,000 numbers an image
    assert probe.run([*words, "--reconstruction.linear-images", "0"]) == 0
    (stored,) = (tmp_path / "out").rglob("*.nc")
    with xr.open_dataset(stored) as result:
        assert result["error"].values.ravel()[0] > 0
        assert "--adapter" in result.attrs["command"]
    with pytest.raises(InputError, match=r"FILE\.py:FUNCTION"):
        probe.run([*words[:2], "my_mae", *words[3:]])
