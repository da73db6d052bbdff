"""What a stacker learned is written and read again: same answers to the last bit, no code run."""

import functools
import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesRegressor, RandomForestClassifier, RandomForestRegressor
from test_slices import HAND
from test_stack import World
from test_stack_classes import BOOST, SIZES
from test_stack_classes import World as ClassWorld

from radstack.core.errors import UserError
from radstack.stack.adjust import Calibrate, CorrectBias, RaiseAny, Smooth
from radstack.stack.blend import Climb, Mean, Weights
from radstack.stack.classes import ClassMean
from radstack.stack.forests import as_arrays
from radstack.stack.linear import Linear, Route
from radstack.stack.method import Fitted
from radstack.stack.slices import SeriesExtraTrees, SeriesForest, SeriesInner, SeriesMean, SeriesWeights
from radstack.stack.store import read_fitted, write_fitted
from radstack.stack.trees import Forest, LightGBM
from radstack.stack.vote import Vote


@pytest.mark.parametrize("missing", [0.0, 0.2])
@pytest.mark.parametrize("kind", [RandomForestClassifier, RandomForestRegressor, ExtraTreesRegressor])
def test_a_forest_as_arrays_answers_like_scikit_learn_to_the_last_bit(kind, missing):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 7)).astype(np.float32)
    x[rng.random(x.shape) < missing] = np.nan
    x[:, 6] = np.round(np.nan_to_num(x[:, 6]))  # values that equal a threshold, zero among them
    y = np.nan_to_num(x[:, 0]) + rng.normal(size=len(x))
    grown = kind(20, max_depth=6, random_state=0, n_jobs=1).fit(x, y > 0 if kind is RandomForestClassifier else y)
    new = rng.normal(size=(300, 7)).astype(np.float32)
    new[::3, 2] = np.nan
    expected = grown.predict_proba(new)[:, 1] if kind is RandomForestClassifier else grown.predict(new)
    assert np.array_equal(as_arrays(grown, x)(new), expected)


def test_a_tree_of_one_leaf_is_a_forest_too():
    x = np.zeros((10, 2), np.float32)
    assert as_arrays(RandomForestRegressor(3, random_state=0).fit(x, np.full(10, 2.5)), x)(x) == pytest.approx(2.5)


@functools.cache
def logits():
    scans = World()
    return scans.rows(a=scans.z, b=0.5 * scans.z + 0.1)


@functools.cache
def classes():
    hands = ClassWorld()
    return hands.rows(hands.member(), hands.member(0.5))


METHODS_AND_ROWS = [
    *((method, logits) for method in (
        Mean(), Weights(), Weights(per_class=True), Climb(), LightGBM(rounds=30), Forest(trees=10), Calibrate(margin=-9.0),
        Smooth(), RaiseAny(), Vote())),
    *((method, lambda: HAND) for method in (Linear(margin=-9.0), CorrectBias(margin=-9.0), Route(values=(1,), column="age"),
                                    SeriesMean(), SeriesWeights(), SeriesInner(keep=(1, 3)), SeriesForest(trees=5),
                                    SeriesExtraTrees())),
    (ClassMean(SIZES), classes), (BOOST, classes)]


@pytest.mark.parametrize(("method", "make"), METHODS_AND_ROWS, ids=[type(one).__name__ for one, _ in METHODS_AND_ROWS])
def test_what_a_stacker_learned_is_read_again_to_the_last_bit(method, make, tmp_path):
    rows = make()
    if isinstance(method, Route):
        rows = replace(rows, table=rows.table.assign(age=1))
    fitted = method.fit(rows)
    write_fitted(tmp_path, 2, fitted)
    again = read_fitted(tmp_path, 2, method)
    assert np.array_equal(again.predict(rows), fitted.predict(rows), equal_nan=True)
    assert again.notes == json.loads(json.dumps(fitted.notes))


def test_a_damaged_or_missing_file_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"fold0_state.json holds no fitted stacker .*07_stack"):
        read_fitted(tmp_path, 0, Mean())
    write_fitted(tmp_path, 0, Fitted(Mean(), (np.ones(3), None), {}))
    (tmp_path / "fold0_state.json").write_text('{"state": {"os": "system"}, "notes": {}}')
    with pytest.raises(UserError, match="holds no fitted stacker"):
        read_fitted(tmp_path, 0, Mean())
