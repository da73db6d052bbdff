import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from evidences import evidence

from radstack.core.errors import UserError
from radstack.report import cases, images, page, plots
from radstack.report.blocks import Figures, Heading, Picture, Plot, Section, Table, Words
from radstack.report.cases import case_table, choose, models_table, row_losses
from radstack.report.ensemble import additions
from radstack.report.result import result, verdicts
from radstack.scoring.metrics import ClassGroup
from radstack.scoring.task import Metric


def labels(rng: np.random.Generator, count: int = 120) -> np.ndarray:
    bleed = (rng.random(count) < 0.3).astype(float)
    return np.stack([bleed, bleed], axis=1)


def noisy(truth: np.ndarray, rng: np.random.Generator, noise: float) -> np.ndarray:
    return (1 / (1 + np.exp(-(4 * truth - 2 + noise * rng.normal(size=truth.shape))))).astype(np.float32)


def test_a_page_holds_all_that_it_shows_and_escapes_text() -> None:
    figure, ax = plots.figure()
    ax.plot([0, 1], [0, 1], color=plots.COLORS[1])
    blocks = (Heading("a < b"), Words("<script>alert(1)</script>", "warn"), Figures({"Score": ("0.1", "of 1")}),
              Table(pd.DataFrame({"model": ["<b>"], "score": [0.25]}), "t", {"score": ".2f"}), Plot(plots.svg(figure), "p"),
              Picture(images.data_uri(np.zeros((8, 8), np.uint8)), "black"))
    text = page.page("T", "l", [Section("result", "Result", "", blocks)], [])
    assert "a &lt; b" in text and "&lt;script&gt;" in text and "&lt;b&gt;" in text and "<script>alert" not in text
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", text.replace('xlink:href="#', ""))
    assert "var(--c2)" in text and "currentColor" in text and "#0102" not in text


def test_cells_sort_by_number_and_leave_nan_empty() -> None:
    table = Table(pd.DataFrame({"n": [1000, 2], "x": [float("nan"), 0.123456], "word": ["a", "b" * 50]}), "", {"x": ".2f"})
    first, second = page.cells(table)
    assert first[0] == {"text": "1,000", "sort": "1000.0", "kind": "number"}
    assert first[1]["text"] == "" and first[1]["sort"] == ""
    assert second[1]["text"] == "0.12" and second[2]["kind"] == "long"


def test_a_page_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "LIMIT", 1000)
    with pytest.raises(UserError, match="smaller pictures"):
        page.page("T", "", [], [])


def test_every_drawing_has_names_of_its_own() -> None:
    drawn = []
    for _ in range(2):
        figure, ax = plots.figure()
        ax.plot([0, 1])
        drawn.append(set(re.findall(r'id="(p[0-9a-f]+)"', plots.svg(figure))))
    assert drawn[0] and not drawn[0] & drawn[1]


def test_sheets_and_overlays_keep_pixels_in_place() -> None:
    frames = [np.full((2, 3), value, np.uint8) for value in (10, 20, 30)]
    sheet = images.sheet(frames, 2)
    assert sheet.shape == (4, 6) and sheet[0, 0] == 10 and sheet[0, 3] == 20 and sheet[2, 0] == 30 and sheet[2, 3] == 0
    heat = np.zeros((4, 4))
    heat[1, 1] = 1
    shown = images.overlaid(np.full((4, 4), 100, np.uint8), heat)
    assert (shown[0, 0] == 100).all() and not (shown[1, 1] == 100).all()
    assert images.fitted(np.zeros((100, 50), np.uint8), 20).shape == (20, 10)


def test_cases_are_the_worst_the_disputed_and_the_rare_ones(tmp_path: Path) -> None:
    truth = np.zeros((120, 2))
    truth[40:44] = 1  # series 10 alone bleeds
    good, other = (np.full((120, 2), 0.1, np.float32) for _ in range(2))
    good[80:84] = 0.95  # series 20: the worst
    other[60] = 0.9     # series 15: the networks disagree
    made = evidence(tmp_path, {"good": good, "other": other, "final": good.copy()}, truth,
                    members={"final": ("good", "other")})
    chosen = {case.key: case for case in choose(made, each=1)}
    assert "worst" in chosen["s20"].why and "disputed" in chosen["s20"].why
    assert "worst of its label" in chosen["s10"].why and chosen["s10"].labels == ("bleed", "any")
    assert chosen["s20"].labels == ("none",) and chosen["s20"].fold == 20 % 3
    assert list(chosen["s20"].rows["position"]) == [0, 1, 2, 3]
    np.testing.assert_array_equal(chosen["s20"].predicted["good"], good[80:84])
    assert case_table(made).loc["s15", "dispute"] == pytest.approx(0.4 / 4)
    said = models_table(made, chosen["s20"]).frame
    assert list(said["model"]) == ["label", "final", "good", "other"] and said.loc[1, "any"] == pytest.approx(0.95)


def test_pictures_stop_when_the_page_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    truth = labels(rng)
    made = evidence(tmp_path, {"only": noisy(truth, rng, 1.0)}, truth,
                    case_view=lambda case, cases, paths: [Picture("data:" + "x" * 100, "")])
    monkeypatch.setattr(cases, "BUDGET", 250)
    _, chosen = cases.cases(made)
    assert [len(case.blocks) for case in chosen[:4]] == [2, 2, 2, 1] and len(chosen) > 4


def test_wrong_classes_are_ranked_by_how_sure_they_were() -> None:
    metric = Metric("classification error", (1,), groups=(ClassGroup("phase", ("a", "b")),))
    truth = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    losses = row_losses(metric, truth, np.array([[0.4, 0.6], [0.1, 0.9], [0.9, 0.1]]))
    assert losses[1] > losses[0] > losses[2]


def test_additions_are_judged_in_pairs_over_patients(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    truth = labels(rng, 400)
    poor = noisy(truth, rng, 2.0)
    models = {"poor": poor, "same": np.clip(poor + rng.normal(0, 1e-4, poor.shape), 0, 1).astype(np.float32),
              "better": noisy(truth, rng, 0.1), "worse": noisy(truth, rng, 6.0)}
    made = evidence(tmp_path, models, truth, members=dict.fromkeys(("same", "better", "worse"), ("poor",)))
    table = verdicts(additions(made)).frame.set_index("model")["verdict"]
    assert table["better"] == "better, more than noise" and table["worse"] == "worse, more than noise"
    assert table["same"] == "noise"


def test_a_result_without_stacks_or_floor_is_still_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    truth = labels(rng)
    section = result(evidence(tmp_path, {"only": noisy(truth, rng, 1.0)}, truth))
    shown = next(block for block in section.blocks if isinstance(block, Figures))
    assert set(shown.values) == {"Constant prediction", "Best single network", "Submitted"}
