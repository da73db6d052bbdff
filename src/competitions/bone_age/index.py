"""The index of the radiographs: one row a hand with its label and annotations; and the quarantine of what is not usable."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from competitions.bone_age.annotations import LANDMARKS, MASKS, mask_path, read_landmarks, read_mask
from competitions.bone_age.labels import MALE, read_labels, sexes
from radstack.core.errors import UserError
from radstack.core.files import matching, stamp
from radstack.core.parallel import mapped_rows
from radstack.core.say import Report
from radstack.images.formats import stem_of
from radstack.images.quarantine import QUARANTINE_COLUMNS, examine, nothing_usable, set_aside, tell_faulty, tell_reasons
from radstack.images.radiograph import content_crc, scan

COLUMNS = ["id", "split", "group", "series", "position", "path", "boneage", "male", "height", "width", "bits", "channels",
           "mask", *LANDMARKS, "faulty"]
"""Of the index."""
LOSS = 0.05
"""Share of the listed pictures that may be missing."""
PART = 0.5
"""Share of the listed pictures above which so many are missing that it is no accident."""
VERSION = 1
"""Part of the folders of the parts; raise it when the columns change."""
CHUNK = 500
"""Pictures in one piece of work."""


def build_index(folder: Path, workers: int, parts_folder: Path,
                report: Report = lambda line: None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every picture and every labeled id is in the index or in the quarantine.

    Pictures (PNG, JPEG, TIFF, DICOM) lie in folders nested at will; only headers are read. Files with the same bytes or one
    PatientID are one child: they share a ``group``. A faulty annotation costs the annotation, not the hand: it is in the
    quarantine under the hand's id, and the hand is in the index. The arguments are those of
    :class:`radstack.recipes.competition.Index`.

    Returns:
        The index: ``COLUMNS``, train first, then by id; ``boneage`` months (NaN in test), ``male`` 0 or 1, ``mask`` below
        ``folder`` or "", landmarks in raw pixels or NaN. The quarantine: ``QUARANTINE_COLUMNS``; reasons are those of
        :func:`read_labels`, :func:`read_mask` and :func:`radstack.images.radiograph.read_header`, and ``no-file`` (a
        label without a picture), ``no-label`` and ``not-in-sample`` (a picture without a label), ``duplicate-picture`` (a
        second file of that name, or a train picture with the bytes of a test one), ``landmark-outside``.

    Raises:
        UserError: tables or VIA files are faulty, no picture is usable, or more than ``LOSS`` but less than ``PART`` of the
            listed pictures are missing.
    """
    labels = read_labels(folder)
    if labels.repeated:
        report(f"label rows that repeat another, dropped: {labels.repeated}")
    files = _pictures(scan(folder, workers, parts_folder))
    _quarantine_strangers(files, pd.concat([labels.table, labels.quarantine]))
    lost = _without_file(labels.table, files, report)
    index = labels.table.merge(files[files["reason"] == ""], on=["id", "split"], validate="one_to_one")
    if index.empty:
        raise nothing_usable("picture", folder, pd.concat([set_aside(files), _locate(labels.quarantine, files)]))
    index, copies = _without_test_copies(index.assign(content=_contents(index, folder)))
    index, bad_masks = _add_masks(_share_groups(index, report), folder, workers, parts_folder, report)
    index, bad_landmarks = _add_landmarks(index, folder, report)
    quarantine = pd.concat([_locate(labels.quarantine, files), set_aside(files), lost, copies, bad_masks, bad_landmarks],
                           ignore_index=True)
    tell_faulty(index["faulty"], report)
    tell_reasons(quarantine, report)
    return _arrange(index), quarantine


def _pictures(files: pd.DataFrame) -> pd.DataFrame:
    """Add ``id`` and ``split`` (by the names of the folders) to the scanned files; twins are marked."""
    name, place = files["path"].str.rsplit("/", n=1).str[-1], files["path"].str.rpartition("/")[0].str.lower()
    split = np.where(place.str.contains("(?<![a-z])test", regex=True), "test", "train")
    files = files.assign(id=name.map(stem_of).astype("str"), split=split, depth=place.str.count("/"),
                         bad=files["reason"] != "")
    # Archives were packed with copies of themselves inside: the shallowest readable one is kept.
    files = files.sort_values(["bad", "depth", "path"], ignore_index=True)
    twin = files.duplicated(["id", "split"]) & ~files["bad"]
    files.loc[twin, "reason"], files.loc[twin, "detail"] = "duplicate-picture", "another file has this name"
    return files


def _quarantine_strangers(files: pd.DataFrame, listed: pd.DataFrame) -> None:
    """Mark readable files whose id is in no table of their split."""
    known = pd.MultiIndex.from_frame(listed[["id", "split"]])
    stranger = ~pd.MultiIndex.from_frame(files[["id", "split"]]).isin(known) & (files["reason"] == "")
    files.loc[stranger, "reason"] = np.where(files.loc[stranger, "split"] == "test", "not-in-sample", "no-label")
    files.loc[stranger, "detail"] = "its id is in no table of its split"


def _without_file(labels: pd.DataFrame, files: pd.DataFrame, report: Report) -> pd.DataFrame:
    """Quarantine rows of the labels that no file, usable or not, answers to."""
    there = pd.MultiIndex.from_frame(labels[["id", "split"]]).isin(pd.MultiIndex.from_frame(files[["id", "split"]]))
    lost = labels.loc[~there, ["id", "split"]].assign(path="", reason="no-file", detail="it is listed, but not there")
    for split, listed in labels.groupby("split"):
        _judge_loss(str(split), len(listed), lost.loc[lost["split"] == split, "id"], report)
    return lost


def _judge_loss(split: str, listed: int, lost: pd.Series, report: Report) -> None:
    """Tell a chosen part from a damaged archive.

    The table comes whole even where somebody fetched a few pictures to look at, so most pictures missing is a choice, and
    is only reported. A few missing are the organizer's. What lies between is an unpacking that broke off, which would
    quietly cost a tenth of the score.
    """
    share = len(lost) / listed
    if LOSS < share <= PART:
        raise UserError(f"{split}: {len(lost)} of {listed} listed pictures are missing ({share:.0%}, {LOSS:.0%} may be), "
                        f"the first is {lost.iloc[0]}; unpack the archive again, or delete those rows from the table")
    if share > PART:
        report(f"{split}: only {listed - len(lost)} of {listed} listed pictures are here; taken for a chosen part, "
               "not for a damaged archive")


def _locate(quarantine: pd.DataFrame, files: pd.DataFrame) -> pd.DataFrame:
    """The quarantined labels with the paths of their pictures."""
    usable = files.loc[files["reason"] == "", ["id", "split", "path"]]
    refused = pd.MultiIndex.from_frame(files.loc[files["reason"] != "", ["id", "split"]].drop_duplicates())
    twice = pd.MultiIndex.from_frame(quarantine[["id", "split"]]).isin(refused)  # these have a row as files
    found = quarantine[~twice].drop(columns="path").merge(usable, on=["id", "split"], how="left")
    return found.fillna({"path": ""})[QUARANTINE_COLUMNS]


def _contents(index: pd.DataFrame, folder: Path) -> pd.Series:
    """What files with the same bytes share, and no others.

    Equal files have equal lengths: of 20 GB only a few files are read.
    """
    alike = index[index["bytes"].duplicated(keep=False)]
    digests = [f"{size} {content_crc(folder / path)}" for size, path in zip(alike["bytes"], alike["path"])]
    return pd.Series(digests, alike.index, dtype="str").reindex(index.index).fillna(index["path"])


def _without_test_copies(index: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The index without copies of test pictures in train, which would be trained on; and these as quarantine rows."""
    copies = (index["split"] == "train") & index["content"].isin(index.loc[index["split"] == "test", "content"])
    index.loc[copies, "reason"], index.loc[copies, "detail"] = "duplicate-picture", "a test picture has the same bytes"
    return index[~copies].reset_index(drop=True), set_aside(index)


def _share_groups(index: pd.DataFrame, report: Report) -> pd.DataFrame:
    """Add ``group``: the id, or for files of one patient or with the same bytes the one of them that the tables list first.

    Only DICOM files name a patient.
    """
    known = index["patient"] != ""
    first = index["id"].groupby(index["patient"]).transform("first")
    index = index.assign(group=first.where(known, index["id"]))
    group = index["group"].groupby(index["content"]).transform("first")
    copies = group[group != index["group"]]
    index.loc[copies.index, "group"] = copies
    if len(copies):
        report(f"copies of another picture: {len(copies)} (the first: {index.loc[copies.index[0], 'id']} of "
               f"{copies.iloc[0]}); they share a group, so that no fold splits them")
    return index


def _add_masks(index: pd.DataFrame, folder: Path, workers: int, parts_folder: Path,
               report: Report) -> tuple[pd.DataFrame, pd.DataFrame]:
    paths = [mask_path(folder, hand) for hand in index["id"]]
    items = [(hand, stamp(path), height, width)
             for hand, path, height, width in zip(index["id"], paths, index["height"], index["width"]) if path.exists()]
    _report_strays("masks", len(matching(folder / MASKS, "*.png")) - len(items), report)
    index["mask"] = ""
    if not items:
        return index, pd.DataFrame(columns=QUARANTINE_COLUMNS)
    look = partial(examine, partial(_check_mask, folder), "id", {})
    checked = mapped_rows(look, items, parts_folder / f"masks-v{VERSION}", workers, "masks", CHUNK)
    checked["path"] = f"{MASKS}/" + checked["id"] + ".png"
    good = checked[checked["reason"] == ""].set_index("id")["path"]
    return index.assign(mask=index["id"].map(good).fillna("")), set_aside(checked.merge(index[["id", "split"]], on="id"))


def _check_mask(folder: Path, hand: str, changed: str, height: int, width: int) -> dict[str, str]:
    read_mask(mask_path(folder, hand), (height, width))
    return {}


def _add_landmarks(index: pd.DataFrame, folder: Path, report: Report) -> tuple[pd.DataFrame, pd.DataFrame]:
    landmarks = read_landmarks(folder)
    _report_strays("sets of landmarks", int((~landmarks["id"].isin(index["id"])).sum()), report)
    index = index.merge(landmarks, on="id", how="left")
    x, y = index[list(LANDMARKS[::2])], index[list(LANDMARKS[1::2])]
    # A pixel reaches half a pixel around its center.
    outside = ((x < -0.5).any(axis=1) | (y < -0.5).any(axis=1) | x.gt(index["width"] - 0.5, axis=0).any(axis=1)
               | y.gt(index["height"] - 0.5, axis=0).any(axis=1))
    bad = index.loc[outside, ["id", "split", "path"]].assign(
        reason="landmark-outside", detail="a landmark is outside the picture; mend it in VIA")
    index.loc[outside, list(LANDMARKS)] = np.nan
    return index, bad


def _report_strays(what: str, count: int, report: Report) -> None:
    if count:
        report(f"{what} that belong to no picture of the index: {count}")


def _arrange(index: pd.DataFrame) -> pd.DataFrame:
    """The columns and row order of an index table; ids of digits are ordered as numbers."""
    index = index.assign(series=index["id"], position=0, last=index["split"] == "test", length=index["id"].str.len())
    return index.sort_values(["last", "length", "id"], ignore_index=True)[COLUMNS]


def index_new(folder: Path, workers: int, parts_folder: Path, given: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Index any folder of radiographs as test rows; ``given`` is text with an id and a sex, in the organizer's spellings.

    Of a DICOM file that it does not name, the header's sex counts.

    Returns:
        The index and the quarantine as :func:`build_index` makes them; beside its reasons ``no-sex``.

    Raises:
        UserError: no picture is usable.
    """
    files = _pictures(scan(folder, workers, parts_folder))
    again = (files["reason"] == "") & files.duplicated("id")  # the folders' names, which tell splits, mean nothing here
    files.loc[again, "reason"], files.loc[again, "detail"] = "duplicate-picture", "another file has this name"
    male = files["id"].map(sexes(given)).fillna(files["sex"].str.lower().map(MALE))
    group = files["patient"].where(files["patient"] != "", files["id"])
    files = files.assign(split="test", group=group, mask="", boneage=np.nan, male=male)
    unknown = (files["reason"] == "") & files["male"].isna()
    files.loc[unknown, "reason"] = "no-sex"
    files.loc[unknown, "detail"] = "bone ages are read by sex: give a table with id and male by --columns"
    usable = files["reason"] == ""
    if not usable.any():
        raise nothing_usable("picture", folder, set_aside(files))
    return _arrange(files[usable].assign(**dict.fromkeys(LANDMARKS, np.nan)).astype({"male": int})), set_aside(files)
