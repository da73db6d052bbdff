"""Which radiographs there are, whose, and at which stage: ``labels.csv`` and the list of the test pictures."""

from pathlib import Path

import numpy as np
import pandas as pd

from competitions.radius_ulna.boxes import box_files
from competitions.radius_ulna.phases import LEARNED, LETTER, stage_number
from radstack.core.cells import plain_numbers
from radstack.core.errors import Missing
from radstack.core.files import existing, needed, read_text_table
from radstack.images.formats import stem_of
from radstack.images.quarantine import Labels, judge, set_aside

TABLE, SAMPLE = "labels.csv", "sample_submission.csv"
"""The list of the pictures; the list of the test pictures (its rows are those to submit)."""
COLUMNS = ("file", "date", "serial", "child", "radius_stage", "ulna_stage", "sex", "age")
"""Of ``labels.csv``; date and serial only say where a row comes from (see :mod:`competitions.radius_ulna.join`)."""
NEEDED = ("file", "radius_stage", "ulna_stage")
"""Those that must be there."""
SEX = {"m": "M", "male": "M", "f": "F", "female": "F", "": ""}
"""Every way in which sex is written, lower case; it may be left blank."""
STAGE_FAULTS = ("no-stage", "unknown-stage", "young-stage")
"""What may be wrong with a bone's stage."""
OLDEST = 30.0
"""Years. U9 is reached at 17.3 on average (Luk et al. 2014); an age above this is a slip of the pen."""


def read_labels(folder: Path) -> Labels:
    """Read ``labels.csv``; a picture is test if ``sample_submission.csv`` lists it, and its stages are left out.

    A picture of the sample needs no row in ``labels.csv``. Rows are quarantined as ``no-name`` (the file is blank),
    ``duplicate-file`` (rows of one file that disagree, all of them), ``duplicate-name`` (files of one name in two folders,
    which is the id), ``no-stage`` (in train), ``unknown-stage``, ``young-stage`` (below R5 or U4, see
    :data:`competitions.radius_ulna.phases.LEARNED`), ``unknown-sex``, ``bad-age`` (not a number of years up to ``OLDEST``)
    and ``no-file``. A faulty stage of one bone costs that bone alone: the picture is in the table, and in the quarantine
    with the bone before the reason, such as ``ulna-young-stage``.

    The table has ``id`` (name of the file without its ending, unique), ``split``, ``file``, ``child`` ("" if unknown),
    ``radius_stage`` and ``ulna_stage`` (int, -1 in test and where faulty), ``sex`` (M, F or "") and ``age`` (years or NaN).
    Without one, or with a damaged one, it is a UserError.
    """
    if not (folder / TABLE).exists():
        raise Missing(folder, f"no spreadsheets were joined (src/join_labels.py) and {folder} has no {TABLE}")
    rows = read_text_table(folder / TABLE, NEEDED).reindex(columns=list(COLUMNS), fill_value="")
    repeated = _meant(rows).duplicated()
    rows = rows[~repeated]
    sample = sample_files(folder)
    unlisted = pd.DataFrame({"file": [file for file in sample if file not in set(rows["file"])]}, dtype="str")
    rows = pd.concat([rows, unlisted], ignore_index=True).fillna("").astype("str")
    rows = _judge(folder, rows.assign(split=np.where(rows["file"].isin(sample), "test", "train")))
    labels = Labels.parted(rows, ["id", "split", "file", "child", "radius_stage", "ulna_stage", "sex", "age"], repeated,
                           path="file")
    bones = [set_aside(rows[rows["reason"] == ""], path="file", reason=f"{bone}_reason", detail=f"{bone}_detail")
             for bone in LETTER]
    return labels._replace(quarantine=pd.concat([labels.quarantine, *bones], ignore_index=True))


def label_files(folder: Path) -> tuple[Path, ...]:
    """The tables that are there, and the boxes: all that is learned from pictures."""
    return (*existing(folder, TABLE, SAMPLE), *box_files(folder))


def sample_file(folder: Path) -> Path:
    """The list of the test pictures; a UserError where there is none."""
    return needed(folder / SAMPLE, "write one with a column file that lists the test pictures")


def sample_files(folder: Path) -> list[str]:
    """Files of the sample, each once, in its order; [] without a sample."""
    return [file for path in existing(folder, SAMPLE) for file in read_text_table(path, ("file",))["file"].unique()]


def _meant(rows: pd.DataFrame) -> pd.DataFrame:
    """``rows``, such that those that say the same in two spellings are equal; what is not understood stays as it is."""
    numbers = {f"{bone}_stage": _numbers(bone, rows) for bone in LETTER}
    stages = {name: number.astype("str").where(number > 0, rows[name]) for name, number in numbers.items()}
    return rows.assign(**stages, sex=rows["sex"].str.lower().map(SEX).fillna(rows["sex"]), age=plain_numbers(rows["age"]))


def _judge(folder: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """Values as numbers; added ``id``, ``reason`` and ``detail``, the last two "" where usable."""
    train, name = rows["split"] == "train", pd.Series([stem_of(file) for file in rows["file"]], rows.index, dtype="str")
    there = pd.Series([bool(file) and (folder / file).is_file() for file in rows["file"]], rows.index, dtype=bool)
    sex, age = rows["sex"].str.lower().map(SEX), pd.to_numeric(rows["age"], errors="coerce")
    rows = rows.assign(**_judge_bones(rows, train))
    both = (rows["radius_reason"] != "") & (rows["ulna_reason"] != "")
    wrong = {
        "no-name": (rows["file"] == "", "the file is blank"),
        "duplicate-file": (rows.duplicated("file", keep=False), "rows of this file disagree"),
        "duplicate-name": (name.duplicated(keep=False), "another file has the same name: rename one"),
        **{f"{reason} of both": (both & (rows["radius_reason"] == f"radius-{reason}"), rows["radius_detail"])
           for reason in STAGE_FAULTS},
        "unknown-sex": (train & sex.isna(), "sex is '" + rows["sex"] + "'"),
        "bad-age": (train & (rows["age"] != "") & ~age.between(0, OLDEST), "age is '" + rows["age"] + "' years"),
        "no-file": (~there, "there is no such file"),
    }  # fmt: skip
    stages = {f"{bone}_stage": _numbers(bone, rows).where(train & (rows[f"{bone}_reason"] == ""), -1) for bone in LETTER}
    rows = judge(rows.assign(**stages, id=name, sex=sex.fillna(""), age=age), wrong)
    return rows.assign(reason=rows["reason"].str.removesuffix(" of both"))


def _judge_bones(rows: pd.DataFrame, train: pd.Series) -> dict[str, pd.Series]:
    """``radius_reason``, ``radius_detail`` and those of the ulna: what is wrong with a bone's stage, "" for nothing."""
    found: dict[str, pd.Series] = {}
    for bone in LETTER:
        judged = judge(rows, {f"{bone}-{reason}": fault for reason, fault in _judge_stage(bone, rows, train).items()})
        found |= {f"{bone}_{column}": judged[column] for column in ("reason", "detail")}
    return found


def _judge_stage(bone: str, rows: pd.DataFrame, train: pd.Series) -> dict[str, tuple[pd.Series, pd.Series | str]]:
    text, number, first = rows[f"{bone}_stage"], _numbers(bone, rows), LEARNED[bone][0]
    young = f" of the {bone} is younger than {LETTER[bone]}{first}, the first that is learned"
    return dict(zip(STAGE_FAULTS, [(train & (text == ""), f"the stage of the {bone} is blank"),
                                   (train & (number == 0), f"stage of the {bone} is '" + text + "'"),
                                   (train & (number < first), "'" + text + "'" + young)], strict=True))


def _numbers(bone: str, rows: pd.DataFrame) -> pd.Series:
    return rows[f"{bone}_stage"].map(lambda text: stage_number(bone, text)).astype(int)
