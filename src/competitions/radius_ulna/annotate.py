"""One radiograph in, the annotated picture out: boxes, phases, probabilities and the hint, by all that was trained."""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from competitions.radius_ulna.pictures import annotated
from competitions.radius_ulna.report import findings_of
from radstack.core.errors import UserError
from radstack.images.dicom import Unreadable
from radstack.images.formats import usual_name
from radstack.images.radiograph import read_picture
from radstack.running.context import Context
from radstack.running.tables import read_rows
from radstack.stages.apply import answers, apply


def annotate(context: Context, picture: Path, out: Path) -> str:
    """Write the annotated ``picture`` (PNG, JPEG, TIFF or DICOM) as ``out`` (PNG); return its findings in one line.

    Raises:
        UserError: the picture cannot be read, or the competition is not trained through stage 07.
    """
    pixels = _read(picture)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "pictures"
        source.mkdir()
        shutil.copyfile(picture, source / usual_name(picture))
        one = replace(context, options=replace(context.options, workers=1))
        there = apply(one, source, Path(folder) / "work")
        localized, final = (table.iloc[0] for table in (read_rows(there, "test")[0], answers(there)))
    findings = findings_of(localized, final)
    annotated(pixels, findings, out, picture.name)
    doubt = f"; UNSURE: {findings.flag}" if findings.flag else ""
    told = ", ".join(f"{bone} {phase} ({findings.chances[bone].max():.0%})" for bone, phase in findings.phases.items())
    return f"{picture.name}: {told}; {findings.hint}{doubt}"


def _read(picture: Path) -> np.ndarray:
    try:
        return read_picture(picture)[0]
    except Unreadable as error:
        raise UserError(f"{picture} cannot be read: {error.reason} ({error.detail}); give a PNG, JPEG, TIFF or DICOM file"
                        ) from error
