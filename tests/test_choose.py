"""The best members under a budget: shared work is paid once, and the choice stands inside the nesting."""

import json

import numpy as np
import pandas as pd
import pytest
from test_stages_of_numbers import context  # noqa: F401 (a fixture)

from radstack.commands import rates
from radstack.commands.cards import CARDS
from radstack.commands.cards import rows_of as rates_of
from radstack.commands.choose import choose_members, costs_on
from radstack.core.errors import UserError
from radstack.core.recipe import change
from radstack.scoring.task import Metric, Task
from radstack.stack.choice import Costs, choose, nested_losses
from radstack.stack.rows import Rows


def rows_of(members: np.ndarray, truth: np.ndarray) -> Rows:
    """Numbers [members, rows] for patients of one row each, in four folds."""
    count = len(truth)
    table = pd.DataFrame({"id": np.arange(count).astype(str), "group": np.arange(count).astype(str), "age": truth})
    return Rows(Task(("age",), Metric("mean absolute error", (1,))), table, np.arange(count) % 4,
                members[:, :, None].astype(np.float32))


TRUTH = np.random.default_rng(0).normal(0, 10, 400)


def noisy(*sizes: float) -> np.ndarray:
    return np.stack([TRUTH + np.random.default_rng(seed).normal(0, size, 400) for seed, size in enumerate(sizes, 1)])


def alone(**seconds: float) -> Costs:
    return Costs(seconds, {name: frozenset([name]) for name in seconds})


def test_a_larger_budget_buys_more_members_and_never_goes_beyond_itself():
    rows, names, costs = rows_of(noisy(3, 3, 3, 30), TRUTH), ["a", "b", "c", "bad"], alone(a=10, b=5, c=5, bad=1)
    assert choose(rows, names, costs, 0.5) == [] and choose(rows, names, costs, 4) == ["bad"]
    assert set(choose(rows, names, costs, 10)) in ({"a"}, {"b", "c"})
    assert set(choose(rows, names, costs, 100)) == {"a", "b", "c"}  # the bad one does not help
    for budget in (1, 5, 7, 15, 20):
        assert costs.of(choose(rows, names, costs, budget)) <= budget


def test_work_that_two_members_share_is_paid_once():
    costs = Costs({"net": 8.0, "first": 1.0, "second": 1.0}, {
        "net": frozenset(["net"]), "first": frozenset(["first", "net"]), "second": frozenset(["second", "net"])})
    assert costs.of(["first", "second"]) == 10 and costs.of(["net", "first"]) == 9


def test_choosing_among_noise_gains_nothing_once_the_choice_is_nested():
    """The planted leak: the best of 300 random members looks better than it is on the rows it was chosen by."""
    rng = np.random.default_rng(5)
    rows, names = rows_of(rng.normal(0, 5, (300, 80)), TRUTH[:80]), [f"m{place}" for place in range(300)]
    costs = alone(**dict.fromkeys(names, 1.0))
    chosen = [names.index(name) for name in choose(rows, names, costs, 3.0)]
    seen = np.abs(rows.linked[chosen].mean(axis=0)[:, 0] - TRUTH[:80]).mean()
    nested, blank = nested_losses(rows, names, costs, 3.0).mean(), np.abs(TRUTH[:80]).mean()
    assert seen < 0.9 * blank and nested > 0.97 * blank


def test_a_fold_never_chooses_for_itself():
    members = noisy(3, 3)
    members[1, np.arange(400) % 4 == 0] = TRUTH[np.arange(400) % 4 == 0]  # knows the labels of fold 0 alone
    members[1, np.arange(400) % 4 != 0] += 20
    rows = rows_of(members, TRUTH)
    losses = nested_losses(rows, ["honest", "leaky"], alone(honest=1, leaky=1), 1.0)
    held = rows.fold == 0
    assert losses[held] == pytest.approx(np.abs(members[0] - TRUTH)[held], rel=1e-4)


def test_the_command_writes_the_frontier_and_says_the_recipe(context, capsys):  # noqa: F811
    table = choose_members(context, 9.0)
    said = capsys.readouterr().out
    assert 'Stacker("chosen", "mean", (' in said and (context.paths.reports / "choose.svg").stat().st_size > 1000
    assert table["members"].iloc[-1].split()[0] in ("boys", "girls", "both")
    assert (table["seconds"] <= table["budget"] * 1.001).all() and table["score"].between(0, 100).all()
    pd.testing.assert_frame_equal(pd.read_csv(context.paths.reports / "choose.csv"), table, check_exact=False)
    with pytest.raises(UserError, match="give --hours that much or more"):
        choose_members(context, 1e-9)


ROW = {"size": "480x480x3", "batch": 64, "precision": "fp16", "parameters_M": 86.75, "width": 2048, "pictures_s": 400.0,
       "peak_GB": 35.0, "views": 3, "predict_s": 300.0}


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Two of three networks on one card; the third costs the same as both, by its recipe."""
    rows = {f"recipe/ages/{name}": ROW for name in ("boys", "girls")}
    (tmp_path / "gpu.json").write_text(json.dumps({"device": "NVIDIA H200", "date": "2026-11-28", "rows": rows}))
    monkeypatch.setattr(rates, "FOLDER", tmp_path)
    return rates.read_files(tmp_path)


def test_a_card_is_called_in_short_and_one_that_was_not_measured_is_estimated(measured):
    assert rates_of(measured, "h200") == rates_of(measured, "NVIDIA H200") == ("NVIDIA H200", measured["NVIDIA H200"])
    machine, rows = rates_of(measured, "h100")
    row = rows["recipe/ages/boys"]
    assert machine == "H100" and row["predict_s"] == pytest.approx(300 * 3.35 / 4.8) and row["how"] == rates.ESTIMATE
    assert row["source"] == "H200's of gpu.json, 2026-11-28 times 0.70, by data sheets"
    slow = rates_of(measured, "T4")[1]["recipe/ages/boys"]["pictures_s"]
    assert slow == pytest.approx(400 * 65 / 989)  # its arithmetic is the narrower one
    assert CARDS["T4"].compute("bf16") == CARDS["T4"].compute("fp32") < CARDS["T4"].compute("fp16")
    with pytest.raises(UserError, match="there is no machine with rates 'H300'; did you mean"):
        rates_of(measured, "H300")


def test_seconds_on_another_card_know_folds_and_seeds(measured, context, capsys):  # noqa: F811
    costs = costs_on(context, ["boys", "both"], "H200")
    pictures = context.competition.data.rows[1]
    assert costs.of(["boys"]) == pytest.approx(pictures * 3 / 300) and costs.of(["both"]) == costs.of(["boys"])
    assert "2 measured" in capsys.readouterr().out
    both = change(context.competition.models.experiments[2], train__seeds=3)
    seeds = change(context, competition__models__experiments=(*context.competition.models.experiments[:2], both))
    assert costs_on(seeds, ["both"], "H200").of(["both"]) == pytest.approx(3 * costs.of(["boys"]))
    table = choose_members(context, 9.0, "H100")
    said = capsys.readouterr().out
    assert "on H100: 3 estimate" in said and table["seconds"].min() == pytest.approx(pictures * 3 / 300 * 4.8 / 3.35)
    other = change(both, backbone__name="timm/resnet18")
    lacks = change(context, competition__models__experiments=(*context.competition.models.experiments[:2], other))
    with pytest.raises(UserError, match="no rate of both on NVIDIA H200 is known; measure it there with: python benchmarks"):
        choose_members(lacks, 9.0, "H200")
