"""Studies: each competition's recipes exist and differ as its source says; tables in the source's layout, made of tables."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from competitions import NAMES, load, studies
from radstack.commands import study as command
from radstack.commands.study import context_of, listed, run, with_recipes
from radstack.core.artifact import Artifact
from radstack.core.errors import UserError
from radstack.core.files import write_table
from radstack.core.folds import HoldOut, fold_hash
from radstack.core.recipe import change
from radstack.recipes.experiment import Backbone
from radstack.recipes.stacker import Stacker
from radstack.recipes.study import Cell, Curve, Study, seeds
from radstack.report.studies import _evened, layout, logs_of, markdown, measured, section, traced, without_curves
from radstack.running.cli import make_context
from radstack.running.context import Options
from radstack.stack.predictions import fold_file, prediction_table
from radstack.stack.registry import method_of
from radstack.stages.train import weights_file
from radstack.training.run import held_out_file

ROWS = 90
SETS = [(name, demo) for name in NAMES for demo in (False, True)]


def wanted(name):
    return {"ich": 8, "bone_age": 3, "knee_age": 5, "radius_ulna": 9}.get(name, 0)


def masks_of(study):
    return {network.name for network in study.masks.networks} if study.masks else set()


# -- what ships ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("name", "demo"), [pair for pair in SETS if wanted(pair[0])])
def test_every_model_of_every_study_is_a_recipe(tmp_path, name, demo):
    competition = load(name, demo)
    context = make_context(competition, Options(out_dir=str(tmp_path)))
    made = studies(competition)
    assert len(made) >= wanted(name) and len({one.name for one in made}) == len(made)
    assert len(listed(made)) == len(made)
    for one in made:
        own = context_of(context, one)
        known = {recipe.name for recipe in own.competition.recipes}
        assert set(one.models) <= known | masks_of(one)
        members = {member for recipe in own.competition.recipes if recipe.name in one.models
                   for member in getattr(recipe, "members", ())}
        assert members <= set(own.options.only)  # what a stack reads is trained, too


def test_networks_of_the_tables_of_the_wrist_are_the_sources():
    competition = load("radius_ulna")
    made = {one.name: one for one in studies(competition)}
    assert len(made["table6"].models) == 2 * 9 * 2 and len(made["figure11"].models) == 2 * 2 * 3 * 2
    recipes = {one.name: one for one in with_recipes(competition, made["figure11"].recipes).recipes}
    plain, dropped = recipes["ulna_sgd_0.01_no_dropout"], recipes["ulna_sgd_0.01"]
    assert (plain.backbone.args["dropout"], dropped.backbone.args["dropout"]) == (0.0, 0.5)
    assert plain.optim == dropped.optim and plain.optim.name == "sgd" and plain.optim.lr == 0.01


def test_views_at_test_time_and_folds_of_heads_need_no_training(tmp_path):
    competition = load("ich", True)
    context = make_context(competition, Options(out_dir=str(tmp_path)))
    for one in studies(competition):
        if one.name in ("tta", "folds"):
            own = context_of(context, one)
            files = {weights_file(own, recipe, 0) for recipe in own.experiments}
            bases = {weights_file(own, recipe, 0) for recipe in competition.models.experiments}
            assert files <= bases


def test_a_recipe_of_another_content_and_an_unknown_model_are_refused(tmp_path):
    competition = load("ich", True)
    with pytest.raises(UserError, match="recipe resnet differs"):
        with_recipes(competition, (change(competition.recipe("resnet"), optim__lr=1.0),))
    context = make_context(competition, Options(out_dir=str(tmp_path)))
    with pytest.raises(UserError, match="there is no recipe nobody"):
        context_of(context, Study("one", "One", "Someone", cells=(Cell("a", "b", ("nobody",)),)))


def test_seeds_are_recipes_of_their_own():
    one, other = seeds(load("ich", True).recipe("resnet"), 2)
    assert (one.name, other.name, other.train.seed) == ("resnet", "resnet_seed1", one.train.seed + 1)


def test_small_recipes_fill_the_same_cells_of_the_hand_as_the_full_ones_by_networks_of_a_picture_alone():
    small, full = (({one.name: one for one in studies(load(name))}) for name in ("bone_age-small", "bone_age"))
    filled = [[(cell.row, cell.column, cell.models, cell.part) for cell in one["results"].cells] for one in (small, full)]
    assert filled[0] == filled[1] and len(small["results"].models) == 23
    known = {one.name: one for one in small["results"].recipes}
    male = known["B_expectation_male"]
    assert male.head.columns == () and male.sampling.keep == "registered == 1 and male == 1"
    assert male.view == load("bone_age-small").recipe("B").view
    assert {one.name for one in small["registration"].recipes} == {"A_regression", "film_regression"}


@pytest.mark.parametrize("name", ["bone_age", "radius_ulna"])
def test_the_sources_own_protocol_scores_one_fold_and_fits_no_weights_on_it(tmp_path, name):
    competition = load(f"{name}-heldout")
    context = make_context(competition, Options(out_dir=str(tmp_path)))
    assert context.paths.source == name and competition.folds.count == 2
    for one in studies(competition):
        own = context_of(context, one)
        assert all(own.all_folds(model) == [0] for model in set(one.models) - masks_of(one))
        assert one.masks is None or one.masks.folds == (0,)
    assert not any(method_of(one).learns for one in competition.models.stackers)
    assert context.all_folds(competition.models.final) == [0]


def test_hands_that_nobody_annotated_are_held_out_as_well(tmp_path):
    (tmp_path / "input" / "bone_age").mkdir(parents=True)
    context = make_context(load("bone_age-heldout"), Options(data_dir=str(tmp_path), out_dir=str(tmp_path)))
    assert not context.competition.localizer.networks and context.all_folds(context.competition.models.final) == [0]


def test_networks_that_met_no_real_hemorrhage_are_in_no_table_and_are_trained_first(tmp_path):
    competition = load("ich-small")
    context = make_context(competition, Options(out_dir=str(tmp_path)))
    made = {one.name: one for one in studies(competition)}
    assert set(made["networks"].models) == {"windows", "neighbors", "frozen", "four_blend"}
    assert not {"drawn", "drawn_neighbors"} & {model for one in made.values() for model in one.models}
    assert {"drawn", "drawn_neighbors"} <= set(context_of(context, made["networks"]).options.only)


def test_held_out_patients_fill_the_quotas_and_no_patient_is_on_both_sides():
    rng, count = np.random.default_rng(0), 200
    rows, kind = pd.DataFrame({"group": [f"g{row // 2}" for row in range(count)]}), rng.integers(0, 3, count)
    labels = pd.DataFrame({f"c{one}": (kind == one).astype(int) for one in range(3)})
    folds = HoldOut(quotas=(("c0", 10), ("c1", 10), ("c2", 5)))(rows, labels, 2, 0)
    held = labels[rows["group"].isin(folds.loc[folds["fold"] == 0, "group"])].sum()
    assert (held >= [10, 10, 5]).all() and held.sum() < 40 and folds["group"].is_unique and len(folds) == 100
    assert (HoldOut(30)(rows, labels, 2, 0)["fold"] == 0).sum() == 30
    assert HoldOut(30)(rows, labels, 2, 0).equals(HoldOut(30)(rows, labels, 2, 0))
    for dealer, folds_wanted in ((HoldOut(100), 2), (HoldOut(0), 2), (HoldOut(30), 5)):
        with pytest.raises(UserError, match="patients would be held out"):
            dealer(rows, labels, folds_wanted, 0)


def test_each_class_counts_alike_in_a_balanced_accuracy():
    metric = load("radius_ulna").metric
    truth = np.zeros((10, 13))
    stages = len(metric.groups[0].classes)
    truth[:8, 0], truth[8:, stages - 1] = 1, 1  # eight pictures before the peak, two mature
    weights = _evened(truth, metric, "radius")
    assert weights.mean() == pytest.approx(1) and weights[:8].sum() == pytest.approx(weights[8:].sum())


# -- cells and curves ---------------------------------------------------------------------------------------------------

@pytest.fixture
def context(tmp_path):
    """Ninety hands, predicted by networks of some folds; ``A_regression`` is 6 months off, ``other`` 12."""
    made = make_context(load("bone_age", True), Options(data_dir=str(tmp_path), out_dir=str(tmp_path)))
    ids, rng = [f"h{row:02d}" for row in range(ROWS)], np.random.default_rng(0)
    rows = pd.DataFrame({"id": ids, "split": "train", "group": ids, "series": ids, "position": 0,
                         "male": np.arange(ROWS) % 2, "boneage": rng.uniform(20, 200, ROWS), "shard": 0,
                         "slot": np.arange(ROWS)})
    folds = pd.DataFrame({"group": ids, "fold": np.arange(ROWS) % 3})
    write_table(made.paths.folds / "folds.csv", folds)
    write_table(made.paths.folds / "index.parquet", rows)
    write_table(made.paths.cache / "rows.parquet", rows)
    for name, off, numbers in (("A_regression", 6, (0, 1, 2)), ("B_regression", 12, (0, 1, 2))):
        for number in numbers:
            own = rows[folds["fold"] == number]
            file = fold_file(made.paths.oof / name, number, "train")

            def build(own=own, file=file, off=off, number=number):
                write_table(file, prediction_table(own["id"].to_numpy(), number, own[["boneage"]].to_numpy() + off,
                                                   ("boneage",)))
                return {"fold_hash": fold_hash(folds)}

            Artifact("05_predict", 1, (file,), {}).make(build)
    return made


def test_a_cell_is_a_mean_with_n_and_an_interval_beside_the_sources(context):
    study = Study("one", "One", "Someone 2000", cells=(
        Cell("A", "all", ("A_regression",), 7.5), Cell("A", "male", ("A_regression",), part="male == 1"),
        Cell("both", "all", ("A_regression", "B_regression"))), unit="months")
    table = measured(context_of(context, study), study)
    assert table["value"].tolist() == pytest.approx([6, 6, 9], abs=1e-4) and table["n"].tolist() == [90, 45, 90]
    assert (table["low"] <= table["value"] + 1e-6).all() and (table["high"] >= table["value"] - 1e-6).all()
    shown = layout(table)
    assert shown.columns.tolist() == ["row", "all", "male"] and shown.loc[0, "all"].endswith("n=90; source 7.5")
    assert shown.loc[1, "male"] == ""
    text = markdown(study, table, "90 training rows", "bone_age-demo")
    assert "Someone 2000. bone_age-demo, 90 training rows, months; out of fold" in text and "| A | " in text


def test_of_some_folds_the_rows_of_these_are_measured(context):
    study = Study("one", "One", "Someone", cells=(Cell("A", "all", ("A_regression",)),))
    own = context_of(change(context, options__folds=(1,)), study)
    assert measured(own, study)["n"].tolist() == [30]


def test_with_some_folds_a_stack_of_a_studys_own_networks_asks_for_no_other_and_others_stay(context):
    base = context.competition.recipe("A_regression")
    mine = tuple(change(base, name=name) for name in ("mine", "other"))
    study = Study("one", "One", "Someone", (base, *mine, Stacker("joint", "mean", ("mine", "other"))), (
        Cell("both", "all", ("joint",)), Cell("A + B + C", "all", ("agnostic",))))
    assert context_of(context, study).all_folds("joint") == [0, 1, 2]
    own = context_of(change(context, options__folds=(0, 2)), study)
    assert own.all_folds("joint") == own.folds_of("mine") == [0, 2]
    assert own.all_folds("agnostic") == [0, 1, 2] and own.folds_of("A_regression") == [0, 2]


def test_a_curve_is_of_the_held_out_fold_and_its_absence_says_what_to_type(context):
    study = Study("one", "One", "Someone", curves=(Curve("net", "accuracy", "A_regression", "boneage", "accuracy"),))
    own = context_of(context, study)
    assert own.options.held_out
    with pytest.raises(UserError, match=r"A_regression --held-out --force|A_regression.*--held-out --force"):
        traced(own, study)
    for fold in range(3):
        file = logs_of(own, "A_regression")[fold]
        assert without_curves(own, study) == ("A_regression",)
        write_table(file, pd.DataFrame({"step": [5, 9], "epoch": [1, 2], "loss": [2.0, 1.0], "boneage": [0.5, 0.25]}))
    lines = traced(own, study)
    assert without_curves(own, study) == ()
    assert lines["value"].tolist() == [50.0, 75.0] * 3 and set(lines["fold"]) == {0, 1, 2}


def test_what_is_written_is_a_section_of_the_page(context, capsys):
    study = Study("one", "One table", "Someone 2000", cells=(Cell("A", "all", ("A_regression",), 7.5),))
    command._write(context_of(context, study), study)
    folder = context.paths.reports / "studies"
    assert {path.name for path in folder.iterdir()} == {"one.csv", "one.md", "one.png", "one.json"}
    assert "One table" in capsys.readouterr().out and (folder / "one.png").read_bytes()[:4] == b"\x89PNG"
    shown = section(folder)
    assert shown is not None and [block.kind for block in shown.blocks] == ["heading", "words", "table", "plot"]
    assert section(folder / "nothing") is None


def test_a_study_runs_the_stages_of_what_it_has_alone(context, monkeypatch):
    done = []
    for module, name in ((command.train, "train"), (command.predict, "predict"), (command.sequence, "sequence"),
                         (command.stack, "stack_all")):
        monkeypatch.setattr(module, name, lambda own, name=name: done.append((name, own.options.only)))
    study = Study("one", "One", "Someone", cells=(Cell("A", "all", ("agnostic",)),))
    run(context_of(context, study))
    names = ("agnostic", "A_regression", "B_regression", "C_regression")
    assert done == [("train", names), ("predict", names), ("stack_all", names)]
    done.clear()
    run(context_of(context, Study("two", "Two", "Someone", table=lambda rows, index: rows)))
    assert not done


def test_a_network_whose_weights_nobody_brought_is_left_out_and_its_cell_says_so(context, monkeypatch, capsys):
    base = context.competition.recipe("A_regression")
    borrowed = change(base, name="borrowed", backbone=Backbone("timm/test_resnet.r160_in1k", weights="mine.safetensors"))
    blend = Stacker("blend", "mean", ("A_regression", "borrowed"))
    after = change(base, name="after", backbone__start="borrowed")
    study = Study("one", "One", "Someone", (borrowed, after, blend), (
        Cell("after", "all", ("after",)),
        Cell("A", "all", ("A_regression",)), Cell("borrowed", "all", ("borrowed",), 7.5), Cell("both", "all", ("blend",))))
    done = []
    monkeypatch.setattr(command, "run", lambda own: done.append(own.options.only))
    command.study(context, (study,), ("one",), page=False)
    said = capsys.readouterr().out
    assert done == [("A_regression",)] and "borrowed: weights not at hand: the weights of timm/test_resnet" in said
    assert "| borrowed | weights not at hand; source 7.5 |" in said and "| both | weights not at hand |" in said
    assert "| after | weights not at hand |" in said
    shown = section(context.paths.reports / "studies")  # read back from the file
    assert "weights not at hand" in str(shown.blocks[2])


def test_class_counts_of_the_wrist_are_of_the_data_at_hand():
    made = {one.name: one for one in studies(load("radius_ulna"))}
    rows = pd.DataFrame(0.0, index=range(6), columns=list(load("radius_ulna").targets))
    stages = [name for name in rows if name.startswith("U")]
    for row, stage in enumerate((stages[0], stages[0], stages[2], stages[2], stages[2], stages[-1])):
        rows.loc[row, stage] = 1.0
    table = made["table2"].table(rows, rows)
    counts = table[table["row"] == "pictures"].set_index("column")["value"]
    assert counts.tolist() == [2, 3, 1] and table["value"].max() == 15
    none = made["table2"].table(rows.iloc[:0], rows).assign(low=np.nan)
    assert set(layout(none).iloc[0, 1:].str[:4]) == {"none"}


def test_the_judge_of_a_run_writes_a_line_an_epoch_and_changes_no_weight(tmp_path):
    import tiny

    plain = tiny.train(tiny.make_run(tmp_path / "plain"))
    run_ = tiny.make_run(tmp_path / "judged")
    judged = tiny.train(change(run_, judge=lambda rows, said: {"left": float(len(rows) / len(said))}))
    log = pd.read_csv(held_out_file(run_.checkpoint))
    assert log["epoch"].tolist() == [1, 2] and log["step"].is_monotonic_increasing and (log["left"] == 1).all()
    assert np.isfinite(log["loss"]).all() and all(bool((plain[name] == judged[name]).all()) for name in plain)




def test_a_dry_run_says_runs_and_hours_and_makes_nothing(context, monkeypatch, capsys):
    study = Study("one", "One", "Someone", cells=(Cell("A", "all", ("A_regression",)), Cell("B", "all", ("B_regression",))))
    lacks = lambda own, artifact: "new" if "A_regression/fold0" in str(artifact.files[0]) else ""  # noqa: E731
    monkeypatch.setattr(command, "_why", lacks)
    lines = [SimpleNamespace(name=name, amount=3.0) for name in ("A_regression", "B_regression")]
    monkeypatch.setattr(command, "make_plan", lambda own: SimpleNamespace(recipes=lines))
    before = sorted(context.paths.out.rglob("*"))
    command.study(change(context, options__dry_run=True), (study,), ("one",))
    said = capsys.readouterr().out
    assert "A_regression: 1 runs, 1.00 hours" in said and "B_regression: made" in said
    assert "1 runs, 1.00 hours on this machine" in said and sorted(context.paths.out.rglob("*")) == before
    other = Study("another", "Another", "Someone", cells=(Cell("A", "all", ("A_regression",)),))
    command.study(change(context, options__dry_run=True), (study, other), ())
    assert "bone_age-demo, 2 studies: 1 runs, 1.00 hours" in capsys.readouterr().out, "a network of both is trained once"
    with pytest.raises(UserError, match="there is no study 'two'"):
        command.study(context, (study,), ("two",))
