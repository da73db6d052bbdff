"""The decision at 18 years by hand: who is called an adult, Wilson's intervals, no minor among them; the age's error."""

import math

import numpy as np
import pytest

from competitions.knee_age.decision import majority, mean_error, no_minor_threshold
from radstack.core.errors import UserError
from radstack.scoring.intervals import wilson

TRUTH = np.array([15.0, 16.5, 17.9, 18.0, 19.0, 20.5])
PREDICTED = np.array([15.5, 18.6, 17.0, 17.5, 18.4, 19.8])


def test_adults_are_the_positive_class():
    table = majority(TRUTH, PREDICTED)
    assert table["threshold"] == 18 and table["adults"] == 3 and table["minors"] == 3 and table["minors_called_adult"] == 1
    # 18.0 is of age and called a minor; 16.5 is called an adult
    assert table["accuracy"] == pytest.approx(4 / 6)
    assert table["sensitivity"] == pytest.approx(2 / 3) and table["specificity"] == pytest.approx(2 / 3)
    strict = majority(TRUTH, PREDICTED, 19.0)
    assert strict["sensitivity"] == pytest.approx(1 / 3) and strict["specificity"] == 1


def test_a_prediction_at_the_threshold_is_no_adult():
    assert majority(np.array([17.0, 19.0]), np.array([18.0, 18.0]))["specificity"] == 1
    assert majority(np.array([17.0, 19.0]), np.array([18.0, 18.0]))["sensitivity"] == 0


def test_wilsons_interval_by_its_formula():
    """(p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n); it stays within 0 and 1 at the ends."""
    hits, n, z = 13, 14, 1.959963984540054
    p = hits / n
    center, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert wilson(hits, n) == pytest.approx((p, (center - half) / (1 + z * z / n), (center + half) / (1 + z * z / n)))
    share, low, high = wilson(10, 10)
    assert share == 1 and high == pytest.approx(1) and low == pytest.approx(1 / (1 + z * z / 10))
    assert wilson(0, 10)[1] == pytest.approx(0) and all(math.isnan(bound) for bound in wilson(0, 0))


def test_a_class_that_is_missing_has_no_rate():
    table = majority(TRUTH[:3], PREDICTED[:3])
    assert math.isnan(table["sensitivity"]) and math.isnan(table["sensitivity_low"]) and table["specificity"] < 1


def test_the_least_threshold_that_no_minor_passes():
    threshold = no_minor_threshold(TRUTH, PREDICTED)
    assert threshold == 18.6
    found = majority(TRUTH, PREDICTED, threshold)
    assert found["minors_called_adult"] == 0 and found["sensitivity"] == pytest.approx(1 / 3)
    lower = majority(TRUTH, PREDICTED, np.nextafter(threshold, 0))
    assert lower["minors_called_adult"] == 1
    assert math.isnan(no_minor_threshold(TRUTH[3:], PREDICTED[3:]))  # no minor, no threshold


def test_the_threshold_holds_for_single_precision():
    predicted = PREDICTED.astype(np.float32)
    assert majority(TRUTH, predicted, no_minor_threshold(TRUTH, predicted))["minors_called_adult"] == 0


def test_a_threshold_of_the_training_persons_promises_nothing_of_others():
    rng = np.random.default_rng(0)
    truth = rng.uniform(14, 21, 200)
    predicted = truth + rng.normal(0, 0.6, 200)
    threshold = no_minor_threshold(truth[:40], predicted[:40])
    assert 18 < threshold < 20
    rest = majority(truth[40:], predicted[40:], threshold)
    assert rest["sensitivity"] < majority(truth[40:], predicted[40:])["sensitivity"]
    assert rest["specificity"] > majority(truth[40:], predicted[40:])["specificity"]


def test_the_error_and_its_standard_error():
    found = mean_error(TRUTH, PREDICTED)
    errors = np.array([0.5, 2.1, 0.9, 0.5, 0.6, 0.7])
    assert found["mae"] == pytest.approx(errors.mean()) and found["worst"] == pytest.approx(2.1)
    assert found["standard_error"] == pytest.approx(errors.std(ddof=1) / math.sqrt(6))
    assert found["sd"] == pytest.approx(errors.std()) and found["volumes"] == found["persons"] == 6


def test_fourteen_persons_with_the_articles_spread_have_its_standard_error():
    """0.485 with a standard deviation of 0.318 over 14 persons: 0.085."""
    errors = 0.485 + 0.318 * math.sqrt(13 / 14) * np.tile([-1, 1], 7)
    found = mean_error(np.full(14, 17.0), 17 + errors)
    assert found["mae"] == pytest.approx(0.485) and found["standard_error"] == pytest.approx(0.085, abs=5e-4)


def test_second_visits_widen_the_standard_error_where_errors_are_alike():
    truth, predicted, person = np.tile(TRUTH, 2), np.tile(PREDICTED, 2), np.tile(list("abcdef"), 2)
    once, twice = mean_error(TRUTH, PREDICTED), mean_error(truth, predicted, person)
    assert twice["standard_error"] == pytest.approx(once["standard_error"]) and twice["persons"] == 6 < twice["volumes"]
    assert mean_error(truth, predicted)["standard_error"] < twice["standard_error"]


@pytest.mark.parametrize(("call", "says"), [
    (lambda: majority(TRUTH, PREDICTED[:2]), r"shape \(6,\).*shape \(2,\)"),
    (lambda: majority(TRUTH[:0], PREDICTED[:0]), "give one of each"),
    (lambda: majority(TRUTH[:, None], PREDICTED[:, None]), "give one of each"),
    (lambda: mean_error(np.where(TRUTH == 18, np.nan, TRUTH), PREDICTED), "no true or no predicted age"),
])
def test_what_cannot_be_judged(call, says):
    with pytest.raises(UserError, match=says) as error:
        call()
    assert "\n" not in str(error.value)
