"""Search, filter and groups of the table of runs."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from lcmae.app.dashboard.stored import run_table
from lcmae.app.dashboard.stored.notes import Note
from lcmae.app.dashboard.stored.reading import runs_below
from tests.app import synthetic

TABLE = pd.DataFrame(
    [
        {"name": f"{kind}-r{ratio}-s{seed}", "family": f"{kind}-r{ratio}", "objective": kind, "mask": "random", "ratio": ratio,
         "loss": 0.1 + 0.01 * seed, "knn": 0.5 + 0.1 * seed, "linear": None, "rank": 4.0, "tags": ["good"] if seed == 1 else [],
         "note": "", "data": "digits"}
        for kind in ("mae", "umae") for ratio in (0.5, 0.75) for seed in range(3)
    ]
)  # fmt: skip


def test_all_words_must_occur() -> None:
    assert len(run_table.searched(TABLE, "UMAE 0.75")) == 3
    assert len(run_table.searched(TABLE, "good s1")) == 4
    assert run_table.searched(TABLE, "nothing").empty
    assert run_table.searched(TABLE, "  ") is TABLE


def test_one_column_is_an_or_and_two_are_an_and() -> None:
    offered = run_table.choices(TABLE)
    assert {"objective: mae", "ratio: 0.5", "tags: good"} <= set(offered)
    assert "data: digits" not in offered, "all runs have it"
    assert len(run_table.filtered(TABLE, ["objective: mae", "objective: umae"])) == 12
    assert len(run_table.filtered(TABLE, ["objective: mae", "ratio: 0.5"])) == 3
    assert len(run_table.filtered(TABLE, ["tags: good"])) == 4


def test_groups_have_means_with_students_intervals() -> None:
    seeds = run_table.grouped(TABLE, "seeds").set_index("group")
    assert seeds.index.tolist() == ["mae-r0.5", "mae-r0.75", "umae-r0.5", "umae-r0.75"]
    one = seeds.loc["mae-r0.5"]
    values = np.array([0.5, 0.6, 0.7])
    assert one["runs"] == 3
    assert one["knn"] == pytest.approx(values.mean())
    assert one["knn_half"] == pytest.approx(t.ppf(0.975, 2) * values.std(ddof=1) / np.sqrt(3))
    assert np.isnan(one["linear"])
    assert one["names"] == ["mae-r0.5-s0", "mae-r0.5-s1", "mae-r0.5-s2"]


def test_losses_of_two_objectives_have_no_mean() -> None:
    masks = run_table.grouped(TABLE, "mask").set_index("group")
    assert masks.index.tolist() == ["random, 0.5", "random, 0.75"]
    assert all(map(np.isnan, masks["loss"]))
    assert masks["knn"].tolist() == pytest.approx([0.6, 0.6])
    assert run_table.grouped(TABLE, "objective")["loss"].tolist() == pytest.approx([0.11, 0.11])


def test_a_single_run_has_no_interval() -> None:
    one = run_table.grouped(TABLE.head(1), "objective").iloc[0]
    assert one["loss"] == pytest.approx(0.1)
    assert np.isnan(one["loss_half"])


def test_the_course_of_a_loss_is_thinned(tmp_path: Path) -> None:
    run = synthetic.run(tmp_path / "a", results=False)
    for step in range(1000):
        run.log_metrics({"step": 1000 + step, "loss": float(step)})
    found = run_table.losses(run.path)
    assert len(found) == run_table.POINTS
    assert found[-1] > found[1]
    assert run_table.losses(tmp_path / "gone") == []


def test_runs_with_their_notes_are_a_table(tmp_path: Path) -> None:
    synthetic.run(tmp_path / "a-s0", results=False)
    synthetic.run(tmp_path / "a-s1", results=False)
    table = run_table.table_of(runs_below(tmp_path), {"a-s1": Note(tags=("x",), hidden=True)})
    assert table["hidden"].tolist() == [False, True]
    assert table["family"].tolist() == ["a", "a"]
    assert len(run_table.grouped(table, "seeds")) == 1


def test_the_sentence_is_of_seeds_where_there_are_several() -> None:
    table = TABLE.assign(state="finished")
    table["knn"] += 0.05 * (table["objective"] == "umae")
    said = run_table.sentence(table)
    half = 100 * t.ppf(0.975, 2) * 0.1 / np.sqrt(3)
    assert said.startswith("12 runs (12 finished); with seeds together, umae-r0.5 has the highest mean kNN accuracy, ")
    assert f"65.0 ± {half:.1f} % over 3 runs; " in said
    assert said.endswith("; groups mae-r0.5, mae-r0.75 and umae-r0.75 cannot be told apart from it.")
    apart = TABLE.assign(state="finished", knn=TABLE["knn"] / 100 + (TABLE["family"] == "mae-r0.75"))
    assert run_table.sentence(apart).endswith(f" ± {half / 100:.1f} % over 3 runs."), "intervals far from each other"
    one = table.iloc[[2]].reset_index(drop=True)
    assert "mae-r0.5-s2 has the highest kNN accuracy, 70.0 %, of a single run" in run_table.sentence(one)
    other = one.assign(name="elsewhere", data="cifar10", knn=0.99)
    mixed = run_table.sentence(pd.concat([one.assign(data="digits"), table.iloc[[1]].assign(data="digits"), other]))
    assert "; on digits, " in mixed
    assert "elsewhere" not in mixed, "accuracies on other images are no rivals"
    assert run_table.sentence(one.assign(knn=None)) == "1 run (1 finished); none has logged its kNN accuracy."
