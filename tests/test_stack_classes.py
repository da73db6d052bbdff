"""Level two of classes: sums of one, members of one group, pools by hand, boosting that corrects what members do wrong."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from radstack.core.errors import UserError
from radstack.scoring.task import Metric, Task
from radstack.stack.classes import ClassLightGBM, ClassMean, pooled, sharpness
from radstack.stack.rows import Rows

TARGETS, SIZES = tuple("abcdefg"), (4, 3)
# The sizes come from the method's setting, so that any metric with a clip serves.
TASK = Task(TARGETS, Metric("weighted log loss", (1,) * 7))
BOOST = ClassLightGBM(groups=SIZES, rounds=60, patience=10, lr=0.1, threads=1)


class World:
    """One latent number a patient of two rows, in four classes and in three; members see it with noise."""

    def __init__(self, rows: int = 600, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.latent = np.repeat(self.rng.uniform(0, 4, rows // 2), 2)
        self.left = np.floor(self.latent).astype(int)
        self.right = np.floor(self.latent * 3 / 4).astype(int)
        self.fold = np.repeat(np.arange(rows // 2) % 2, 2)

    def member(self, noise: float = 0.3, heat: float = 1.0, shift: float = 0.0) -> np.ndarray:
        seen = self.latent + shift + self.rng.normal(0, noise, len(self.latent))
        parts = [softmax(-((seen[:, None] * size / 4 - np.arange(size) - 0.5) / 0.5) ** 2 / heat, axis=1) for size in SIZES]
        return np.concatenate(parts, axis=1)

    def rows(self, *members: np.ndarray) -> Rows:
        number = np.arange(len(self.latent))
        truth = np.concatenate([np.eye(4)[self.left], np.eye(3)[self.right]], axis=1)
        table = pd.DataFrame(truth, columns=list(TARGETS)).assign(
            id=number.astype(str), group=(number // 2).astype(str), series=number.astype(str), position=0,
            told=self.latent.astype(np.float32))
        return Rows(TASK, table, self.fold, np.stack(members).astype(np.float32))


def split(rows: Rows) -> tuple[Rows, Rows]:
    return rows.take(rows.fold == 0), rows.take(rows.fold == 1)


def losses(rows: Rows, p: np.ndarray) -> np.ndarray:
    """Log loss of each group."""
    cross = -(rows.truth * np.log(np.maximum(p, 1e-6)))
    return np.array([cross[:, :4].sum(1).mean(), cross[:, 4:].sum(1).mean()])


def check_sums(p: np.ndarray) -> None:
    assert np.isfinite(p).all() and (p >= 0).all()
    assert p[:, :4].sum(1) == pytest.approx(1, abs=1e-5) and p[:, 4:].sum(1) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("method", [ClassMean(SIZES), ClassMean(SIZES, "linear"), BOOST], ids=["log", "linear", "boost"])
def test_every_method_gives_sums_of_one_and_takes_no_rows(method):
    world = World()
    train, test = split(world.rows(world.member(), world.member(0.5)))
    fitted = method.fit(train)
    check_sums(fitted.predict(test))
    assert fitted.predict(test.take(np.zeros(len(test), bool))).shape == (0, 7)


@pytest.mark.parametrize("method", [ClassMean(SIZES), BOOST], ids=["mean", "boost"])
def test_rows_may_come_in_any_order(method):
    world = World()
    train, test = split(world.rows(world.member(), world.member(0.5)))
    fitted, order = method.fit(train), np.random.default_rng(1).permutation(len(test))
    mixed = Rows(test.task, test.table.iloc[order], test.fold[order], test.predicted[:, order])
    assert fitted.predict(mixed) == pytest.approx(fitted.predict(test)[order], abs=1e-6)


def test_pools_by_hand():
    members = np.array([[[0.8, 0.2, 1.0]], [[0.2, 0.8, 1.0]], [[0.2, 0.8, 1.0]]])
    linear = pooled(members, (2, 1), "linear", 1e-6)[0]
    assert linear.tolist() == pytest.approx([0.4, 0.6, 1.0])
    log = pooled(members, (2, 1), "log", 1e-6)[0]
    odds = 4 ** (1 / 3)
    assert log.tolist() == pytest.approx([1 / (1 + odds), odds / (1 + odds), 1.0])
    with pytest.raises(UserError, match="no pool 'median'; choose one of log, linear"):
        pooled(members, (2, 1), "median", 1e-6)


def test_the_mean_of_two_is_better_than_each():
    world = World(2000)
    first, second = world.member(0.5, heat=2), world.member(0.5, heat=2)
    rows = world.rows(first, second)
    mixed = losses(rows, ClassMean(SIZES).fit(rows).predict(rows))
    assert (mixed < losses(rows, first)).all() and (mixed < losses(rows, second)).all()


def test_networks_of_one_group_join():
    world = World(40)
    left, right, both = world.member(), world.member(), world.member()
    left[:, 4:], right[:, :4] = np.nan, np.nan
    found = ClassMean(SIZES).fit(rows := world.rows(left, right)).predict(rows)
    assert found[:, :4] == pytest.approx(left[:, :4], abs=1e-5) and found[:, 4:] == pytest.approx(right[:, 4:], abs=1e-5)
    three, pair = world.rows(left, right, both), world.rows(left, both)
    mean = ClassMean(SIZES, "linear").fit(three).predict(three)
    assert mean[:, :4] == pytest.approx((left[:, :4] + both[:, :4]) / 2, abs=1e-6)
    alone = ClassMean(SIZES).fit(pair).predict(pair)
    assert alone[:, 4:] == pytest.approx(both[:, 4:], abs=1e-5)
    silent = ClassMean(SIZES).fit(rows := world.rows(left)).predict(rows)
    assert np.isnan(silent[:, 4:]).all() and np.isfinite(silent[:, :4]).all()


def test_boosting_joins_networks_of_one_group_and_leaves_what_nobody_answers():
    world = World(800)
    left, right = world.member(0.3, shift=0.5), world.member(0.3)
    left[:, 4:], right[:, :4] = np.nan, np.nan
    train, test = split(world.rows(left, right))
    fitted = BOOST.fit(train)
    found = fitted.predict(test)
    check_sums(found)
    assert losses(test, found)[0] < losses(test, ClassMean(SIZES).fit(test).predict(test))[0]
    train, test = split(world.rows(left))
    fitted = BOOST.fit(train)
    found = fitted.predict(test)
    assert fitted.notes["e..g"] == "no member answers every row" and np.isnan(found[:, 4:]).all()
    assert np.isfinite(found[:, :4]).all()


def test_boosting_mends_a_shifted_and_overconfident_member():
    world = World(1200)
    train, test = split(world.rows(world.member(0.2, heat=0.3, shift=0.5)))
    fitted = BOOST.fit(train)
    plain, boosted = test.predicted[0], fitted.predict(test)
    scaled = replace(BOOST, lr=1e-9).fit(train).predict(test)
    assert (losses(test, boosted) < 0.5 * losses(test, scaled)).all()
    assert (losses(test, scaled) < 0.7 * losses(test, plain)).all()
    assert fitted.notes["a..d"]["rounds"] > 5 and fitted.notes["a..d"]["temperature"] > 1


def test_boosting_starts_from_the_blend_at_its_temperature():
    world = World(2000)
    train, test = split(world.rows(world.member(0.6, heat=0.5), world.member(0.6, heat=0.5)))
    still = replace(BOOST, lr=1e-9).fit(train)
    blend = np.log(ClassMean(SIZES).fit(test).predict(test))
    scaled = np.concatenate([softmax(blend[:, part] / still.notes[name]["temperature"], axis=1)
                             for part, name in ((slice(4), "a..d"), (slice(4, 7), "e..g"))], axis=1)
    assert still.predict(test) == pytest.approx(scaled, abs=1e-4)
    boosted = losses(test, BOOST.fit(train).predict(test))
    assert (losses(test, scaled) < 0.8 * losses(test, np.exp(blend))).all()
    assert (boosted < 1.02 * losses(test, scaled)).all()


def test_a_further_column_is_seen_and_a_missing_one_named():
    world = World(1000)
    train, test = split(world.rows(world.member(1.0)))
    told = replace(BOOST, columns=("told",)).fit(train)
    assert (losses(test, told.predict(test)) < 0.6 * losses(test, BOOST.fit(train).predict(test))).all()
    with pytest.raises(UserError, match="no column 'age'"):
        ClassLightGBM(groups=SIZES, columns=("age",)).fit(train)


def test_few_patients_and_absent_classes():
    world = World(30)
    train, test = split(world.rows(world.member()))
    fitted = BOOST.fit(train)
    assert fitted.notes["a..d"] == "blend kept: 8 patients, 20 are needed"
    assert fitted.predict(test) == pytest.approx(ClassMean(SIZES).fit(test).predict(test), abs=1e-6)
    world = World(600)
    rows = world.rows(world.member())
    check_sums(BOOST.fit(rows.take((rows.fold == 0) & (world.left != 3))).predict(rows))
    train, test = split(rows)
    fitted = BOOST.fit(replace(train, table=train.table.assign(**dict.fromkeys("efg", np.nan))))  # nobody's label
    assert fitted.notes["e..g"] == "blend kept: 0 patients, 15 are needed"
    assert fitted.predict(test)[:, 4:] == pytest.approx(ClassMean(SIZES).fit(test).predict(test)[:, 4:], abs=1e-6)


def test_the_fit_is_repeatable_and_patients_are_watched_whole():
    world = World()
    train, test = split(world.rows(world.member(), world.member(0.5)))
    assert np.array_equal(BOOST.fit(train).predict(test), BOOST.fit(train).predict(test))
    watch = BOOST._watched(train.group)
    assert watch.mean() == pytest.approx(0.2, abs=0.01)
    assert not set(train.group[watch]) & set(train.group[~watch])


def test_sharpness_finds_the_temperature():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(4), 5000)
    y = (rng.random(5000)[:, None] > p.cumsum(1)).sum(1)
    assert sharpness(np.log(p), y) == pytest.approx(1, abs=0.1)
    assert sharpness(2 * np.log(p), y) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("method", [ClassMean((4, 4)), ClassLightGBM(groups=(3, 3))])
def test_sizes_must_make_up_the_targets(method):
    world = World(40)
    with pytest.raises(UserError, match="do not make up 7 targets"):
        method.fit(world.rows(world.member()))
