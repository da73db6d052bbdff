"""What a stacker learned is written and read again: same answers to the last bit, no code run."""

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesRegressor, RandomForestClassifier, RandomForestRegressor

from radstack.stack.forests import as_arrays


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
