"""One age a volume from the ages of its slices: by hand, nested on simulated slices, and nothing from the scored fold."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import ExtraTreesRegressor

from radstack.core.errors import UserError
from radstack.core.folds import fold_hash, make_folds
from radstack.recipes.stacker import Stacker
from radstack.scoring.task import NUMBERS, Metric, Task
from radstack.stack.nested import StackResult, fit_stack
from radstack.stack.registry import METHODS
from radstack.stack.rows import Member, Rows, join, mean_over_folds
from radstack.stack.slices import SeriesExtraTrees, SeriesForest, SeriesInner, SeriesMean, SeriesWeights, by_volume

TASK = Task(("age",), Metric("mean absolute error", (1,), unit="years"))
TREES = {"trees": 60, "leaf_volumes": 2}
SETTINGS = {"series_mean": {}, "series_weights": {}, "series_inner": {}, "series_forest": TREES, "series_extra_trees": {}}


def rows_of(values: np.ndarray, truth: list[float], task: Task = TASK) -> Rows:
    """Rows of ``values`` [members, volumes, slices] with one label a volume, one person each."""
    members, volumes, slices = values.shape
    volume = np.repeat(np.arange(volumes), slices)
    table = pd.DataFrame({"id": [f"v{v}_{s}" for v in range(volumes) for s in range(slices)], "series": volume,
                          "group": volume, "position": np.tile(np.arange(slices), volumes), "age": np.repeat(truth, slices)})
    return Rows(task, table, np.zeros(len(table), int), values.reshape(members, -1, 1).astype(np.float32))


HAND = rows_of(np.array([[[10, 16, 18, 30.0], [12, 18, 22, 4]]]), [17, 20])
"""Two volumes of four slices; errors by slice 7, 1, 1, 13 and 8, 2, 2, 16."""


def answers(method, rows: Rows = HAND) -> list[float]:
    """The answer of each volume, after a look that all its slices have it."""
    predicted = method.fit(rows).predict(rows)
    assert predicted.shape == (len(rows), 1)
    by_slice = predicted.reshape(len(np.unique(rows.series)), -1)
    assert (by_slice == by_slice[:, :1]).all()
    return by_slice[:, 0].tolist()


# By hand

def test_every_slice_gets_the_volumes_mean():
    assert answers(SeriesMean()) == pytest.approx([18.5, 14])
    assert HAND.task.metric.score(HAND.truth, SeriesMean().fit(HAND).predict(HAND)) == pytest.approx((1.5 + 6) / 2)


def test_weights_are_inverse_to_each_slices_error():
    weights = 1 / np.array([7.5, 1.5, 1.5, 14.5])
    weights /= weights.sum()
    assert SeriesWeights().fit(HAND).notes["age"] == pytest.approx(weights, abs=1e-4)
    assert answers(SeriesWeights()) == pytest.approx([weights @ [10, 16, 18, 30], weights @ [12, 18, 22, 4]])


def test_a_slice_without_error_takes_all_the_weight():
    rows = rows_of(np.array([[[17, 17, 9], [20, 20, 31]]]), [17, 20])
    assert answers(SeriesWeights(), rows) == pytest.approx([17, 20])
    assert SeriesWeights().fit(rows).notes["age"] == [0.5, 0.5, 0]


def test_inner_slices_are_chosen_among_ranges_that_hold_the_kept_ones():
    fitted = SeriesInner(keep=(2, 3)).fit(HAND)
    # means of 16, 18 and of 18, 22: both right
    assert fitted.notes == {"start": 1, "stop": 3, "slices": 4, "before": pytest.approx(3.75), "after": 0}
    assert answers(SeriesInner(keep=(2, 3))) == pytest.approx([17, 20])
    assert answers(SeriesInner(keep=(0, 2))) == pytest.approx([(10 + 16 + 18) / 3, (12 + 18 + 22) / 3])
    assert answers(SeriesInner(keep=(2, 3), search=False)) == pytest.approx([18, 22])
    assert answers(SeriesInner(keep=(0, 4))) == pytest.approx([18.5, 14])


def test_the_widest_range_wins_a_draw_and_the_articles_is_the_default():
    same = rows_of(np.full((1, 3, 18), 17.0), [16, 17, 18])
    assert [SeriesInner().fit(same).notes[key] for key in ("start", "stop")] == [0, 18]
    assert [SeriesInner(search=False).fit(same).notes[key] for key in ("start", "stop")] == [3, 15]


def test_members_are_averaged_but_trees_see_each():
    rng = np.random.default_rng(0)
    truth = rng.uniform(14, 21, 40)
    good, noise = truth[:, None] + rng.normal(0, 0.05, (40, 3)), rng.uniform(14, 21, (40, 3))
    both = rows_of(np.stack([noise, good]), truth)
    assert answers(SeriesMean(), both) == pytest.approx((good + noise).mean(axis=1) / 2, abs=1e-5)
    mixed = rows_of((good + noise)[None] / 2, truth)
    assert answers(SeriesWeights(), both) == pytest.approx(answers(SeriesWeights(), mixed))
    fitted = SeriesForest(trees=30).fit(both)
    importance = np.array(fitted.notes["age"])
    assert importance.shape == (2, 3) and importance.sum() == pytest.approx(1, abs=1e-3) and importance[1].sum() > 0.95
    assert TASK.metric.score(both.truth, fitted.predict(both)) < 0.2


def test_trees_are_scikit_learns_on_one_row_a_volume():
    rng = np.random.default_rng(1)
    values, truth = rng.normal(17, 1, (2, 30, 5)), rng.uniform(14, 21, 30)
    rows = rows_of(values, truth)
    x = np.concatenate(values.astype(np.float32), axis=1)
    expected = ExtraTreesRegressor(10, max_depth=3, random_state=4).fit(x, rows.truth[::5, 0]).predict(x)
    assert answers(SeriesExtraTrees(seed=4), rows) == pytest.approx(expected.tolist())
    assert answers(SeriesExtraTrees(seed=5), rows) != pytest.approx(expected.tolist())
    absolute = SeriesExtraTrees(seed=4, criterion="absolute_error")
    assert answers(absolute, rows) != pytest.approx(expected.tolist())
    assert (SeriesExtraTrees().trees, SeriesExtraTrees().depth, SeriesForest().trees) == (10, 3, 300)


def test_two_targets_are_learned_apart():
    rng = np.random.default_rng(2)
    truth = rng.uniform(14, 21, (50, 2))
    one = rows_of(np.zeros((1, 50, 4)), truth[:, 0])
    task = replace(TASK, targets=("age", "height"), metric=Metric("mean absolute error", (1, 1)))
    sd = np.array([[0.1, 3], [0.1, 0.1], [0.1, 0.1], [3, 0.1]])
    values = truth[:, None] + rng.normal(0, 1, (50, 4, 2)) * sd
    table = one.table.assign(height=np.repeat(truth[:, 1], 4))
    rows = Rows(task, table, one.fold, values.reshape(1, -1, 2).astype(np.float32))
    notes = SeriesWeights().fit(rows).notes
    assert np.argmin(notes["age"]) == 3 and np.argmin(notes["height"]) == 0
    for name, method in (("forest", SeriesForest(trees=20)), ("weights", SeriesWeights())):
        predicted = method.fit(rows).predict(rows)
        assert predicted.shape == (200, 2) and (np.abs(predicted - rows.truth).mean(axis=0) < 0.4).all(), name


# What is refused

def test_volumes_of_unequal_length_are_named():
    short = HAND.take(np.arange(8) != 6)
    for name, method in METHODS.items():
        if name.startswith("series_") and name != "series_average":  # which takes as many as there are
            with pytest.raises(UserError, match="volume 1 has 3 slices and 0 has 4") as error:
                method().fit(short)
            assert "\n" not in str(error.value)


def test_scored_volumes_must_have_the_length_of_the_fitted_ones():
    other = rows_of(np.full((1, 1, 5), 17.0), [17])
    with pytest.raises(UserError, match="volume 0 has 5 slices, those of the fit have 4"):
        SeriesMean().fit(HAND).predict(other)


def test_slices_with_labels_of_their_own_are_refused():
    rows = Rows(TASK, HAND.table.assign(age=[17, 17, 17, 17, 20, 20, 21, 20]), HAND.fold, HAND.predicted)
    with pytest.raises(UserError, match="slices of volume 1 have different labels"):
        SeriesWeights().fit(rows)


@pytest.mark.parametrize("keep", [(3, 15), (-1, 3), (2, 2), (3, 1)])
def test_kept_slices_must_be_there(keep):
    with pytest.raises(UserError, match=r"are no slices of volumes that have 4; set keep"):
        SeriesInner(keep=keep).fit(HAND)


@pytest.mark.parametrize("args", [{"criterion": "mae"}, {"trees": 0}, {"depth": 0}])
def test_settings_that_scikit_learn_refuses(args):
    with pytest.raises(UserError, match="trees cannot be grown.*correct the stacker's args"):
        SeriesForest(**args).fit(HAND)


# Nested, on simulated slices

class Knees:
    """Two visits of each person; ages 14 to 21; slices that know less toward the outside.

    A network that sees little of a slice answers near the mean age, so that outer slices have both more noise and a
    smaller slope on the true age; what a volume looks like is common to its slices.
    """

    def __init__(self, persons: int = 100, slices: int = 18, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        first = self.rng.uniform(14, 20, persons)
        self.age = np.stack([first, first + self.rng.uniform(0.8, 1.2, persons)], axis=1).ravel()
        self.look = np.repeat(self.rng.normal(0, 0.4, persons), 2)
        self.outward = np.abs(np.linspace(-1, 1, slices))
        volumes, train = 2 * persons, np.arange(2 * persons) < 2 * persons * 4 // 5
        volume, slice_ = np.repeat(np.arange(volumes), slices), np.tile(np.arange(slices), volumes)
        self.index = pd.DataFrame({
            "id": [f"p{v // 2:03d}_{v % 2}_{s:02d}" for v, s in zip(volume, slice_)],
            "split": np.where(train[volume], "train", "test"), "group": [f"p{v // 2:03d}" for v in volume],
            "series": [f"p{v // 2:03d}_{v % 2}" for v in volume], "position": slice_ + 3 * (volume % 2),
            "age": np.where(train, self.age, np.nan)[volume]})
        known = self.index[self.index["split"] == "train"].drop_duplicates("group")
        self.folds = make_folds(known["group"], known[["age"]] > 17, 5, 0)

    def slices(self) -> np.ndarray:
        """Predictions of one network, [volumes * slices]."""
        slope = 1 - 0.9 * self.outward**2
        noise = (0.15 + 1.2 * self.outward**2) * self.rng.normal(0, 1, (len(self.age), len(self.outward)))
        return (17.5 + slope * (self.age + self.look - 17.5)[:, None] + noise).ravel()

    def member(self, predicted: np.ndarray) -> Member:
        fold = self.index["group"].map(self.folds.set_index("group")["fold"])
        table = pd.DataFrame({"id": self.index["id"], "age": predicted.astype(np.float32), "fold": fold})
        tests = [table[table["fold"].isna()].assign(fold=number) for number in range(5)]
        scored = table[table["fold"].notna()].astype({"fold": int}).sample(frac=1, random_state=0)
        return Member(scored, pd.concat(tests), fold_hash(self.folds))

    def stack(self, method: str, members: dict[str, Member], index: pd.DataFrame | None = None, **args) -> StackResult:
        recipe = Stacker("stack", method, tuple(members), SETTINGS.get(method, {}) | args)
        return fit_stack(recipe, members, self.index if index is None else index, self.folds, TASK)

    def test_score(self, result: StackResult) -> float:
        """Mean absolute error on the test volumes."""
        ids = self.index.loc[self.index["split"] == "test", "id"]
        found = mean_over_folds(result.member.test, ("age",)).set_index("id").loc[ids, "age"].to_numpy()
        return float(np.abs(found - np.repeat(self.age, len(self.outward))[ids.index]).mean())


@pytest.fixture(scope="module")
def knees() -> tuple[Knees, dict[str, Member], dict[str, StackResult]]:
    world = Knees()
    members = {"net": world.member(world.slices())}
    return world, members, {name: world.stack(name, members) for name in SETTINGS}


def test_outer_slices_are_worth_less_and_trees_correct_the_slope(knees):
    world, _, results = knees
    scores = {name: result.score.value for name, result in results.items()}
    assert scores["series_weights"] < 0.95 * scores["series_mean"]
    assert scores["series_inner"] < 0.95 * scores["series_mean"]
    assert scores["series_forest"] < 0.8 * scores["series_mean"]
    assert scores["series_extra_trees"] < 0.9 * scores["series_mean"]
    on_test = {name: world.test_score(result) for name, result in results.items()}
    assert all(on_test[name] < on_test["series_mean"] for name in on_test if name != "series_mean"), on_test


def test_the_notes_of_each_fold_say_what_was_learned(knees):
    learned = {name: result.learned for name, result in knees[2].items()}
    assert all(sorted(one) == [f"fold{number}" for number in range(5)] for one in learned.values())
    for number in range(5):
        weights = np.array(learned["series_weights"][f"fold{number}"]["age"])
        assert weights.argmax() in range(4, 14) and weights[[0, -1]].max() < weights[5:13].min()
        inner = learned["series_inner"][f"fold{number}"]
        assert (inner["start"], inner["stop"]) == (3, 15) and inner["after"] < inner["before"]
        importance = np.array(learned["series_forest"][f"fold{number}"]["age"])
        assert importance.shape == (1, 18) and importance[0, 5:13].sum() > 0.8


@pytest.mark.parametrize("method", list(SETTINGS))
def test_nothing_is_learned_from_the_scored_fold(knees, method):
    """Other labels of fold 0 move its own predictions by nothing, and those of the other folds where labels are learned."""
    world, members, results = knees
    mine = world.index["group"].map(world.folds.set_index("group")["fold"]) == 0
    moved = world.index.assign(age=world.index["age"].where(~mine, 35 - world.index["age"]))
    before, after = results[method].member.oof, world.stack(method, members, moved).member.oof
    pd.testing.assert_frame_equal(before[before["fold"] == 0], after[after["fold"] == 0])
    learns = METHODS[method].learns
    if method != "series_inner":  # the same range may well be the best of both
        assert learns != before.equals(after)


@pytest.mark.parametrize("method", list(SETTINGS))
def test_a_stack_is_a_member_again_and_does_without_test_rows(knees, method):
    world, members, results = knees
    result = results[method]
    again = world.stack("series_mean", {"first": result.member})
    assert again.score.value == pytest.approx(result.score.value, abs=1e-4)
    bare = {name: replace(one, test=one.test.iloc[:0]) for name, one in members.items()}
    alone = world.stack(method, bare, world.index[world.index["split"] == "train"])
    assert alone.member.test.empty and len(alone.member.oof) == (world.index["split"] == "train").sum()


def test_volumes_keep_their_slices_in_order_whatever_the_order_of_the_index():
    world = Knees(10, 5)
    predicted = world.slices()
    mixed = world.index.sample(frac=1, random_state=3)
    train, test = join({"net": world.member(predicted)}, mixed, world.folds, TASK)
    for rows in (train, test):
        names = rows.table["series"].drop_duplicates()
        values = pd.Series(predicted.astype(np.float32)).groupby(world.index["series"]).agg(list)
        np.testing.assert_array_equal(by_volume(rows)[0, :, :, 0], np.stack(values[names].to_list()))


@pytest.mark.parametrize("method", list(SETTINGS))
def test_probabilities_are_refused(method):
    world = Knees(10)
    members = {"net": world.member(np.full(len(world.index), 0.5))}
    task = replace(TASK, metric=Metric("weighted log loss", (1,)))
    assert METHODS[method].handles == (NUMBERS,)
    with pytest.raises(UserError, match=f"{method} does not work on probabilities"):
        fit_stack(Stacker("s", method, ("net",)), members, world.index, world.folds, task)
