"""Nothing that a stack keeps is worse than the constant predictor, and what stands in is stored with the fit."""

import json

import numpy as np
import pytest
from test_stack import TARGETS, TASK, World

from radstack.core.errors import UserError
from radstack.core.recipe import change
from radstack.recipes.stacker import Stacker
from radstack.scoring.metrics import logit, weighted_log_loss
from radstack.scoring.task import Metric
from radstack.stack.guard import priors, screen, stand_in
from radstack.stack.method import CONSTANT, MEAN, Fitted
from radstack.stack.nested import apply_fits, fit_stack
from radstack.stack.registry import method_of
from radstack.stack.store import read_fitted, write_fitted
from radstack.stages.stack import in_short


@pytest.fixture
def world():
    """For each test a world of its own: what it draws does not depend on what other tests have drawn."""
    return World()


@pytest.fixture
def good(world):
    return world.noisy(0.5)


def stack(world, method, members, rivals=(), **args):
    return fit_stack(Stacker("stack", method, tuple(members), args), members, world.index, world.folds, TASK, rivals)


def constant_score(world):
    truth = world.labels[world.train]
    return weighted_log_loss(truth, np.tile(truth.mean(axis=0), (len(truth), 1)), TASK.metric.weights)


def test_good_members_stay_to_the_bit(world, good):
    rows = world.rows(good=good, also=world.noisy(1.0))
    assert screen(rows, ("good", "also")) == (None, [])


def test_a_member_of_noise_is_left_out_and_an_overconfident_one_shrinks(world, good):
    noise = world.rng.normal(0, 3, good.shape)
    rows = world.rows(good=good, noise=noise, loud=6.0 * world.noisy(1.0) + 4.0)
    chosen, lines = screen(rows, ("good", "noise", "loud"))
    assert chosen.kept.tolist() == [True, False, True]
    assert any(line.startswith("noise is left out: ") for line in lines)
    assert any(line.startswith("loud shrinks towards the constant in epidural, subdural, any") for line in lines)
    taken = chosen(rows)
    assert len(taken.predicted) == 2 and np.array_equal(taken.predicted[0], rows.predicted[0])
    assert TASK.metric.score(rows.truth, taken.predicted[1]) < constant_score(world)


def test_only_the_class_that_is_worse_than_the_constant_shrinks(world, good):
    z = good.copy()
    z[:, 1] = world.rng.normal(-1, 1, len(z))  # nothing is known of subdural
    rows = world.rows(member=z)
    chosen, lines = screen(rows, ("member",))
    taken = chosen(rows).predicted[0]
    assert len(lines) == 1 and "in subdural:" in lines[0]
    assert np.array_equal(taken[:, [0, 2]], rows.predicted[0][:, [0, 2]])
    assert np.ptp(logit(taken[:, 1].astype(float))) < 0.5


def test_where_all_members_are_noise_one_stays_near_the_constant(world, good):
    rows = world.rows(a=world.rng.normal(0, 3, good.shape), b=world.rng.normal(0, 3, good.shape))
    chosen, _ = screen(rows, ("a", "b"))
    assert chosen.kept.sum() == 1
    assert TASK.metric.score(rows.truth, chosen(rows).predicted[0]) == pytest.approx(constant_score(world), abs=2e-3)


def test_of_few_patients_the_constant_that_a_member_must_beat_has_not_met_them():
    """Two patients with the label and three without: what the others say of each is worse than a half."""
    few = World(patients=7)
    y = np.repeat([1, 0, 1, 0, 0, 0, 0], 20)[:, None].repeat(3, axis=1)  # the last two are test
    few.index.loc[few.train, list(TARGETS)] = y[few.train]
    weak = few.rows(weak=np.where(y > 0, -0.2, 0.2))
    worse = few.rows(worse=np.where(y > 0, -1.2, 1.2))
    half, score, other = (TASK.metric.score(weak.truth, said) for said in (
        np.full(weak.truth.shape, 0.5), weak.predicted[0], priors(weak)))
    assert half < score < other
    assert screen(weak, ("weak",)) == (None, [])
    assert any("worse shrinks towards the constant" in line for line in screen(worse, ("worse",))[1])


@pytest.mark.parametrize("method", ["mean", "weights", "climb", "calibrate"])
def test_no_stack_is_worse_than_the_constant_though_a_member_is(world, good, method):
    members = world.members(good=good, noise=world.rng.normal(0, 4, good.shape))
    result = stack(world, method, members)
    assert result.score.value < constant_score(world) - 0.05
    assert sum(": noise is left out" in line for line in result.lines) == 5
    assert result.facts()["guard"] == result.lines


def test_labels_of_a_fold_do_not_reach_its_predictions_through_the_screen(world, good):
    """Other labels in fold 0 change neither which members its fit takes nor how they shrink."""
    other, noise = World(), world.rng.normal(0, 3, good.shape)
    first = (other.index["group"].map(other.folds.set_index("group")["fold"]) == 0).to_numpy()
    other.index.loc[first, list(TARGETS)] = 1 - other.index.loc[first, list(TARGETS)]
    tables = [stack(world, "mean", world.members(good=good, loud=5 * good + 3, noise=noise)).member.oof.set_index("id")
              for world in (World(), other)]
    same = [table[table["fold"] == 0].sort_index()[list(TARGETS)].to_numpy() for table in tables]
    assert np.array_equal(*same)


def test_what_is_submitted_is_never_worse_than_the_plain_mean():
    few, args = World(patients=60, seed=1), {"trees": 2, "depth": 1, "threads": 1}
    members = few.members(**{f"m{place}": few.noisy(1.0) for place in range(4)})
    alone, mean = few.stack("forest", members, **args), few.stack("mean", members)
    guarded = stack(few, "forest", members, (MEAN,), **args)
    assert mean.score.value < alone.score.value
    assert guarded.score.value == pytest.approx(mean.score.value, abs=1e-7)
    assert f"{MEAN} stands in" in guarded.lines[-1]


def test_a_named_member_stands_in():
    world = World(patients=30)
    members = world.members(best=world.z, worse=world.noisy(3.0))
    result = fit_stack(Stacker("final", "mean", tuple(members)), members, world.index, world.folds, TASK, ("best",))
    assert np.allclose(result.member.oof.set_index("id").loc[members["best"].oof["id"], list(TARGETS)],
                       members["best"].oof[list(TARGETS)])


@pytest.mark.parametrize("instead", ["", MEAN, "1", CONSTANT])
def test_the_guard_is_stored_with_the_fit(world, good, tmp_path, instead):
    rows = world.rows(good=good, loud=5 * good + 3, noise=world.rng.normal(0, 3, good.shape))
    chosen, _ = screen(rows, ("good", "loud", "noise"))
    method = method_of(Stacker("s", "weights", ("good", "loud", "noise")))
    fitted = change(method.fit(chosen(rows)), screen=chosen, instead=instead, constant=rows.prior())
    write_fitted(tmp_path, 0, fitted)
    again = read_fitted(tmp_path, 0, method)
    assert np.array_equal(again.predict(rows), fitted.predict(rows))
    assert apply_fits({0: again}, rows).equals(apply_fits({0: fitted}, rows))


def test_a_fit_without_a_guard_is_stored_as_before(tmp_path):
    method = method_of(Stacker("s", "mean", ("a",)))
    write_fitted(tmp_path, 0, Fitted(method, None, {}))
    assert json.loads((tmp_path / "fold0_state.json").read_text()) == {"state": None, "notes": {}}
    (tmp_path / "fold0_state.json").write_text('{"state": null, "notes": {}, "screen": {"list": [1]}}')
    with pytest.raises(UserError, match="holds no fitted stacker"):
        read_fitted(tmp_path, 0, method)


def test_the_best_of_the_simpler_stands_in_and_none_where_the_stack_is_as_good():
    metric, truth = Metric("mean absolute error", (1,)), np.arange(4.0)[:, None]
    others = {"far": truth + 5, "near": truth + 1}
    assert stand_in(metric, truth, truth + 2, others)[:2] == ("near", 1.0)
    assert stand_in(metric, truth, truth + 1, others) is None


def test_the_terminal_counts_what_only_shrinks():
    shrinks = [f"fold {fold}: net shrinks towards the constant in any: 0.2 before" for fold in range(3)]
    left_out = "fold 0: net is left out: 0.3, the constant predictor 0.2"
    counted = "3 times a member of a fold shrinks towards the constant, see the page"
    assert in_short([*shrinks, left_out]) == [counted, left_out]
    assert in_short([]) == []
