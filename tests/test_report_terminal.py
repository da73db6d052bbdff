"""What stage 09 prints: the four figures of every model within the width of a terminal."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from evidences import small_competition
from test_report_models import AGE, LOSS, PHASE

from radstack.recipes.competition import FoldRecipe, Models
from radstack.report.terminal import WIDTH, localization_lines, score_lines
from radstack.scoring.task import Task, score_rows

LONG = "a_network_whose_name_goes_on_and_on_and_never_comes_to_an_end"


def made(task: Task, best: bool = True) -> tuple:
    """A competition and its score table: random labels, a model that guesses near them, and others' scores."""
    rng, count = np.random.default_rng(0), 60
    if task is AGE:
        truth = rng.uniform(0, 1000, (count, 1))
        said = truth + rng.normal(0, 20, (count, 1))
    elif task is PHASE:
        truth = np.concatenate([np.eye(3)[rng.integers(3, size=count)], np.eye(2)[rng.integers(2, size=count)]], axis=1)
        said = 0.8 * truth + 0.2 * np.array([1 / 3] * 3 + [1 / 2] * 2)
    else:
        truth = rng.integers(0, 2, (count, 2)).astype(float)
        said = 0.8 * truth + 0.1
    targets = list(task.targets)
    rows = pd.DataFrame({"id": [f"r{row}" for row in range(count)], "group": [f"p{row // 2}" for row in range(count)]})
    table = rows[["id"]].join(pd.DataFrame(said, columns=targets))
    rows, floor = (one.join(pd.DataFrame(truth, columns=targets)) for one in (rows, rows[["id"]]))
    models = {LONG: table, "final": table}
    if task is PHASE:
        models["first_alone"] = table.assign(u=np.nan, v=np.nan)
    constant = task.metric.constant(rows[targets])
    parts = [score_rows(split, models, rows, constant, floor if best else None, task)
             for split in (("out of fold", "test") if best else ("out of fold",))]
    published = pd.DataFrame([{"split": "published", "model": "others", "score": 0.1, "labels": "words " * 30}])
    competition = small_competition(task, Models((), (), "final"), folds=FoldRecipe(3))
    return competition, pd.concat([*parts, published], ignore_index=True)


@pytest.mark.parametrize("task", [LOSS, AGE, PHASE], ids=["probabilities", "numbers", "classes"])
def test_a_table_of_four_parts_fits_a_terminal(task: Task) -> None:
    competition, scores = made(task)
    lines = list(score_lines(competition, scores))
    assert max(map(len, lines)) <= WIDTH == 100
    heading = next(line for line in lines if line.startswith("model"))
    assert heading.split() == ["model", "out", "of", "fold", "95", "%", "interval", "efficiency", "test", "efficiency"]
    final = next(line for line in lines if line.startswith("final"))
    own = scores[(scores["split"] == "out of fold") & (scores["model"] == "final")].iloc[0]
    form = ".2f" if task is AGE else ".4f"
    assert f"{own.score:{form}}  " in final and f"{own.low:{form}} to {own.high:{form}}" in final
    assert final.count(f"{own.efficiency:.2f}") >= 2  # both splits hold the same rows here
    assert any(line.startswith(LONG[:30]) and "…" in line for line in lines) and LONG not in "\n".join(lines)
    assert "others" not in "\n".join(lines)
    assert any("first_alone" in line and "some targets only" in line for line in lines) == (task is PHASE)


def test_what_is_not_known_is_no_column() -> None:
    competition, scores = made(LOSS, best=False)
    competition = replace(competition, pages=replace(competition.pages, labels={"out of fold": "one reading"}))
    lines = list(score_lines(competition, scores))
    assert any(line.endswith("labels: one reading") for line in lines)
    assert next(line for line in lines if line.startswith("model")).split()[-2:] == ["%", "interval"]


def test_localization_takes_few_lines() -> None:
    names = [f"error of a part, number {part}" for part in range(9)]
    table = pd.DataFrame({"measure": names, "value": 0.98765})
    lines = list(localization_lines(table))
    assert max(map(len, lines)) <= WIDTH and len(lines) <= 5
    assert sum(line.count("0.9877") for line in lines) == 9 and "number 8: 0.9877" in "\n".join(lines)
