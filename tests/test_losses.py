"""The training loss equals the metric, in fp32, with the rare class and smoothing as written."""

import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from radstack.core.errors import UserError
from radstack.nets.objectives import objective
from radstack.recipes.losses import BinaryCrossEntropy

TARGETS = ("epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural", "any")


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(32, 6, generator=generator) * 3, (torch.rand(32, 6, generator=generator) < 0.3).float()


def test_rsna_weights_are_six_means_and_any_over_seven(batch):
    logits, labels = batch
    loss, rows = objective(BinaryCrossEntropy(class_weights=(1, 1, 1, 1, 1, 2)), TARGETS)(logits, labels)
    expected = (6 * bce(logits, labels) + bce(logits[:, 5], labels[:, 5])) / 7
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(rows.mean(), loss)


def test_hand_computed_row():
    # p = .5, .75 with labels 1, 0 and weights 1, 3: (ln 2 + 3 ln 4) / 4
    loss, rows = objective(BinaryCrossEntropy(class_weights=(1, 3)), ("a", "b"))(
        torch.tensor([[0.0, math.log(3)]]), torch.tensor([[1.0, 0.0]]))
    assert loss.item() == pytest.approx((math.log(2) + 3 * math.log(4)) / 4)
    assert rows.shape == (1,)


def test_equal_weights_by_default(batch):
    torch.testing.assert_close(objective(BinaryCrossEntropy(), TARGETS)(*batch)[0], bce(*batch))


def test_rare_positives_weigh_more_and_only_they(batch):
    logits, labels = batch
    plain = objective(BinaryCrossEntropy(), TARGETS)(logits, labels)[1]
    rare = objective(BinaryCrossEntropy(rare_class="epidural", rare_weight=4.0), TARGETS)(logits, labels)[1]
    extra = 3 * bce(logits[:, 0], labels[:, 0], reduction="none") / 6 * labels[:, 0]
    assert extra.sum() > 0
    torch.testing.assert_close(rare - plain, extra)


def test_label_smoothing_moves_the_best_answer(batch):
    smooth = objective(BinaryCrossEntropy(label_smoothing=0.1), ("a",))
    best = torch.tensor([[math.log(0.95 / 0.05)]], requires_grad=True)
    smooth(best, torch.ones(1, 1))[0].backward()
    assert best.grad.abs().item() < 1e-6
    torch.testing.assert_close(objective(BinaryCrossEntropy(label_smoothing=0.1), TARGETS)(*batch)[0],
                               bce(batch[0], batch[1] * 0.9 + 0.05))


def test_soft_labels(batch):
    soft = torch.full((32, 6), 0.25)
    torch.testing.assert_close(objective(BinaryCrossEntropy(), TARGETS)(batch[0], soft)[0], bce(batch[0], soft))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_computed_in_float32(dtype):
    logits = torch.tensor([[12.0, -12.0]], dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16):
        loss, rows = objective(BinaryCrossEntropy(), ("a", "b"))(logits, torch.tensor([[1, 0]]))
    assert loss.dtype == rows.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log1p(math.exp(-12)), abs=1e-6)


def test_rows_point_at_the_bad_one(batch):
    logits, labels = batch
    logits = logits.clone()
    logits[7, 2] = float("nan")
    loss, rows = objective(BinaryCrossEntropy(), TARGETS)(logits, labels)
    assert not loss.isfinite()
    assert (~rows.isfinite()).nonzero().flatten().tolist() == [7]


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        (BinaryCrossEntropy(class_weights=(1, 2)), "must be 6 numbers"),
        (BinaryCrossEntropy(class_weights=(0,) * 6), "not all 0"),
        (BinaryCrossEntropy(class_weights=(1, 1, 1, 1, 1, -2)), "none negative"),
        (BinaryCrossEntropy(rare_class="epidurall"), "did you mean 'epidural'"),
        (BinaryCrossEntropy(rare_weight=0.0), "above 0"),
        (BinaryCrossEntropy(label_smoothing=1.0), "label_smoothing"),
    ],
)
def test_impossible_recipes(recipe, says):
    with pytest.raises(UserError, match=says):
        objective(recipe, TARGETS)
