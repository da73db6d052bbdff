"""Stages, phases and the hint of every pair; accuracy, confusion and kappa by hand."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from competitions.radius_ulna.decision import called_phases, confusion_table, score_table
from competitions.radius_ulna.phases import (
    ALL_TARGETS,
    APART,
    LEARNED_PHASES,
    PHASE_COLUMNS,
    PHASES,
    hint,
    most_probable,
    one_hot,
    phase_of,
    phase_probabilities,
    stage_number,
)
from radstack.core.errors import UserError


def test_the_phase_map_is_the_articles():
    radius, ulna = ([phase_of(bone, stage) for stage in range(1, last + 1)] for bone, last in (("radius", 11), ("ulna", 9)))
    assert radius == ["pre"] * 6 + ["peak"] + ["stagnation"] * 2 + ["mature"] * 2
    assert ulna == ["pre"] * 3 + ["peak"] * 2 + ["stagnation"] * 2 + ["mature"] * 2
    assert PHASE_COLUMNS == ("radius_pre", "radius_peak", "radius_stagnation", "radius_mature", "ulna_peak",
                             "ulna_stagnation", "ulna_mature")  # fmt: skip
    assert " ".join(ALL_TARGETS) == "R5 R6 R7 R8 R9 R10 R11 U4 U5 U6 U7 U8 U9"
    for bone, stage in (("radius", 12), ("radius", 0), ("ulna", 10)):
        with pytest.raises(UserError, match="is no stage"):
            phase_of(bone, stage)


@pytest.mark.parametrize("bone, text, stage", [
    ("radius", "R7", 7), ("radius", "r07", 7), ("radius", " R 7 ", 7), ("radius", "7", 7), ("radius", "7.0", 7),
    ("radius", "R11", 11), ("radius", "R12", 0), ("radius", "R0", 0), ("radius", "U7", 0), ("radius", "R7-8", 0),
    ("radius", "", 0), ("radius", "R7.5", 0), ("ulna", "U9", 9), ("ulna", "U10", 0),
])  # fmt: skip
def test_how_a_stage_may_be_written(bone, text, stage):
    assert stage_number(bone, text) == stage


def test_one_hot_columns_are_nan_without_a_label():
    hot = one_hot("ulna", np.array([4, 9, -1]))
    np.testing.assert_array_equal(hot, [[1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1], [np.nan] * 6])


def test_phases_are_sums_of_stages():
    stages = np.random.default_rng(0).dirichlet(np.ones(7), 20), np.random.default_rng(1).dirichlet(np.ones(6), 20)
    phases = phase_probabilities(np.hstack(stages))
    r, u = stages
    expected = [r[:, 0] + r[:, 1], r[:, 2], r[:, 3] + r[:, 4], r[:, 5] + r[:, 6], u[:, 0] + u[:, 1], u[:, 2] + u[:, 3],
                u[:, 4] + u[:, 5]]  # fmt: skip
    np.testing.assert_allclose(phases, np.stack(expected, 1))
    names = most_probable(phases)
    assert names["radius_phase"].tolist() == [LEARNED_PHASES["radius"][k] for k in phases[:, :4].argmax(1)]
    assert names["ulna_phase"].tolist() == [LEARNED_PHASES["ulna"][k] for k in phases[:, 4:].argmax(1)]
    with pytest.raises(UserError, match="shape .* one column each for R5"):
        phase_probabilities(r)


def test_a_phase_may_win_though_none_of_its_stages_does():
    stages = [[0.0, 0.0, 0.4, 0.3, 0.3, 0.0, 0.0, 1, 0, 0, 0, 0, 0]]
    assert most_probable(phase_probabilities(np.array(stages))).iloc[0].tolist() == ["stagnation", "peak"]


@pytest.mark.parametrize("radius, ulna, says", [
    ("peak", "peak", "start bracing"), ("stagnation", "peak", "stop bracing"), ("stagnation", "stagnation", "stop bracing"),
    ("stagnation", "mature", "stop bracing"), ("mature", "mature", "fusion surgery"), ("pre", "peak", "no brace yet"),
    ("peak", "pre", "when the ulna is"), ("peak", "stagnation", "brace stays"), ("mature", "stagnation", "once the ulna"),
    ("mature", "peak", "read again"), ("pre", "mature", "read again"),
])  # fmt: skip
def test_the_rules_of_bracing(radius, ulna, says):
    assert says in hint(radius, ulna)


def test_every_pair_has_a_hint_of_one_line_and_only_the_articles_pairs_start_or_stop():
    order = list(PHASES["radius"])
    for radius, ulna in itertools.product(PHASES["radius"], PHASES["ulna"]):
        text = hint(radius, ulna)
        assert text and "\n" not in text
        assert ("start bracing" in text) == (radius == ulna == "peak")
        assert ("stop bracing" in text) == (radius == "stagnation")
        apart = abs(order.index(radius) - order.index(ulna)) > 1
        assert (text == APART) == (apart and radius != "stagnation")
    with pytest.raises(UserError, match="'growing' is no phase of the ulna"):
        hint("peak", "growing")


# -- the decision -----------------------------------------------------------------------------------------------------


def rows(pairs: list[tuple[str, str, str, str]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Labels and sure predictions from (R true, U true, R called, U called)."""
    labels = pd.DataFrame({"id": [f"p{k}" for k in range(len(pairs))], "radius_stage": [int(p[0][1:]) for p in pairs],
                           "ulna_stage": [int(p[1][1:]) for p in pairs]})  # fmt: skip
    hot = [[0.9 if target in pair[2:] else 0.01 for target in ALL_TARGETS] for pair in pairs]
    return labels, pd.DataFrame(hot, columns=list(ALL_TARGETS)).assign(id=labels["id"])


PAIRS = [("R5", "U4", "R6", "U5"), ("R7", "U5", "R8", "U5"), ("R8", "U6", "R9", "U7"), ("R11", "U9", "R5", "U9"),
         ("R9", "U8", "R9", "U6")]  # fmt: skip


def test_accuracy_neighbors_and_confusion_by_hand():
    labels, predictions = rows(PAIRS)
    called = called_phases(labels, predictions.iloc[::-1])
    table = score_table(called).set_index("bone")
    assert table.loc["radius", ["pictures", "accuracy", "errors", "neighboring"]].tolist() == [5, 0.6, 2, 0.5]
    assert table.loc["ulna", ["accuracy", "errors", "neighboring"]].tolist() == [0.8, 1, 1]
    assert 0.2 < table.loc["radius", "accuracy_low"] < 0.6 < table.loc["radius", "accuracy_high"] < 0.9
    confusion = confusion_table(called)
    assert len(confusion) == 16 + 9 and confusion.groupby("bone")["pictures"].sum().tolist() == [5, 5]
    wrong = confusion[(confusion["truth"] != confusion["called"]) & (confusion["pictures"] > 0)]
    assert wrong.to_numpy().tolist() == [["radius", "peak", "stagnation", 1], ["radius", "mature", "pre", 1],
                                         ["ulna", "mature", "stagnation", 1]]  # fmt: skip


def test_quadratic_kappa_by_its_formula():
    called = called_phases(*rows(PAIRS))
    truth, call = np.array([0, 1, 2, 3, 2]), np.array([0, 2, 2, 0, 2])
    chance = np.mean((truth[:, None] - call[None]) ** 2)
    assert score_table(called)["kappa"].iloc[0] == pytest.approx(1 - np.mean((truth - call) ** 2) / chance)


def test_perfect_calls_and_a_single_phase_have_no_neighbor_share():
    table = score_table(called_phases(*rows([("R7", "U4", "R7", "U5"), ("R7", "U7", "R7", "U6")]))).set_index("bone")
    assert table["accuracy"].tolist() == [1, 1] and table["neighboring"].isna().all()
    assert math.isnan(table.loc["radius", "kappa"]) and table.loc["ulna", "kappa"] == 1


def test_what_cannot_be_judged_is_a_user_error():
    labels, predictions = rows(PAIRS)
    missing = predictions.assign(R5=predictions["R5"].where(predictions["id"] != "p2"))
    for pair, message in ((((labels, predictions[:4])), "p4 has no prediction"), ((labels, missing), "p2 has no prediction"),
                          ((labels, pd.concat([predictions] * 2)), "p0 is predicted twice"),
                          ((labels[:0], predictions), "no labeled picture"),
                          ((labels.assign(ulna_stage=3), predictions), "p0 is labeled U3"),
                          ((labels.assign(ulna_stage=-1, radius_stage=-1), predictions), "p0 is labeled R-1")):  # fmt: skip
        with pytest.raises(UserError, match=message):
            called_phases(*pair)


def test_a_picture_with_one_labeled_bone_is_judged_on_that_bone():
    labels, predictions = rows(PAIRS)
    called = called_phases(labels.assign(ulna_stage=-1), predictions)
    assert set(called["bone"]) == {"radius"} and len(called) == len(labels)
