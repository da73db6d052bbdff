"""The archive's tables and folders, with every defect they are known for."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dicom_files import make_dicom, noise

from competitions import load
from competitions.ich.index import build_index
from competitions.ich.labels import TARGETS, read_labels, read_sample_ids
from radstack.core.errors import UserError
from radstack.images.quarantine import QUARANTINE_COLUMNS
from radstack.running.cli import make_context
from radstack.running.context import Options


def label_rows(labels: dict[str, str]) -> list[str]:
    """``{"ID_a": "000011"}`` as the lines of a label file."""
    return [f"{key}_{target},{digit}" for key, digits in labels.items() for target, digit in zip(TARGETS, digits)]


def write_csv(path: Path, rows: list[str], head: str = "ID,Label") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


# -- labels ---------------------------------------------------------------------------------------------------------


def test_labels_are_read_in_the_order_of_the_targets(tmp_path):
    labels = read_labels(write_csv(tmp_path / "l.csv", label_rows({"ID_b": "010011", "ID_a": "000000"})))
    assert labels.repeated == 0 and labels.table["id"].tolist() == ["ID_b", "ID_a"]
    assert labels.table[list(TARGETS)].to_numpy().tolist() == [[0, 1, 0, 0, 1, 1], [0] * 6]
    assert (labels.table.dtypes.iloc[1:] == np.float32).all()


def test_repeated_rows_are_dropped_and_counted(tmp_path):
    rows = label_rows({f"ID_{k}": "000000" for k in range(8)})
    labels = read_labels(write_csv(tmp_path / "l.csv", rows[:36] + rows[:24] + rows[36:]))
    assert labels.repeated == 24 and labels.table["id"].is_unique and len(labels.table) == 8


GOOD = label_rows({"ID_a": "000011", "ID_b": "000000"})


@pytest.mark.parametrize("rows, head, message", [
    (GOOD, "ID,label", "has the columns ID, label, not ID, Label"),
    (GOOD + label_rows({"ID_a": "000101"}), "ID,Label", r"'ID_a_\w+' is listed twice with different labels"),
    (GOOD[:-1] + ["ID_b_any,1"], "ID,Label", "'ID_b' has an 'any' that is not the OR"),
    (GOOD[:-1], "ID,Label", "'ID_b' does not have its six rows"),
    (GOOD + ["ID_c_epidrual,0"], "ID,Label", "'ID_c_epidrual' is not <slice>_<class>"),
    (GOOD + ["_any,0"], "ID,Label", "'_any' is not <slice>_<class>"),
    (GOOD[:-1] + ["ID_b_any,0.5"], "ID,Label", "'ID_b_any' has a Label that is not 0 or 1"),
    (GOOD[:-1] + ["ID_b_any,"], "ID,Label", "'ID_b_any' has a Label that is not 0 or 1"),
    (GOOD + ["ID_c,0,0,0"], "ID,Label", "is not a CSV file"),
])  # fmt: skip
def test_a_damaged_label_file_is_refused_by_name(tmp_path, rows, head, message):
    with pytest.raises(UserError, match=message):
        read_labels(write_csv(tmp_path / "l.csv", rows, head))


def test_a_missing_or_empty_label_file_is_refused(tmp_path):
    context = make_context(load("ich"), Options(data_dir=str(tmp_path)))
    with pytest.raises(UserError, match=r"missing; get the data with: python src/00_get_data.py ich"):
        read_labels(context.paths.input / "absent.csv")
    (tmp_path / "empty.csv").touch()
    with pytest.raises(UserError, match="not a CSV file"):
        read_labels(tmp_path / "empty.csv")


def test_other_columns_and_another_order_do_no_harm(tmp_path):
    rows = [f"{number},{row.split(',')[1]},x,{row.split(',')[0]}" for number, row in enumerate(GOOD)]
    pd.testing.assert_frame_equal(read_labels(write_csv(tmp_path / "a.csv", rows, ",Label,note,ID")).table,
                                  read_labels(write_csv(tmp_path / "b.csv", GOOD)).table)


def test_ids_are_split_at_the_last_underscore(tmp_path):
    path = write_csv(tmp_path / "s.csv", [f"ID_a_b_{target},0.5" for target in TARGETS] * 2)
    assert read_sample_ids(path).tolist() == ["ID_a_b"]


# -- index ----------------------------------------------------------------------------------------------------------


def archive(folder: Path, train: str = "stage_2_train", test: str = "stage_2_test") -> Path:
    """Two patients of three slices each and one test patient of two; SOP numbers fall as the position rises."""
    for number in range(6):
        patient = number // 3
        make_dicom(folder / train / f"ID_{9 - number}.dcm", noise(seed=number), PatientID=f"ID_p{patient}",
                   SeriesInstanceUID=f"ID_r{patient}", ImagePositionPatient=[0, 0, 5.0 * number])  # fmt: skip
    for number in range(2):
        make_dicom(folder / test / f"ID_t{number}.dcm", noise(seed=number), PatientID="ID_q",
                   ImagePositionPatient=[0, 0, 5.0 * number])  # fmt: skip
    write_csv(folder / "stage_2_train.csv", label_rows({f"ID_{9 - number}": "000011" for number in range(6)}))
    sample = [f"ID_t{number}_{target},0.5" for number in range(2) for target in TARGETS]
    write_csv(folder / "stage_2_sample_submission.csv", sample)
    return folder


def build(folder: Path, lines: list[str] | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    report = (lambda line: None) if lines is None else lines.append
    return build_index(folder, 1, folder.parent / "parts", report=report)


def quarantined(table: pd.DataFrame) -> dict[str, str]:
    assert list(table.columns) == QUARANTINE_COLUMNS and (table["detail"] != "").all()
    return dict(zip(table["split"] + ":" + table["id"], table["reason"]))


@pytest.mark.parametrize("train, test", [("stage_2_train", "stage_2_test"),
                                         ("stage_2_train_images", "stage_2_test_images")])  # fmt: skip
def test_a_whole_archive(tmp_path, train, test):
    lines: list[str] = []
    index, quarantine = build(archive(tmp_path / "input", train, test), lines)
    assert quarantine.empty and lines == []
    assert list(index.columns[:13]) == ["id", "split", "group", "series", "position", "z", "path", *TARGETS]
    assert index["id"].tolist() == ["ID_9", "ID_8", "ID_7", "ID_6", "ID_5", "ID_4", "ID_t0", "ID_t1"]
    assert index["position"].tolist() == [0, 1, 2] * 2 + [0, 1] and index["z"].tolist()[:3] == [0, 5, 10]
    assert index["series"].iloc[0] == "ID_p0-ID_s-ID_r0" and index["group"].nunique() == 3
    assert index["path"].iloc[0] == f"{train}/ID_9.dcm" and index["path"].iloc[-1] == f"{test}/ID_t1.dcm"
    values = index[list(TARGETS)]
    assert (values.dtypes == np.float32).all()
    assert values.iloc[0].tolist() == [0, 0, 0, 0, 1, 1] and values.iloc[6:].isna().all(axis=None)
    index.to_parquet(tmp_path / "index.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "index.parquet"), index)


def test_every_unusable_file_is_in_quarantine_with_its_reason(tmp_path):
    folder = archive(tmp_path / "input")
    train, test = folder / "stage_2_train", folder / "stage_2_test"
    (train / "ID_9.dcm").write_bytes(b"")
    (train / "ID_8.dcm").write_bytes(b"no picture" * 90)
    (train / "ID_7.dcm").write_bytes((train / "ID_7.dcm").read_bytes()[:-9])
    make_dicom(train / "ID_6.dcm", None)
    (train / "ID_5.dcm").unlink()
    (test / "ID_t0.dcm").write_bytes((test / "ID_t0.dcm").read_bytes()[:-9])
    make_dicom(train / "ID_new.dcm", noise())
    make_dicom(test / "ID_new2.dcm", noise())
    lines: list[str] = []
    index, quarantine = build(folder, lines)
    assert index["id"].tolist() == ["ID_4", "ID_t1"]
    assert quarantined(quarantine) == {
        "train:ID_9": "empty", "train:ID_8": "not-dicom", "train:ID_7": "truncated", "train:ID_6": "no-pixels",
        "train:ID_5": "no-file", "test:ID_t0": "truncated", "train:ID_new": "no-label",
        "test:ID_new2": "not-in-sample",
    }  # fmt: skip
    assert "train: 1 quarantined as truncated" in lines and len(lines) == 8


def test_a_refused_file_with_a_damaged_uid_has_one_row(tmp_path):
    folder = archive(tmp_path / "input")
    file = folder / "stage_2_train" / "ID_7.dcm"
    data = file.read_bytes()
    at = data.index(b"ID_7")
    file.write_bytes(data[:at] + b"JD_7" + data[at + 4:-9])
    index, quarantine = build(folder, [])
    assert quarantined(quarantine) == {"train:ID_7": "truncated"} and len(quarantine) == 1 and "ID_7" not in set(index["id"])


def test_every_id_of_the_tables_is_somewhere(tmp_path):
    folder = archive(tmp_path / "input")
    (folder / "stage_2_test" / "ID_t0.dcm").unlink()
    (folder / "stage_2_test" / "ID_t1.dcm").write_bytes(b"")
    index, quarantine = build(folder)
    assert set(quarantine.loc[quarantine["split"] == "test", "id"]) == {"ID_t0", "ID_t1"}
    assert set(index["id"]) | set(quarantine["id"]) == {f"ID_{n}" for n in range(4, 10)} | {"ID_t0", "ID_t1"}


def test_duplicate_sop_ids_keep_the_file_of_that_name(tmp_path):
    folder = archive(tmp_path / "input")
    make_dicom(folder / "stage_2_train" / "ID_0copy.dcm", noise(), SOPInstanceUID="ID_9")
    index, quarantine = build(folder)
    assert index["id"].is_unique and index.loc[index["id"] == "ID_9", "path"].tolist() == ["stage_2_train/ID_9.dcm"]
    assert quarantined(quarantine) == {"train:ID_0copy": "duplicate-sop"}


def test_a_test_slice_that_is_also_in_train_is_not_trained_on(tmp_path):
    folder = archive(tmp_path / "input")
    make_dicom(folder / "stage_2_train" / "ID_t0.dcm", noise())
    index, quarantine = build(folder)
    assert index.loc[index["id"] == "ID_t0", "split"].tolist() == ["test"]
    assert quarantined(quarantine) == {"train:ID_t0": "duplicate-sop"}


def test_a_file_name_with_a_newline_is_found_by_its_header(tmp_path):
    folder = archive(tmp_path / "input")
    (folder / "stage_2_train" / "ID_9.dcm").rename(folder / "stage_2_train" / "ID_9\n.dcm")
    index, quarantine = build(folder)
    assert quarantine.empty and index.loc[0, ["id", "path"]].tolist() == ["ID_9", "stage_2_train/ID_9\n.dcm"]


def test_repeated_positions_and_missing_orientation_are_kept_and_flagged(tmp_path):
    folder = archive(tmp_path / "input")
    make_dicom(folder / "stage_2_train" / "ID_8.dcm", noise(), PatientID="ID_p0", SeriesInstanceUID="ID_r0",
               ImagePositionPatient=[0, 0, 0.0])  # fmt: skip
    make_dicom(folder / "stage_2_test" / "ID_t1.dcm", noise(), PatientID="ID_q", ImageOrientationPatient=None,
               ImagePositionPatient=[0, 0, 5.0])  # fmt: skip
    lines: list[str] = []
    index, _ = build(folder, lines)
    flags = index.set_index("id")["order_flag"]
    assert flags[flags != ""].to_dict() == {"ID_8": "repeated-position", "ID_9": "repeated-position",
                                            "ID_t1": "no-orientation"}  # fmt: skip
    assert index["id"].tolist()[:3] == ["ID_8", "ID_9", "ID_7"]
    assert lines == ["1 series with no-orientation", "1 series with repeated-position"]


def test_a_scout_of_the_series_is_kept_last_and_flags_itself(tmp_path):
    folder = archive(tmp_path / "input")
    make_dicom(folder / "stage_2_train" / "ID_8.dcm", noise(), PatientID="ID_p0", SeriesInstanceUID="ID_r0",
               ImagePositionPatient=[0, -100, 200.0], ImageOrientationPatient=[0, 1, 0, 0, 0, -1])  # fmt: skip
    lines: list[str] = []
    index, _ = build(folder, lines)
    assert index["id"].tolist()[:3] == ["ID_9", "ID_7", "ID_8"] and index["z"].tolist()[:2] == [0, 10]
    assert index.set_index("id")["order_flag"].drop("ID_8").eq("").all()
    assert lines == ["1 series with mixed-orientation"]


def test_slices_without_identifiers_do_not_become_one_patient(tmp_path):
    folder = archive(tmp_path / "input")
    for name in ("ID_9", "ID_8"):
        make_dicom(folder / "stage_2_train" / f"{name}.dcm", noise(), PatientID=None, StudyInstanceUID=None,
                   SeriesInstanceUID=None)  # fmt: skip
    index, _ = build(folder)
    lost = index[index["id"].isin(["ID_9", "ID_8"])]
    assert lost["group"].nunique() == 2 and lost["position"].tolist() == [0, 0]


def test_missing_folders_and_unusable_archives_are_user_errors(tmp_path):
    folder = archive(tmp_path / "input")
    for path in folder.glob("stage_2_t*/*.dcm"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="no usable slice"):
        build(folder)
    (folder / "stage_2_test").rename(folder / "elsewhere")
    with pytest.raises(UserError, match="neither stage_2_test nor stage_2_test_images"):
        build(folder)


def test_a_scan_without_a_patient_is_one_patient(tmp_path):
    folder = archive(tmp_path / "input")
    blank = {"ID_9": {"PatientID": ""}, "ID_8": {"PatientID": None}, "ID_7": {"PatientID": " ", "SeriesInstanceUID": "ID_x"},
             "ID_6": {"PatientID": "", "StudyInstanceUID": None}, "ID_5": {"PatientID": "", "StudyInstanceUID": ""}}
    for number, (name, elements) in enumerate(blank.items()):
        make_dicom(folder / "stage_2_train" / f"{name}.dcm", noise(), **{
            "SeriesInstanceUID": "ID_r", "ImagePositionPatient": [0, 0, 5.0 * number], **elements})
    lines: list[str] = []
    index, _ = build(folder, lines)
    group = index.set_index("id")["group"]
    assert group[["ID_9", "ID_8", "ID_7"]].tolist() == ["ID_s"] * 3 and group[["ID_6", "ID_5"]].tolist() == ["ID_r"] * 2
    assert index.loc[index["id"].isin(["ID_9", "ID_8"]), "series"].nunique() == 1
    assert lines[0] == ("slices without a PatientID: 5; taken for one patient a study: 3, a series: 2, a slice: 0")


def test_faulty_fields_are_counted_and_cost_no_slice(tmp_path):
    folder = archive(tmp_path / "input")
    for name, elements in {"ID_9": {"PixelSpacing": [0.5]}, "ID_8": {"PixelSpacing": [0.5], "WindowCenter": None},
                           "ID_4": {"ImagePositionPatient": [1, 2]}}.items():
        make_dicom(folder / "stage_2_train" / f"{name}.dcm", noise(), **elements)
    lines: list[str] = []
    index, quarantine = build(folder, lines)
    assert len(index) == 8 and quarantine.empty
    assert {"files with a faulty position, which was taken for absent: 1",
            "files with a faulty spacing, which was taken for absent: 2"} <= set(lines)
    assert index.set_index("id").loc["ID_4", "order_flag"] == "no-position"


@pytest.mark.real
def test_real_slices_are_all_indexed_in_order(tmp_path):
    if "RADSTACK_REAL_DATA" not in os.environ:
        pytest.skip("RADSTACK_REAL_DATA is not set")
    lines: list[str] = []
    index, quarantine = build_index(Path(os.environ["RADSTACK_REAL_DATA"], "ich_sample"), 1, tmp_path / "parts",
                                    report=lines.append)  # fmt: skip
    assert quarantine.empty and index["split"].value_counts().to_dict() == {"train": 136, "test": 32}
    sizes = index.groupby("series_uid").size().to_dict()
    assert sizes == {"ID_245e16180c": 33, "ID_44cfc8e964": 33, "ID_4d28912ba6": 32, "ID_72952d87fa": 36,
                     "ID_7518324893": 34}  # fmt: skip
    for name, series in index.groupby("series_uid"):
        assert series["position"].tolist() == list(range(len(series))) and series["z"].is_monotonic_increasing
        steps = np.diff(series["z"])
        # One series has its eight lowest positions twice; under tilt the step along the normal is the slice distance.
        assert (steps < 0.01).sum() == (8 if name == "ID_72952d87fa" else 0)
        assert np.ptp(steps[steps > 0.01]) < 0.05
    assert lines == ["1 series with repeated-position"]
