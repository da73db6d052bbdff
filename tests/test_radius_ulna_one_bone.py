"""A picture whose one bone has no usable stage serves the other: labels, loss and scores."""

import numpy as np
import pandas as pd
import pytest
import torch

from competitions import load
from competitions.radius_ulna.cases import label
from competitions.radius_ulna.decision import called_phases
from competitions.radius_ulna.phases import ALL_TARGETS, TARGETS
from radstack.core.errors import UserError
from radstack.core.recipe import change
from radstack.nets.objectives import objective
from radstack.recipes.losses import Ordinal, SoftmaxCrossEntropy
from radstack.scoring.metrics import error_rates

TINY = {"convs": ((4, 3), (4, 3), (4, 3), (4, 3)), "dense": (16,), "dropout": 0.0, "padding": "same"}
SIZES = (7, 6)


def metric():
    return load("radius_ulna", demo=True).metric


def hot(radius: int, ulna: int) -> list[float]:
    """Labels by place of the stage; -1 for none."""
    places = zip((radius, ulna), SIZES)
    return [np.nan if place < 0 else float(place == one) for place, size in places for one in range(size)]


def test_a_row_of_one_label_is_scored_by_that_label():
    truth, said = np.array([hot(2, 1), hot(4, -1), hot(-1, 3)]), np.array([hot(2, 5), hot(4, 0), hot(0, 0)])
    assert np.isnan(error_rates(truth, said, metric().groups)).tolist() == [[False, False], [False, True], [True, False]]
    assert metric().row_losses(truth, said).tolist() == [0.5, 0.0, 1.0] and metric().score(truth, said) == 0.5
    assert metric().target_losses(truth, said).tolist() == [0.0, 1.0]
    details = metric().details(truth, said, ALL_TARGETS)
    assert details["loss radius"] == 0 and details["kappa radius"] == 1 and np.isfinite(list(details.values())).all()
    alone = np.where(np.arange(13) < 7, said, np.nan)
    assert np.isnan(metric().score(truth, alone)) and metric().target_losses(truth, alone)[0] == 0
    with pytest.raises(UserError, match="some rows have no label"):
        metric().score(np.array([hot(-1, -1)]), said[:1])
    assert metric().usable(np.array([hot(1, -1), hot(-1, -1)])).tolist() == [True, False]


@pytest.mark.parametrize("loss", [Ordinal(SIZES, "coral"), Ordinal(SIZES, "cumulative"), SoftmaxCrossEntropy(SIZES)])
def test_a_blank_label_moves_no_weight(loss):
    judge = objective(loss, ALL_TARGETS)
    out = torch.randn(2, judge.outputs, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.tensor([hot(2, -1), hot(2, 1)], dtype=torch.float32)
    total, rows = judge(out, labels)
    total.backward()
    radius = judge.parts[0]
    assert torch.isfinite(rows).all() and torch.isfinite(out.grad).all()
    assert (out.grad[0, radius:] == 0).all() and out.grad[0, :radius].abs().sum() > 0
    assert out.grad[1, radius:].abs().sum() > 0
    alone = objective(change(loss, groups=SIZES[:1]), TARGETS["radius"])
    assert float(rows[0]) == pytest.approx(float(alone(out[:1, :radius].detach(), labels[:1, :7])[0]))


def test_a_bone_without_a_label_is_called_nowhere():
    labels = pd.DataFrame({"id": ["a", "b"], "radius_stage": [7, -1], "ulna_stage": [-1, 5]})
    said = pd.DataFrame([hot(2, 1)] * 2, columns=ALL_TARGETS).assign(id=["a", "b"])
    assert called_phases(labels, said)[["id", "bone", "called"]].to_numpy().tolist() == [
        ["a", "radius", "peak"], ["b", "ulna", "peak"]]
    row = pd.Series(hot(2, -1), ALL_TARGETS)
    assert (label(row, "radius"), label(row, "ulna")) == ("R7 (peak)", "none")
    with pytest.raises(UserError, match="a is labeled R-1"):
        called_phases(labels.assign(radius_stage=-1, ulna_stage=-1), said)
