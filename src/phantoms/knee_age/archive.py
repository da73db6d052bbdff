"""The archive of knees: what is drawn of a volume, and what the truth keeps of it and of its man."""

from pathlib import Path

import numpy as np
import pandas as pd

from competitions.knee_age.volume import BONES
from phantoms.archive import Facts, Progress, Request, draw_missing, read_facts, read_truth_table, write_truth
from phantoms.knee_age.files import write_tables, write_volume
from phantoms.knee_age.law import best_age
from phantoms.knee_age.people import Person, draw_person
from phantoms.knee_age.plan import Entry, label_age, plan
from phantoms.knee_age.render import draw_volume
from radstack.core.errors import UserError

VOXELS = 24 * 4
"""Voxels of a volume, in squares of ``size``: 24 slices of a frame twice as wide; 41 of 1.43 are fewer."""


def draw(folder: Path, *, series: int, workers: int = 2, size: int = 224, seed: int = 0, tau: float = 0.63,
         annotated: float = 0.5, progress: Progress | None = None) -> None:
    """Draw ``series`` phantom knees below ``folder`` as Pietz and Proeve 2018 laid out theirs; keep what is drawn.

    Args:
        folder: becomes ``input/knee_age-demo``: data/<Study>/MHD and VOI_LABEL, volumes.csv, sample_submission.csv, and
            truth.npz for the report, written last.
        series: volumes, at least 4, to have both sources and both splits; about 1.6 of each man.
        size: rows and columns of the square around the joint; frames are 2 (Jopp) and 1.43 (Epi) times as wide.
        seed: volume i of a seed is always the same, whatever the number of volumes and workers.
        workers: processes; 1 draws in this one.
        tau: SD in years by which men are ahead of their age: .63 makes .48 years the least possible error, 1.0 makes .66.
        annotated: share of the training volumes that have a label volume.
        progress: called with the number of volumes done and the number of all.

    Raises:
        UserError: an argument is out of range, the folder holds another archive, or the disk is full.
    """
    if series < 4 or size < 32 or not tau > 0 or not 0 <= annotated <= 1:
        raise UserError(f"cannot draw {series} volumes of {size} pixels, tau {tau}, {annotated} of them annotated; needs "
                        "4 volumes, 32 pixels, a positive tau and a share in [0, 1]")
    pairs = plan(seed, series, tau, annotated)
    request = {"seed": seed, "size": size, "tau": tau, "annotated": annotated, "version": 1}
    volumes = draw_missing(folder, request, [entry for entry, _ in pairs], draw_entry, what="volumes", pictures="data",
                           entry_bytes=3 * VOXELS * size * size, workers=workers, progress=progress)
    if volumes:
        write_tables(folder, pairs)
        write_truth(folder, _truth(pairs, volumes, tau))


def read_truth(folder: Path) -> pd.DataFrame:
    """What was drawn below ``folder``, for the report alone; one row a volume, test and defective ones included.

    Returns:
        ``series`` (``<subject>_<visit>``), ``split``, ``subject``, ``visit``, ``source``, ``annotated``, ``defect`` ("",
        flipped, truncated, absent, female), ``age_years`` (true label), ``q_age_years`` (best possible prediction: median
        of the age given the mean of S_b), ``s_<bone>`` (S_b, years), ``share_<bone>`` (of the bone pixels), ``joint_row``,
        ``joint_column`` (pixels of the frame).

    Raises:
        UserError: there is no finished archive.
    """
    return read_truth_table(folder, "knee_age")


def read_masks(folder: Path, number: int) -> np.ndarray:
    """The true bones of the volume in row ``number`` of the truth, bool [3, slices, frame, frame] as ``BONES``.

    Unlike the label volumes they have no annotator's errors, and exist for test volumes too. Slices go front to back.

    Raises:
        UserError: there is no such volume.
    """
    kept = read_facts(folder, number, "knee_age")
    return np.unpackbits(kept["bits"], count=int(np.prod(kept["shape"]))).reshape(kept["shape"]).astype(bool)


def draw_entry(folder: Path, request: Request, entry: Entry) -> Facts:
    """Draw one volume and write its files; the facts are its bones, the share of each, and where the joint is."""
    seed, person = request["seed"], draw_person(request["seed"], entry.person, request["tau"])
    drawn = draw_volume(np.random.default_rng((seed, 1, entry.number)), person, entry.visit, entry.source, request["size"])
    write_volume(folder, entry, person, drawn)
    pixels = drawn.masks.sum((1, 2, 3))
    return {"bits": np.packbits(drawn.masks), "shape": drawn.masks.shape,
            **{f"share_{bone}": round(float(count / pixels.sum()), 4) for bone, count in zip(BONES, pixels)},
            "joint_row": round(drawn.scan.joint[0], 2), "joint_column": round(drawn.scan.joint[1], 2)}


def _truth(pairs: list[tuple[Entry, Person]], volumes: list[Facts], tau: float) -> pd.DataFrame:
    """The table of :func:`read_truth`."""
    people = pd.DataFrame([{
        "series": entry.series, "split": entry.split, "subject": entry.subject, "visit": entry.visit + 1,
        "source": entry.source, "annotated": entry.annotated, "defect": entry.defect, "age_years": label_age(entry, person),
        "q_age_years": np.nan, **dict(zip((f"s_{bone}" for bone in BONES), person.maturity(entry.visit)))}
        for entry, person in pairs])
    mean = people[[f"s_{bone}" for bone in BONES]].to_numpy().mean(1)
    facts = pd.DataFrame(volumes, columns=[*(f"share_{bone}" for bone in BONES), "joint_row", "joint_column"])
    return pd.concat([people.assign(q_age_years=best_age(mean, tau)), facts], axis=1)
