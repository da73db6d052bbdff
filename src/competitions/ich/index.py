"""The index of the archive: one row a slice, in order, with its labels; and the quarantine of what is not usable."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from competitions.ich.labels import SAMPLE_CSV, TARGETS, TRAIN_CSV, read_labels, read_sample_ids
from radstack.core.errors import Missing
from radstack.core.say import Report
from radstack.images.dicom.scan import scan
from radstack.images.dicom.series import ORIENTATION, order
from radstack.images.quarantine import nothing_usable, set_aside, tell_faulty, tell_reasons

FOLDERS = {"train": ("stage_2_train", "stage_2_train_images"), "test": ("stage_2_test", "stage_2_test_images")}
"""Both names under which the organizer shipped the pictures."""
MOST_TILT = 45.0
"""Degrees between a slice and an axial one; gantries tilt by up to 30."""
HEADER_COLUMNS = ["study", "series_uid", "modality", "rows", "columns", "spacing_row", "spacing_column", "bits_stored",
                  "pixel_representation", "photometric", "intercept", "has_intercept", "slope", "padding", "window_center",
                  "window_width", "transfer_syntax", "faulty", "order_flag"]
"""Columns of the index after the targets."""


def build_index(input_folder: Path, workers: int, parts_folder: Path,
                report: Report = lambda line: None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every file and every id of the archive is in the index or in the quarantine.

    See :class:`radstack.recipes.competition.Index` for the arguments.

    The id of a slice is its SOPInstanceUID, which is the file's stem in the archive (so a renamed file is found);
    for a file without a header the stem. A patient is one PatientID; a series is PatientID, StudyInstanceUID and
    SeriesInstanceUID together. A blank PatientID is the study, then the series, then the slice alone.

    Returns:
        The index: ``id``, ``split``, ``group``, ``series``, ``position``, ``z``, ``path``, the targets (float32, NaN in
        test) and ``HEADER_COLUMNS``, sorted by split (train first), series, position. The quarantine:
        ``QUARANTINE_COLUMNS``; reasons are those of :class:`radstack.images.dicom.Unreadable` and ``duplicate-sop``,
        ``no-label`` and ``not-in-sample`` (a file without a row), ``no-file`` (a row without a file). A test id of
        the quarantine keeps its six rows in the submission, filled there.

    Raises:
        UserError: a folder or CSV is missing, the CSV is damaged, or no slice is usable.
    """
    labels = read_labels(input_folder / TRAIN_CSV)
    sample = read_sample_ids(input_folder / SAMPLE_CSV)
    if labels.repeated:
        report(f"{TRAIN_CSV}: {labels.repeated} rows that repeat another were dropped")
    files = pd.concat([_scan(input_folder, split, workers, parts_folder) for split in FOLDERS])
    files = _identify(files.reset_index(drop=True), report)
    wanted = {"train": labels.table["id"], "test": sample}
    _name_refused(files, wanted)
    _quarantine_strangers(files, wanted)
    usable = files["reason"] == ""
    if not usable.any():
        raise nothing_usable("slice", input_folder, set_aside(files))
    index = _arrange(order(files[usable]), labels.table)
    tell_faulty(files.loc[usable, "faulty"], report)
    quarantine = pd.concat([set_aside(files), _without_file(files, wanted)], ignore_index=True)
    _summarize(index, quarantine, report)
    return index, quarantine


def _scan(input_folder: Path, split: str, workers: int, parts_folder: Path) -> pd.DataFrame:
    folder = next((input_folder / name for name in FOLDERS[split] if (input_folder / name).is_dir()), None)
    if folder is None:
        raise Missing(input_folder, f"{input_folder} has neither {' nor '.join(FOLDERS[split])}")
    files = scan(folder, workers, parts_folder / split)
    return files.assign(split=split, path=folder.name + "/" + files["path"])


def _identify(files: pd.DataFrame, report: Report = lambda line: None) -> pd.DataFrame:
    """Add ``id``, ``group`` and ``series``; all but one of the files with the same SOPInstanceUID are quarantined.

    A study, or a series, without a PatientID stays one, and stands for its patient: no scan is dealt to several folds.
    """
    stem = _stems(files["path"])
    files["id"] = files["sop"].where(files["sop"] != "", stem)
    files["renamed"] = files["id"] != stem
    # The file of the right name wins, then the test copy: a slice that is scored must not be trained on as well.
    readable = files[files["reason"] == ""].sort_values(["renamed", "split", "path"])
    twins = readable.index[readable.duplicated("id")]
    files.loc[twins, "reason"] = "duplicate-sop"
    files.loc[twins, "detail"] = "another file has the SOPInstanceUID " + files.loc[twins, "id"]
    files.loc[twins, "id"] = stem[twins]
    _tell_nameless(files[files["reason"] == ""], report)
    for name, other in (("study", "series_uid"), ("patient", "study")):
        files[name] = files[name].where(files[name] != "", files[other])
    names = [files[name].where(files[name] != "", files["id"]) for name in ("patient", "study", "series_uid")]
    return files.assign(group=names[0], series=names[0] + "-" + names[1] + "-" + names[2])


def _name_refused(files: pd.DataFrame, wanted: dict[str, pd.Series]) -> None:
    """Let a refused file go by its name where that is listed and its SOPInstanceUID, perhaps damaged, is not.

    Else it would have a row for itself, and a row of the listed id for a file that is not there.
    """
    stem = _stems(files["path"])
    for split, ids in wanted.items():
        refused = (files["split"] == split) & (files["reason"] != "") & (files["reason"] != "duplicate-sop")
        named = refused & ~_among(files["id"], ids) & _among(stem, ids) & ~_among(stem, files.loc[~refused, "id"])
        files.loc[named, "id"] = stem[named]


def _stems(path: pd.Series) -> pd.Series:
    """Names of files without ``.dcm``."""
    return path.str.replace("(?s)^.*/", "", regex=True).str.strip().str.removesuffix(".dcm").str.strip()


def _tell_nameless(files: pd.DataFrame, report: Report) -> None:
    """Say how many slices have no PatientID, and what stands for it."""
    nameless = files[files["patient"] == ""]
    by_study = nameless["study"] != ""
    by_series = ~by_study & (nameless["series_uid"] != "")
    if len(nameless):
        report(f"slices without a PatientID: {len(nameless)}; taken for one patient a study: {by_study.sum()}, a series: "
               f"{by_series.sum()}, a slice: {(~by_study & ~by_series).sum()}")


def _quarantine_strangers(files: pd.DataFrame, wanted: dict[str, pd.Series]) -> None:
    """Quarantine readable files whose id is not in the CSV of their split."""
    for split, reason, csv in (("train", "no-label", TRAIN_CSV), ("test", "not-in-sample", SAMPLE_CSV)):
        stranger = (files["split"] == split) & (files["reason"] == "") & ~_among(files["id"], wanted[split])
        files.loc[stranger, "reason"] = reason
        files.loc[stranger, "detail"] = f"its id is not in {csv}"
        # Anonymized anew: the label belongs to the name, the pixels to another number, and nobody knows whether both agree.
        renumbered = stranger & files["renamed"] & _among(_stems(files["path"]), wanted[split])
        files.loc[renumbered, "detail"] = (f"{csv} lists the name of the file, but not its SOPInstanceUID "
                                           + files.loc[renumbered, "sop"] + "; fetch the organizer's file again")


def _without_file(files: pd.DataFrame, wanted: dict[str, pd.Series]) -> pd.DataFrame:
    """Quarantine rows of the ids that no file, usable or not, answers to."""
    lost = {split: ids[~_among(ids, files.loc[files["split"] == split, "id"])] for split, ids in wanted.items()}
    return pd.concat([pd.DataFrame({"id": ids, "split": split, "path": "", "reason": "no-file",
                                    "detail": f"listed in the CSV, not in {' or '.join(FOLDERS[split])}"})
                      for split, ids in lost.items()])


def _among(ids: pd.Series, others: pd.Series) -> np.ndarray:
    """Which ``ids`` are in ``others``; by pyarrow, where ``isin`` on strings takes seconds for 750,000."""
    return np.asarray(pc.is_in(pa.array(ids), value_set=pa.array(others)))


def _arrange(files: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """The columns and row order of an index table."""
    index = files.merge(labels, on="id", how="left", validate="one_to_one")
    index.loc[index["split"] == "test", list(TARGETS)] = np.nan
    columns = ["id", "split", "group", "series", "position", "z", "path", *TARGETS, *HEADER_COLUMNS]
    index = index.assign(last=index["split"] == "test").sort_values(["last", "series", "position"], ignore_index=True)
    return index[columns]


def _summarize(index: pd.DataFrame, quarantine: pd.DataFrame, report: Report) -> None:
    tell_reasons(quarantine, report)
    flags = index.assign(flag=index["order_flag"].str.split(",")).explode("flag")
    for flag, count in flags[flags["flag"] != ""].groupby("flag")["series"].nunique().items():
        report(f"{count} series with {flag}")


def index_new(folder: Path, workers: int, parts_folder: Path, given: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Index any folder of CT slices, nested and mixed at will, as test rows; ``given`` is not needed.

    Returns:
        The index and the quarantine as :func:`build_index` makes them; beside its reasons ``not-axial`` (scouts, and
        reformatted series).

    Raises:
        UserError: no slice is usable.
    """
    files = _identify(scan(folder, workers, parts_folder).assign(split="test"))
    axes = files[ORIENTATION].to_numpy(float)
    upright = np.abs(np.cross(axes[:, :3], axes[:, 3:])[:, 2])  # NaN without an orientation, which is taken for axial
    turned = (files["reason"] == "") & (upright < np.cos(np.radians(MOST_TILT)))
    files.loc[turned, "reason"], files.loc[turned, "detail"] = "not-axial", "a scout, or a series cut another way"
    usable = files["reason"] == ""
    if not usable.any():
        raise nothing_usable("slice", folder, set_aside(files))
    nothing = pd.DataFrame({"id": pd.Series(dtype="str"), **{target: pd.Series(dtype="float32") for target in TARGETS}})
    return _arrange(order(files[usable]), nothing), set_aside(files)
