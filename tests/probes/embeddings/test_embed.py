"""`lcmae.embed`: vectors are the model's own, rows have stable ids, files are whole or absent."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import lcmae
from lcmae.app import cli
from lcmae.errors import InputError
from lcmae.models import MaskedImageModel
from lcmae.probes.embeddings import embed as module
from lcmae.probes.watching.layers import layers
from lcmae.training.train import build_model, publish_untrained
from tests.conftest import tiny_simmim
from tests.reference.tiny_runs import tiny_config, tiny_run


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (7, 8, 8, 1), np.uint8)


@pytest.fixture(scope="module")
def model() -> MaskedImageModel:
    return build_model(tiny_config()).eval()


def prepared(model: MaskedImageModel, pixels: np.ndarray, frame: pd.DataFrame) -> torch.Tensor:
    """The images of a table, by the row that it names."""
    order = frame["index"].drop_duplicates().to_numpy()
    return model.prepare(torch.from_numpy(pixels[order]).permute(0, 3, 1, 2).contiguous())


def test_vectors_are_those_of_a_pass_over_whole_images(model: MaskedImageModel, pixels: np.ndarray) -> None:
    for feature in ("cls", "mean"):
        frame = lcmae.embed(model, (pixels, np.arange(7)), feature=feature, batch_size=3)
        assert list(frame.columns) == ["id", "index", "label", "embedding"]
        assert list(frame["label"]) == list(frame["index"])
        assert frame["id"].is_unique
        with torch.no_grad():
            expected = model(prepared(model, pixels, frame)).feature(feature)
        assert np.allclose(np.stack(list(frame["embedding"])), expected.numpy(), atol=1e-6)


def test_layers_count_from_the_embedding(model: MaskedImageModel, pixels: np.ndarray) -> None:
    frames = {layer: lcmae.embed(model, pixels, "tokens", layer) for layer in (0, 1, -1, None)}
    known = layers(model, prepared(model, pixels, frames[0]), decoder=False)
    expected = {0: known.embedding[:, 1:], 1: known.encoder[0][:, 1:], -1: known.encoder[-1][:, 1:], None: known.tokens}
    for layer, frame in frames.items():
        assert list(frame["patch"]) == list(range(16)) * 7
        found = np.stack(list(frame["embedding"])).reshape(7, 16, 16)
        assert np.allclose(found, expected[layer].numpy(), atol=1e-6), layer


def test_a_file_holds_the_same_table(model: MaskedImageModel, pixels: np.ndarray, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "ROW_GROUP_VALUES", 2 * 16)  # two images a row group
    frame = lcmae.embed(model, pixels, "mean", batch_size=2)
    path = lcmae.embed(model, pixels, "mean", batch_size=2, out=tmp_path / "x.parquet")
    again = pd.read_parquet(path)
    assert pq.ParquetFile(path).num_row_groups == 4
    pd.testing.assert_frame_equal(
        again.drop(columns=["embedding", "label"]), frame.drop(columns=["embedding", "label"])
    )
    assert np.array_equal(np.stack(list(again["embedding"])), np.stack(list(frame["embedding"])))
    assert list(again["label"].isna()) == [True] * 7
    with pytest.raises(InputError, match=r"expected a new file .*\(overwrite=True, or --overwrite, replaces a file\)"):
        lcmae.embed(model, pixels, out=path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert lcmae.embed(model, pixels, out="~/x.parquet", overwrite=True) == path


def test_ids_are_files_and_a_failure_leaves_nothing(
    model: MaskedImageModel, pixels: np.ndarray, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, image in enumerate(pixels):
        Image.fromarray(image[..., 0]).save(folder / f"{number}.png")
    frame = lcmae.embed(model, f"folder:{folder}")
    assert sorted(Path(name).name for name in frame["id"]) == [f"{number}.png" for number in range(7)]
    source = lcmae.images(f"folder:{folder}", resident_limit=0)
    (folder / "6.png").write_bytes(b"torn")
    with pytest.raises(InputError, match=r"6\.png"):
        lcmae.embed(model, source, out=tmp_path / "x.parquet", batch_size=1)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_what_the_model_does_not_have_is_one_sentence(model: MaskedImageModel, pixels: np.ndarray) -> None:
    for words, keywords in (
        ("expected a feature out of cls, mean, tokens, got 'clas'", {"feature": "clas"}),
        (r"expected a layer from 0 \(embedding\) to 1", {"layer": 2}),
        ("expected a batch_size of at least 1", {"batch_size": 0}),
    ):
        with pytest.raises(InputError, match=words):
            lcmae.embed(model, pixels, **keywords)
    with pytest.raises(InputError, match="expected a model of"):
        lcmae.embed(torch.nn.Linear(1, 1), pixels)
    assert lcmae.embed(tiny_simmim(), np.repeat(pixels, 3, 3)).attrs["lcmae"]["feature"] in ("cls", "mean")


def test_the_command_writes_and_compares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = []
    for seed in (0, 1):
        run = tiny_run(tmp_path / f"run{seed}", seed=seed)
        publish_untrained(run)
        files.append(str(tmp_path / f"{seed}.parquet"))
        assert cli.main(["embed", str(run.path), "--feature", "mean", "--images", "40", "--out", files[-1]]) == 0
    assert capsys.readouterr().out.split() == files
    assert cli.main(["embed", "--compare", *files]) == 0
    shown = capsys.readouterr().out
    assert "shared_neighbours_10" in shown
    assert "digits" in shown
    assert cli.main(["embed", str(tmp_path / "run0"), "--out", files[0]]) == 2
    assert cli.main(["embed", "--out", files[0]]) == 2
    assert cli.main(["embed", "--compare", files[0], __file__]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines] == [
        "lcmae embed: expected a new file for the vectors",
        "lcmae embed: expected CHECKPOINT and --out FILE.parquet (or --compare FILE FILE)",
        f"lcmae embed: expected a Parquet file at {__file__}",
    ]
