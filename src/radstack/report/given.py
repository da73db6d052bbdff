"""Part of section Ensemble: members whose predictions came as tables."""

import pandas as pd

from radstack.core.files import read_json
from radstack.recipes.stacker import Outside
from radstack.report.blocks import Block, Heading, Table, Words
from radstack.report.evidence import Evidence
from radstack.running.context import OUTSIDE


def given_blocks(evidence: Evidence) -> list[Block]:
    """What is known of each such member, and a warning where one is suspected or may enter plain averages alone."""
    members = [recipe for recipe in evidence.recipes.values() if isinstance(recipe, Outside)]
    if not members:
        return []
    told = {one.name: read_json(evidence.context.paths.oof / one.name / OUTSIDE) for one in members}
    table = pd.DataFrame([{
        "member": name, "score": facts["score"]["value"], "best neighbor": facts["neighbor"],
        "neighbor score": facts["neighbor_score"], "shuffled": facts["shuffled"], "constant": facts["constant"],
        "missing rows": facts["filled"]["train"], "missing test rows": facts["filled"]["test"],
        "enters": "plain averages" if facts["mark"] else "any stack"} for name, facts in told.items()])
    lines = [Words(f"{one.name} is suspected of a leak: {line}", "bad") for one in members for line in one.suspected]
    lines += [Words(f"{one.name} may enter plain averages alone: {one.mark}.", "warn") for one in members if one.mark]
    notes = "; ".join(note for facts in told.values() for note in facts["notes"])
    return [Heading("Members that came as tables"), *lines, Table(
        table, "Predictions of others", dict.fromkeys(("score", "neighbor score", "shuffled", "constant"), ".4f"),
        "Out of fold. Shuffled: the table's rows in another order within each fold, which must not beat the constant "
        "predictor; missing rows got that of the other folds." + (f" {notes}." if notes else ""))]
