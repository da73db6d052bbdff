"""How well the phases are told: accuracy with its interval, what is confused with what, and agreement beyond chance."""

import numpy as np
import pandas as pd

from competitions.radius_ulna.phases import (
    ALL_TARGETS,
    BONES,
    LEARNED,
    LEARNED_PHASES,
    LETTER,
    phase_of,
    phase_probabilities,
)
from radstack.core.errors import UserError
from radstack.scoring.intervals import wilson


def called_phases(labels: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """The true and the most probable phase of every labeled bone.

    ``labels`` has ``id``, ``radius_stage``, ``ulna_stage`` (int, -1 where one of the two has no label); ``predictions``
    ``id`` and the probabilities of ``ALL_TARGETS``, one row a picture; rows of other pictures are left out.

    Returns:
        One row a bone and picture, bones one after the other: ``id``, ``bone``, ``truth``, ``called`` (names of phases) and
        ``probability`` of the phase that is called.

    Raises:
        UserError: a labeled picture has no prediction or two, a probability is missing, or a label is no learned stage.
    """
    _check(labels, predictions)
    rows = labels.merge(predictions, on="id", validate="one_to_one")
    phases = phase_probabilities(rows[list(ALL_TARGETS)].to_numpy())
    tables = []
    for bone, part in zip(BONES, np.split(phases, [len(LEARNED_PHASES["radius"])], axis=1)):
        held = (rows[f"{bone}_stage"] > 0).to_numpy()
        truth = [phase_of(bone, stage) for stage in rows.loc[held, f"{bone}_stage"]]
        called = np.array(LEARNED_PHASES[bone])[part[held].argmax(axis=1)]
        tables.append(pd.DataFrame({"id": rows.loc[held, "id"], "bone": bone, "truth": truth, "called": called,
                                    "probability": part[held].max(axis=1)}))
    return pd.concat(tables, ignore_index=True)


def score_table(called: pd.DataFrame) -> pd.DataFrame:
    """Scores of each bone from :func:`called_phases`.

    ``bone``, ``pictures``, ``accuracy`` with ``accuracy_low`` and ``accuracy_high`` (95 %, Wilson 1927, which takes pictures
    for independent: several of one child make it a little narrow), ``errors``, ``neighboring`` (share of the errors that are
    one phase off; NaN without errors) and ``kappa`` (Cohen 1968, quadratic weights; NaN where all is one phase).
    """
    return pd.DataFrame([{"bone": bone} | _score(str(bone), rows) for bone, rows in called.groupby("bone", sort=False)])


def confusion_table(called: pd.DataFrame) -> pd.DataFrame:
    """Every pair of phases from :func:`called_phases`: ``bone``, ``truth``, ``called``, ``pictures`` (0 included)."""
    pairs = pd.DataFrame([(bone, truth, call) for bone in called["bone"].unique() for truth in LEARNED_PHASES[bone]
                          for call in LEARNED_PHASES[bone]], columns=["bone", "truth", "called"])  # fmt: skip
    counts = called.groupby(["bone", "truth", "called"]).size().rename("pictures").reset_index()
    return pairs.merge(counts, how="left").fillna({"pictures": 0}).astype({"pictures": int})


def _score(bone: str, rows: pd.DataFrame) -> dict[str, float]:
    from sklearn.metrics import cohen_kappa_score  # a second to import

    order = list(LEARNED_PHASES[bone])
    truth, call = (rows[name].map(order.index).to_numpy() for name in ("truth", "called"))
    off = np.abs(truth - call)
    errors = int((off > 0).sum())
    accuracy = dict(zip(("accuracy", "accuracy_low", "accuracy_high"), wilson(len(rows) - errors, len(rows))))
    varies = len(set(truth) | set(call)) > 1
    kappa = cohen_kappa_score(truth, call, labels=range(len(order)), weights="quadratic") if varies else np.nan
    return {"pictures": len(rows), **accuracy, "errors": errors,
            "neighboring": float((off == 1).sum() / errors) if errors else np.nan, "kappa": float(kappa)}


def _check(labels: pd.DataFrame, predictions: pd.DataFrame) -> None:
    twice = predictions["id"][predictions["id"].duplicated()]
    if len(twice):
        raise UserError(f"{twice.iloc[0]} is predicted twice; average the folds first")
    missing = labels["id"][~labels["id"].isin(predictions.dropna(subset=list(ALL_TARGETS))["id"])]
    if len(missing) or labels.empty:
        raise UserError(f"{missing.iloc[0]} has no prediction; predict it, or judge other pictures" if len(missing)
                        else "there is no labeled picture to judge")
    bare = (labels[[f"{bone}_stage" for bone in BONES]] <= 0).all(axis=1)
    for bone in BONES:
        strange = labels[bare | ~labels[f"{bone}_stage"].isin((-1, *LEARNED[bone]))]
        if len(strange):
            row = strange.iloc[0]
            raise UserError(f"{row['id']} is labeled {LETTER[bone]}{row[f'{bone}_stage']}, which no network learns; leave "
                            "test pictures and unknown stages out")
