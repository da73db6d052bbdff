"""Metrics against numbers worked out by hand and published ones; bootstrap against the theory."""

import math

import numpy as np
import pandas as pd
import pytest
from members import prior_log_loss
from sklearn.metrics import log_loss

from radstack.core.errors import UserError
from radstack.scoring import metrics
from radstack.scoring.intervals import conformal, difference, group_sums, interval, intervals, standard_error
from radstack.scoring.task import Metric, Task

RSNA = (1, 1, 1, 1, 1, 2)
STAGE_1 = np.array([2761, 32564, 23766, 32122, 42496, 97103]) / 674258
STAGE_2 = np.array([3145, 36118, 26205, 35675, 47166, 107933]) / 752803


def test_weighted_log_loss_by_hand() -> None:
    truth = np.array([[0, 1], [1, 1]])
    p = np.array([[0.2, 0.9], [0.5, 0.25]])
    first = (-math.log(0.8) - 2 * math.log(0.9)) / 3
    second = (-math.log(0.5) - 2 * math.log(0.25)) / 3
    assert metrics.weighted_log_loss(truth, p, (1, 2)) == pytest.approx((first + second) / 2, abs=1e-15)
    assert metrics.row_log_losses(truth, p, (5, 10)) == pytest.approx([first, second], abs=1e-15)


def test_class_vector_of_the_source_article_weighs_any_twice() -> None:
    any_first = np.array([0.115454, 0.019861, 0.0951, 0.07395, 0.03101, 0.052185])
    weights = metrics.normalized((2, 1, 1, 1, 1, 1))
    assert any_first @ weights == pytest.approx(0.07186, abs=5e-6)
    # Rows whose cross-entropies are those numbers score the same; equal weights (a winner's bug) do not.
    truth, p = np.ones((1, 6)), np.exp(-any_first)[None]
    assert metrics.weighted_log_loss(truth, p, (2, 1, 1, 1, 1, 1)) == pytest.approx(0.07186, abs=5e-6)
    assert metrics.weighted_log_loss(truth, p, [1] * 6) == pytest.approx(0.06459, abs=5e-6)


@pytest.mark.parametrize(("prevalence", "score"), [(STAGE_1, 0.2320), (STAGE_2, 0.2311)])
def test_constant_prior_of_rsna_2019(prevalence: np.ndarray, score: float) -> None:
    assert prior_log_loss(prevalence, RSNA) == pytest.approx(score, abs=5e-5)


def test_one_half_everywhere() -> None:
    truth = np.random.default_rng(0).integers(0, 2, (50, 6))
    assert metrics.weighted_log_loss(truth, np.full((50, 6), 0.5), RSNA) == pytest.approx(math.log(2))


@pytest.mark.parametrize(("clip", "cost"), [(1e-15, 34.539), (1e-6, 13.816), (1e-5, 11.513)])
def test_float32_trap(clip: float, cost: float) -> None:
    """1 - 1e-15 is 1 in float32; a confident miss must stay finite and cost what the clip says."""
    sure = np.array([[np.float32(1 - 1e-15)]], dtype=np.float32)
    assert sure[0, 0] == 1
    assert metrics.weighted_log_loss(np.zeros((1, 1)), sure, (1,), clip) == pytest.approx(cost, abs=2e-2)
    assert metrics.weighted_log_loss(np.ones((1, 1)), 1 - sure, (1,), clip) == pytest.approx(cost, abs=1e-3)


def test_agrees_with_sklearn() -> None:
    rng = np.random.default_rng(1)
    truth, p = rng.integers(0, 2, (200, 2)), rng.random((200, 2))
    expected = [log_loss(truth[:, c], p[:, c]) for c in (0, 1)]
    assert metrics.log_losses(truth, p).mean(axis=0) == pytest.approx(expected)


def test_bad_predictions_are_refused() -> None:
    truth = np.zeros((2, 1))
    for bad in (np.nan, 1.2, -3.0):
        with pytest.raises(UserError, match="not a probability"):
            metrics.weighted_log_loss(truth, np.array([[0.5], [bad]]), (1,))
    with pytest.raises(UserError, match="no label"):
        metrics.weighted_log_loss(np.array([[np.nan]]), np.array([[0.5]]), (1,))
    with pytest.raises(UserError, match="join them by id"):
        metrics.weighted_log_loss(np.zeros((3, 1)), np.zeros((2, 1)), (1,))
    with pytest.raises(UserError, match="positive sum"):
        metrics.normalized((0, 0))


def test_auc_by_hand_and_undefined() -> None:
    truth = np.array([[0, 0], [0, 0], [1, 0], [1, 0]])
    p = np.array([[0.1, 0.1], [0.4, 0.2], [0.35, 0.3], [0.8, 0.4]])
    first, second = metrics.class_aucs(truth, p)
    assert first == pytest.approx(0.75)
    assert math.isnan(second)


def test_efficiency() -> None:
    assert metrics.efficiency(0.1, constant=0.2, floor=0.05) == pytest.approx(2 / 3)
    assert metrics.efficiency(0.2, constant=0.2, floor=0.05) == 0


def test_reliability_and_calibration_error_by_hand() -> None:
    p = np.array([0.05, 0.05, 0.95, 1.0])
    y = np.array([0, 1, 1, 1])
    table = metrics.reliability(y, p)
    assert table[["low", "high", "count", "observed"]].to_numpy().tolist() == [[0, 0.1, 2, 0.5], [0.9, 1, 2, 1]]
    assert table["predicted"].tolist() == pytest.approx([0.05, 0.975])
    assert metrics.calibration_error(y, p) == pytest.approx((0.45 + 0.025) / 2)


def test_calibration_error_of_calibrated_predictions_is_small() -> None:
    rng = np.random.default_rng(2)
    p = rng.random(100_000)
    y = rng.random(100_000) < p
    assert metrics.calibration_error(y, p) < 0.01
    assert metrics.calibration_error(y, p**2) > 0.1


def test_interval_covers_as_often_as_it_says() -> None:
    """Slices of a patient are almost copies: an interval over slices would cover far less often."""
    rng, hits, naive = np.random.default_rng(3), 0, 0
    for trial in range(200):
        patients = rng.normal(1.0, 1.0, 60)
        groups = np.repeat(np.arange(60), 10)
        losses = patients[groups] + rng.normal(0, 0.1, 600)
        found = interval(losses, groups, draws=300, seed=trial)
        rows = interval(losses, np.arange(600), draws=100, seed=trial)
        hits += found.low <= 1.0 <= found.high
        naive += rows.low <= 1.0 <= rows.high
    assert 0.88 <= hits / 200 <= 0.99
    assert naive / 200 < 0.7


def test_paired_difference_is_narrower_and_signed() -> None:
    rng = np.random.default_rng(4)
    groups = np.repeat(np.arange(100), 5)
    hard = rng.exponential(1.0, 100)[groups]
    worse, better = hard + 0.05 + rng.normal(0, 0.02, 500), hard
    gain = difference(worse, better, groups)
    assert gain.excludes_zero and gain.value == pytest.approx(0.05, abs=0.01)
    assert gain.high - gain.low < 0.1 * (interval(worse, groups).high - interval(worse, groups).low)
    assert not difference(better, better + rng.normal(0, 1, 500), groups).excludes_zero


def test_interval_is_repeatable_and_standard_error_agrees() -> None:
    rng = np.random.default_rng(5)
    groups = rng.integers(0, 300, 3000)
    losses = rng.exponential(1.0, 300)[groups]
    found = interval(losses, groups, draws=2000, seed=7)
    assert found == interval(losses, groups, draws=2000, seed=7)
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(standard_error(losses, groups), rel=0.1)


def test_intervals_at_once_are_those_of_resampled_patients_one_by_one() -> None:
    """By the definition: patients drawn with replacement, their rows pooled, as many draws, the same random numbers."""
    rng = np.random.default_rng(5)
    group = rng.permutation(np.repeat(np.arange(70), rng.integers(1, 9, 70)))
    losses, few = rng.exponential(1, (3, len(group))), np.arange(len(group)) < 40
    found = intervals([*(group_sums(one, group) for one in losses), group_sums(losses[0][few], group[few])], draws=90)
    assert found == [*(interval(one, group, draws=90) for one in losses), interval(losses[0][few], group[few], draws=90)]
    for model, (own, rows) in zip(found, [*((one, group) for one in losses), (losses[0][few], group[few])], strict=True):
        patients, random = [own[rows == name] for name in pd.unique(rows)], np.random.default_rng(0)
        scores = [np.concatenate([patients[pick] for pick in random.integers(len(patients), size=len(patients))]).mean()
                  for _ in range(90)]
        expected = (own.mean(), *np.quantile(scores, [0.025, 0.975]))
        assert (model.value, model.low, model.high) == pytest.approx(expected, rel=1e-12)


def test_an_infinite_loss_spoils_its_own_interval_alone() -> None:
    group, losses = np.arange(30) // 3, np.random.default_rng(1).random((2, 30))
    losses[1, 4] = np.inf
    found = intervals([group_sums(one, group) for one in losses])
    assert found[0] == interval(losses[0], group) and found[1].value == np.inf
    assert np.isnan([found[1].low, found[1].high]).all()


def test_interval_of_one_patient_is_undefined_not_zero() -> None:
    found = interval(np.array([1.0, 2.0]), np.array(["a", "a"]))
    assert found.value == 1.5 and math.isnan(found.low) and math.isnan(found.high) and not found.excludes_zero
    with pytest.raises(UserError, match="one loss and one group"):
        interval(np.zeros(3), np.zeros(2))


def test_a_thousand_draws_of_750k_rows() -> None:
    rng = np.random.default_rng(6)
    groups, losses = rng.integers(0, 18_938, 752_803), rng.random(752_803)
    found = interval(losses, groups)
    error = np.sqrt(1 / 12 / len(losses))  # groups say nothing here: that of as many numbers from 0 to 1
    assert found.value == pytest.approx(losses.mean())
    assert (found.value - found.low, found.high - found.value) == pytest.approx((1.96 * error, 1.96 * error), rel=0.15)


# Metrics by name

def test_the_log_loss_of_a_metric_is_the_formula_to_the_bit() -> None:
    rng = np.random.default_rng(7)
    truth, p = rng.integers(0, 2, (100, 6)), rng.random((100, 6))
    metric = Metric("weighted log loss", RSNA)
    assert (metric.row_losses(truth, p) == metrics.row_log_losses(truth, p, RSNA)).all()
    assert metric.score(truth, p) == metrics.weighted_log_loss(truth, p, RSNA)
    assert metric.unlink(metric.link(p)) == pytest.approx(p)
    labels = pd.DataFrame(truth, columns=list("abcdef"))
    assert metric.constant(labels).tolist() == pytest.approx(truth.mean(axis=0))
    details = metric.details(truth, p, tuple("abcdef"))
    assert list(details)[:7] == ["loss a", "loss b", "loss c", "loss d", "loss e", "loss f", "auc a"]
    assert list(details.values())[6:] == metrics.class_aucs(truth, p).tolist()


def test_mean_absolute_error_by_hand() -> None:
    truth, guess = np.array([[10.0, 1], [20, 2]]), np.array([[13.0, 1], [18, 6]])
    metric = Metric("mean absolute error", (1, 3), unit="mm")
    assert metric.row_losses(truth, guess).tolist() == [0.75, 3.5] and metric.score(truth, guess) == 2.125
    assert metric.details(truth, guess, ("length", "width")) == pytest.approx({
        "loss length": 2.5, "loss width": 2, "bias length": 0.5, "bias width": 2, "sd length": 2.5, "sd width": 2,
        "r2 length": 1 - 6.5 / 25, "r2 width": 1 - 8 / 0.25})
    assert metric.link(guess) is guess and metric.unlink(guess) is guess
    assert str(metric) == "mean absolute error (mm)" and str(Metric("weighted log loss", (1,))) == "weighted log loss"


def test_the_median_is_the_best_constant_for_absolute_errors() -> None:
    """The score of the constant is the labels' mean absolute deviation from their median."""
    labels = pd.DataFrame({"age": [12.0, 60, 96, 120, 228]})
    metric = Metric("mean absolute error", (1,))
    assert metric.constant(labels)["age"] == 96
    truth = labels.to_numpy()
    scores = [metric.score(truth, np.full((5, 1), age)) for age in (60, 95, 96, 97, 103.2)]
    assert min(scores) == scores[2] == pytest.approx((84 + 36 + 0 + 24 + 132) / 5)


def test_r2_of_labels_that_do_not_vary_is_undefined() -> None:
    summary = metrics.error_summary(np.ones((3, 1)), np.array([[1.0], [2], [3]]))
    assert math.isnan(summary["r2"][0]) and summary["bias"][0] == 1


def test_bad_numbers_and_unknown_metrics_are_refused() -> None:
    metric = Metric("mean absolute error", (1,))
    with pytest.raises(UserError, match="predictions are not finite"):
        metric.score(np.zeros((1, 1)), np.array([[np.nan]]))
    with pytest.raises(UserError, match="no label"):
        metric.score(np.array([[np.nan]]), np.zeros((1, 1)))
    with pytest.raises(UserError, match="join them by id"):
        metric.score(np.zeros((2, 1)), np.zeros((3, 1)))
    with pytest.raises(UserError, match="no metric 'mean absolute eror'; did you mean 'mean absolute error'"):
        Metric("mean absolute eror", (1,)).score(np.zeros((1, 1)), np.zeros((1, 1)))
    with pytest.raises(UserError, match="no target 'any'; choose one of age"):
        Task(("age",), metric).place("any")


# Prediction intervals

def test_conformal_half_width_by_hand() -> None:
    residuals = np.array([-9, 1, 2, -3, 4, 5, -6, 7, 8])
    assert conformal(residuals, 0.9) == 9 and conformal(residuals, 0.8) == 8 and conformal(residuals, 0.5) == 5
    assert conformal(residuals, 0.95) == math.inf and conformal(np.array([]), 0.5) == math.inf
    for coverage in (0, 1, 90):
        with pytest.raises(UserError, match="between 0 and 1"):
            conformal(residuals, coverage)
    with pytest.raises(UserError, match="not finite"):
        conformal(np.array([1, np.nan]), 0.9)


def test_conformal_intervals_cover_skewed_errors() -> None:
    """At least the coverage, at most 1 / (n + 1) more, over many draws of calibration rows and a new row."""
    rng = np.random.default_rng(8)
    errors = rng.exponential(5.0, (4000, 41)) - 2
    held = [abs(row[-1]) <= conformal(row[:-1], 0.9) for row in errors]
    assert 0.885 < np.mean(held) < 0.94
