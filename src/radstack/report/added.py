"""Part of section Data: rows that networks learn from beside the training rows, and what they bring."""

import numpy as np
import pandas as pd

from radstack.core.files import read_table
from radstack.core.recipe import change
from radstack.recipes.experiment import Experiment, Pseudo
from radstack.report.blocks import Block, Heading, Table
from radstack.report.evidence import Evidence
from radstack.scoring.intervals import difference
from radstack.stages.pseudo import labels_artifact
from radstack.stages.sources import KEPT_OUT, facts_of, known_sources

LISTED = 200
"""Patients that are kept out in the list."""


def added_blocks(evidence: Evidence) -> list[Block]:
    """Sources and what was kept out of them, rows that a model labeled, and each network beside the one without."""
    networks = [one for one in evidence.recipes.values() if isinstance(one, Experiment)]
    blocks = [*source_blocks(evidence, networks), *pseudo_blocks(evidence, networks), *gain_blocks(evidence, networks)]
    return [Heading("Rows beside the training rows"), *blocks] if blocks else []


def source_blocks(evidence: Evidence, networks: list[Experiment]) -> list[Block]:
    """A row a source; a list of the patients that are kept out."""
    context = evidence.context
    told = {name: facts for name in known_sources(context) if (facts := facts_of(context, name))}
    if not told:
        return []
    table = pd.DataFrame([{
        "source": name, "pictures": facts["pictures"], "patients": facts["patients"], "labeled": facts["labeled"],
        "patients kept out": sum(facts["kept out"].values()), "may train": facts["train"],
        "networks": ", ".join(one.name for one in networks if name in (*one.sources, one.pseudo.rows)) or "none"}
        for name, facts in told.items()])
    out = pd.concat([read_table(context.paths.sources / name / KEPT_OUT) for name in told], ignore_index=True)
    notes = "; ".join(note for facts in told.values() for note in facts["notes"])
    note = ("They train in every fold and are scored in none. A patient is kept out as a whole where one picture is a near "
            f"duplicate of a row that is scored or of test. {notes}")
    listed = Table(out[["id", "reason", "detail"]].head(LISTED), f"Patients of other sources kept out: {len(out):,}",
                   folded=True)
    return [Table(table, "Other sources", note=note), *([listed] if len(out) else [])]


def pseudo_blocks(evidence: Evidence, networks: list[Experiment]) -> list[Block]:
    """A row a network that learned from rows that a model labeled."""
    taught = [one for one in networks if one.pseudo.model]
    if not taught:
        return []
    table = pd.DataFrame([{
        "network": one.name, "labels by": one.pseudo.model, "rows of": one.pseudo.rows,
        "which": f"sure above {one.pseudo.above:g}" if one.pseudo.above else "all, soft",
        "rows": _rows_of(evidence, one)} for one in taught])
    return [Table(table, "Rows that a model labeled", note="For each fold by the model's part of that fold: networks and "
                  "fits that never met a row of it. The leak audit gives the labels again and compares.")]


def _rows_of(evidence: Evidence, one: Experiment) -> int:
    context = evidence.context
    file = labels_artifact(context, one.pseudo, context.all_folds(one)[0]).files[0]
    return len(read_table(file)) if file.exists() else 0


def gain_blocks(evidence: Evidence, networks: list[Experiment]) -> list[Block]:
    """Each network with added rows beside the same recipe without, paired by patient."""
    plain = {_bare(one): one.name for one in networks if not one.sources and not one.pseudo.model}
    pairs = [(one.name, plain[_bare(one)]) for one in networks if (one.sources or one.pseudo.model) and _bare(one) in plain]
    rows = [_gain(evidence, name, without) for name, without in pairs]
    if not rows:
        return []
    forms = dict.fromkeys(("score", "without"), ".4f") | dict.fromkeys(("gain", "low", "high"), "+.4f")
    return [Table(pd.DataFrame(rows), "What the added rows bring", forms, "Out of fold on the training rows; gain: loss "
                  "without less loss with, paired by patient, with its 95 % interval.")]


def _bare(one: Experiment) -> str:
    return repr(change(one, name="", note="", sources=(), pseudo=Pseudo()))


def _gain(evidence: Evidence, name: str, without: str) -> dict[str, object]:
    both = evidence.answered(name) & evidence.answered(without)
    losses = [evidence.task.metric.row_losses(evidence.truth[both], evidence.oof[one][both].astype(np.float64))
              for one in (name, without)]
    gain = difference(losses[1], losses[0], evidence.train["group"].to_numpy()[both])
    return {"network": name, "score": losses[0].mean(), "over": without, "without": losses[1].mean(), "gain": gain.value,
            "low": gain.low, "high": gain.high, "verdict": "more than noise" if gain.excludes_zero else "noise"}
