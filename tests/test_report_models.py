"""Section *Models* of the page: what is drawn is what was measured, and nothing that is missing stops it."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from evidences import small_competition

from radstack.core.files import write_json
from radstack.core.recipe import change
from radstack.images.views import Whole
from radstack.recipes.competition import FoldRecipe, Models
from radstack.recipes.experiment import Experiment
from radstack.recipes.sequence import Sequence
from radstack.recipes.stacker import Stacker
from radstack.report import classes, learning, numbers, probabilities
from radstack.report.evidence import Evidence
from radstack.report.models import before_calibration, best_networks, columns_of_parts, models, part_table
from radstack.report.page import page
from radstack.report.plots import svg
from radstack.running.context import Context, Options
from radstack.scoring.metrics import ClassGroup, calibration_error
from radstack.scoring.task import Metric, Task, score_rows

LOSS = Task(("left", "right"), Metric("weighted log loss", (1, 2)))
AGE = Task(("age",), Metric("mean absolute error", (1,), "years"))
PHASE = Task(("a1", "a2", "b1", "u", "v"), Metric("classification error", (1, 1), groups=(
    ClassGroup("first", ("a", "a", "b")), ClassGroup("second", ("u", "v")))))


def make(tmp_path, task, truth, said, fold=None, final="final", **columns):
    """Evidence of models ``said`` (name -> predictions); ``net*`` are experiments, ``gru`` a sequence, others stacks."""
    rows = pd.DataFrame({"id": [f"r{row}" for row in range(len(truth))], "split": "train",
                         "group": [f"p{row // 2}" for row in range(len(truth))], **columns})
    rows[list(task.targets)] = truth
    recipes = {Experiment: [], Sequence: [], Stacker: []}
    for name in said:
        kind = Experiment if name.startswith("net") else Sequence if name == "gru" else Stacker
        more = (Whole((32, 24)),) if kind is Experiment else (("net",),) if kind is Sequence else ("calibrate", ("net",))
        recipes[kind].append(kind(name, *more))
    models = Models(tuple(recipes[Experiment]), tuple(recipes[Stacker]), final, tuple(recipes[Sequence]))
    competition = small_competition(task, models, folds=FoldRecipe(3))
    paths = SimpleNamespace(weights=tmp_path / "weights", oof=tmp_path / "oof")
    oof = {name: np.asarray(values, np.float32) for name, values in said.items()}
    tables = {name: rows[["id"]].join(pd.DataFrame(values, columns=list(task.targets)).astype(float)).dropna(
        how="all", subset=list(task.targets)) for name, values in oof.items()}
    scores = score_rows("out of fold", tables, rows, task.metric.constant(rows[list(task.targets)]), None, task)
    fold = np.arange(len(rows)) // 2 % 3 if fold is None else fold
    context, cases = Context(competition, paths, Options()), object() if final in said else None
    return Evidence(context, task, list(said), rows, rows[:0], rows, rows, fold, oof, scores, pd.DataFrame(), cases)


def of_probabilities(tmp_path, n=240, **columns):
    rng = np.random.default_rng(0)
    z = rng.normal(-1, 2, (n, 2))
    truth = (rng.random((n, 2)) < 1 / (1 + np.exp(-z))).astype(float)
    sure = 1 / (1 + np.exp(-3 * z))  # right order, too sure of itself
    return make(tmp_path, LOSS, truth, {"net": sure, "net_b": np.full((n, 2), 0.3), "gru": sure,
                                        "final": 1 / (1 + np.exp(-z))}, **columns)


def of_numbers(tmp_path, n=300, **columns):
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 100, (n, 1))
    return make(tmp_path, AGE, truth, {"net": truth + rng.normal(0, 8, (n, 1)), "final": truth + rng.normal(2, 4, (n, 1))},
                **columns)


def of_classes(tmp_path, n=200):
    rng = np.random.default_rng(0)
    first, second = rng.integers(3, size=n), rng.integers(2, size=n)
    truth = np.concatenate([np.eye(3)[first], np.eye(2)[second]], axis=1)
    said = np.concatenate([part / part.sum(axis=1, keepdims=True) for part in (
        truth[:, :3] + rng.random((n, 3)), truth[:, 3:] + rng.random((n, 2)))], axis=1)
    alone = np.where(np.arange(5) < 3, said, np.nan)
    return make(tmp_path, PHASE, truth, {"net": alone, "final": said})


KINDS = {"probabilities": of_probabilities, "numbers": of_numbers, "classes": of_classes}


def kinds_of(section):
    return [block.kind for block in section.blocks]


@pytest.mark.parametrize("kind", KINDS)
def test_the_section_is_drawn_for_every_kind_and_every_drawing_is_small(kind, tmp_path):
    section = models(KINDS[kind](tmp_path))
    drawings = [block.svg for block in section.blocks if block.kind == "plot"]
    assert len(drawings) >= 4 and max(map(len, drawings)) < 100_000
    assert all("currentColor" in one and "#0102" not in one and "#010203" not in one for one in drawings)
    assert "Models" in page("tiny", "", [section], [])


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_missing_is_left_out(kind, tmp_path):
    whole = KINDS[kind](tmp_path)
    alone = {"final": whole.oof["final"][:8]}
    few = make(tmp_path, whole.task, whole.truth[:8], alone, fold=np.zeros(8, int))
    assert "plot" in kinds_of(models(few))
    first = np.arange(len(whole.train))[:, None] < 10
    partial = {"net": np.where(first, whole.oof["final"], np.nan), "final": whole.oof["final"]}
    assert "plot" in kinds_of(models(make(tmp_path, whole.task, whole.truth, partial)))
    assert models(make(tmp_path, whole.task, whole.truth[:3], {"net": whole.oof["final"][:3]}, final="final")).blocks


def log(folder, name, fold, losses, steps=None):
    file = folder / "weights" / name / f"fold{fold}_log" / "figures.csv"
    file.parent.mkdir(parents=True)
    rows = [(step, 0.0, column, value) for step, loss in zip(steps or range(1, len(losses) + 1), losses)
            for column, value in (("loss", loss), ("lr", 1e-3), ("waiting", 0.25))]
    pd.DataFrame(rows, columns=["step", "time", "name", "value"]).to_csv(file, index=False)


def test_curves_are_of_logs_and_of_losses_by_epoch_and_a_log_of_one_entry_is_in_the_table_only(tmp_path):
    evidence = of_probabilities(tmp_path)
    log(tmp_path, "net", 0, [1.0, 0.5, 0.05])
    log(tmp_path, "net", 1, [0.9, 0.6])
    log(tmp_path, "net_b", 0, [0.7])
    for fold in (0, 2):
        (tmp_path / "oof" / "gru").mkdir(parents=True, exist_ok=True)
        write_json(tmp_path / "oof" / "gru" / f"fold{fold}.parquet.json", {"losses": [0.4, 0.3], "seconds": 10.0 + fold})
    runs = {name: learning.runs_of(evidence, name) for name in ("net", "net_b", "gru")}
    assert [(run.fold, run.unit, run.loss.tolist()) for run in runs["net"]] == [
        (0, "step", [1.0, 0.5, 0.05]), (1, "step", [0.9, 0.6])]
    assert [(run.fold, run.unit) for run in runs["gru"]] == [(0, "epoch"), (2, "epoch")]
    drawn = learning.draw_curves([*runs["net"], *runs["gru"]])
    panels = {ax.get_title(): ax for ax in drawn.axes if ax.get_title()}
    assert list(panels) == ["net", "gru"]
    assert [panels[name].get_yscale() for name in panels] == ["log", "linear"], "logarithmic where it spans a decade"
    costs = learning.cost_table(evidence, [run for found in runs.values() for run in found]).set_index("model")
    assert list(costs.index) == ["gru"], "nothing else was made"
    assert costs.loc["gru", "seconds a fold"] == 11 and costs.loc["gru", "last loss"] == pytest.approx(0.3)
    words = learning.learning(evidence)[1].caption
    assert "one log entry" in words


def test_costs_are_those_of_the_manifests(tmp_path):
    from safetensors.numpy import save_file

    evidence, folder = of_probabilities(tmp_path), tmp_path / "weights" / "net"
    log(tmp_path, "net", 0, [0.5, 0.4])
    save_file({"conv.weight": np.zeros((4, 3, 2)), "bn.running_mean": np.zeros(4)}, str(folder / "fold0.safetensors"))
    for fold, seconds in enumerate((10, 20)):
        write_json(folder / f"fold{fold}.safetensors.json", {
            "seconds": seconds, "images_per_second": 100.0, "started_from": f"fold{fold}.safetensors (sha256 a); dropped b"})
    row = learning.cost_table(evidence, learning.runs_of(evidence, "net")).set_index("model").loc["net"]
    assert (row["parameters"], row["folds"], row["seconds a fold"], row["images/s"]) == (24, 2, 15, 100)
    assert row["picture"] == "32 × 24 × 1" and row["waiting"] == 0.25
    assert row["started from"] == "fold0.safetensors, fold1.safetensors"


def test_thinned_keeps_the_ends_and_even_points_keep_the_steep_part():
    x, y = learning.thinned(50, np.arange(1000), np.arange(1000) * 2)
    assert len(x) == 50 and (x[0], x[-1], y[-1]) == (0, 999, 1998)
    x = np.linspace(0, 1, 100_000)
    y = np.minimum(x * 1000, 1)
    kept_x, kept_y = probabilities.evenly(x, y)
    assert len(kept_x) <= probabilities.POINTS and kept_x[-1] == 1
    assert (kept_y < 1).sum() > 50, "half of the length is in the first thousandth"


def test_the_best_network_answers_as_many_rows_as_the_final_model(tmp_path):
    evidence = of_probabilities(tmp_path)
    cheat, mixed = evidence.truth.copy(), evidence.oof["net_b"].copy()
    cheat[100:] = np.nan
    mixed[:, 1] = evidence.oof["final"][:, 1]
    said = {"net": evidence.oof["final"] * 0.98, "net_part": cheat, "net_mixed": mixed, "final": evidence.oof["final"]}
    partial = make(tmp_path, LOSS, evidence.truth, said)
    assert best_networks(partial) == {"left": "net", "right": "net_mixed"}
    assert before_calibration(partial, {}) == {"left": "net", "right": "net"}, "the calibration's only member"


def test_parts_are_scored_apart_and_small_ones_left_out(tmp_path):
    n = 240
    scanner = np.where(np.arange(n) % 40 < 4, "GE", np.where(np.arange(n) < n - 3, "Siemens", "rare"))
    intercept = np.where(scanner == "GE", -1024.0, 0.0)
    evidence = of_probabilities(tmp_path, n, manufacturer=scanner, intercept=intercept, height=64, width=64, photometric="",
                                number=np.arange(n) % 3)
    table = part_table(evidence, None, np.ones(n, bool)).set_index(["what", "part"])
    assert set(table.index) == {("manufacturer", "GE"), ("manufacturer", "Siemens"), ("intercept", "-1024"),
                                ("intercept", "0")}
    losses = LOSS.metric.row_losses(evidence.truth, evidence.oof["final"])
    row = table.loc[("manufacturer", "GE")]
    assert row["final"] == pytest.approx(losses[scanner == "GE"].mean()) and row["low"] < row["final"] < row["high"]
    alike = columns_of_parts(pd.DataFrame({"bits": [8, 16, 8], "flag": ["", "x", ""], "mirrored": [True, True, False]}),
                             None)
    assert alike["bits, flag"].tolist() == ["8, none", "16, x", "8, none"]
    assert alike["mirrored"].tolist() == ["yes", "yes", "no"]


def test_calibration_before_and_after_is_that_of_the_formula(tmp_path):
    evidence = of_probabilities(tmp_path, 2000)
    curves = probabilities.curves_of(evidence, {"left": "net", "right": "net"})
    table = probabilities.calibration_table(curves).set_index("label")
    before = calibration_error(evidence.truth[:, 0], evidence.oof["net"][:, 0].astype(np.float64))
    assert table.loc["left", "ECE before"] == pytest.approx(before)
    assert (table["ECE after"] < 0.04).all() and (table["ECE before"] > 0.08).all()
    ranked = probabilities.ranking_table(curves)
    assert ranked["AUC"].to_numpy() == pytest.approx(ranked["AUC, final"].to_numpy(), abs=1e-5), "the same order"
    every = probabilities.error_table(evidence).set_index("model")
    assert every.loc["net", "mean"] == pytest.approx(table["ECE before"].mean())


def test_a_label_that_never_or_always_holds_has_no_curve(tmp_path):
    evidence = of_probabilities(tmp_path)
    truth = evidence.truth
    truth[:, 1] = 0
    again = make(tmp_path, LOSS, truth, evidence.oof)
    assert list(probabilities.curves_of(again, {})) == ["left"]
    truth[:, 0] = 1
    none = make(tmp_path, LOSS, truth, evidence.oof)
    assert probabilities.probability_blocks(none, {}, {}) == []


def by_series(evidence):
    competition = change(evidence.context.competition, pages__case_by="series")
    return replace(evidence, context=replace(evidence.context, competition=competition))


def test_slices_of_one_volume_are_one_case(tmp_path):
    evidence = of_numbers(tmp_path, 300, series=np.arange(300) // 3)
    evidence = by_series(evidence)
    assert len(numbers.cases_of(evidence, "age", "net", None)) == 300, "their labels differ"
    truth = np.repeat(evidence.truth[::3], 3, axis=0)
    volumes = by_series(make(tmp_path, AGE, truth, evidence.oof, series=np.arange(300) // 3))
    cases = numbers.cases_of(volumes, "age", "net", pd.DataFrame({"sex": ["f", "f", "f", "m", "m", "m"] * 50}))
    assert len(cases) == 100 and cases["part sex"].tolist()[:2] == ["f", "m"]
    assert cases["final"][0] == pytest.approx(evidence.oof["final"][:3].mean())


def test_intervals_of_other_folds_hold_what_they_promise_and_are_wider_for_the_worse_model(tmp_path):
    cases = numbers.cases_of(of_numbers(tmp_path, 3000), "age", "net", None)
    table = numbers.coverage_table(cases, {"final": "final", "net": "other"})
    assert np.abs(table["held"] - table["wanted"]).max() < 0.03
    widths = table.pivot_table(index="wanted", columns="model", values="half width")
    assert (widths["net"] > widths["final"]).all() and widths["final"].is_monotonic_increasing
    assert numbers.coverage_table(cases.assign(fold=0), {"final": "final"}).empty


def test_bland_altman_says_the_mean_difference_and_a_large_scatter_is_pixels(tmp_path):
    cases = numbers.cases_of(of_numbers(tmp_path, 20_000), "age", "net", None)
    drawn = svg(numbers.draw_differences(cases, "", "years"))
    assert f"{(cases['final'] - cases['truth']).mean():+.3g}" in drawn and "image/png" in drawn and len(drawn) < 100_000
    table = numbers.range_table(cases["truth"], cases["truth"] * -0.1)
    assert len(table) == numbers.BINS and table["bias"].is_monotonic_decreasing
    assert len(numbers.range_table(pd.Series([5.0] * 9), pd.Series([1.0] * 9))) == 1


def test_confusion_is_counted_by_scored_and_by_unmerged_classes(tmp_path):
    truth = np.array([[1, 0, 0, 1, 0], [0, 1, 0, 1, 0], [0, 0, 1, 0, 1], [0, 0, 1, 0, 1]])
    said = np.array([[0.3, 0.4, 0.3, 0.9, 0.1], [0.6, 0.2, 0.2, 0.4, 0.6], [0.1, 0.1, 0.8, 0.2, 0.8],
                     [0.5, 0.2, 0.3, 0.0, 1.0]])
    evidence = make(tmp_path, PHASE, truth, {"net": np.where(np.arange(5) < 3, np.nan, said), "final": said})
    merged, fine = (classes.called_of(evidence, "final", "first", merged) for merged in (True, False))
    assert merged.names == ("a", "b") and merged.counts.tolist() == [[2, 0], [1, 1]]
    assert merged.confidence.tolist() == pytest.approx([0.7, 0.8, 0.8, 0.7])
    assert fine.names == ("a1", "a2", "b1") and fine.counts.tolist() == [[0, 1, 0], [1, 0, 0], [1, 0, 1]]
    assert classes.called_of(evidence, "net", "first") is None
    table = classes.accuracy_table({"first": {"final": merged}}).set_index("class")
    assert table["hits"].tolist() == [3, 2, 1] and table.loc["b", "accuracy"] == 0.5 and table.loc["a", "precision"] == 2 / 3
    calibration = classes.calibration_of(evidence).set_index("model")
    assert np.isnan(calibration.loc["net", "first"]) and np.isfinite(calibration.loc["final"]).all()
