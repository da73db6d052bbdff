"""The index of the knees: one row a slice with the age of its volume; and the quarantine of what is not usable."""

import zlib
from functools import partial
from glob import escape
from pathlib import Path

import numpy as np
import pandas as pd

from competitions.knee_age.labels import SUFFIXES, TABLE, read_labels, source_of
from competitions.knee_age.volume import SHARE, central, read_masks
from radstack.core.errors import UnfitTable
from radstack.core.files import files_below, read_text_table
from radstack.core.parallel import mapped_rows
from radstack.core.say import Report
from radstack.images.dicom import Unreadable
from radstack.images.quarantine import (
    QUARANTINE_COLUMNS,
    examine,
    fault,
    mark_copies,
    nothing_usable,
    set_aside,
    tell_reasons,
)
from radstack.images.volumes import Volume, read_volume

COLUMNS = ["id", "split", "group", "series", "position", "path", "mask", "age_years", "visit", "source", "slices", "height",
           "width", "spacing_row", "spacing_column", "spacing_slice", "z"]
"""Of the index."""
SIZES, SPACINGS = ("slices", "height", "width"), ("spacing_slice", "spacing_row", "spacing_column")
BLANK = {"mask": "", "mask_file": "", "mask_reason": "", "mask_detail": "", "crc": 0, **dict.fromkeys(SIZES, 0),
         **dict.fromkeys(SPACINGS, np.nan)}  # fmt: skip
"""What is known of a volume that cannot be read."""
VERSION = 2
"""Part of the folder of the parts; raise it when the columns change, or what is read of a volume."""
CHUNK = 8
"""Volumes in one piece of work: some seconds."""


def build_index(folder: Path, workers: int, parts_folder: Path,
                report: Report = lambda line: None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every slice of every listed volume is in the index, or its volume in the quarantine.

    Every volume is read to the last voxel, so that a cut-off file costs a row here and not a run later. A faulty mask costs
    the mask, not the volume: it is in the quarantine under the volume's id, and the volume is in the index. The arguments
    are those of :class:`radstack.recipes.competition.Index`.

    Returns:
        The index: ``COLUMNS``, train first, then by series and position; ``age_years`` NaN in test, ``position`` counts from
        the front, ``path`` and ``mask`` (of train volumes, or "") lie below ``folder``, sizes and spacings (mm) are those of
        the oriented volume. The quarantine: ``QUARANTINE_COLUMNS``, one row a volume; reasons are those of
        :func:`read_labels`, :func:`radstack.images.volumes.read_volume` and :func:`read_masks`, and ``not-coronal``
        (sagittal volumes were never used for ages), ``slice-count``, ``flat`` (all voxels alike), ``duplicate-volume`` (a
        train volume with the voxels of another).

    Raises:
        UserError: tables are faulty, or no volume is usable.
    """
    labels = read_labels(folder)
    if labels.repeated:
        report(f"rows of {TABLE} that repeat another, dropped: {labels.repeated}")
    volumes = _read(folder, labels.table, workers, parts_folder)
    usable = volumes["reason"] == ""
    if not usable.any():
        raise nothing_usable("volume", folder, set_aside(volumes, id="series", path="file") if len(volumes)
                             else labels.quarantine)
    masks = set_aside(volumes, id="series", path="mask_file", reason="mask_reason", detail="mask_detail")
    quarantine = pd.concat([labels.quarantine, set_aside(volumes, id="series", path="file"), masks], ignore_index=True)
    _summarize(folder, labels.table, volumes, quarantine, report)
    return _slices(volumes[usable]), quarantine


def mask_file(folder: Path, file: str) -> str:
    """Path below ``folder`` of the labels of ``file``: ``../VOI_LABEL/<name>_LABEL.*`` for ``<name>_ORIG.*``, or ""."""
    path = folder / file
    name = path.name.partition(".")[0].removesuffix("_ORIG")
    found = sorted(path.parent.with_name("VOI_LABEL").glob(f"{escape(name)}_LABEL.*"))
    return next((mask.relative_to(folder).as_posix() for mask in found if mask.name.endswith(SUFFIXES)), "")


def _read(folder: Path, table: pd.DataFrame, workers: int, parts_folder: Path) -> pd.DataFrame:
    """``table`` with what :func:`_look` found; copies of another volume are marked."""
    masks = [mask_file(folder, file) if split == "train" else "" for file, split in zip(table["file"], table["split"])]
    items = [[series, file, mask, *_stamp(folder / file), *(_stamp(folder / mask) if mask else ())]
             for series, file, mask in zip(table["series"], table["file"], masks)]
    if not items:
        return pd.DataFrame({"reason": [], "detail": []})
    look = partial(examine, partial(_look, folder), "series", BLANK)
    found = mapped_rows(look, items, parts_folder / f"volumes-v{VERSION}", workers, "volumes", CHUNK)
    volumes = table.merge(found, on="series", validate="one_to_one")
    mark_copies(volumes, "crc", "series", "duplicate-volume", "another file has the same voxels")
    return volumes


def _stamp(path: Path) -> tuple[int, int]:
    """Bytes and latest time of modification, ns, of a volume: its folder, or the files of its name (.mhd and .raw)."""
    files = path.iterdir() if path.is_dir() else path.parent.glob(f"{escape(path.stem)}.*")
    stats = [file.stat() for file in files]
    return sum(stat.st_size for stat in stats), max((stat.st_mtime_ns for stat in stats), default=0)


def _look(folder: Path, series: str, file: str, mask: str, *stamps: int) -> dict[str, object]:
    """Size and digest of a volume, and the faults of its mask."""
    volume = _checked(folder / file)
    row = {"crc": zlib.crc32(volume.pixels.data), "mask_file": mask, "mask": "",
           **dict(zip(SIZES, volume.size)), **dict(zip(SPACINGS, volume.spacing))}
    if mask:
        wrong = fault(_read_mask, folder / mask, volume)
        row |= {"mask_reason": wrong["reason"], "mask_detail": wrong["detail"], "mask": "" if wrong["reason"] else mask}
    return row


def _read_mask(path: Path, volume: Volume) -> dict[str, str]:
    read_masks(path, volume)
    return {}


def _checked(path: Path) -> Volume:
    """Read a volume and refuse what the method cannot take."""
    volume = read_volume(path)
    if volume.plane != "coronal":
        raise Unreadable("not-coronal", f"{path.name} has {volume.plane} slices; if they are coronal, its header lacks the "
                         "direction cosines (TransformMatrix)")
    central(volume.size[0])
    if volume.pixels.min() == volume.pixels.max():
        raise Unreadable("flat", f"{path.name}: all voxels are {volume.pixels.flat[0]:g}")
    return volume


def _slices(volumes: pd.DataFrame) -> pd.DataFrame:
    """One row a slice, in the columns and row order of an index table."""
    index = volumes.loc[volumes.index.repeat(volumes["slices"])].rename(columns={"subject": "group", "file": "path"})
    index["position"] = index.groupby("series").cumcount()
    index["z"] = index["position"] * index["spacing_slice"]
    index["id"] = (index["series"] + "_" + index["position"].astype(str).str.zfill(2)).astype("str")
    index["last"] = index["split"] == "test"
    return index.sort_values(["last", "series", "position"], ignore_index=True)[COLUMNS]


def _summarize(folder: Path, table: pd.DataFrame, volumes: pd.DataFrame, quarantine: pd.DataFrame, report: Report) -> None:
    if not (folder / TABLE).exists():
        report(f"no {TABLE}: ages and subjects are taken from the file names, and all are taken for men")
    elif "sex" not in read_text_table(folder / TABLE, ()):
        report(f"{TABLE} has no column sex: all are taken for men")
    if not (table["split"] == "test").any():
        report("no usable test volume: sample_submission.csv lists those to predict")
    tell_reasons(quarantine, report)
    for source, rows in volumes[volumes["reason"] == ""].groupby("source"):
        report(f"{source}: {len(rows)} volumes, {(rows['mask'] != '').sum()} with masks, of "
               f"{' or '.join(map(str, sorted(rows['slices'].unique())))} slices")


def index_new(folder: Path, workers: int, parts_folder: Path, given: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Index every volume below a folder as test rows: files of ``SUFFIXES``, and folders of DICOM slices.

    ``given`` may name them and their source, as ``volumes.csv`` does (``subject``, ``visit``, ``file``, ``source``); else a
    volume is called as its file, and its source is that of its study's folder. By the source a volume is cropped.

    Returns:
        The index and the quarantine as :func:`build_index` makes them.

    Raises:
        UserError: no volume is usable.
    """
    files = sorted(path.relative_to(folder).as_posix() for path in files_below(folder) if path.name.endswith(SUFFIXES))
    files += sorted({path.parent.relative_to(folder).as_posix() for path in files_below(folder) if path.suffix == ".dcm"})
    named = _named(given, files)
    # A folder that is itself one DICOM series is called ".". A submission names a volume by subject and visit.
    plain = [(Path(file).name or folder.resolve().name).partition(".")[0] for file in files]
    plain = [name if "_" in name else f"{name}_1" for name in plain]
    series = named["series"].where(named["series"] != "", plain)
    by_folder = [source if (source := source_of(Path(file))) in SHARE else "" for file in files]
    table = pd.DataFrame({"series": series, "subject": series, "visit": 1, "split": "test", "file": files,
                          "source": named["source"].where(named["source"] != "", by_folder), "age_years": np.nan})
    again = table.duplicated("series")
    table.loc[again, "series"] = [file.replace("/", "_") for file in table.loc[again, "file"]]
    volumes = _read(folder, table, workers, parts_folder)
    faulty = set_aside(volumes, id="series", path="file") if len(volumes) else pd.DataFrame(columns=QUARANTINE_COLUMNS)
    if not (volumes["reason"] == "").any():
        raise nothing_usable("volume", folder, faulty)
    return _slices(volumes[volumes["reason"] == ""]), faulty


def _named(given: pd.DataFrame, files: list[str]) -> pd.DataFrame:
    """``series`` and ``source`` of each of ``files`` by the user's table, "" where it does not say.

    A file is found by its path in the table, or by the one path there that ends in it: the folder may lie within the
    table's.
    """
    blank = dict.fromkeys(("series", "source"), "")
    if len(given) and not {"file", "subject", "visit"} <= set(given):
        raise UnfitTable(f"the table beside the volumes has {','.join(map(str, given))}; it needs file,subject,visit")
    if given.empty:
        return pd.DataFrame([blank] * len(files), columns=list(blank), dtype="str")
    source = given["source"].str.lower() if "source" in given else ""
    told = given.assign(series=given["subject"] + "_" + given["visit"], source=source)
    rows = told[list(blank)].to_dict("records")
    ends: dict[str, set[int]] = {}
    for row, name in enumerate(given["file"]):
        parts = Path(name).parts
        for start in range(len(parts)):
            ends.setdefault("/".join(parts[start:]), set()).add(row)
    exact = {name: {row} for row, name in enumerate(given["file"])}
    found = [exact.get(file) or ends.get(file, set()) for file in files]
    chosen = [rows[min(places)] if len(places) == 1 else blank for places in found]
    return pd.DataFrame(chosen, columns=list(blank), dtype="str")
