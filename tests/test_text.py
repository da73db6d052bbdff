"""Ids are text in every table: what looks like a number, or like nothing, is neither read as one nor merged."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import test_bone_age_index as hands
import test_ich_index as slices
import test_knee_age_index as knees
import test_radius_ulna_index as wrists
from dicom_files import make_dicom
from members import write_fold

from competitions import load
from competitions.radius_ulna.join import read_sheet
from radstack.commands.explain import explain
from radstack.core import cells
from radstack.core.artifact import Artifact
from radstack.core.files import TEXT, read_table, write_table
from radstack.core.folds import fold_hash
from radstack.recipes.competition import FoldRecipe, Models, Pages
from radstack.recipes.stacker import Stacker
from radstack.report.stage import quarantined, report
from radstack.running.cli import make_context
from radstack.running.context import Context, Options
from radstack.running.tables import read_folds, read_index, read_rows
from radstack.stack.predictions import fold_files, prediction_table
from radstack.stages.cache import cache, placed
from radstack.stages.folds import deal_folds, make_index
from radstack.stages.localize import localize
from radstack.stages.stack import stack
from radstack.stages.submit import check, submit, submit_constant

TRAIN = ["0012", "12", "12.0", "1E5", "100000", "NA", "None", "TRUE", "nan", "1e400", "0x10", "-0"]
TEST = ["007", "7", "null", "False"]
DIGITS = "000011"


def random_texts(count: int) -> list[str]:
    """Texts that look like numbers, dates, truths and nothing at all."""
    draw = random.Random(0)
    parts = ["0", "1", "00", "1E5", "e", ".", "-", "+", "NA", "nan", "None", "TRUE", "inf", ",", '"', "/", "'", "é", " "]
    return [one for _ in range(count) if (one := "".join(draw.choices(parts, k=draw.randint(1, 4))).strip())]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_of_nasty_texts_comes_back_as_it_was_written(tmp_path, suffix):
    texts = [*TRAIN, *TEST, "", "2014-03-05", "N/A", "<NA>", "#N/A", "-nan", *random_texts(400)]
    for name in TEXT:
        written = pd.DataFrame({name: pd.Series(texts, dtype="str"), "number": np.arange(len(texts)) / 8})
        written.loc[3, "number"] = np.nan
        write_table(tmp_path / f"{name}.{suffix}", written)
        pd.testing.assert_frame_equal(read_table(tmp_path / f"{name}.{suffix}"), written)


def ich(folder: Path) -> None:
    """A slice a patient, called alike, and a second one of each."""
    ids = {name: [name, f"{name}-2"] for name in (*TRAIN, *TEST)}
    for patient, names in ids.items():
        for number, name in enumerate(names):
            place = folder / ("stage_2_test" if patient in TEST else "stage_2_train") / f"{name}.dcm"
            pixels = slices.noise((32, 32), seed=100 * number + list(ids).index(patient))
            make_dicom(place, pixels, PatientID=patient, ImagePositionPatient=[0, 0, 5.0 * number])
    slices.write_csv(folder / "stage_2_train.csv", slices.label_rows(
        {name: DIGITS if place % 2 else "000000" for one in TRAIN for place, name in enumerate(ids[one])}))
    slices.write_csv(folder / "stage_2_sample_submission.csv", [
        f"{name}_{target},0.5" for one in TEST for name in ids[one] for target in slices.TARGETS])


def bone_age(folder: Path) -> None:
    """A hand each."""
    rows = [f"{name},{24 + 12 * place},{place % 2 == 0}" for place, name in enumerate(TRAIN)]
    hands.write_csv(folder / "boneage-training-dataset.csv", "id,boneage,male", rows)
    hands.write_csv(folder / "boneage-test-dataset.csv", "Case ID,Sex", [f"{name},M" for name in TEST])
    for number, name in enumerate((*TRAIN, *TEST)):
        hands.write_png(folder / (hands.KAGGLE_TEST if name in TEST else hands.KAGGLE) / f"{name}.png", hands.noise(number))


def knee_age(folder: Path) -> None:
    """A visit each, in files of other names."""
    names = {name: f"data/Jopp_Study/MHD/k{number}_ORIG.mhd" for number, name in enumerate((*TRAIN, *TEST))}
    rows = [f"{name},1,{file},jopp,M,{16 + number / 8}" for number, (name, file) in enumerate(names.items())]
    knees.archive(folder, rows, tuple(f"{name},1" for name in TEST))
    for number, file in enumerate(names.values()):
        knees.write(folder / file, knees.knee(20, number))


def radius_ulna(folder: Path) -> None:
    """Files and children called alike."""
    rows = [f"{name}.png,{name},R{5 + place % 7},U{4 + place % 6}" for place, name in enumerate(TRAIN)]
    rows += [f"{name}.png,{name},," for name in TEST]
    hands.write_csv(folder / "labels.csv", "file,child,radius_stage,ulna_stage", rows)
    hands.write_csv(folder / "sample_submission.csv", "file", [f"{name}.png" for name in TEST])
    for number, name in enumerate((*TRAIN, *TEST)):
        wrists.write(folder / f"{name}.png", wrists.noise(number))


FINAL = {name: Stacker("0012", "mean", ("NA", "1E5")) for name in ("ich", "bone_age", "knee_age")} | {
    "radius_ulna": Stacker("0012", "class_mean", ("NA", "1E5"), {"groups": (7, 6)})}


def small(name: str, place: Path) -> Context:
    """The competition with two networks, whose predictions the test writes, their mean, and a bare report."""
    whole = load(name)
    networks = tuple(replace(whole.models.experiments[0], name=one) for one in ("NA", "1E5"))
    edited = replace(whole, models=Models(networks, (FINAL[name],), final="0012"), pages=Pages(), folds=FoldRecipe(2))
    return make_context(edited, Options(data_dir=str(place), out_dir=str(place), workers=1, device="cpu",
                                        edits=("cache.size=[32,32]",) if name == "ich" else ()))


def find(context: Context) -> None:
    """Stages 02 and 03; where networks find the anatomy, only their tables."""
    if context.competition.name == "ich":
        localize(context)
        cache(context)
        return
    index = read_index(context).assign(crc=1, flag="")
    write_table(context.paths.cache / "boxes.parquet", index)
    write_table(context.paths.cache / "rows.parquet", index.assign(**placed(index["split"].to_numpy(), 64)))


def predict(context: Context) -> None:
    """Stage 05: a constant for all rows."""
    (rows, fold), targets = read_rows(context), list(context.competition.targets)
    constant = context.competition.metric.constant(rows.loc[rows["split"] == "train", targets].astype(float))
    for name in ("NA", "1E5"):
        for one in range(2):
            tables = [prediction_table(rows["id"].to_numpy()[fold == part], part,
                                       np.tile(constant.to_numpy(float), ((fold == part).sum(), 1)), targets)
                      for part in (one, -1)]

            def build(tables=tables, one=one, name=name):
                write_fold(context.paths.oof / name, one, *tables)
                return {"fold_hash": fold_hash(read_folds(context))}

            Artifact("05_predict", 1, fold_files(context.paths.oof / name, one), {}).make(build)


@pytest.mark.parametrize("draw", [ich, bone_age, knee_age, radius_ulna], ids=lambda draw: draw.__name__)
def test_nasty_ids_pass_every_stage(draw, tmp_path, capsys):
    context = small(draw.__name__, tmp_path)
    draw(context.paths.input)
    make_index(context)
    deal_folds(context)
    find(context)
    predict(context)
    stack(context, context.competition.models.stackers[0])
    submit_constant(context)
    check(context, str(submit(context, "0012")))
    report(context)
    said = capsys.readouterr().out
    assert "kept" not in said and "sample file asks" in said and quarantined(context).empty
    folds, index = read_folds(context), read_index(context)
    assert sorted(folds["group"]) == sorted(TRAIN) and set(index["group"]) == {*TRAIN, *TEST}
    assert set(read_table(context.paths.reports / "scores.csv")["model"]) >= {"NA", "1E5", "0012", "constant"}
    for row in index.drop_duplicates("group").itertuples():
        story = explain(context, row.id)
        assert f"group {row.group}, series" in story
        assert ("submitted: nothing" in story) == (row.split == "train")


def test_what_is_set_aside_keeps_its_name_and_explain_finds_it(tmp_path, capsys):
    context = small("bone_age", tmp_path)
    bone_age(context.paths.input)
    (context.paths.input / hands.KAGGLE / "NA.png").write_bytes(b"no picture")
    make_index(context)
    deal_folds(context)
    assert quarantined(context)["reason"].tolist() == ["not-png"]
    assert "in quarantine: not-png" in explain(context, "NA")


def test_a_child_called_na_in_a_sheet_is_a_child(tmp_path):
    sheet = pd.DataFrame([["2014-03-05", "NA", "R7", "U5", "NA"], ["2014-03-05", "0012", "NA", "U5", "0012"],
                          ["2014-03-05", "9", "R7", "U5", None]], columns=["Date", "Serial", "Radius", "Ulna", "Child"])
    sheet.to_csv(tmp_path / "a.csv", index=False)
    sheet.to_excel(tmp_path / "a.xlsx", index=False)
    for name in ("a.csv", "a.xlsx"):
        table = read_sheet(tmp_path / name)
        assert table["child"].tolist() == ["NA", "0012", ""]
        assert table["serial"].tolist() == ["", "12", "9"] and table["radius_stage"].tolist() == ["R7", "", "R7"]


PLAIN = ["ID,Label\na,1\nb,0\n", "id\tage\n0012\tNA\n 12 \tnan\n", "a,b\n,\nx,\n,null\n1e5,\\N\n", "a,a\n1,1\n",
         "a,b\nc,\0\n", "a,a\n1,2\n"]
OTHER = ["a,b\n1,2", "a,b\n1,2\n3", "a,b\n1,2\n\n", "a,b\r\n1,2\r\n", 'a,b\n"1",2\n', "a,b\n\u00e9,2\n", "\ufeffa,b\n1,2\n",
         "a,\n1,\n", "a\n1\n2\n", "a,b\n1,2,\n", "a,b\n1,2,3\n", "a,b\n1\n2,3,4\n", "a,b\n"]


@pytest.mark.parametrize("text", [*PLAIN, *OTHER])
@pytest.mark.parametrize("block", [1, 5, 1 << 24])
def test_a_plain_table_is_read_as_any_other(tmp_path, monkeypatch, text, block):
    path = tmp_path / "a.csv"
    path.write_text(text, encoding="utf-8", newline="")
    monkeypatch.setattr(cells, "BLOCK", block)
    names, separator = cells._header(path, "utf-8-sig")
    assert cells._is_plain(path, separator, len(names)) == (text in PLAIN)
    found = cells_or_error(path)
    monkeypatch.setattr(cells, "_is_plain", lambda *_: False)
    assert found == cells_or_error(path)


def cells_or_error(path: Path) -> object:
    try:
        table = cells.read_cells(path)
    except ValueError as error:
        return str(error)
    return list(table), table.to_numpy(object).tolist(), list(table.index), [str(kind) for kind in table.dtypes]
