"""The shift report: a planted shift is found and named, none is not, and the sizes of the real data take seconds."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from radstack.recipes.competition import Pages
from radstack.report.blocks import Figures, Table, Words
from radstack.report.shift import _distinct, blocks_of, facts_of, sentence, shift, shift_of_test


def rows(series, seed, prefix="p", slices=3, **planted):
    """Rows of ``series`` series, two a patient, taken by one law; ``planted`` replaces columns (one value a series)."""
    rng = np.random.default_rng(seed)
    one = pd.DataFrame({"series": [f"{prefix}s{place}" for place in range(series)],
                        "group": [f"{prefix}{place // 2}" for place in range(series)],
                        "spacing_row": rng.uniform(0.4, 0.6, series),
                        "kernel": rng.choice(["soft", "sharp", "bone"], series), "bits": rng.choice([12, 16], series),
                        "intercept": -1024.0, "step": rng.uniform(2, 6, series)})
    one = one.assign(**planted)
    one["spacing_column"] = one["spacing_row"] * 2
    table = one.loc[one.index.repeat(slices)].reset_index(drop=True)
    position = np.arange(len(table)) % slices
    return table.assign(id=[f"{prefix}{place}" for place in range(len(table))], z=position * table["step"], label=1)


def facts(*args, own=(), **planted):
    return facts_of(rows(*args, **planted), own)


def test_one_row_a_series_with_counted_slices_and_measured_spacing():
    table = rows(4, 0)
    table.loc[0, "bits"] = 99  # of one slice: the median stays
    found = facts_of(table.drop(index=[5]), ("step", "not_there"))
    assert list(found) == ["group", "kernel", "spacing_row", "spacing_column", "bits", "intercept", "step", "slices",
                           "spacing_slice"]
    assert found["slices"].tolist() == [3, 2, 3, 3] and found["group"].tolist() == ["p0", "p0", "p1", "p1"]
    assert found["spacing_slice"].to_numpy() == pytest.approx(found["step"])
    assert found["bits"].max() == 16
    single = facts_of(rows(4, 0, slices=1))
    assert "slices" not in single and "spacing_slice" not in single


@pytest.mark.parametrize(("planted", "named"), [
    ({"kernel": "lung"}, "kernel"), ({"spacing_row": np.linspace(0.62, 0.8, 60)}, "spacing_row = spacing_column"),
    ({"step": np.linspace(8, 9, 60)}, "spacing_slice"), ({"intercept": 0.0}, "intercept"), ({"bits": np.nan}, "bits")])
def test_a_planted_shift_is_found_and_named(planted, named):
    found = shift(facts(160, 0), facts(60, 1, "q", **planted))
    assert found.auc.value > 0.97 and found.auc.low > 0.9 and found.auc.high <= 1
    assert found.telling == [named] and found.facts["fact"][0] == named
    assert found.facts["alone"][0] > 0.97 and found.facts["shuffled"][0] > 0.3
    assert found.facts["unseen"][0] == (0 if named == "bits" else 1)
    words, tone = sentence(found)
    assert tone == "warn" and "are hardly alike" in words and f"{named} gives test away" in words


def test_a_shift_that_several_facts_tell_names_the_best_of_them_although_none_is_missed():
    """Two facts that say nearly the same: shuffling either leaves the other."""
    old, new = facts(160, 0), facts(80, 1, "q")
    for table, middle in ((old, 0), (new, 5)):
        noise = np.random.default_rng(len(table)).normal(0, 1, (2, len(table)))
        table["kvp"], table["tilt"] = middle + noise
    found = shift(old, new)
    assert found.auc.low > 0.95 and found.telling[0] in ("kvp", "tilt")


@pytest.mark.parametrize("seed", range(4))
def test_without_a_shift_the_interval_covers_chance(seed):
    found = shift(facts(160, seed), facts(80, 100 + seed, "q"))
    assert found.auc.low < 0.5 < found.auc.high and found.auc.high - found.auc.low < 0.5
    assert sentence(found, new="the clinic")[1] == "good" and found.same == ("intercept", "slices")


def test_patients_of_both_sets_are_kept_in_one_fold():
    """Each patient has a fact of his own, the same in both sets: by it a patient, never a set, could be told."""
    old, new = (facts(160, 0).assign(kvp=np.arange(160) // 2) for _ in range(2))
    found = shift(old, new)
    assert found.auc.low <= 0.5 and list(found.facts["unseen"].unique()) == [0.0]


def test_what_only_one_set_has_is_left_out_and_too_little_says_so():
    old = facts(160, 0)
    assert "kernel" not in list(shift(old, facts(60, 1, "q").drop(columns="kernel")).facts["fact"])
    (_, words), few = blocks_of(old, facts(8, 1, "q"), "clinic"), facts(8, 1, "q")
    assert isinstance(words, Words) and "10 patients of either set" in words.words and shift(few, old) is None
    assert shift(old[["group", "intercept"]], facts(60, 1, "q")[["group", "intercept"]]) is None


def test_the_blocks_of_an_applied_set_speak_of_it():
    found = list(blocks_of(facts(160, 0), facts(60, 1, "q", intercept=0.0), "clinic"))
    table = next(block for block in found if isinstance(block, Table))
    figures = next(block for block in found if isinstance(block, Figures))
    assert list(table.frame) == ["fact", "training", "clinic", "shuffled", "alone", "unseen"]
    assert table.frame.loc[0, ["training", "clinic"]].tolist() == ["-1024 100%", "0 100%"]
    assert figures.values["series compared"] == ("220", "training 160, clinic 60") and "slices" in table.note


def test_test_is_compared_with_training_by_the_competitions_own_facts_too():
    both = pd.concat([rows(60, 0).assign(split="train", share=0.2), rows(40, 1, "q").assign(split="test", share=0.4)])
    competition = SimpleNamespace(pages=Pages(acquisition=("share",)))
    shown = SimpleNamespace(localized=both, context=SimpleNamespace(competition=competition))
    words = [block.words for block in shift_of_test(shown) if isinstance(block, Words)]
    assert len(words) == 1 and "share gives test away" in words[0]
    shown.localized = both[both["split"] == "train"]
    assert not list(shift_of_test(shown))


def test_facts_that_differ_in_every_series_are_not_taken_for_one_another():
    one, other = np.random.default_rng(0).normal(size=(2, 100))
    words = np.arange(100) % 3
    found = _distinct({"a": one, "b": other, "a squared": np.exp(one), "c": words, "d": 2 - words, "e": words == 1})
    assert found == {"a": ["a squared"], "b": [], "c": ["d"], "e": []}


def test_many_series_are_drawn_from():
    table = rows(200, 0)
    few = facts_of(table, most=50)
    assert len(few) == 50 and few.equals(facts_of(table, most=50)) and len(facts_of(table, most=200)) == 200
    assert set(few["spacing_row"]) <= set(table["spacing_row"])
