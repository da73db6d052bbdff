"""Hidden twins that macOS leaves beside each file, and folders behind links: neither changes what is found."""

from pathlib import Path

import pandas as pd
import pytest
from dicom_files import make_dicom, noise
from test_text import bone_age, ich, knee_age, radius_ulna, small

from competitions.bone_age.annotations import is_annotated
from competitions.radius_ulna.boxes import box_files, read_voc
from radstack.core.files import matching, walk
from radstack.core.recipe import change
from radstack.images.volumes import read_volume
from radstack.running.context import Context
from radstack.stages.folds import make_index

TWIN = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        \x00\x02\x00\x00\x00\x09".ljust(4096, b"\0")
"""The head of an AppleDouble file (RFC 1740, appendix A)."""


def add_twins(folder: Path) -> int:
    """A twin beside each file below ``folder``; how many."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in files:
        path.with_name(f"._{path.name}").write_bytes(TWIN)
    return len(files)


def tables(context: Context) -> list[pd.DataFrame]:
    make_index(context)
    return [pd.read_parquet(context.paths.folds / "index.parquet"), pd.read_csv(context.paths.folds / "quarantine.csv")]


@pytest.mark.parametrize("draw", [ich, bone_age, knee_age, radius_ulna], ids=lambda draw: draw.__name__)
def test_an_index_does_not_change_by_twins(draw, tmp_path, monkeypatch):
    monkeypatch.setattr("competitions.knee_age.volume.n4", lambda pixels, *how: pixels)
    for name in ("without", "with"):
        draw(small(draw.__name__, tmp_path / name).paths.input)
    assert add_twins(tmp_path / "with") > 4
    for without, found in zip(*(tables(small(draw.__name__, tmp_path / name)) for name in ("without", "with"))):
        stamps = [name for name in without if name.endswith("stamp")]
        pd.testing.assert_frame_equal(found.drop(columns=stamps), without.drop(columns=stamps))


@pytest.mark.parametrize("draw", [ich, bone_age, knee_age, radius_ulna], ids=lambda draw: draw.__name__)
def test_an_index_does_not_change_by_links_to_folders(draw, tmp_path):
    folder = small(draw.__name__, tmp_path / "here").paths.input
    draw(folder)
    without = tables(small(draw.__name__, tmp_path / "here"))
    place = tmp_path / "elsewhere"
    for path in [path for path in folder.iterdir() if path.is_dir()] or [folder]:  # each, or the one that all lie in
        path.rename(place.with_name(f"elsewhere-{path.name}"))
        path.symlink_to(place.with_name(f"elsewhere-{path.name}"))
    for found, before in zip(tables(change(small(draw.__name__, tmp_path / "here"), options__force=True)), without):
        pd.testing.assert_frame_equal(found, before)


def test_a_series_of_volumes_does_not_change_by_twins(tmp_path):
    for number in range(3):
        make_dicom(tmp_path / "knee" / f"{number}.dcm", noise(seed=number), ImagePositionPatient=[0, 0, float(number)])
    before = read_volume(tmp_path / "knee").pixels
    add_twins(tmp_path)
    assert (read_volume(tmp_path / "knee").pixels == before).all()


def test_a_twin_alone_is_no_annotation(tmp_path):
    for name in ("annotations/masks/a.png", "boxes/a.xml", "boxes/a.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(TWIN)
        (tmp_path / name).rename((tmp_path / name).with_name(f"._{Path(name).name}"))
    assert not is_annotated(tmp_path) and box_files(tmp_path) == () and read_voc(tmp_path).table.empty


def test_twins_are_in_no_list(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"")
    add_twins(tmp_path)
    assert [entry.name for entry in walk(tmp_path)] == ["a.csv"] and matching(tmp_path, "*.csv") == [tmp_path / "a.csv"]
