"""Level two for few patients: no model that is kept is worse than the constant, and what is chosen not below its members."""

import numpy as np
import pytest
from test_stack import TARGETS, TASK, World

from competitions import load
from competitions.ich.experiments import few_stackers
from radstack.core.recipe import change
from radstack.recipes.stacker import Stacker
from radstack.running.cli import make_context
from radstack.running.context import Options
from radstack.scoring.metrics import logit, sigmoid, weighted_log_loss
from radstack.stack.few import PENALTIES, blends, held_lines
from radstack.stack.method import CONSTANT, MEAN
from radstack.stack.nested import fit_stack
from radstack.stack.registry import METHODS, method_of
from radstack.stack.store import read_fitted, write_fitted
from radstack.stages.stack import rivals_of

WEIGHTS = np.array([0.25, 0.25, 0.5])


def fitted(world, method, members, **args):
    """As stage 07 fits it."""
    names, kind = tuple(members), METHODS[method]
    rivals = (*(names if kind.members_stand_in else ()), *kind.rivals)
    return fit_stack(Stacker("stack", method, names, args), members, world.index, world.folds, TASK, rivals)


def nested_constant(world):
    """Loss of the constant of the other folds' rows, which is all that can be known."""
    fold = world.index["group"].map(world.folds.set_index("group")["fold"]).to_numpy()
    said = np.empty(world.labels.shape)
    for number in range(5):
        said[fold == number] = world.labels[world.train & (fold != number)].mean(axis=0)
    return weighted_log_loss(world.labels[world.train], said[world.train], TASK.metric.weights)


@pytest.mark.parametrize("patients", [13, 25, 50, 100])
@pytest.mark.parametrize("kind", ["overconfident", "anti-informative", "noise", "sampled double"])
def test_nothing_that_is_shrunk_is_worse_than_the_constant(kind, patients):
    world = World(patients=patients)  # four fifths of them train
    z = {"overconfident": 6 * world.noisy(1.5), "anti-informative": -world.z, "noise": world.rng.normal(0, 3, world.z.shape),
         "sampled double": world.noisy(1.0) + 2.0}[kind]
    raw = weighted_log_loss(world.labels[world.train], sigmoid(z[world.train]), TASK.metric.weights)
    result = fitted(world, "shrink", world.members(one=z))
    assert raw > nested_constant(world)
    assert result.score.value <= nested_constant(world) + 1e-6
    if kind in ("overconfident", "sampled double"):
        assert result.score.value < nested_constant(world) - 0.03
        assert not any(CONSTANT in line for line in result.lines)


def test_a_member_stays_as_it_is_where_its_lines_do_not_pay():
    shrink, kept = method_of(Stacker("s", "shrink", ("one",))), set[bool]()
    for seed in range(8):
        world = World(patients=12, seed=seed)
        made = shrink.fit(world.rows(one=world.z))  # the true log odds: lines pay by chance alone
        note = made.notes[TARGETS[0]]
        assert note["kept"] == (note["gain"] > 0) == bool((made.state != [1, 0]).any())
        kept.add(note["kept"])
    assert kept == {False, True}
    opposite = shrink.fit(world.rows(one=-3 * world.z))
    assert not opposite.state[:, 0].any()  # scale 0: a constant of each class


def test_few_patients_hold_the_classes_lines_together_and_many_let_them_go():
    world = World(patients=100)
    z = world.noisy(0.3) * [1.0, 3.0, 0.5]
    near, far = (held_lines(z, world.labels.astype(float), WEIGHTS, penalty) for penalty in (10.0, 1e-5))
    assert np.ptp(near[:, 0]) < 0.2 < 1 < np.ptp(far[:, 0])
    assert far[:, 0] == pytest.approx([1, 1 / 3, 2], rel=0.25)
    assert held_lines(-z, world.labels.astype(float), WEIGHTS, 1e-5)[:, 0] == pytest.approx([0, 0, 0])


def test_labels_of_a_fold_do_not_reach_its_shrunk_predictions():
    other = World(patients=50)
    first = (other.index["group"].map(other.folds.set_index("group")["fold"]) == 0).to_numpy()
    other.index.loc[first, list(TARGETS)] = 1 - other.index.loc[first, list(TARGETS)]
    world = World(patients=50)
    stacker = Stacker("s", "shrink", ("one",))
    tables = [fit_stack(stacker, one.members(one=3 * world.z), one.index, one.folds, TASK).member.oof
              for one in (world, other)]
    same = [table[table["fold"] == 0].set_index("id").sort_index()[list(TARGETS)].to_numpy() for table in tables]
    assert np.array_equal(*same)


def test_what_is_chosen_is_not_below_its_best_member_nor_its_plain_mean():
    for seed, spread in enumerate([(0.2, 3.0, 3.0, 3.0), (1.0, 1.0, 1.0, 1.0), (0.5, 0.6, 4.0, 4.0)]):
        world = World(patients=25, seed=seed)
        members = world.members(**{f"m{place}": world.noisy(sd) for place, sd in enumerate(spread)})
        result = fitted(world, "choose", members)
        mean = world.stack("mean", members).score.value
        best = min(weighted_log_loss(world.labels[world.train], member.oof.set_index("id").loc[
            world.index["id"][world.train], list(TARGETS)].to_numpy(), TASK.metric.weights) for member in members.values())
        assert result.score.value <= min(mean, best) + 1e-6


def test_the_blends_forms_are_weights_of_sum_1_and_the_plain_mean_comes_first():
    world = World(patients=25)
    logits, y = np.stack([world.noisy(sd) for sd in (0.2, 1.0, 4.0)]).astype(np.float32), world.labels
    forms = blends(3, WEIGHTS)
    found = {name: form(logits, y) for name, form in forms.items()}
    assert next(iter(forms)) == MEAN and all(one.sum() == pytest.approx(1) for one in found.values())
    assert found["mean of the best 1"].tolist() == [1, 0, 0] and found["mean of the best 2"].tolist() == [0.5, 0.5, 0]
    uneven = [found[f"weights, penalty {penalty:g}"].std() for penalty in PENALTIES]
    assert uneven == sorted(uneven) and uneven[0] < uneven[-1]
    assert list(blends(1, WEIGHTS)) == [MEAN]


@pytest.mark.parametrize("method", ["shrink", "choose"])
def test_it_is_stored_and_applied_to_the_same_bits(method, tmp_path):
    world = World(patients=25)
    names = ("one",) if method == "shrink" else ("one", "two")
    rows = world.rows(**{name: 3 * world.noisy(1.0) for name in names})
    made = method_of(Stacker("s", method, names)).fit(rows)
    write_fitted(tmp_path, 0, made)
    assert np.array_equal(read_fitted(tmp_path, 0, made.method).predict(rows), made.predict(rows))


def test_one_patient_is_answered_too():
    world = World(patients=25)
    rows = world.rows(one=3 * world.z, two=world.z)
    rows = rows.take(rows.group == 0)
    for method, names in (("shrink", ("one",)), ("choose", ("one", "two"))):
        said = method_of(Stacker("s", method, names))
        assert np.isfinite(logit(said.fit(rows).predict(rows).astype(float))).all()


def test_stage_07_lets_the_constant_and_the_members_stand_in_wherever_such_a_stack_lies(tmp_path):
    context = make_context(load("ich-small"), Options(data_dir=str(tmp_path), out_dir=str(tmp_path)))
    stackers = {one.name: one for one in context.competition.models.stackers}
    assert rivals_of(context, stackers["windows_shrunk"]) == (CONSTANT,)
    assert rivals_of(context, stackers["final"]) == (*stackers["final"].members, MEAN)


@pytest.mark.parametrize("names", [(("windows",), ()), (("windows", "mine"), ("bilstm",))])
def test_level_two_follows_from_the_networks_under_any_names(names):
    made = few_stackers(*names, {}, {})
    known = {name for part in names for name in part}
    for one in made:
        assert set(one.members) <= known, one
        known.add(one.name)
    competition = change(load("ich-small"), models__stackers=())
    assert competition.models.final in known
