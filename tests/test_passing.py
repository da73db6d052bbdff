"""A file that cannot be opened now is no bad file: it is tried again by each run, and many of them stop the run."""

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from dicom_files import make_dicom, noise
from pydicom.uid import JPEG2000Lossless
from rights import locked
from test_text import bone_age, ich, knee_age, radius_ulna, small

from radstack.core import passing
from radstack.core.errors import UserError
from radstack.core.passing import check_passing
from radstack.images.dicom import Unreadable, fault, read_header
from radstack.images.dicom import file as dicom_file
from radstack.images.volumes import read_volume
from radstack.running.context import Context
from radstack.running.tables import read_index
from radstack.stages.cache import cache
from radstack.stages.folds import deal_folds, make_index
from radstack.stages.localize import kind_of, localize

DRAW = pytest.mark.parametrize("draw", [ich, bone_age, knee_age, radius_ulna], ids=lambda draw: draw.__name__)
PICTURE = {"ich": "stage_2_train/NA.dcm", "knee_age": "data/Jopp_Study/MHD/k5_ORIG.raw", "radius_ulna": "NA.png",
           "bone_age": "boneage-training-dataset/boneage-training-dataset/NA.png"}


def prepare(context: Context) -> None:
    """What stage 02 does before any network is trained."""
    localizer = context.competition.localizer
    kind_of(localizer).prepare(context, localizer) if localizer.networks else localize(context)


def reasons(file: Path) -> list[str]:
    return pd.read_csv(file)["reason"].tolist()


@DRAW
def test_stage_01_tries_again_what_it_could_not_open(draw, tmp_path, monkeypatch, capsys):
    context = small(draw.__name__, tmp_path)
    draw(context.paths.input)
    file = context.paths.input / PICTURE[draw.__name__]
    with locked(file):
        with pytest.raises(UserError, match=rf"1 of \d+ files below {file.parent} could not be opened, .*rights"):
            make_index(context)
        assert not (context.paths.folds / "index.parquet").exists()
        monkeypatch.setattr(passing, "MOST", 0.5)
        make_index(context)
        assert reasons(context.paths.folds / "quarantine.csv") == ["no-access"]
        few = len(read_index(context))
        assert few < (32 if draw is ich else 16 * (20 if draw is knee_age else 1))
        assert "each run tries them again" in capsys.readouterr().out
    make_index(context)
    assert "1 files could not be opened" in capsys.readouterr().out and len(read_index(context)) > few
    make_index(context)
    assert "kept" in capsys.readouterr().out and reasons(context.paths.folds / "quarantine.csv") == []


@DRAW
def test_stage_02_tries_again_what_it_could_not_open(draw, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("competitions.knee_age.volume.n4", lambda pixels, *how: pixels)  # half a minute for 16 volumes
    context = small(draw.__name__, tmp_path)
    draw(context.paths.input)
    make_index(context)
    deal_folds(context)
    whole, file = len(read_index(context)), context.paths.input / PICTURE[draw.__name__]
    aside = context.paths.cache / "quarantine.csv"
    with locked(file):
        with pytest.raises(UserError, match=rf"files below {file.parent} could not be opened"):
            prepare(context)
        monkeypatch.setattr(passing, "MOST", 0.5)
        prepare(context)
        assert set(reasons(aside)) == {"no-access"}
    capsys.readouterr()
    prepare(context)
    assert "files could not be opened" in capsys.readouterr().out and reasons(aside) == []
    prepare(context)
    assert "making" not in capsys.readouterr().out
    tables = [context.paths.cache / "boxes.parquet", context.paths.cache / "prepared" / "rows.parquet"]
    assert len(pd.read_parquet(next(table for table in tables if table.exists()))) == whole


def test_a_folder_that_is_away_is_named_by_stage_02_and_by_stage_03(tmp_path):
    context = small("ich", tmp_path)
    ich(context.paths.input)
    make_index(context)
    deal_folds(context)
    folder = context.paths.input / "stage_2_test"
    folder.rename(tmp_path / "away")
    with pytest.raises(UserError, match=rf"8 of 32 files below {folder} could not be opened"):
        localize(context)
    shutil.move(tmp_path / "away", folder)
    localize(context)
    (folder / "7.dcm").rename(tmp_path / "away")
    with pytest.raises(UserError, match="could be read in stage 02 and cannot be now"):
        cache(context)
    (tmp_path / "away").rename(folder / "7.dcm")
    cache(context)
    assert len(pd.read_parquet(context.paths.cache / "rows.parquet")) == 32


@pytest.mark.parametrize("raw", [True, False])
def test_a_volume_that_may_not_be_read_is_not_called_damaged(tmp_path, raw):
    knee_age(tmp_path)
    header = tmp_path / "data/Jopp_Study/MHD/k5_ORIG.mhd"
    with locked(header.with_suffix(".raw") if raw else header), pytest.raises(Unreadable, match="no-access"):
        read_volume(header)
    read_volume(header)


def test_a_missing_decoder_is_the_machines_fault(tmp_path, monkeypatch):
    header = read_header(make_dicom(tmp_path / "a.dcm", noise()))
    monkeypatch.setattr(dicom_file, "decodable", lambda syntax: False)
    assert fault(replace(header, transfer_syntax=JPEG2000Lossless)).reason == "no-decoder"
    assert fault(replace(header, transfer_syntax="1.2.840.10008.1.2.4.103")).reason == "unsupported-transfer-syntax"
    rows = pd.DataFrame([{"path": "a.dcm", "reason": "no-decoder", "detail": "JPEG 2000: needs gdcm"}])
    others = pd.DataFrame({"path": [f"{number}.dcm" for number in range(199)]})
    with pytest.raises(UserError, match=r"1 of 50 files .* need a package .*pip install -r requirements\.txt"):
        check_passing(others[:49], rows, tmp_path, print)
    assert check_passing(others, rows, tmp_path, print) == check_passing(others[:1], rows, tmp_path, print, False) == 1
