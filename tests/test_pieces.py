"""A piece that an interrupted run left is used again only for the very files that it was made of."""

import os
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from test_bone_age_index import noise, write_png
from test_text import bone_age, ich, knee_age, radius_ulna, small

from radstack.core import parallel
from radstack.core.errors import UserError
from radstack.running.context import Context
from radstack.stages import decode
from radstack.stages.apply import unpacked
from radstack.stages.folds import make_index
from radstack.stages.localize import kind_of, localize

DRAW = pytest.mark.parametrize("draw", [ich, bone_age, knee_age, radius_ulna], ids=lambda draw: draw.__name__)


def prepare(context: Context) -> None:
    localizer = context.competition.localizer
    kind_of(localizer).prepare(context, localizer) if localizer.networks else localize(context)


def swap(folder: Path) -> None:
    """Let every two neighbors of one ending trade their names: no name is new, and hardly a size."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".dcm", ".png", ".raw"))
    for number in range(0, len(files) - 1, 2):
        one, other = (path.read_bytes() for path in files[number:number + 2])
        for path, data in zip(files[number:number + 2], (other, one)):
            path.write_bytes(data)
            os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 10**9))


def checks(context: Context) -> pd.Series:
    tables = (context.paths.cache / "boxes.parquet", context.paths.cache / "prepared" / "rows.parquet")
    return pd.read_parquet(next(table for table in tables if table.exists())).set_index("id")["crc"].sort_index()


@DRAW
def test_an_interrupted_stage_02_meets_other_files_under_the_same_names(draw, tmp_path, monkeypatch):
    monkeypatch.setattr("competitions.knee_age.volume.n4", lambda pixels, *how: pixels)
    monkeypatch.setattr(decode, "CHUNK", 4)
    context = small(draw.__name__, tmp_path)
    draw(context.paths.input)
    make_index(context)
    monkeypatch.setattr(decode, "write_table", lambda path, table: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        prepare(context)  # all pieces are there, the tables are not
    monkeypatch.undo()
    monkeypatch.setattr("competitions.knee_age.volume.n4", lambda pixels, *how: pixels)
    before = {path: path.stat().st_mtime_ns for path in context.paths.cache.rglob("*.parquet")}
    assert before
    if draw is ich:  # a slice that has another's name has its SOPInstanceUID as well: the order of ids is the files'
        for path in sorted((context.paths.input / "stage_2_train").iterdir()):
            data = bytearray(path.read_bytes())
            data[-1] ^= 1
            path.write_bytes(bytes(data))
            os.utime(path, ns=(1, path.stat().st_mtime_ns + 10**9))
    else:
        swap(context.paths.input)
    prepare(context)
    fresh = small(draw.__name__, tmp_path)
    there = type(fresh.paths)(tmp_path, tmp_path / "clean", fresh.paths.source, fresh.paths.name)
    clean = Context(context.competition, there, fresh.options)
    make_index(clean)
    prepare(clean)
    pd.testing.assert_series_equal(checks(context)[checks(clean).index], checks(clean))


def test_a_mask_of_the_same_age_and_another_size_is_looked_at_again(tmp_path):
    context = small("bone_age", tmp_path)
    bone_age(context.paths.input)
    mask = write_png(context.paths.input / "annotations" / "masks" / "NA.png", np.zeros((30, 20), np.uint8))
    context.competition.data.index(context.paths.input, 1, tmp_path / "parts", lambda line: None)
    stat = mask.stat()
    assert cv2.imwrite(str(mask), np.where(noise(0) > 100, 255, 0).astype(np.uint8))
    os.utime(mask, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    index, _ = context.competition.data.index(context.paths.input, 1, tmp_path / "parts", lambda line: None)
    assert index.set_index("id")["mask"]["NA"] == "annotations/masks/NA.png"


def test_a_zip_that_was_released_again_is_unpacked_again(tmp_path):
    context, archive = small("ich", tmp_path), tmp_path / "in.zip"
    for content in ("old", "new"):
        with zipfile.ZipFile(archive, "w") as packed:
            packed.writestr(zipfile.ZipInfo("slice"), content)
        os.utime(archive, ns=(1, 1))
        assert (unpacked(context, archive, tmp_path / "out") / "slice").read_text() == content
    os.utime(archive, ns=(2, 2))
    kept = (tmp_path / "out" / "unpacked" / "slice").stat()
    assert (unpacked(context, archive, tmp_path / "out") / "slice").stat() == kept
    archive.write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"in\.zip is no readable zip file"):
        unpacked(context, archive, tmp_path / "out")


def test_pieces_are_named_by_what_was_asked(tmp_path):
    made = []

    def look(chunk: list[list[str]]) -> pd.DataFrame:
        made.extend(name for name, _ in chunk)
        return pd.DataFrame({"stamp": [stamp for _, stamp in chunk]})

    for stamps in ("abcd", "abcd", "abxd"):
        table = parallel.mapped_rows(look, [[f"{place}", one] for place, one in enumerate(stamps)], tmp_path, 1, "look", 1)
        assert "".join(table["stamp"]) == stamps
    assert made == ["0", "1", "2", "3", "2"]
