"""One radiograph in, the annotated picture out: boxes, phases, probabilities and the hint, by all that was trained."""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from competitions.radius_ulna.index import COLUMNS
from competitions.radius_ulna.pictures import annotated
from competitions.radius_ulna.report import findings_of
from radstack.core.errors import UserError
from radstack.images.dicom import Unreadable
from radstack.images.radiograph import read_picture
from radstack.running.context import Context
from radstack.stages.apply import apply

TEXT = ("sex",)
"""Columns of the index that hold text which may be blank."""


def annotate(context: Context, picture: Path, out: Path) -> str:
    """Write the annotated ``picture`` (PNG or JPEG, any size) as ``out`` (PNG); return its findings in one line.

    Raises:
        UserError: the picture cannot be read, or the competition is not trained through stage 07.
    """
    try:
        pixels, channels = read_picture(picture)
    except Unreadable as error:
        raise UserError(f"{picture} cannot be read: {error.reason} ({error.detail}); give a PNG or JPEG") from error
    rows = index_row(picture, pixels, channels)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "pictures"
        source.mkdir()
        shutil.copyfile(picture, source / picture.name)
        one = replace(context, options=replace(context.options, workers=1))
        localized, predicted = apply(one, source, rows, Path(folder) / "work")
    final = predicted[context.competition.models.final].iloc[0]
    findings = findings_of(localized.iloc[0], final)
    annotated(pixels, findings, out, picture.name)
    doubt = f"; UNSURE: {findings.flag}" if findings.flag else ""
    told = ", ".join(f"{bone} {phase} ({findings.chances[bone].max():.0%})" for bone, phase in findings.phases.items())
    return f"{picture.name}: {told}; {findings.hint}{doubt}"


def index_row(picture: Path, pixels: np.ndarray, channels: int) -> pd.DataFrame:
    """The index row of a picture that nobody labeled, as test rows of ``build_index``."""
    blank = dict.fromkeys(COLUMNS, np.nan) | dict.fromkeys(TEXT, "")
    known = {"id": picture.stem, "split": "test", "group": picture.stem, "series": picture.stem, "position": 0,
             "path": picture.name, "height": pixels.shape[0], "width": pixels.shape[1], "channels": channels,
             "radius_stage": -1, "ulna_stage": -1}
    return pd.DataFrame([blank | known])
