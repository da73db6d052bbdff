"""What outputs mean: losses by hand, expectation against regression, distributions, overlap, points; all in fp32."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from radstack.core.errors import UserError
from radstack.nets.objectives import BinaryCrossEntropyObjective, objective
from radstack.recipes.losses import BinaryCrossEntropy, Expectation, HeatMaps, Jaccard, Points, Regression

AGE, TWO = ("age",), ("age", "height")
EVERY = [BinaryCrossEntropy(), Regression(), Expectation(), Expectation(divergence=0.5), Jaccard(), Points()]
IDS = ["bce", "value", "expectation", "distribution", "mask", "points"]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def example(recipe, batch: int = 4):
    """Objective, outputs and labels of fitting shapes."""
    made = objective(recipe, () if isinstance(recipe, Jaccard) else TWO)
    if isinstance(recipe, Jaccard):
        return made, torch.randn(batch, 1, 6, 5) * 3, (torch.rand(batch, 6, 5) < 0.4).byte()
    labels = torch.rand(batch, 2)
    if not isinstance(recipe, BinaryCrossEntropy):
        labels = labels * 2 - 1 if isinstance(recipe, Points) else 1 + 227 * labels
    return made, torch.randn(batch, made.outputs), labels


def one_hot_logits(values: torch.Tensor, first: int = 1, last: int = 240) -> torch.Tensor:
    """Logits of a softmax that is 1 at each of the whole ``values`` [batch, targets]."""
    logits = torch.full((*values.shape, last - first + 1), -200.0)
    return logits.scatter(2, (values.long() - first)[..., None], 0.0).flatten(1)


def test_numbers_a_row():
    outputs = [objective(recipe, TWO).outputs for recipe in (BinaryCrossEntropy(), Regression(), Points(), Expectation())]
    assert outputs == [2, 2, 2, 480] and objective(Expectation(first=0, last=10), AGE).outputs == 11
    assert objective(Jaccard(), ()).outputs == objective(Jaccard(), ("0",)).outputs == 1
    assert isinstance(objective(BinaryCrossEntropy(), AGE), BinaryCrossEntropyObjective)


def test_bce_answers_probabilities():
    answer = objective(BinaryCrossEntropy(), TWO).answer(torch.tensor([[0.0, math.log(3)]], dtype=torch.bfloat16))
    assert answer.dtype == torch.float32 and answer[0].tolist() == pytest.approx([0.5, 0.75], abs=1e-3)


def test_value_by_hand():
    value = objective(Regression(center=120, scale=60), TWO)
    out, labels = torch.tensor([[0.0, 1.0], [-1.0, 0.5]]), torch.tensor([[150.0, 180.0], [60.0, 120.0]])
    loss, rows = value(out, labels)
    assert rows.tolist() == pytest.approx([0.25, 0.25]) and loss.item() == pytest.approx(0.25)
    assert value.answer(out).tolist() == [[120, 180], [60, 150]]
    assert (value.answer(out) - labels).abs().mean() / 60 == pytest.approx(loss.item())


def test_the_expectation_head_is_the_regression_head_on_one_hot_logits():
    labels, told = torch.tensor([[1.0, 228.0], [97.0, 12.0]]), torch.tensor([[5.0, 240.0], [97.0, 1.0]])
    expectation, value = objective(Expectation(), TWO), objective(Regression(), TWO)
    logits, out = one_hot_logits(told), (told - 120) / 120
    torch.testing.assert_close(expectation.answer(logits), value.answer(out), rtol=0, atol=1e-4)
    for made, expected in zip(expectation(logits, labels), value(out, labels)):
        torch.testing.assert_close(made, expected)


def test_expectation_is_the_mean_of_the_softmax_in_the_targets_unit():
    expectation = objective(Expectation(first=10, last=12, scale=2.0), AGE)
    logits = torch.tensor([[0.0, math.log(2), 0.0]])
    assert expectation.answer(logits).item() == pytest.approx(11)
    assert expectation.answer(torch.tensor([[0.0, 0.0, math.log(2)]])).item() == pytest.approx((10 + 11 + 24) / 4)
    assert expectation(logits, torch.tensor([[14.0]]))[0].item() == pytest.approx(1.5)


def test_the_gaussian_is_the_density_at_the_classes():
    made = objective(Expectation(divergence=1.0, spread=4.0), AGE).log_gaussian(torch.tensor([[50.3], [1.0]])).exp()
    classes = np.arange(1, 241)
    np.testing.assert_allclose(made[0, 0], norm.pdf(classes, 50.3, 4), atol=1e-6)
    cut = norm.pdf(classes, 1, 4)
    np.testing.assert_allclose(made[1, 0], cut / cut.sum(), atol=1e-6)


def test_divergence_by_hand():
    recipe = Expectation(first=1, last=3, scale=1.0, divergence=2.0, spread=1.0)
    gaussian = np.exp([-0.5, 0, -0.5]) / np.exp([-0.5, 0, -0.5]).sum()
    share = np.array([0.5, 0.25, 0.25])
    expected = abs(1.75 - 2) + 2 * (gaussian * np.log(gaussian / share)).sum()
    loss, _ = objective(recipe, AGE)(torch.from_numpy(np.log(share))[None], torch.tensor([[2.0]]))
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("divergence", "apart"), [(1.0, (0.0, 0.05)), (0.0, (0.5, 2.0))])
def test_the_divergence_pulls_the_softmax_to_the_gaussian(divergence, apart):
    # Without it the expectation is right as well, and the shares are anything with that mean.
    made = objective(Expectation(last=60, divergence=divergence, spread=3.0), AGE)
    logits, label = (torch.randn(1, 60) * 2).requires_grad_(), torch.tensor([[20.0]])
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        made(logits, label)[0].backward()
        optimizer.step()
    shares = logits.detach().softmax(1)
    distance = (shares - made.log_gaussian(label)[0].exp()).abs().sum().item()
    assert apart[0] <= distance <= apart[1]
    assert made.answer(logits.detach()).item() == pytest.approx(20, abs=1.0)


def test_overlap_by_hand():
    p, y = torch.tensor([[0.9, 0.2], [0.6, 0.1]]), torch.tensor([[1, 0], [1, 0]])
    entropy = -(math.log(0.9) + math.log(0.8) + math.log(0.6) + math.log(0.9)) / 4
    both = 0.9 + 0.6
    expected = entropy - math.log(both / (2 + 1.8 - both))
    loss, rows = objective(Jaccard(), ())(p.logit()[None, None], y[None])
    assert loss.item() == pytest.approx(expected, rel=1e-5) and rows.tolist() == pytest.approx([expected], rel=1e-5)


def test_overlap_of_each_pixel_and_none_by_hand():
    p, y = torch.tensor([[0.9, 0.2], [0.6, 0.1]]), torch.tensor([[1, 0], [1, 0]])
    entropy = -(math.log(0.9) + math.log(0.8) + math.log(0.6) + math.log(0.9)) / 4
    for over, expected in (("pixel", entropy - math.log((0.9 + 0.6) / 4)), ("nothing", entropy)):
        loss, _ = objective(Jaccard(over=over), ())(p.logit()[None, None], y[None])
        assert loss.item() == pytest.approx(expected, rel=1e-5)
    with pytest.raises(UserError, match="no area for loss.over, 'pixels'.*'pixel'"):
        objective(Jaccard(over="pixels"), ())


def test_overlap_is_each_pictures_own_and_least_for_the_right_mask():
    made, logits, labels = example(Jaccard())
    rows = made(logits, labels)[1]
    alone = torch.cat([made(logits[k:k + 1], labels[k:k + 1])[1] for k in range(4)])
    torch.testing.assert_close(rows, alone)
    right = (labels[:, None].float() * 2 - 1) * 30
    assert made(right, labels)[0] < 1e-5 < made(-right, labels)[0]
    torch.testing.assert_close(made(logits, labels.float())[0], made(logits, labels)[0])


def test_overlap_of_an_empty_mask_and_of_an_empty_answer_is_finite():
    made = objective(Jaccard(), ())
    for logit in (-200.0, 0.0, 200.0):
        for label in (0, 1):
            logits = torch.full((1, 1, 256, 256), logit, requires_grad=True)
            loss, _ = made(logits, torch.full((1, 256, 256), label))
            loss.backward()
            assert loss.isfinite() and logits.grad.isfinite().all()
    assert made(torch.full((1, 1, 8, 8), -200.0), torch.zeros(1, 8, 8))[0].item() == pytest.approx(0, abs=1e-6)


def test_overlap_answers_maps():
    made, logits, _ = example(Jaccard())
    assert made.answer(logits.half()).shape == (4, 6, 5) and made.answer(logits.half()).dtype == torch.float32
    torch.testing.assert_close(made.answer(logits), logits[:, 0].sigmoid())


def test_points_by_hand():
    points = objective(Points(), ("x", "y"))
    out, labels = torch.tensor([[0.5, -0.5]]), torch.tensor([[0.0, 0.5]])
    assert points(out, labels)[0].item() == pytest.approx((0.25 + 1) / 2)
    assert torch.equal(points.answer(out), out)


@pytest.mark.parametrize("recipe", EVERY, ids=IDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_fp32_and_finite_gradients_at_the_ends_of_half_precision(recipe, dtype):
    made, out, labels = example(recipe)
    for size in (1e-4, 1.0, 3e4):
        half = (out * size).clamp(-6e4, 6e4).to(dtype).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            loss, rows = made(half, labels)
            answer = made.answer(half)
        loss.backward()
        assert loss.dtype == rows.dtype == answer.dtype == torch.float32
        assert loss.isfinite() and half.grad.isfinite().all() and answer.isfinite().all()
        torch.testing.assert_close(loss, made(half.detach().float(), labels)[0])


@pytest.mark.parametrize("recipe", EVERY, ids=IDS)
def test_rows_average_to_the_loss_and_name_the_bad_one(recipe):
    made, out, labels = example(recipe)
    loss, rows = made(out.requires_grad_(), labels)
    torch.testing.assert_close(rows.mean(), loss)
    assert rows.shape == (4,) and loss.requires_grad and not rows.requires_grad
    spoiled = out.detach().clone()
    spoiled[2].view(-1)[0] = float("nan")
    rows = made(spoiled, labels)[1]
    assert (~rows.isfinite()).nonzero().flatten().tolist() == [2]


@pytest.mark.parametrize("recipe", EVERY, ids=IDS)
def test_nothing_of_an_objective_is_saved_with_weights(recipe):
    assert example(recipe)[0].state_dict() == {}


@pytest.mark.parametrize(
    ("recipe", "targets", "says"),
    [
        (Regression(), (), "at least one target"),
        (BinaryCrossEntropy(), (), "at least one target"),
        (Points(), (), "at least one target"),
        (Points(), ("x", "y", "u"), "x and y of each"),
        (Jaccard(), TWO, "one mask"),
        (Regression(scale=0.0), AGE, "loss.scale is 0.0"),
        (Expectation(scale=-1.0), AGE, "loss.scale"),
        (Expectation(spread=0.0), AGE, "loss.spread"),
        (Expectation(divergence=-1.0), AGE, "divergence of 0 or more"),
        (Expectation(first=5, last=5), AGE, "first below last"),
        (Jaccard(smooth=0.0), (), "loss.smooth"),
    ],
)
def test_impossible_recipes(recipe, targets, says):
    with pytest.raises(UserError, match=says) as error:
        objective(recipe, targets)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("recipe", "targets", "out", "labels"),
    [
        (Jaccard(), (), (2, 1), (2, 8, 8)),
        (Jaccard(), (), (2, 1, 4, 4), (2, 8, 8)),
        (Regression(), AGE, (2, 1, 8, 8), (2, 1)),
        (Regression(), AGE, (2, 2), (2, 1)),
        (Points(), ("x", "y"), (2, 2, 8, 8), (2, 2)),
        (Expectation(), AGE, (2, 1), (2, 1)),
    ],
)
def test_outputs_that_do_not_fit_the_labels_are_not_broadcast(recipe, targets, out, labels):
    with pytest.raises(UserError, match="the network gives"):
        objective(recipe, targets)(torch.zeros(out), torch.zeros(labels))


def maps_around(points: torch.Tensor, size: tuple[int, int], width: float) -> torch.Tensor:
    """Logits [batch, points, height, width] whose softmax is a Gaussian around ``points`` [batch, 2 * points]."""
    axes = [torch.arange(length, dtype=torch.float32) for length in size]
    y, x = torch.meshgrid(*axes, indexing="ij")
    half = (torch.tensor([size[1], size[0]], dtype=torch.float32) - 1) / 2
    at = (points.unflatten(1, (-1, 2)) + 1) * half
    return -0.5 * ((x - at[..., 0, None, None]) ** 2 + (y - at[..., 1, None, None]) ** 2) / width**2


def test_points_on_maps_are_read_between_pixels_and_a_gaussian_is_the_least_loss():
    points = torch.tensor([[0.1, -0.33, 0.5, 0.21]])
    loss = objective(HeatMaps(width=2.0), ("ax", "ay", "bx", "by"))
    assert loss.outputs == 2
    right = maps_around(points, (40, 60), 2.0)
    torch.testing.assert_close(loss.answer(right), points, atol=1e-3, rtol=0)
    best, rows = loss(right, points)
    assert rows.shape == (1,)
    for other in (maps_around(points, (40, 60), 4.0), maps_around(points + 0.1, (40, 60), 2.0), torch.zeros_like(right)):
        assert loss(other, points)[0] > best
    half = right.half().requires_grad_()
    loss(half, points)[0].backward()
    assert torch.isfinite(half.grad).all()


def test_points_on_maps_refuse_an_odd_number_of_coordinates_and_other_shapes():
    with pytest.raises(UserError, match="no list of points"):
        objective(HeatMaps(), ("x", "y", "z"))
    with pytest.raises(UserError, match="the network gives"):
        objective(HeatMaps(), ("x", "y"))(torch.zeros(2, 3, 8, 8), torch.zeros(2, 2))


def test_a_loss_without_an_objective_says_where_to_add_one():
    class Mine(BinaryCrossEntropy):
        """A loss of one's own."""

    with pytest.raises(UserError, match="Mine has no objective; write the class MineObjective in radstack.nets.objectives"):
        objective(Mine(), ("finding",))


def test_a_loss_of_a_competition_is_computed_in_a_module_of_its_own(tmp_path, monkeypatch):
    class Huber(Regression):
        """A loss whose objective is none of the library's."""

        objective_in = "own_objectives"

    (tmp_path / "own_objectives.py").write_text(
        "from radstack.nets.objectives import RegressionObjective\n\n\n"
        "class HuberObjective(RegressionObjective):\n"
        "    def rows(self, out, labels):\n"
        "        return (out.float() - self._scaled(labels)).abs().clamp(max=1).mean(1)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    made = objective(Huber(center=0.0, scale=1.0), ("months",))
    assert made(torch.tensor([[5.0], [0.5]]), torch.zeros(2, 1))[1].tolist() == [1.0, 0.5]
