"""CKA and shared neighbours of two tables: known answers, and the n x n definition."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lcmae.errors import InputError
from lcmae.probes.embeddings.compare import cka, compare_embeddings, debiased_cka
from lcmae.probes.measures.similarity import Geometry, Traits, hsic, mutual_neighbours


def table(vectors: np.ndarray, first: int = 0) -> pd.DataFrame:
    ids = [f"{number:04d}.png" for number in range(first, first + len(vectors))]
    return pd.DataFrame({"id": ids, "embedding": list(vectors.astype(np.float32))})


def values(found: pd.DataFrame) -> dict[str, float]:
    return dict(zip(found["quantity"], found["value"], strict=True))


def normal(seed: int, rows: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, width))


def test_a_rotated_and_scaled_copy_is_the_same() -> None:
    x = normal(0, 60, 5)
    rotation, _ = np.linalg.qr(normal(1, 5, 5))
    found = compare_embeddings({"a": table(x), "b": table(3 * x @ rotation)})
    assert list(found["num_images"].unique()) == [60]
    assert np.allclose(list(values(found).values()), 1, atol=1e-5)
    assert max(found["sem"]) < 1e-5


def test_independent_vectors_share_what_chance_gives() -> None:
    found = compare_embeddings({"a": table(normal(0, 400, 50)), "b": table(normal(1, 400, 50))})
    debiased, plain, overlap = found.to_dict("records")
    assert abs(debiased["value"]) < 3 * debiased["sem"]
    assert plain["value"] > 0.05  # the bias that the debiased form does not have
    assert overlap["chance"] == pytest.approx(10 / 399)
    assert abs(overlap["value"] - overlap["chance"]) < 4 * overlap["sem"]


@given(st.integers(0, 2**31), st.integers(4, 20), st.integers(1, 8), st.integers(1, 8))
def test_products_of_widths_give_what_products_of_images_give(seed: int, rows: int, d: int, e: int) -> None:
    x, y = torch.from_numpy(normal(seed, rows, d)), torch.from_numpy(normal(seed + 1, rows, e))
    one, two = (Geometry.of(points[None]).gram for points in (x, y))
    # the same sums in another order
    own = hsic(one, one) * hsic(two, two)
    expected = hsic(one, two) / own.clamp(min=0).sqrt()
    if bool(own > 1e-9) and bool(hsic(one, one) > 0):
        assert torch.allclose(debiased_cka(x, y), expected[0], rtol=1e-6, atol=1e-8)
    plain = (one * two).sum() / (one.square().sum() * two.square().sum()).sqrt()
    assert torch.allclose(cka(x, y), plain, rtol=1e-9)


def test_neighbours_are_those_of_the_definition() -> None:
    x, y = normal(0, 30, 4), normal(1, 30, 4)
    y[:, :2] = x[:, :2]
    found = values(compare_embeddings({"a": table(x), "b": table(y)}, num_neighbours=5))["shared_neighbours_5"]
    # of vectors of length 1, the nearest by cosine are the nearest by distance
    unit = [torch.from_numpy(one.astype(np.float32)).double() for one in (x, y)]
    traits = [Traits.of(Geometry.of(torch.nn.functional.normalize(one, dim=1)[None]), 5) for one in unit]
    assert found == pytest.approx(float(mutual_neighbours(*traits)))


def test_rows_are_joined_by_id_in_any_order_and_whole_images_are_picked(tmp_path: Path) -> None:
    x = normal(0, 50, 3)
    shuffled = table(x).sample(frac=1, random_state=0)
    shuffled.iloc[:40].to_parquet(tmp_path / "b.parquet")
    found = compare_embeddings({"a": table(x), "b": tmp_path / "b.parquet"})
    assert list(found["num_rows"].unique()) == [40]
    assert np.allclose(list(values(found).values()), 1, atol=1e-5)
    tokens = pd.concat([table(normal(patch, 50, 3)).assign(patch=patch) for patch in range(4)])
    found = compare_embeddings({"a": tokens, "b": tokens}, most_rows=40)
    assert (int(found["num_images"].iloc[0]), int(found["num_rows"].iloc[0])) == (10, 40)


def test_what_cannot_be_compared_is_one_sentence(tmp_path: Path) -> None:
    good = table(normal(0, 8, 3))
    torn = tmp_path / "torn.parquet"
    torn.write_bytes(b"PAR1 and no more PAR1")
    other = tmp_path / "other.parquet"
    pd.DataFrame({"x": [1]}).to_parquet(other)
    infinite = table(np.full((8, 3), np.inf))
    for words, tables in (
        ("expected at least two tables", {"a": good}),
        ("at least 4 images that a and b share, got 3", {"a": good, "b": table(normal(0, 8, 3), first=5)}),
        ("expected every id once, got '0000.png' twice", {"a": good, "b": pd.concat([good, good])}),
        ("without embedding", {"a": good, "b": good[["id"]]}),
        ("expected finite vectors", {"a": good, "b": infinite}),
        ("expected tokens in both", {"a": good, "b": good.assign(patch=0)}),
        ("expected a Parquet file at", {"a": good, "b": torn}),
        ("columns id and embedding", {"a": good, "b": other}),
        ("vectors of one width", {"a": good, "b": good.assign(embedding="text")}),
    ):
        with pytest.raises(InputError, match=words):
            compare_embeddings(tables)
    constant = compare_embeddings({"a": good, "b": table(np.ones((8, 3)))})
    assert np.isnan(list(values(constant).values())).all()
