"""Which volumes there are, whose, and how old: ``volumes.csv``, or without it the file names of Pietz and Proeve 2018."""

from pathlib import Path

import numpy as np
import pandas as pd

from radstack.core.cells import plain_numbers
from radstack.core.errors import Missing, UserError
from radstack.core.files import existing, matching, needed, read_text_table
from radstack.images.quarantine import Labels, judge

TABLE, SAMPLE = "volumes.csv", "sample_submission.csv"
"""The list of the volumes; the list of the test volumes (its rows are those to submit)."""
COLUMNS = ("subject", "visit", "file", "source", "sex", "age_years")
"""Of ``volumes.csv``."""
NEEDED = tuple(name for name in COLUMNS if name != "sex")
"""Those that must be there."""
LEAST, MOST = 10.0, 30.0
"""Years. Plates of the knee close between 14 and 21 (Pietz and Proeve 2018); an age beyond these is a slip of the pen."""
SEX = {"m": "M", "male": "M", "f": "F", "female": "F"}
"""Every way in which sex is written, lower case."""
YEARS_TOKEN, MONTHS_TOKEN = 3, 4
"""Tokens of a file name split at ``_``, counted from 0 as in the code of Pietz 2018, that hold the age."""
SUBJECT_TOKENS = 2
"""Leading tokens that name the person. Too few would merge persons, too many would make two persons of a man's two visits
and let him stand on both sides of a split; the first is noticed, the second is not, so it is not the third token as well."""
SUFFIXES = (".mhd", ".mha", ".nii", ".nii.gz", ".nrrd")
"""Files that are volumes."""


def read_labels(folder: Path) -> Labels:
    """Read ``volumes.csv``, or the names below ``data/<Study>/MHD`` where there is none.

    A volume is test if ``sample_submission.csv`` lists it; its age, if it has one, is left out. Rows are quarantined as
    ``no-subject``, ``bad-visit``, ``unknown-sex``, ``female`` (the method is for men only), ``duplicate-visit`` (rows of one
    visit that disagree, all of them), ``duplicate-file`` (two visits, one file), ``no-age``, ``age-out-of-range`` (outside
    ``LEAST``..``MOST`` years) and ``no-file`` (a listed volume that is not there, a row of the sample without a volume).
    Where the table has no column ``sex``, all are taken for men.

    The table has ``series`` (unique, ``<subject>_<visit>``, the id in the quarantine), ``subject``, ``visit`` (int),
    ``split``, ``file``, ``source`` and ``age_years`` (NaN in test). A damaged table, a file name without an age, or no
    volume is a UserError.
    """
    rows = read_text_table(folder / TABLE, NEEDED) if (folder / TABLE).exists() else _from_names(folder)
    rows = rows.assign(sex=rows.get("sex", "M"))
    repeated = _meant(rows).duplicated()
    rows = rows[~repeated].reset_index(drop=True)
    rows["series"] = rows["subject"] + "_" + rows["visit"]
    sample = _sample_series(folder)
    rows["split"] = np.where(rows["series"].isin(sample), "test", "train")
    rows = _judge(folder, rows)
    lost = [series for series in sample if series not in set(rows["series"])]
    absent = pd.DataFrame({"id": lost, "split": "test", "path": "", "reason": "no-file",
                           "detail": f"listed in {SAMPLE}, not in {TABLE}"}, dtype="str")
    labels = Labels.parted(rows, ["series", "subject", "visit", "split", "file", "source", "age_years"], repeated,
                           id="series", path="file")
    return labels._replace(table=labels.table.astype({"visit": int}),
                           quarantine=pd.concat([labels.quarantine, absent], ignore_index=True))


def label_files(folder: Path) -> tuple[Path, ...]:
    """The tables that are there."""
    return existing(folder, TABLE, SAMPLE)


def sample_file(folder: Path) -> Path:
    """The list of the test volumes; a UserError where there is none."""
    return needed(folder / SAMPLE, "write one with the columns subject,visit,age_years")


def columns_file(folder: Path) -> Path | None:
    """The table that names volumes and sources; None where these are taken from the names of the files."""
    return next(iter(existing(folder, TABLE)), None)


def source_of(path: Path) -> str:
    """The source of a volume by the folder of its study, as ``epi`` of ``data/Epi_Study/MHD``; "" where it lies higher."""
    return path.parts[-3].lower().removesuffix("_study") if len(path.parts) > 2 else ""


def _from_names(folder: Path) -> pd.DataFrame:
    """``COLUMNS`` as text from the names of the files; visits are numbered from 1 by age, and all are men."""
    files = [path for path in matching(folder, "data/*/MHD/*") if path.name.endswith(SUFFIXES)]
    if not files:
        raise Missing(folder, f"{folder} has no {TABLE} and no volume in data/<Study>/MHD")
    rows = pd.DataFrame([_name(path, folder) for path in files])
    visit = rows.groupby("subject")["age_years"].rank(method="first").astype(int).astype("str")
    return rows.assign(visit=visit, sex="M", age_years=rows["age_years"].map("{:.4f}".format)).astype("str")


def _name(path: Path, folder: Path) -> dict[str, str | float]:
    tokens = path.name.partition(".")[0].split("_")
    try:
        age = int(tokens[YEARS_TOKEN]) + int(tokens[MONTHS_TOKEN]) / 12
    except (ValueError, IndexError) as error:
        raise UserError(f"{path.name}: tokens {YEARS_TOKEN} and {MONTHS_TOKEN} (from 0, between _) are not years, months; "
                        f"write {folder / TABLE} with {','.join(COLUMNS)}") from error
    return {"subject": "_".join(tokens[:SUBJECT_TOKENS]), "file": path.relative_to(folder).as_posix(),
            "source": source_of(path), "age_years": age}


def _sample_series(folder: Path) -> list[str]:
    """``<subject>_<visit>`` of the sample, each once; [] without a sample."""
    samples = (read_text_table(path, ("subject", "visit")) for path in existing(folder, SAMPLE))
    return [series for sample in samples for series in (sample["subject"] + "_" + sample["visit"]).unique()]


def _meant(rows: pd.DataFrame) -> pd.DataFrame:
    """``COLUMNS``, such that rows that say the same in two spellings are equal; what is not understood stays as it is."""
    return rows[list(COLUMNS)].assign(sex=rows["sex"].str.lower().map(SEX).fillna(rows["sex"]),
                                      source=rows["source"].str.lower(), age_years=plain_numbers(rows["age_years"]))


def _judge(folder: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """``age_years`` as numbers (NaN in test), lower-case ``source``; added ``reason`` and ``detail``, "" where usable."""
    train, sex = rows["split"] == "train", rows["sex"].str.lower().map(SEX)
    age = pd.to_numeric(rows["age_years"], errors="coerce").where(train)
    there = pd.Series([bool(file) and (folder / file).exists() for file in rows["file"]], rows.index, dtype=bool)
    wrong = {
        "no-subject": (rows["subject"] == "", "the subject is blank"),
        "bad-visit": (~rows["visit"].str.fullmatch("[0-9]+"), "visit is '" + rows["visit"] + "', not a number"),
        "unknown-sex": (sex.isna(), "sex is '" + rows["sex"] + "'; men only"),
        "female": (sex == "F", "the method was made for men only: women's plates close earlier"),
        "duplicate-visit": (rows.duplicated("series", keep=False), "rows of this visit disagree"),
        "duplicate-file": (rows.duplicated("file", keep=False) & (rows["file"] != ""), "another visit has the same file"),
        "no-age": (train & ~np.isfinite(age), "age is '" + rows["age_years"] + "'"),
        "age-out-of-range": (train & ~age.between(LEAST, MOST),
                             "age is " + rows["age_years"] + f" years, not {LEAST:g}..{MOST:g}"),
        "no-file": (~there, "there is no such file"),
    }  # fmt: skip
    return judge(rows.assign(age_years=age, source=rows["source"].str.lower()), wrong)
