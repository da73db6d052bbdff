"""Stackers on synthetic tables whose answer is known."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
from members import prior_log_loss

from radstack.core.errors import LeakError, UserError
from radstack.core.folds import fold_hash, make_folds
from radstack.recipes.stacker import Stacker
from radstack.scoring.metrics import sigmoid, weighted_log_loss
from radstack.scoring.task import PROBABILITIES, Metric, Task
from radstack.stack import blend, trees
from radstack.stack.adjust import Calibrate, RaiseAny, Smooth, platt, raised, smoothed
from radstack.stack.binned import binned
from radstack.stack.blend import Climb, Weights
from radstack.stack.features import class_features, neighbor, relative_position, series_mean
from radstack.stack.method import Method
from radstack.stack.nested import StackResult, fit_stack
from radstack.stack.registry import METHODS, method_of
from radstack.stack.rows import Member, Rows, join, mean_over_folds
from radstack.stack.trees import LightGBM, held_out_rows
from radstack.stack.vote import series_report, series_vote

TARGETS = ("epidural", "subdural", "any")
TASK = Task(TARGETS, Metric("weighted log loss", (1, 1, 2)))
SEED_TARGETS = ("epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural", "any")


class World:
    """Series of ten slices, two a patient, with logits ``z`` that decide the labels; members are made from them."""

    def __init__(self, patients: int = 200, seed: int = 0, smooth: bool = False) -> None:
        self.rng = np.random.default_rng(seed)
        rows = patients * 20
        self.z = self.rng.normal(0, 1.5, (rows, 3)) - 1.0
        if smooth:
            self.z = np.repeat(self.rng.normal(-1, 2, (patients * 2, 1, 3)), 10, axis=1).reshape(rows, 3)
        self.labels = (self.rng.random((rows, 3)) < sigmoid(self.z)).astype(np.float32)
        number = np.arange(rows)
        group = [f"ID_{patient:08x}" for patient in number // 20]
        self.index = pd.DataFrame({
            "id": [f"ID_{row:09x}" for row in number], "split": np.where(number // 20 < patients * 4 // 5, "train", "test"),
            "group": group, "series": [f"S{series:06d}" for series in number // 10], "position": number % 10})
        self.index[list(TARGETS)] = self.labels
        self.train = (self.index["split"] == "train").to_numpy()
        self.index.loc[~self.train, list(TARGETS)] = np.nan
        known = self.index[self.train]
        self.folds = make_folds(known["group"], known[list(TARGETS)], 5, 0)

    def noisy(self, sd: float) -> np.ndarray:
        return self.z + self.rng.normal(0, sd, self.z.shape)

    def member(self, z: np.ndarray) -> Member:
        """A member that predicts ``sigmoid(z)``, its rows shuffled: tables are joined by id."""
        table = pd.DataFrame(sigmoid(z), columns=list(TARGETS)).astype(np.float32)
        fold = self.index["group"].map(self.folds.set_index("group")["fold"])
        table = table.assign(id=self.index["id"], fold=fold).sample(frac=1, random_state=0)
        tests = [table[table["fold"].isna()].assign(fold=number) for number in range(5)]
        return Member(table[table["fold"].notna()].astype({"fold": int}), pd.concat(tests), fold_hash(self.folds))

    def members(self, **logits: np.ndarray) -> dict[str, Member]:
        return {name: self.member(z) for name, z in logits.items()}

    def rows(self, **logits: np.ndarray) -> Rows:
        return join(self.members(**logits), self.index, self.folds, TASK)[0]

    def stack(self, method: str, members: dict[str, Member], **args: object) -> StackResult:
        return fit_stack(Stacker("stack", method, tuple(members), args), members, self.index, self.folds, TASK)

    def test_loss(self, result: StackResult) -> float:
        """Weighted log loss on the test rows, whose labels the index hides."""
        mean = mean_over_folds(result.member.test, TARGETS).set_index("id")
        p = mean.loc[self.index["id"][~self.train], list(TARGETS)].to_numpy()
        return weighted_log_loss(self.labels[~self.train], p, TASK.metric.weights)


def loss_of(rows: Rows, p: np.ndarray) -> float:
    return weighted_log_loss(rows.truth, p, TASK.metric.weights)


# Joining members to the index

def test_members_are_joined_by_id() -> None:
    world = World(20)
    rows = world.rows(a=world.z)
    assert rows.predicted[0] == pytest.approx(sigmoid(world.z[world.train]), abs=1e-6)
    assert rows.table["id"].tolist() == world.index["id"][world.train].tolist()


def test_the_order_of_the_index_does_not_matter() -> None:
    world = World(20)
    members = world.members(a=world.z)
    shuffled = world.index.sample(frac=1, random_state=1)
    train, test = join(members, shuffled, world.folds, TASK)
    assert all(np.diff(train.table["position"])[np.diff(train.series) == 0] == 1)
    assert len(np.unique(train.series)) == 1 + np.count_nonzero(np.diff(train.series))
    assert len(train) == world.train.sum() and len(test) == (~world.train).sum()


def test_a_member_of_another_fold_table_is_refused() -> None:
    world = World(20)
    stranger = replace(world.member(world.z), folds_hash="0" * 16)
    with pytest.raises(LeakError, match="other was trained on another fold table"):
        world.stack("mean", {"mine": world.member(world.z), "other": stranger})


def test_a_row_scored_in_another_fold_is_refused() -> None:
    """Same hash, but the table itself says that fold 1's network scored fold 0's row."""
    world = World(20)
    good = world.member(world.z)
    moved = good.oof.reset_index(drop=True)
    first, second = (moved.index[moved["fold"] == number][0] for number in (0, 1))
    moved.loc[[first, second], "fold"] = [1, 0]
    with pytest.raises(LeakError, match="in another fold than the fold table"):
        world.stack("mean", {"a": replace(good, oof=moved)})


@pytest.mark.parametrize("spoil", [
    lambda oof: oof.iloc[1:],
    lambda oof: oof.assign(id=oof["id"].where(np.arange(len(oof)) > 0, "ID_stranger")),
    lambda oof: pd.concat([oof, oof.iloc[:1]]),
    lambda oof: pd.concat([oof, oof.iloc[:1].assign(id="ID_stranger")]),
    lambda oof: oof.groupby("fold").head(10),  # a winner's stacking set kept ten rows
])
def test_other_ids_are_refused(spoil) -> None:
    world = World(20)
    good = world.member(world.z)
    with pytest.raises(LeakError, match=r"a (has no prediction for|predicts) ID_"):
        world.stack("mean", {"a": replace(good, oof=spoil(good.oof))})


def test_test_tables_that_differ_between_folds_are_refused() -> None:
    world = World(20)
    good = world.member(world.z)
    with pytest.raises(UserError, match="different ids"):
        world.stack("mean", {"a": replace(good, test=good.test.iloc[1:])})


def test_three_of_five_folds_are_stacked_and_one_is_not_enough_to_learn() -> None:
    world = World(40)
    full = world.member(world.z)
    three = replace(full, oof=full.oof[full.oof["fold"] < 3], test=full.test[full.test["fold"] < 3])
    result = world.stack("weights", {"full": full, "three": three})
    assert sorted(result.member.oof["fold"].unique()) == [0, 1, 2]
    assert sorted(result.learned) == ["fold0", "fold1", "fold2"]
    one = replace(full, oof=full.oof[full.oof["fold"] == 0])
    with pytest.raises(UserError, match="share fold 0 alone"):
        world.stack("weights", {"one": one})
    assert len(world.stack("mean", {"one": one}).member.oof) == (full.oof["fold"] == 0).sum()


def test_missing_members_labels_and_patients_are_named() -> None:
    world = World(20)
    with pytest.raises(UserError, match="needs predictions of b"):
        fit_stack(Stacker("s", "mean", ("b",)), {}, world.index, world.folds, TASK)
    with pytest.raises(UserError, match="without a label"):
        join(world.members(a=world.z), world.index.assign(any=np.nan), world.folds, TASK)
    with pytest.raises(LeakError, match="another fold table"):
        join(world.members(a=world.z), world.index, world.folds.iloc[1:], TASK)
    short = replace(world.member(world.z), folds_hash=fold_hash(world.folds.iloc[1:]))
    with pytest.raises(UserError, match="has no fold"):
        join({"a": short}, world.index, world.folds.iloc[1:], TASK)


def test_unknown_methods_and_settings_name_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'lightgbm'"):
        method_of(Stacker("s", "lightgmb", ("a",)))
    with pytest.raises(UserError, match="did you mean 'rounds'"):
        method_of(Stacker("s", "lightgbm", ("a",), {"round": 5}))
    with pytest.raises(UserError, match="no target 'none'"):
        World(20).stack("raise_any", World(20).members(a=World(20).z), union="none")


ON_PROBABILITIES = [name for name, method in METHODS.items() if PROBABILITIES in method.handles and name != "route"]
QUICK = {"lightgbm": {"rounds": 20, "threads": 1}, "forest": {"trees": 5, "threads": 1}, "climb": {"bags": 2}}


@pytest.mark.parametrize("method", ON_PROBABILITIES)
def test_every_method_gives_a_member_again(method: str) -> None:
    world = World(60, seed=3)
    result = world.stack(method, world.members(a=world.noisy(1), b=world.noisy(1)), **QUICK.get(method, {}))
    assert set(result.member.oof["id"]) == set(world.index["id"][world.train]) and result.member.oof["id"].is_unique
    assert result.member.test.groupby("fold")["id"].nunique().tolist() == [(~world.train).sum()] * 5
    assert result.member.oof[list(TARGETS)].to_numpy().dtype == np.float32
    assert result.score.low <= result.score.value <= result.score.high
    again = world.stack("mean", {"first": result.member})
    assert again.score.value == pytest.approx(result.score.value, abs=2e-5)


@pytest.mark.parametrize("method", ON_PROBABILITIES)
def test_every_method_does_without_test_rows(method: str) -> None:
    world = World(40, seed=3)
    member = world.member(world.z)
    recipe = Stacker("s", method, ("a",), QUICK.get(method, {}))
    members = {"a": replace(member, test=member.test.iloc[:0])}
    result = fit_stack(recipe, members, world.index[world.train], world.folds, TASK)
    assert len(result.member.oof) == world.train.sum() and result.member.test.empty


# Blends

def test_mean_averages_logits() -> None:
    world = World(20)
    rows = world.rows(a=world.z + 1, b=world.z - 1)
    assert METHODS["mean"]().fit(rows).predict(rows) == pytest.approx(sigmoid(world.z[world.train]), abs=1e-5)


def test_weights_recover_the_mixing() -> None:
    """Labels follow 0.7 a + 0.3 b; c is noise."""
    world = World(400, seed=1)
    a, b, c = (world.rng.normal(0, 2, world.z.shape) for _ in range(3))
    world.index.loc[world.train, list(TARGETS)] = (
        world.rng.random(world.z.shape) < sigmoid(0.7 * a + 0.3 * b)).astype(np.float32)[world.train]
    result = world.stack("weights", world.members(a=a, b=b, c=c))
    for notes in result.learned.values():
        assert notes["weights"] == pytest.approx([0.7, 0.3, 0.0], abs=0.06)
        assert sum(notes["weights"]) == pytest.approx(1) and min(notes["weights"]) >= 0
    assert result.best_member == "a" and result.gain.low > 0


def test_weights_for_each_class() -> None:
    """The first class follows a, the others follow b; only separate weights can say so."""
    world = World(300, seed=2)
    a, b = world.z.copy(), world.z.copy()
    a[:, 1:], b[:, 0] = world.rng.normal(0, 1.5, (len(a), 2)), world.rng.normal(0, 1.5, len(a))
    rows = world.rows(a=a, b=b)
    separate = np.array(Weights(per_class=True).fit(rows).notes["weights"])
    assert separate.shape == (2, 3) and separate[0, 0] > 0.9 and separate[1, 1] > 0.9 and separate[1, 2] > 0.9
    shared, apart = world.stack("weights", world.members(a=a, b=b)), world.stack("weights", world.members(a=a, b=b),
                                                                              per_class=True)
    assert apart.score.value < shared.score.value - 0.02


def test_class_weights_of_the_task_steer_the_weights() -> None:
    """Member a knows ``any`` only, b the rest only: with all weight on ``any`` a is taken, as no hard-coded set would."""
    world = World(100, seed=4)
    a, b = world.z.copy(), world.z.copy()
    a[:, :2], b[:, 2] = -1, -1
    members = world.members(a=a, b=b)
    for weights, winner in (((0, 0, 1), 0), ((1, 1, 0), 1)):
        train = join(members, world.index, world.folds, Task(TARGETS, Metric("weighted log loss", weights)))[0]
        for method in (Weights(), Climb(bags=2)):
            assert method.fit(train).notes["weights"][winner] > 0.9


def test_climb_is_never_worse_than_the_best_member() -> None:
    for seed in range(5):
        world = World(40, seed=seed)
        rows = world.rows(a=world.noisy(0.2), b=world.noisy(2), c=world.noisy(4), d=world.rng.normal(0, 3, world.z.shape))
        best = min(loss_of(rows, p) for p in rows.predicted)
        fitted = Climb(bags=3, seed=seed).fit(rows)
        assert loss_of(rows, fitted.predict(rows)) <= best + 1e-6
        assert sum(fitted.notes["weights"]) == pytest.approx(1, abs=1e-5)


def test_climb_gains_from_members_that_err_differently() -> None:
    world = World(150, seed=5)
    result = world.stack("climb", world.members(**{f"m{n}": world.noisy(1.5) for n in range(4)}))
    assert result.gain.low > 0
    assert np.mean([notes["weights"] for notes in result.learned.values()], axis=0) == pytest.approx([0.25] * 4, abs=0.1)


def test_climb_takes_what_a_plain_loop_takes() -> None:
    rng = np.random.default_rng(3)
    truth = (rng.random((500, 3)) < 0.3).astype(np.float32)
    logits = (3 * truth - 2 + rng.normal(0, 2, (4, 500, 3))).astype(np.float32)
    weights = np.array([0.25, 0.25, 0.5])

    def loss(taken: list[int]) -> float:
        z = logits[taken].mean(axis=0, dtype=np.float64)
        return float((np.logaddexp(0, z) - truth * z).mean(axis=0) @ weights)

    taken = list[int]()
    for member in sorted(range(4), key=lambda one: loss([one])):
        if taken and loss([*taken, member]) >= loss(taken):
            break
        taken.append(member)
    while len(taken) < 30 and min(loss([*taken, one]) for one in range(4)) < loss(taken):
        taken.append(min(range(4), key=lambda one: loss([*taken, one])))
    expected = np.bincount(taken, minlength=4) / len(taken)
    np.testing.assert_array_equal(blend._climb(logits, truth, weights, 30), expected)


def test_climb_takes_with_replacement_and_from_bags_of_few_rows() -> None:
    world = World(150, seed=6)
    rows = world.rows(a=world.noisy(0.9), b=world.noisy(1.2))
    weights = np.array(Climb(bags=4, bag_rows=500).fit(rows).notes["weights"])
    assert 0.5 < weights[0] < 0.8 and weights[1] > 0.2
    assert loss_of(rows, sigmoid(blend.mix(weights, rows.linked))) < min(loss_of(rows, p) for p in rows.predicted)


# Neighbor features

def test_neighbors_stay_inside_the_series() -> None:
    series = np.array([0, 0, 0, 1, 2, 2])
    values = np.array([1, 2, 3, 4, 5, 6], np.float32)
    nan = np.nan
    for offset, expected in ((1, [2, 3, nan, nan, 6, nan]), (-1, [nan, 1, 2, nan, nan, 5]), (2, [3] + [nan] * 5),
                             (0, values), (9, [nan] * 6), (-9, [nan] * 6)):
        np.testing.assert_array_equal(neighbor(values, series, offset), np.array(expected, np.float32))
    assert relative_position(series).tolist() == [0, 0.5, 1, 0.5, 0, 1]
    assert series_mean(values, series).tolist() == [2, 2, 2, 4, 5.5, 5.5]


def test_class_features_by_name() -> None:
    world = World(20)
    world.index["brain_ratio"] = np.arange(len(world.index)) / 1000
    rows = world.rows(a=world.z, b=world.z)
    matrix, names = class_features(rows, 1, 9, ("brain_ratio",))
    table = pd.DataFrame(matrix, columns=names)
    assert len(names) == 2 * 3 + 2 + 1 + 1 + 18 and matrix.dtype == np.float32
    p = sigmoid(world.z[:10, 1])
    assert table.loc[4, ["m0_subdural", "blend-1", "blend+3"]].tolist() == pytest.approx([p[4], p[3], p[7]], abs=1e-5)
    assert table["blend-9"].notna().sum() == len(rows) // 10 and table.loc[9, "blend-9"] == pytest.approx(p[0], abs=1e-5)
    assert table.loc[3, ["slices", "relative_position", "brain_ratio", "blend_series_mean"]].tolist() == pytest.approx(
        [10, 3 / 9, 0.003, p.mean()], abs=1e-5)
    with pytest.raises(UserError, match="no column 'brain'"):
        class_features(rows, 1, 9, ("brain",))


@pytest.mark.parametrize(("method", "args"), [
    ("lightgbm", {"rounds": 150, "lr": 0.1, "patience": 20, "threads": 1}),
    ("forest", {"trees": 30, "threads": 1}),
])
def test_trees_use_the_neighbors(method: str, args: dict) -> None:
    """The member is one slice late: what it knows of a slice stands at the slice before."""
    world = World(250, seed=7)
    late = np.roll(2 * world.z, -1, axis=0)
    members = world.members(a=late)
    near, alone = world.stack(method, members, **args, reach=1), world.stack(method, members, **args, reach=0)
    prior = prior_log_loss(world.labels[world.train].mean(axis=0), TASK.metric.weights)
    assert near.score.high < 0.9 * prior < alone.score.low
    assert world.test_loss(near) == pytest.approx(near.score.value, abs=0.03)
    for target in TARGETS:
        assert next(iter(near.learned["fold0"][target]["gain"])) == "blend-1"


def test_lightgbm_reads_a_further_column() -> None:
    world = World(100, seed=8)
    world.index["hint"] = world.labels[:, 0]
    members = world.members(a=world.noisy(2))
    args = {"rounds": 60, "lr": 0.1, "reach": 1, "threads": 1}
    told = world.stack("lightgbm", members, columns=("hint",), **args)
    assert told.class_scores["epidural"] < 0.1 < world.stack("lightgbm", members, **args).class_scores["epidural"]


def test_lightgbm_starts_from_the_calibrated_blend() -> None:
    """One tiny tree leaves the start as it is; an overconfident member is calibrated first, not diverged from."""
    world = World(200, seed=9)
    tiny = LightGBM(rounds=1, lr=1e-6, reach=0, threads=1)
    best = loss_of(world.rows(a=world.z), sigmoid(world.z[world.train]))
    for z in (world.z, 4 * world.z + 2):
        rows = world.rows(a=z)
        assert loss_of(rows, tiny.fit(rows).predict(rows)) == pytest.approx(best, abs=2e-3)
    wild = world.rows(a=-5 * world.z)
    full = LightGBM(rounds=200, lr=0.1, patience=20, reach=0, threads=1)
    assert loss_of(wild, full.fit(wild).predict(wild)) < best + 0.01


def test_few_rows_grow_their_trees_on_one_thread_and_their_number_changes_no_answer() -> None:
    assert [LightGBM().threads_for(rows) for rows in (600, trees.FEW - 1, trees.FEW, 752_803)] == [1, 1, 0, 0]
    assert LightGBM(threads=3).threads_for(600) == 3
    world = World(60, seed=11)
    rows = world.rows(a=world.noisy(1))
    methods = [LightGBM(rounds=20, lr=0.1, threads=threads) for threads in (0, 2)]
    assert np.array_equal(*(method.predict(rows, method.fit(rows).state) for method in methods))


def test_a_class_without_enough_patients_keeps_the_blend() -> None:
    world = World(40, seed=10)
    world.index.loc[world.train, "epidural"] = 0.0
    rows = world.rows(a=world.noisy(1), b=world.noisy(1))
    for method in (LightGBM(rounds=5, threads=1), METHODS["forest"](trees=3, threads=1)):
        fitted = method.fit(rows)
        assert "blend kept" in fitted.notes["epidural"] and "blend kept" not in str(fitted.notes["any"])
        assert fitted.predict(rows)[:, 0] == pytest.approx(sigmoid(rows.blend[:, 0]), abs=1e-6)


def test_early_stopping_watches_whole_patients_of_both_kinds() -> None:
    world = World(100, seed=11)
    world.index.loc[world.train, "epidural"] = (np.arange(world.train.sum()) % 400 == 0).astype(float)
    rows = world.rows(a=world.z)
    watch = held_out_rows(rows, 0, 0.2, 0)
    assert not set(rows.group[watch]) & set(rows.group[~watch])
    assert len(set(rows.group[watch])) == 16 and rows.truth[watch, 0].sum() == 1 and rows.truth[~watch, 0].sum() == 3


def test_trees_on_shared_bins_are_those_on_a_table_of_their_own() -> None:
    """Values are few, so that the edges of the bins are the same however many rows they are made of."""
    rng = np.random.default_rng(0)
    shared, own = (rng.integers(0, 9, (4000, width)).astype(np.float32) for width in (3, 2))
    own[rng.random(len(own)) < 0.1, 1] = np.nan
    start, watch = rng.normal(-1, 1, len(own)), rng.random(len(own)) < 0.2
    method, names = LightGBM(rounds=20, lr=0.1, patience=20, threads=1), [list("abc"), list("de")]
    table = binned(shared, names[0], method.settings(objective="binary"))
    for column in (0, 1):  # a second class meets nothing of the first
        y = (rng.random(len(own)) < sigmoid(shared[:, column] - np.nan_to_num(own[:, 1]))).astype(np.float32)
        grown = method.grow(*table.split(own, names[1], y, start, watch), table.settings)
        alone = method.boost(np.hstack([shared, own]), y, start, watch, list("abcde"), objective="binary")
        assert grown.feature_name() == alone.feature_name() == list("abcde")
        assert grown.best_iteration == alone.best_iteration > 0
        x = np.hstack([shared, own])
        np.testing.assert_array_equal(grown.predict(x, raw_score=True), alone.predict(x, raw_score=True))


def test_many_rows_share_bins_and_few_do_not(monkeypatch) -> None:
    world, args = World(150, seed=8), {"rounds": 60, "lr": 0.1, "reach": 1, "threads": 1, "columns": ("hint",)}
    world.index["hint"] = world.labels[:, 0]
    members = world.members(a=world.noisy(2), b=world.noisy(2))
    few = world.stack("lightgbm", members, **args)
    assert LightGBM().common(world.rows(a=world.z)) is None
    monkeypatch.setattr(trees, "SAMPLED", 100)
    many = world.stack("lightgbm", members, **args)
    assert many.score.value == pytest.approx(few.score.value, abs=0.02) and many.score.value != few.score.value
    assert many.class_scores["epidural"] < 0.1
    seen = class_features(world.rows(**dict.fromkeys(members, world.z)), 0, 1, ("hint",))[1]
    assert set(many.learned["fold0"]["epidural"]["gain"]) <= set(seen)
    again = world.stack("lightgbm", members, **args)
    pd.testing.assert_frame_equal(again.member.oof, many.member.oof)


# Steps on one stream

def test_calibration_is_rejected_when_calibrated_and_accepted_when_not() -> None:
    world = World(300, seed=12)
    z = world.z.copy()
    z[:, 2] = 3 * z[:, 2] + 1
    result = world.stack("calibrate", world.members(a=z))
    kept = {name: [notes[name]["kept"] for notes in result.learned.values()] for name in TARGETS}
    assert all(kept["any"]) and sum(kept["epidural"]) + sum(kept["subdural"]) <= 2
    fit = result.learned["fold0"]["any"]
    assert (fit["scale"], fit["bias"]) == pytest.approx((1 / 3, -1 / 3), abs=0.06)
    assert result.gain.low > 0 and result.class_scores["any"] < 0.5


def test_false_calibrations_are_rare() -> None:
    kept = [notes["kept"] for seed in range(15) for world in [World(60, seed=100 + seed)]
            for notes in Calibrate().fit(world.rows(a=world.z)).notes.values()]
    assert np.mean(kept) < 0.15
    loose = [notes["kept"] for seed in range(15) for world in [World(60, seed=100 + seed)]
             for notes in Calibrate(margin=-9).fit(world.rows(a=world.z)).notes.values()]
    assert np.mean(loose) > np.mean(kept)


def test_platt_without_positives_is_finite() -> None:
    scale, bias = platt(np.linspace(-3, 3, 50), np.zeros(50))
    assert np.isfinite([scale, bias]).all() and sigmoid(np.array([bias]))[0] < 0.1


def test_smoothing_by_hand_shares_the_weight_at_the_ends() -> None:
    p, series = np.array([0.2, 0.5, 0.8, 0.4]), np.array([0, 0, 0, 1])
    expected = [(1.8 * 0.2 + 0.6 * 0.5) / 2.4, (0.6 * 0.2 + 1.8 * 0.5 + 0.6 * 0.8) / 3, (0.6 * 0.5 + 1.8 * 0.8) / 2.4, 0.4]
    assert smoothed(p, series, np.array([0.2, 0.6, 0.2])) == pytest.approx(expected)


def test_smoothing_pays_where_neighbors_agree_alone() -> None:
    smooth, rough = World(100, seed=13, smooth=True), World(100, seed=13)
    assert smooth.stack("smooth", smooth.members(a=smooth.noisy(1.5))).gain.low > 0
    assert rough.stack("smooth", rough.members(a=rough.z)).gain.high < 0
    with pytest.raises(UserError, match="odd number"):
        Smooth(kernel=(1.0, 1.0)).fit(rough.rows(a=rough.z))


def test_a_smoothed_member_is_that_member_smoothed_also_where_it_is_worse_than_the_constant() -> None:
    # Its class, shrunk or replaced fold by fold, would lose the order of its rows; what blends it has a screen.
    world = World(40, seed=5, smooth=True)
    bad = world.noisy(0.5)
    bad[:, 1] = 6 * world.rng.normal(0, 1, len(bad))
    members = world.members(a=bad)
    out = world.stack("smooth", members).member.oof.set_index("id")[list(TARGETS)]
    rows = world.rows(a=bad)
    expected = np.stack([smoothed(p, rows.series, np.array([0.2, 0.6, 0.2])) for p in rows.predicted[0].T], axis=1)
    assert out.loc[rows.table["id"]].to_numpy() == pytest.approx(expected, abs=1e-5)


def test_raising_the_union() -> None:
    p = np.array([[0.2, 0.7, 0.5], [0.1, 0.2, 0.6]])
    assert raised(p, 2).tolist() == [[0.2, 0.7, 0.7], [0.1, 0.2, 0.6]]
    world = World(60, seed=14)
    either = world.labels[:, :2].max(axis=1)
    world.index.loc[world.train, "any"] = either[world.train]
    z = world.z.copy()
    z[:, 2] = world.noisy(1)[:, 2]
    notes = RaiseAny().fit(world.rows(a=z)).notes
    assert notes["kept"] and notes["after"] < notes["before"] and 0 < notes["share_raised"] < 1
    world.index.loc[world.train, "any"] = 0.0
    assert not RaiseAny().fit(world.rows(a=z)).notes["kept"]


# The series vote

def worked_example() -> np.ndarray:
    vectors = ["000000"] * 5 + ["000011"] * 3 + ["001011"] * 2
    return np.array([[float(digit) for digit in vector] for vector in vectors])


def test_the_vote_of_the_worked_example() -> None:
    p = np.random.default_rng(0).permutation(worked_example()) * 0.8 + 0.1
    voted = series_vote(p, np.zeros(10, int), union=5)
    assert (voted == [0, 0, 0, 0, 1, 1]).all()


def test_the_vote_needs_half_of_the_slices() -> None:
    p = np.concatenate([worked_example(), np.zeros((1, 6)), worked_example()])
    voted = series_vote(p, np.array([0] * 11 + [1] * 10), union=5)
    assert not voted[:11].any() and (voted[11:] == [0, 0, 0, 0, 1, 1]).all()


def test_a_tied_vote_goes_to_the_surer_vector() -> None:
    p = np.array([[0.9, 0, 0.6], [0, 0.9, 0.9]])
    assert series_vote(p, np.zeros(2, int), union=2)[0].tolist() == [False, True, True]


def test_the_vote_costs_log_loss() -> None:
    """The ten slices of the example, known without doubt: per slice they cost next to nothing, voted 7 rows pay 13.8."""
    truth = worked_example()
    weights, voted = (1, 1, 1, 1, 1, 2), series_vote(truth, np.zeros(10, int), union=5).astype(float)
    assert weighted_log_loss(truth, truth, weights) < 1e-5
    assert weighted_log_loss(truth, voted, weights) == pytest.approx((5 * 3 + 2 * 1) * 13.8155 / 70, abs=1e-3)


def test_a_calibrated_vote_still_loses_to_the_slices() -> None:
    world = World(150, seed=15)
    members = world.members(a=world.noisy(0.5))
    vote = world.stack("vote", members)
    fair = world.stack("calibrate", {"vote": vote.member})
    assert fair.score.value < vote.score.value and fair.score.low > world.stack("mean", members).score.high


def test_series_report() -> None:
    p = worked_example()
    order = np.array([0, 5, 6, 1, 7, 8, 9, 2, 3, 4])
    table = pd.DataFrame(p[order] * 0.8 + 0.1, columns=list(SEED_TARGETS)).assign(group="P", series="S", position=range(10))
    other = table.assign(series="R", **dict.fromkeys(SEED_TARGETS, 0.1))
    report = series_report(pd.concat([table, other]).sample(frac=1, random_state=0), SEED_TARGETS)
    assert len(report) == 12 and report["series"].tolist() == ["R"] * 6 + ["S"] * 6
    found = report[report["series"] == "S"].set_index("target")
    assert found.loc["subdural", ["slices", "count", "peak", "voted"]].tolist() == ["1-2,4-6", 5, 1, 1]
    assert found.loc["intraventricular", ["slices", "count", "voted"]].tolist() == ["5-6", 2, 0]
    assert found.loc["epidural", ["slices", "count", "voted"]].tolist() == ["", 0, 0]
    assert found.loc["any", "probability"] == pytest.approx(0.9)
    quiet = report[report["series"] == "R"]
    assert quiet["count"].sum() == 0 and quiet["voted"].sum() == 0 and (quiet["slices"] == "").all()


# Honesty

@pytest.mark.parametrize("method", ["weights", "climb", "lightgbm", "forest", "calibrate"])
def test_noise_members_score_no_better_than_the_prior(method: str) -> None:
    """A nested score must not reward what was memorized; labels are shuffled against the members."""
    world = World(80, seed=16)
    args = {"lightgbm": {"rounds": 100, "lr": 0.1, "threads": 1}, "forest": {"trees": 10, "threads": 1},
            "climb": {"bags": 2}}
    noise = {f"m{n}": world.rng.normal(-1, 1, world.z.shape) for n in range(3)}
    result = world.stack(method, world.members(**noise), **args.get(method, {}))
    truth = world.labels[world.train]
    assert result.score.value > prior_log_loss(truth.mean(axis=0), TASK.metric.weights) - 0.002


@pytest.mark.parametrize(("method", "args"), [
    ("weights", {}), ("climb", {}), ("lightgbm", {"rounds": 10, "threads": 1}), ("forest", {"trees": 3, "threads": 1}),
    ("calibrate", {"margin": -9})])
def test_a_fold_never_sees_its_own_labels(method: str, args: dict) -> None:
    """Changing the labels of fold 0 must not change a single prediction of fold 0, but those of the other folds."""
    world = World(60, seed=17, smooth=True)
    members = world.members(a=world.noisy(1), b=world.noisy(1))
    mine = world.index["group"].map(world.folds.set_index("group")["fold"]) == 0
    flipped = world.index.copy()
    flipped.loc[mine, list(TARGETS)] = 1 - flipped.loc[mine, list(TARGETS)]
    recipe = Stacker("s", method, ("a", "b"), args)
    before, after = (fit_stack(recipe, members, index, world.folds, TASK).member.oof for index in (world.index, flipped))
    pd.testing.assert_frame_equal(before[before["fold"] == 0], after[after["fold"] == 0])
    assert not before[before["fold"] != 0].equals(after[after["fold"] != 0])


def test_facts_are_json_values() -> None:
    world = World(30)
    result = world.stack("calibrate", world.members(a=world.z))
    facts = json.loads(json.dumps(result.facts()))
    assert facts["score"]["low"] < facts["score"]["value"] and facts["folds_hash"] == fold_hash(world.folds)
    assert set(facts["learned"]) == {f"fold{number}" for number in range(5)}


@dataclass(frozen=True)
class OneColumn(Method):
    """A method of one's own that forgets all targets but the first."""

    learns = False

    def predict(self, rows, state):
        return rows.blend[:, :1]


def test_a_method_that_predicts_another_shape_ends_in_one_line(monkeypatch) -> None:
    world = World(20, seed=3)
    monkeypatch.setitem(METHODS, "one_column", OneColumn)
    with pytest.raises(UserError, match=r"stacking method OneColumn gives \(\d+, 1\); it must give \(\d+, \d+\)"):
        world.stack("one_column", world.members(a=world.z))
