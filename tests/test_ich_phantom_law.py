import numpy as np
import pytest

from phantoms import archive
from phantoms.ich import draw, law, oracle


def test_labels_are_drawn_with_the_stated_probability():
    rng = np.random.default_rng(0)
    q = law.with_any(rng.uniform(0, 0.6, (50_000, 5)))
    y = law.draw_labels(rng, q)
    error = (y - q).mean(0) / np.sqrt((q * (1 - q)).sum(0)) * len(q)
    assert (np.abs(error) < 4).all()
    high = q[:, 2] > 0.5
    assert y[high, 2].mean() == pytest.approx(q[high, 2].mean(), abs=0.02)


def test_marked_follows_the_formula():
    area, contrast = np.zeros((5, 5)), np.zeros((5, 5))
    area[1, 0], contrast[1, 0] = 100.0, 40.0
    q = law.marked(area, contrast, law.Noise(0.05, 0.002))
    score = 1.6 * (np.log(100 / 25) + 0.7 * (40 - 25) / 25)
    assert q[1, 0] == pytest.approx(0.95 / (1 + np.exp(-score)) + 0.002)
    assert q[0, 0] == q[2, 0] > 0.002  # beside blood
    assert q[3, 0] == q[1, 1] == 0.002
    assert (law.marked(area, contrast, law.NOISE["clean"]) == (area > 0)).all()


def test_majority_of_three():
    rng = np.random.default_rng(1)
    votes = (rng.random((200_000, 3)) < 0.3).sum(1) >= 2
    assert law.majority(np.array(0.3), 3) == pytest.approx(votes.mean(), abs=0.004)
    assert law.majority(np.array(0.3), 1) == 0.3


def test_variants_change_the_floor(tmp_path):
    for noise in ("clean", "adjudicated"):
        draw(tmp_path / noise, series=3, size=48, seed=3, workers=1, noise=noise)
    clean, judged = (archive.read_truth(tmp_path / noise) for noise in ("clean", "adjudicated"))
    assert oracle(clean) < 1e-9 and (clean["y"][:, :5] == (clean["area"] > 0)).all()
    one = law.with_any(np.concatenate([law.marked(judged["area"][rows], judged["contrast"][rows], law.NOISE["realistic"])
                                       for rows in (judged["series"] == number for number in range(3))]))
    train = judged["split"] == "train"
    np.testing.assert_allclose(judged["q"][train], one[train])
    assert judged["q"][~train].max() > 0 and (judged["q"][~train, 4] < 0.002).any()


def test_oracle_is_at_most_any_predictor():
    rng = np.random.default_rng(2)
    q = law.with_any(np.where(rng.random((4000, 5)) < 0.1, rng.uniform(0.3, 0.95, (4000, 5)), 0.001))
    truth = {"q": q, "split": np.where(np.arange(4000) < 3000, "train", "test")}

    def expected(predicted):
        return float((-(q * np.log(predicted) + (1 - q) * np.log(1 - predicted)) @ law.WEIGHTS).mean())

    assert expected(q) == pytest.approx(oracle(truth))
    for predicted in (np.full_like(q, 0.5), np.broadcast_to(q.mean(0), q.shape), np.clip(q * 1.1, 0, 0.999)):
        assert expected(predicted) > oracle(truth)
    assert oracle(truth) == pytest.approx(0.75 * oracle(truth, "train") + 0.25 * oracle(truth, "test"))


def test_scenarios_are_drawn_with_their_shares():
    rng = np.random.default_rng(3)
    drawn = [law.draw_findings(rng) for _ in range(20_000)]
    expected = sum(share for share, parts in law.SCENARIOS.values() if "sdh" in parts)
    assert np.mean(["sdh" in parts for parts in drawn]) == pytest.approx(expected, abs=0.01)
    bleeding = np.mean([bool(set(parts) - {"chronic", "air"}) for parts in drawn])
    assert 0.36 < bleeding < 0.46
