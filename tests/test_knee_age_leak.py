"""Two visits of one man: what splitting by volume would have claimed, and that the folds do not allow it.

A network that knows a man's knee from his other visit knows how far his bones are ahead of his age. Here the nearest other
picture plays that network: it is the same man whenever his other visit may be seen.
"""

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import NearestNeighbors

from competitions.knee_age import COMPETITION, balance
from competitions.knee_age.localizer import prepare
from phantoms.knee_age import draw, read_truth
from radstack.core.errors import LeakError
from radstack.core.folds import check_folds, fold_of, make_folds

VOLUMES, SIDE = 72, 40


@pytest.fixture(scope="module")
def knees(tmp_path_factory):
    """One row a training volume of a man with two: what was drawn, and its central slices as a vector."""
    folder = tmp_path_factory.mktemp("knees") / "input"
    draw(folder, series=VOLUMES, size=SIDE, seed=5, workers=1)
    index, _ = COMPETITION.data.index(folder, 1, folder / "parts", lambda line: None)
    truth = read_truth(folder).set_index("series")
    rows = []
    train = index[index["split"] == "train"]
    visits = train.groupby("group")["series"].transform("nunique")
    for series, own in train[visits == 2].groupby("series"):
        pictures, _ = prepare(folder, own, SIDE, shrink=8)
        middle = np.linspace(0.3, 0.7, 7) * (len(pictures) - 1)
        rows.append({"series": series, "group": own["group"].iloc[0], "age_years": truth.loc[series, "age_years"],
                     "maturity": truth.loc[series, ["s_femur", "s_tibia", "s_fibula"]].mean(),
                     "floor": truth.loc[series, "q_age_years"],
                     "picture": pictures[np.rint(middle).astype(int)].astype(np.float32).ravel()})
    return pd.DataFrame(rows), index


def claimed(knees: pd.DataFrame, fold: np.ndarray) -> float:
    """Mean absolute error of: maturity as a perfect reader sees it, less how far ahead the nearest training knee is."""
    pictures, ahead = np.stack(knees["picture"]), (knees["maturity"] - knees["age_years"]).to_numpy(float)
    errors = []
    for number in np.unique(fold):
        train, scored = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        near = NearestNeighbors(n_neighbors=1, metric="correlation").fit(pictures[train])
        twin = train[near.kneighbors(pictures[scored], return_distance=False)[:, 0]]
        errors.append(knees["maturity"].to_numpy(float)[scored] - ahead[twin] - knees["age_years"].to_numpy(float)[scored])
    return float(np.abs(np.concatenate(errors)).mean())


def test_splitting_by_volume_claims_what_no_honest_model_can_reach(knees):
    table, _ = knees
    floor = float((table["floor"] - table["age_years"]).abs().mean())
    by_volume = np.arange(len(table)) % 5
    by_person = pd.factorize(table["group"])[0] % 5
    assert claimed(table, by_volume) < 0.8 * floor, "better than the best possible: a leak"
    assert claimed(table, by_person) > 1.2 * floor


def test_the_folds_keep_a_mans_visits_together(knees):
    _, index = knees
    rows = index[index["split"] == "train"]
    folds = make_folds(rows["group"], balance(rows), 5, 0)
    assert (rows.assign(fold=fold_of(rows, folds)).groupby("group")["fold"].nunique() == 1).all()
    assert rows.groupby("group")["series"].nunique().max() == 2
    twice = pd.concat([folds, folds.head(1).assign(fold=(folds["fold"].iloc[0] + 1) % 5)])
    with pytest.raises(LeakError):
        check_folds(twice, index, ["age_years"])
