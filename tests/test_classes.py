"""Classes of which one holds: losses by hand, ordinal links, the shared layer, and scores of groups."""

import math

import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn.metrics import cohen_kappa_score
from torch.nn import functional

from radstack.core.errors import UserError
from radstack.nets.backbones import SharedLinear
from radstack.nets.links import LEAST_STEP
from radstack.nets.objectives import objective as objective_of
from radstack.recipes.losses import Ordinal, SoftmaxCrossEntropy
from radstack.scoring.metrics import (
    ClassGroup,
    by_group,
    class_details,
    coarse,
    coarse_log_losses,
    error_rates,
    group_sizes,
    kappas,
    log_shares,
    shares,
)

NAMES = tuple("abcdefg")
LINKS = ["coral", "cumulative"]
EVERY = [SoftmaxCrossEntropy(groups=(4, 3)), SoftmaxCrossEntropy(groups=(4, 3), merged=(2, 2, 1, 2)), Ordinal(groups=(4, 3)),
         Ordinal(groups=(4, 3), link="cumulative")]
IDS = ["softmax", "merged", *LINKS]
LEFT = ClassGroup("left", ("low", "low", "mid", "high"))
RIGHT = ClassGroup("right", ("low", "high", "high"))
GROUPS = (LEFT, RIGHT)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)
    torch.set_num_threads(1)


def objective(recipe, targets: tuple[str, ...] = NAMES):
    return objective_of(recipe, targets)


def one_hot(*classes: int, sizes: tuple[int, ...] = (4, 3)) -> torch.Tensor:
    """One row, the class of each group by its number."""
    return torch.cat([functional.one_hot(torch.tensor(one), size) for one, size in zip(classes, sizes)])[None].float()


def random_labels(rows: int) -> torch.Tensor:
    return torch.cat([one_hot(int(torch.randint(4, ())), int(torch.randint(3, ()))) for _ in range(rows)])


# All objectives

@pytest.mark.parametrize("recipe", EVERY, ids=IDS)
def test_answers_are_probabilities_of_sum_one_in_each_group(recipe):
    made = objective(recipe)
    for scale in (0.1, 3.0, 60.0):
        answer = made.answer((torch.randn(50, made.outputs) * scale).to(torch.bfloat16))
        assert answer.shape == (50, 7) and answer.dtype == torch.float32 and (answer >= 0).all()
        for part in answer.split((4, 3), 1):
            assert part.sum(1) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("recipe", EVERY, ids=IDS)
def test_the_loss_is_the_mean_of_its_rows_finite_and_has_a_gradient(recipe):
    made, labels = objective(recipe), random_labels(20)
    for scale in (1.0, 200.0):
        out = (torch.randn(20, made.outputs) * scale).requires_grad_()
        loss, rows = made(out, labels)
        loss.backward()
        assert rows.shape == (20,) and not rows.requires_grad and loss.item() == pytest.approx(rows.mean().item())
        assert torch.isfinite(loss) and torch.isfinite(out.grad).all()
    half, _ = made(out.detach().half(), labels)
    assert half.dtype == torch.float32 and torch.isfinite(half)


@pytest.mark.parametrize("recipe", EVERY, ids=IDS)
def test_the_least_loss_is_at_the_truth(recipe):
    """Descent on the outputs of one row ends with the labels' own probabilities."""
    made, labels = objective(recipe), torch.cat([torch.tensor([[0.1, 0.2, 0.4, 0.3]]), torch.tensor([[0.2, 0.5, 0.3]])], 1)
    if getattr(recipe, "merged", ()):
        labels = torch.tensor([[0.15, 0.15, 0.35, 0.35, 0.2, 0.4, 0.4]])
    out = torch.zeros(1, made.outputs, requires_grad=True)
    optimizer = torch.optim.LBFGS([out], max_iter=200, line_search_fn="strong_wolfe")

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss, _ = made(out, labels)
        loss.backward()
        return loss

    optimizer.step(step)
    assert made.answer(out)[0].tolist() == pytest.approx(labels[0].tolist(), abs=2e-3)


@pytest.mark.parametrize("recipe", EVERY, ids=IDS)
def test_labels_and_outputs_of_another_shape_are_refused(recipe):
    made = objective(recipe)
    for outputs, targets in (((made.outputs + 1,), 7), ((made.outputs,), 6), ((made.outputs, 4, 4), 7)):
        out, labels = torch.zeros(2, *outputs), torch.zeros(2, targets)
        with pytest.raises(UserError, match=f"{made.outputs} outputs a picture and 7 targets were expected"):
            made(out, labels)


@pytest.mark.parametrize(("recipe", "message"), [
    (SoftmaxCrossEntropy(groups=(4, 4)), r"groups of \(4, 4\) classes do not make up 7 targets"),
    (SoftmaxCrossEntropy(groups=(7, 0)), "do not make up 7"),
    (SoftmaxCrossEntropy(groups=(4, 3), merged=(3, 2, 2)), r"merged \(3, 2, 2\) reaches across the groups \(4, 3\)"),
    (SoftmaxCrossEntropy(merged=(3, 3)), "do not make up 7"),
    (SoftmaxCrossEntropy(label_smoothing=1.0), "label_smoothing is 1.0"),
    (Ordinal(groups=(6, 1)), "a group of one class has no order"),
    (Ordinal(link="probit"), "no ordinal link 'probit'"),
    (Ordinal(spacing=0), "spacing is 0"),
])
def test_impossible_recipes_are_refused(recipe, message):
    with pytest.raises(UserError, match=message):
        objective(recipe)


# Softmax

def test_cross_entropy_by_hand():
    made = objective(SoftmaxCrossEntropy(groups=(2, 2)), ("a", "b", "c", "d"))
    out = torch.tensor([[0.0, math.log(3), math.log(4), 0.0]])
    assert made.answer(out)[0].tolist() == pytest.approx([0.25, 0.75, 0.8, 0.2])
    loss, _ = made(out, torch.tensor([[0.0, 1.0, 0.0, 1.0]]))
    assert loss.item() == pytest.approx(-(math.log(0.75) + math.log(0.2)) / 2)


def test_one_group_is_torchs_cross_entropy_with_and_without_smoothing():
    out, classes = torch.randn(9, 7), torch.randint(7, (9,))
    for smoothing in (0.0, 0.2):
        loss, rows = objective(SoftmaxCrossEntropy(label_smoothing=smoothing))(out, functional.one_hot(classes, 7))
        expected = functional.cross_entropy(out, classes, label_smoothing=smoothing, reduction="none")
        torch.testing.assert_close(rows, expected)
        assert loss.item() == pytest.approx(expected.mean().item())


def test_merged_classes_are_learned_as_one_and_share_equally():
    made = objective(SoftmaxCrossEntropy(groups=(4, 3), merged=(2, 1, 1, 1, 2)))
    assert made.outputs == 5 and made.groups == [3, 2]
    out = torch.tensor([[math.log(2), 0.0, 0.0, math.log(3), 0.0]])
    assert made.answer(out)[0].tolist() == pytest.approx([0.25, 0.25, 0.25, 0.25, 0.75, 0.125, 0.125])
    first, second = made(out, one_hot(0, 1))[0].item(), made(out, one_hot(1, 2))[0].item()
    assert first == second == pytest.approx(-(math.log(0.5) + math.log(0.25)) / 2)


# Ordinal

def test_coral_by_hand():
    made = objective(Ordinal(spacing=2.0), ("a", "b", "c"))
    assert made.outputs == 2 and made.shares == (2,)
    out = torch.tensor([[0.5, 0.2]])
    above = expit([0.5 + 1, 0.2 - 1])
    assert made.answer(out)[0].tolist() == pytest.approx([1 - above[0], above[0] - above[1], above[1]])
    for number, passed in enumerate(([0, 0], [1, 0], [1, 1])):
        expected = -sum(math.log(p if up else 1 - p) for p, up in zip(above, passed))
        assert made(out, one_hot(number, sizes=(3,)))[0].item() == pytest.approx(expected)


def test_coral_thresholds_out_of_order_give_no_negative_probability():
    answer = objective(Ordinal(spacing=1.0), ("a", "b", "c", "d")).answer(torch.tensor([[-3.0, 5.0, 0.0]]))[0]
    above = expit([-2.0, -2.0, -2.0])
    above[2] = min(expit(-1.0), above[0])
    assert answer.tolist() == pytest.approx([1 - above[0], 0, 0, above[2]])


def test_cumulative_by_hand():
    made = objective(Ordinal(link="cumulative", spacing=2.0), ("a", "b", "c", "d"))
    assert made.outputs == 3
    start = made.answer(torch.zeros(1, 3))[0]
    above = expit(np.array([2.0, 0.0 - LEAST_STEP, -2.0 - 2 * LEAST_STEP]))
    assert start.tolist() == pytest.approx(list(-np.diff([1, *above, 0])), abs=1e-6)
    out = torch.tensor([[0.7, 1.7, -0.3]])
    steps = np.log1p(np.exp(np.log(np.expm1(2.0)) + np.array([1.0, -1.0]))) + LEAST_STEP
    above = expit(np.array([2.7, 2.7 - steps[0], 2.7 - steps.sum()]))
    expected = -np.diff([1, *above, 0])
    assert made.answer(out)[0].tolist() == pytest.approx(list(expected), abs=1e-6)
    for number in range(4):
        assert made(out, one_hot(number, sizes=(4,)))[0].item() == pytest.approx(-math.log(expected[number]), rel=1e-4)


@pytest.mark.parametrize("link", LINKS)
def test_thresholds_start_evenly_around_zero(link):
    answer = objective(Ordinal(link=link, spacing=6.0)).answer(torch.zeros(1, 6))[0]
    assert answer.tolist() == pytest.approx(answer.flip(0).tolist(), abs=1e-3) and answer.argmax() == 3
    assert answer[3].item() == pytest.approx(expit(3) - expit(-3), abs=1e-3)


def test_a_cumulative_class_never_loses_all_its_probability():
    made = objective(Ordinal(link="cumulative"), ("a", "b", "c"))
    out = torch.tensor([[0.0, -500.0]], requires_grad=True)
    loss, _ = made(out, one_hot(1, sizes=(3,)))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(out.grad).all() and loss > 5


@pytest.mark.parametrize("link", LINKS)
def test_a_higher_score_means_higher_classes(link):
    made = objective(Ordinal(link=link))
    answers = made.answer(torch.linspace(-30, 30, 200)[:, None].expand(-1, 6) + torch.randn(6) * 0.3)
    above = 1 - answers.cumsum(1)[:, :-1]
    assert (above.diff(dim=0) >= -1e-6).all() and (above.diff(dim=1) <= 1e-6).all()
    likeliest = answers.argmax(1)
    assert (likeliest.diff() >= 0).all() and set(likeliest.tolist()) == set(range(7))


def test_the_shared_layer_has_one_weight_vector_a_group():
    layer = SharedLinear(5, (3, 2))
    assert layer.weight.shape == (2, 5) and layer.bias.shape == (5,) and layer.out_features == 5
    with torch.no_grad():
        layer.bias.copy_(torch.arange(5.0))
    out = layer(torch.randn(9, 5))
    assert out.shape == (9, 5)
    torch.testing.assert_close(out[:, 1:3] - out[:, :1], torch.tensor([1.0, 2.0]).expand(9, 2))
    torch.testing.assert_close(out[:, 4] - out[:, 3], torch.ones(9))
    assert {name for name, _ in layer.named_parameters()} == {"weight", "bias"}


@pytest.mark.parametrize("link", LINKS)
def test_an_ordinal_head_learns_the_score_and_its_thresholds(link):
    """Labels from a proportional odds law: the fit finds its slope and its uneven thresholds."""
    rng = np.random.default_rng(0)
    slope, thresholds = 3.0, np.array([-4.0, 1.0, 3.0])
    x = rng.uniform(-3, 3, 4000)
    classes = (slope * x + rng.logistic(size=4000) > thresholds[:, None]).sum(0)
    made = objective(Ordinal(link=link), ("a", "b", "c", "d"))
    layer = SharedLinear(1, made.shares)
    features, labels = torch.tensor(x, dtype=torch.float32)[:, None], functional.one_hot(torch.tensor(classes), 4)
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=300, line_search_fn="strong_wolfe")

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss, _ = made(layer(features), labels)
        loss.backward()
        return loss

    optimizer.step(step)
    assert layer.weight.item() == pytest.approx(slope, rel=0.1)
    above = 1 - made.answer(layer(torch.zeros(1, 1)))[0].cumsum(0)[:-1].double()
    assert (-above.logit()).tolist() == pytest.approx(thresholds.tolist(), abs=0.35)
    probabilities = made.answer(layer(features)).detach().numpy()
    above = expit(slope * x[:, None] - thresholds)
    best = -np.diff(np.column_stack([np.ones(4000), above, np.zeros(4000)]))
    assert np.abs(probabilities - best).mean() < 0.01
    assert probabilities.mean(0) == pytest.approx(np.bincount(classes) / 4000, abs=0.01)


# Scores of groups

def table(*rows: tuple[int, int]) -> np.ndarray:
    return np.concatenate([one_hot(*row).numpy() for row in rows]).astype(np.float64)


def test_groups_and_their_columns():
    assert group_sizes((), 7) == (7,) and group_sizes((4, 3), 7) == (4, 3)
    assert [part.tolist() for part in by_group(np.arange(7), (4, 3))] == [[0, 1, 2, 3], [4, 5, 6]]
    assert LEFT.coarse == ("low", "mid", "high")
    predicted = np.array([[0.3, 0.3, 0.4, 0.0, 0.4, 0.3, 0.3]])
    left, right = coarse(predicted, GROUPS)
    assert left == pytest.approx(np.array([[0.6, 0.4, 0.0]])) and right == pytest.approx(np.array([[0.4, 0.6]]))


def test_the_error_is_that_of_the_likeliest_coarse_class():
    truth = table((1, 0), (2, 2), (3, 1))
    predicted = np.tile([0.3, 0.3, 0.4, 0.0, 0.4, 0.3, 0.3], (3, 1))
    assert error_rates(truth, predicted, GROUPS).tolist() == [[0, 1], [1, 0], [1, 0]]
    assert coarse_log_losses(truth, predicted, GROUPS, 1e-3)[:, 0] == pytest.approx(-np.log([0.6, 0.4, 1e-3]))


def test_soft_truth_gives_the_expected_error():
    truth = np.array([[0.1, 0.2, 0.3, 0.4, 0.0, 0.5, 0.5]])
    assert error_rates(truth, table((3, 0)), GROUPS) == pytest.approx(np.array([[0.6, 1.0]]))
    assert error_rates(truth, truth, GROUPS) == pytest.approx(np.array([[0.6, 0.0]]))


def test_kappa_is_scikit_learns():
    rng = np.random.default_rng(0)
    rows = [tuple(row) for row in zip(rng.integers(0, 4, 40), rng.integers(0, 3, 40))]
    told = [(min(3, left + int(rng.random() < 0.3)), right) for left, right in rows]
    truth, predicted = table(*rows), table(*told)
    to_left, to_right = np.array([0, 0, 1, 2]), np.array([0, 1, 1])
    expected = cohen_kappa_score(to_left[[r[0] for r in rows]], to_left[[r[0] for r in told]], weights="quadratic")
    assert kappas(truth, predicted, GROUPS) == pytest.approx([expected, 1.0]) and 0.5 < expected < 1
    details = class_details(truth, predicted, GROUPS, 1e-6)
    fine = cohen_kappa_score([r[0] for r in rows], [r[0] for r in told], weights="quadratic")
    assert set(details) == {"log_loss", "kappa", "fine_loss", "fine_kappa"}
    assert details["fine_kappa"] == pytest.approx([fine, 1.0])
    assert details["fine_loss"][0] == pytest.approx(np.mean([a != b for a, b in zip(rows, told)]))
    assert details["fine_loss"][0] > error_rates(truth, predicted, GROUPS)[:, 0].mean()
    assert to_right[0] == 0 and np.isnan(kappas(table((0, 0)), table((0, 0)), GROUPS)).all()


def test_a_group_without_answer_has_no_score_and_spares_the_other():
    truth, predicted = table((0, 1), (2, 2)), table((0, 1), (3, 2))
    predicted[:, 4:] = np.nan
    losses = error_rates(truth, predicted, GROUPS)
    assert losses[:, 0].tolist() == [0, 1] and np.isnan(losses[:, 1]).all()
    details = class_details(truth, predicted, GROUPS, 1e-6)
    assert all(np.isfinite(values[0]) and np.isnan(values[1]) for values in details.values())


def test_what_is_no_probability_is_refused():
    truth = table((0, 1), (2, 2))
    for place, value, name in ((0, 0.5, "left"), (5, np.nan, "right"), (6, -1.0, "right")):
        broken = truth.copy()
        broken[1, place] += value
        with pytest.raises(UserError, match=f"row 1 has .* for {name}: no probabilities of sum 1"):
            error_rates(truth, broken, GROUPS)
    with pytest.raises(UserError, match="some rows have no label"):
        error_rates(np.where(truth > 0, np.nan, 0), truth, GROUPS)
    with pytest.raises(UserError, match=r"do not fit predictions of shape \(1, 7\)"):
        error_rates(truth, truth[:1], GROUPS)
    with pytest.raises(UserError, match="do not make up 6 targets"):
        error_rates(truth[:, :6], truth[:, :6], GROUPS)


def test_the_link_and_back():
    p = np.random.default_rng(0).dirichlet(np.ones(4), 5)
    both = np.concatenate([p, p[:, :3] / p[:, :3].sum(1, keepdims=True)], axis=1)
    assert shares(log_shares(both, 1e-6), (4, 3)) == pytest.approx(both)
    assert shares(log_shares(both.astype(np.float32), 1e-6).astype(np.float32), (4, 3)).dtype == np.float32
    both[:, 4:] = np.nan
    back = shares(log_shares(both, 1e-6), (4, 3))
    assert back[:, :4] == pytest.approx(p) and np.isnan(back[:, 4:]).all()
